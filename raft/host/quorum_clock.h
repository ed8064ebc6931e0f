// How this node's wall clock stands against the others' (Safety rule 7).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "raft/core/types.h"
#include "raft/host/shard.h"

namespace trireme::raft {

// Keeps what other nodes said of their wall clocks, as differences to our monotonic clock, so that a jump of ours shows
// as one. Pure: all time is handed in. Not thread-safe.
class QuorumClock {
 public:
  // A node whose wall clock is further than this from the median of its quorum's must not lead.
  static constexpr std::chrono::milliseconds kTolerance{5000};
  // What was heard counts for at least this long, and for at most twice as long.
  static constexpr std::chrono::milliseconds kWindow{5000};

  // `node` said `wall_ms`, and it arrived at `now`. Delay on the way only ever makes a clock look slow, so the latest
  // reading of a window is the truest.
  void Heard(NodeId node, int64_t wall_ms, MonotonicTime now);

  // Milliseconds by which `wall_ms`, the wall clock of `self`, is ahead of the median of those of `nodes`. Nothing
  // unless a majority of `nodes` is known; `self` counts as known if it is among them.
  std::optional<int64_t> OffsetMs(NodeId self, int64_t wall_ms, MonotonicTime now,
                                  const std::vector<NodeId>& nodes) const;
  // The most by which `wall_ms` differs from what was heard lately of any node; 0 if of none.
  int64_t FurthestMs(int64_t wall_ms, MonotonicTime now) const;

 private:
  struct Sample {
    MonotonicTime window;              // its start
    int64_t ahead_ms = 0;              // the wall clock minus our monotonic clock, the highest heard in the window
    std::optional<int64_t> before_ms;  // the same of the window before
  };
  // Its wall clock as it must be now; nothing if it was not heard of lately.
  static std::optional<int64_t> ClockOf(const Sample& sample, MonotonicTime now);

  absl::flat_hash_map<NodeId, Sample> samples_;
};

}  // namespace trireme::raft
