// A shard: one thread with one loop. What it owns is touched by nothing else, so the message path has no locks.
#pragma once

#include <chrono>
#include <cstdint>

#include "absl/functional/any_invocable.h"

namespace trireme::raft {

using ShardId = uint32_t;
// Monotonic; in the simulator a simulated one.
using MonotonicTime = std::chrono::steady_clock::time_point;

// The loop as its inhabitants see it. raft/grpc has the real one, tests/simulation one on simulated time.
class Shard {
 public:
  using Task = absl::AnyInvocable<void()>;

  virtual ~Shard() = default;

  virtual ShardId id() const = 0;
  // From any thread: runs `task` on the shard, in the order posted per poster. Wakes the loop only when its inbox was
  // empty.
  virtual void Post(Task task) = 0;

  // The rest is for the shard's own thread only.

  // The time at the start of this turn.
  virtual MonotonicTime Now() const = 0;
  // The time at this moment: for what must not rest on a turn that began long ago.
  virtual MonotonicTime PreciseNow() const = 0;
  // The wall clock at the turn's start, too, milliseconds since the Unix epoch: what is reckoned from the two is right
  // however long the turn has lasted. May jump.
  virtual int64_t WallMs() const = 0;
  // Runs `task` after `delay`, once. Not cancellable: let the task check whether it is still wanted.
  virtual void After(std::chrono::milliseconds delay, Task task) = 0;
  // Runs `task` once at the end of the current turn, when the inbox and the events at hand are exhausted. This is where
  // what was gathered during a turn becomes one append, one write, one frame. Tasks added by such a task run in the
  // same turn's end.
  virtual void AtTurnEnd(Task task) = 0;
  virtual bool OnThisThread() const = 0;
};

}  // namespace trireme::raft
