// What a consumer holds, and what it has settled and not sent yet, both as runs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "trireme/v1/broker.pb.h"

namespace trireme::client {

// Consecutive slots of one entry, with their checkout: positions first .. first + count - 1.
struct LeaseRun {
  uint64_t first = 0;
  uint32_t count = 0;
  uint64_t checkout = 0;

  friend bool operator==(const LeaseRun&, const LeaseRun&) = default;
};

// The leases held. A position is held under one checkout at most. For one thread, or under a mutex.
class Leases {
 public:
  // What was held of the same positions under another checkout is gone: it cannot be current any more.
  void Add(const LeaseRun& run);
  // Takes out what is held of the run, and calls `removed(LeaseRun)` for each part.
  template <typename Removed>
  void Remove(const LeaseRun& run, Removed removed);
  bool Holds(uint64_t position, uint64_t checkout) const;
  uint64_t messages() const { return messages_; }
  std::vector<LeaseRun> runs() const;
  void Clear();

 private:
  struct Rest {
    uint32_t count;
    uint64_t checkout;
  };
  // By first position; disjoint.
  std::map<uint64_t, Rest> runs_;
  uint64_t messages_ = 0;
};

// Gathers settled messages and gives them back as few runs. For one thread, or under a mutex.
class SettleBuffer {
 public:
  // `delay`: of a requeue; nothing: as the subscription is set.
  void Add(const LeaseRun& run, v1::Disposition disposition, std::optional<uint32_t> delay_ms = std::nullopt);
  uint64_t messages() const { return messages_; }
  bool empty() const { return messages_ == 0; }
  // Everything: at most one SettleRuns per disposition, delay and kMaxRuns, ascending by position, neighbours merged.
  std::vector<v1::SettleRuns> Take();
  // The same without taking it.
  std::vector<LeaseRun> runs() const;

  static constexpr size_t kMaxRuns = 10'000;

 private:
  std::map<std::pair<v1::Disposition, std::optional<uint32_t>>, std::vector<LeaseRun>> runs_;
  uint64_t messages_ = 0;
};

// Sorts runs and merges those that continue each other under the same checkout.
void MergeRuns(std::vector<LeaseRun>& runs);
v1::HeldRun ToProto(const LeaseRun& run);
LeaseRun FromProto(const v1::HeldRun& run);

template <typename Removed>
void Leases::Remove(const LeaseRun& run, Removed removed) {
  const uint64_t last = run.first + run.count;
  auto it = runs_.upper_bound(run.first);
  if (it != runs_.begin()) --it;
  while (it != runs_.end() && it->first < last) {
    const uint64_t first = it->first, end = first + it->second.count;
    const Rest rest = it->second;
    const uint64_t from = std::max(first, run.first), to = std::min(end, last);
    if (from >= to || rest.checkout != run.checkout) {
      ++it;
      continue;
    }
    it = runs_.erase(it);
    if (first < from) runs_.emplace_hint(it, first, Rest{static_cast<uint32_t>(from - first), rest.checkout});
    if (to < end) it = runs_.emplace_hint(it, to, Rest{static_cast<uint32_t>(end - to), rest.checkout});
    messages_ -= to - from;
    removed(LeaseRun{from, static_cast<uint32_t>(to - from), rest.checkout});
  }
}

}  // namespace trireme::client
