#include "client/leases.h"

#include <utility>

namespace trireme::client {

void Leases::Add(const LeaseRun& run) {
  if (run.count == 0) return;
  const uint64_t last = run.first + run.count;
  auto it = runs_.upper_bound(run.first);
  if (it != runs_.begin()) --it;
  std::vector<LeaseRun> stale;
  for (; it != runs_.end() && it->first < last; ++it) {
    if (it->first + it->second.count > run.first) stale.push_back({run.first, run.count, it->second.checkout});
  }
  for (const LeaseRun& old : stale) Remove(old, [](const LeaseRun&) {});
  runs_.insert_or_assign(run.first, Rest{run.count, run.checkout});
  messages_ += run.count;
}

bool Leases::Holds(uint64_t position, uint64_t checkout) const {
  auto it = runs_.upper_bound(position);
  if (it == runs_.begin()) return false;
  --it;
  return position < it->first + it->second.count && it->second.checkout == checkout;
}

std::vector<LeaseRun> Leases::runs() const {
  std::vector<LeaseRun> runs;
  runs.reserve(runs_.size());
  for (const auto& [first, rest] : runs_) runs.push_back({first, rest.count, rest.checkout});
  return runs;
}

void Leases::Clear() {
  runs_.clear();
  messages_ = 0;
}

void SettleBuffer::Add(const LeaseRun& run, v1::Disposition disposition, std::optional<uint32_t> delay_ms) {
  if (run.count == 0) return;
  std::vector<LeaseRun>& runs = runs_[{disposition, delay_ms}];
  messages_ += run.count;
  if (!runs.empty()) {
    LeaseRun& last = runs.back();
    if (last.checkout == run.checkout && last.first + last.count == run.first) {
      last.count += run.count;
      return;
    }
  }
  runs.push_back(run);
}

std::vector<v1::SettleRuns> SettleBuffer::Take() {
  std::vector<v1::SettleRuns> frames;
  for (auto& [how, runs] : std::exchange(runs_, {})) {
    MergeRuns(runs);
    for (size_t i = 0; i < runs.size(); ++i) {
      if (i % kMaxRuns == 0) {
        frames.emplace_back();
        frames.back().set_disposition(how.first);
        if (how.second.has_value()) frames.back().set_delay_ms(*how.second);
      }
      *frames.back().add_runs() = ToProto(runs[i]);
    }
  }
  messages_ = 0;
  return frames;
}

std::vector<LeaseRun> SettleBuffer::runs() const {
  std::vector<LeaseRun> all;
  for (const auto& [how, runs] : runs_) all.insert(all.end(), runs.begin(), runs.end());
  return all;
}

void MergeRuns(std::vector<LeaseRun>& runs) {
  if (runs.size() < 2) return;
  std::sort(runs.begin(), runs.end(), [](const LeaseRun& a, const LeaseRun& b) { return a.first < b.first; });
  size_t kept = 0;
  for (size_t i = 1; i < runs.size(); ++i) {
    LeaseRun& last = runs[kept];
    if (last.checkout == runs[i].checkout && last.first + last.count == runs[i].first) {
      last.count += runs[i].count;
    } else {
      runs[++kept] = runs[i];
    }
  }
  runs.resize(kept + 1);
}

v1::HeldRun ToProto(const LeaseRun& run) {
  v1::HeldRun held;
  held.set_first_position(run.first);
  held.set_count(run.count);
  held.set_checkout_index(run.checkout);
  return held;
}

LeaseRun FromProto(const v1::HeldRun& run) {
  return {run.first_position(), run.count(), run.checkout_index()};
}

}  // namespace trireme::client
