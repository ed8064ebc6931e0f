#include "raft/host/digest_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace trireme::raft {
namespace {

uint64_t KindOf(uint64_t digest) {
  return digest >> 32;
}

}  // namespace

void DigestCheck::Own(ReplicaId self, Index index, uint64_t digest) {
  if (own_.size() == kRoundsMax) own_.erase(own_.begin());
  own_.emplace_back(index, digest);
  auto round = rounds_.find(index);
  if (round != rounds_.end()) round->second.said[self] = digest;
}

void DigestCheck::Heard(ReplicaId from, Index index, uint64_t digest) {
  // A group in which some say nothing keeps no more than that.
  while (rounds_.size() >= kRoundsMax && !rounds_.contains(index)) {
    if (index < rounds_.begin()->first) return;
    rounds_.erase(rounds_.begin());
  }
  rounds_[index].said[from] = digest;
}

std::optional<uint64_t> DigestCheck::OwnAt(Index index) const {
  for (const auto& [at, digest] : own_) {
    if (at == index) return digest;
  }
  return std::nullopt;
}

std::vector<DigestCheck::Verdict> DigestCheck::Judge(const Membership& members, ReplicaId self) {
  const auto voters = static_cast<size_t>(
      std::count_if(members.members.begin(), members.members.end(), [](const Member& m) { return Votes(m.standing); }));
  std::vector<Verdict> verdicts;
  for (auto& [index, round] : rounds_) {
    if (round.hopeless) continue;
    if (std::optional<uint64_t> own = OwnAt(index)) round.said[self] = *own;
    const bool news = !round.agreed.has_value();
    if (!round.agreed) {
      std::map<uint64_t, size_t> counts;
      size_t spoken = 0;
      for (const auto& [replica, digest] : round.said) {
        if (!members.Votes(replica)) continue;
        ++spoken;
        ++counts[digest];
      }
      auto most = std::max_element(counts.begin(), counts.end(),
                                   [](const auto& a, const auto& b) { return a.second < b.second; });
      if (most == counts.end()) continue;
      if (most->second > voters / 2) {
        round.agreed = most->first;
      } else {
        const bool alike = std::all_of(counts.begin(), counts.end(),
                                       [&](const auto& c) { return KindOf(c.first) == KindOf(most->first); });
        if (!alike || most->second + (voters - spoken) > voters / 2) continue;
        round.hopeless = true;
      }
    }
    Verdict verdict{.index = index};
    for (const auto& [replica, digest] : round.said) {
      absl::StrAppend(&verdict.said, verdict.said.empty() ? "" : ", ", replica.value(), ": ",
                      absl::Hex(digest, absl::kZeroPad16));
      const bool differs = round.hopeless || (digest != *round.agreed && KindOf(digest) == KindOf(*round.agreed));
      if (!differs || !round.stopped.emplace(replica, digest).second) continue;
      verdict.stop.push_back({replica, index, digest});
      if (replica != self) repeat_.emplace_back(verdict.stop.back(), kRepeats);
    }
    if (news || !verdict.stop.empty()) verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

std::vector<DigestCheck::Stop> DigestCheck::Repeat() {
  std::vector<Stop> stops;
  for (auto& [stop, left] : repeat_) {
    stops.push_back(stop);
    --left;
  }
  std::erase_if(repeat_, [](const auto& item) { return item.second <= 0; });
  return stops;
}

void DigestCheck::Reset() {
  rounds_.clear();
  repeat_.clear();
}

}  // namespace trireme::raft
