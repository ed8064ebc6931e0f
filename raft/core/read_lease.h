// A voter's side of the leader's lease: the promise to vote for nobody else for a while. Dissertation 6.4.1.
#pragma once

#include "raft/core/types.h"

namespace trireme::raft {

// Time is the voter's own monotonic clock, as its host hands it in, so it is never ahead of the truth. A promise
// therefore begins when the clock moves on after the leader was heard: what was heard within a turn may have been sent
// after that turn's time was read.
class LeasePromise {
 public:
  // To `leader`, for `length`.
  void Make(ReplicaId leader, Monotonic length, Monotonic now) {
    leader_ = leader;
    length_ = length;
    heard_at_ = now;
    begun_ = false;
  }
  void Advance(Monotonic now) {
    if (begun_ || now <= heard_at_) return;
    begun_ = true;
    until_ = now + length_;
  }
  // Against voting for `candidate`. The leader that it was made to may ask itself: it leads no more.
  bool Forbids(ReplicaId candidate, Monotonic now) const {
    return length_ > Monotonic() && candidate != leader_ && (!begun_ || now < until_);
  }

 private:
  ReplicaId leader_;    // none: of before a restart, to whoever it was
  Monotonic length_{};  // 0: none was made
  Monotonic heard_at_{};
  Monotonic until_{};
  bool begun_ = false;
};

}  // namespace trireme::raft
