#include "broker/queue/milestones.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "broker/queue/facts.h"

namespace trireme::queue {

void Milestones::Add(Stone stone, uint64_t retained) {
  std::erase_if(stones_, [retained](const Stone& s) { return s.index < retained; });
  if (stones_.empty()) spacing_ = kSpacing;
  stones_.push_back(stone);
  if (stones_.size() <= kMost) return;
  size_t kept = 0;
  for (size_t i = 0; i < stones_.size(); i += 2) stones_[kept++] = stones_[i];
  stones_.resize(kept);
  spacing_ *= 2;
}

const Milestones::Stone* Milestones::AtOrBefore(uint64_t index) const {
  auto behind = std::partition_point(stones_.begin(), stones_.end(), [&](const Stone& s) { return s.index <= index; });
  return behind == stones_.begin() ? nullptr : &*std::prev(behind);
}

const Milestones::Stone* Milestones::BeforeTime(int64_t time_ms) const {
  auto behind =
      std::partition_point(stones_.begin(), stones_.end(), [&](const Stone& s) { return s.time_ms < time_ms; });
  return behind == stones_.begin() ? nullptr : &*std::prev(behind);
}

void Milestones::Encode(raft::Writer& out, uint32_t version) const {
  out.Varint(spacing_);
  out.Varint(stones_.size());
  Stone last;
  for (const Stone& s : stones_) {
    out.Varint(s.index - last.index);
    out.Varint(s.ordinal - last.ordinal);
    out.Signed(s.time_ms - last.time_ms);
    if (version >= kFactsOfLimits) out.Varint(s.bytes - last.bytes);
    last = s;
  }
}

bool Milestones::Decode(raft::Reader& in, uint32_t version, uint64_t applied, uint64_t published) {
  spacing_ = in.Varint();
  const size_t count = in.Count(3);
  bool good = spacing_ >= kSpacing && count <= kMost;
  Stone last;
  for (size_t i = 0; i < count && in.ok() && good; ++i) {
    const uint64_t entries = in.Varint(), messages = in.Varint();
    const int64_t ms = in.Signed();
    const uint64_t bytes = version >= kFactsOfLimits ? in.Varint() : 0;
    good &= entries > 0 && entries <= applied - last.index && messages <= published - last.ordinal && ms >= 0 &&
            ms <= std::numeric_limits<int64_t>::max() - last.time_ms &&
            bytes <= std::numeric_limits<uint64_t>::max() - last.bytes;
    if (!good) break;
    last = {last.index + entries, last.ordinal + messages, last.time_ms + ms, last.bytes + bytes};
    stones_.push_back(last);
  }
  return in.ok() && good;
}

}  // namespace trireme::queue
