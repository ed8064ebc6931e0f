// Whoever counts as having a part of the log has all of it that is alive, also when it came with a snapshot (Safety
// rule 13).
#pragma once

#include <vector>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class LiveIsKept : public Checker {
 public:
  const char* name() const override { return "live is kept"; }

  // Death is for good: what is not alive for the most advanced state is not needed by those behind it.
  void Living(raft::Index index, const raft::StateMachine::Liveness& liveness) override {
    if (index < as_of_) return;
    as_of_ = index;
    live_ = liveness.live;
    live_.push_back({liveness.floor + 1, index});
  }
  void Holding(uint64_t node, raft::Index last, const std::map<raft::Index, raft::Entry>& log) override {
    for (const raft::IndexRange& range : live_) {
      for (raft::Index i = range.first; i <= range.last && i <= last; ++i) {
        if (!log.contains(i))
          return Fail("node ", node, " has the log up to ", last, " without ", i, ", which is alive");
      }
    }
  }

 private:
  raft::Index as_of_;
  std::vector<raft::IndexRange> live_;
};

}  // namespace trireme::queue_simulation
