// What a leader knows of one follower.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "raft/core/membership.h"
#include "raft/core/ring.h"
#include "raft/core/types.h"

namespace trireme::raft {

// Append messages under way to one follower. An acknowledgement of an index covers all that end at or below it.
class Inflight {
 public:
  void Add(Index last, size_t bytes) {
    appends_.push_back({last, bytes});
    bytes_ += bytes;
  }
  void FreeUpTo(Index index) {
    while (!appends_.empty() && appends_.front().last <= index) {
      bytes_ -= appends_.front().bytes;
      appends_.pop_front();
    }
  }
  void Clear() {
    appends_.clear();
    bytes_ = 0;
  }
  size_t count() const { return appends_.size(); }
  size_t bytes() const { return bytes_; }
  void Shrink() { appends_.Shrink(); }

 private:
  struct Sent {
    Index last;
    size_t bytes = 0;
  };
  Ring<Sent> appends_;
  size_t bytes_ = 0;
};

// match < next, always. `match` never falls within one leader's term.
struct Progress {
  enum class State : uint8_t {
    kProbe,      // where the logs agree is not known: one Append at a time
    kSnapshot,   // a snapshot is on its way: no Appends until the host says what became of it
    kReplicate,  // pipelined: `next` moves as Appends leave
  };

  ReplicaId id;
  Standing standing = Standing::kVoter;
  State state = State::kProbe;
  // Probe: an Append is under way; the next one leaves after an answer or a heartbeat's.
  bool paused = false;
  // Replicate: nothing has moved since the last heartbeat, so ask with an empty Append whether something was lost.
  bool ask = false;
  // Its connection is closed; nothing but heartbeats is sent until it is heard of.
  bool down = false;
  // An EntryRead is under way, from read_first on.
  bool reading = false;
  // A read came back with nothing; the next one waits for a tick.
  bool read_failed = false;

  // The following four only where liveness is between nodes (quiescence.h). It has answered in this term, as of its
  // node's present incarnation.
  bool following = false;
  bool heartbeat_due = false;
  Index quiet_at;       // the last index that it confirmed to be quiet at
  Index told_commit;    // the last commit index sent to it
  Index match_at_tick;  // `match` at the last tick
  bool appended_since_tick = false;

  int silent_ticks = 0;      // since it was last heard of in this term, or had nothing to answer
  Index match;               // durable there, and equal to ours
  Index next;                // of the next Append
  Index match_at_heartbeat;  // `match` when it last answered a heartbeat
  Index read_first;          // see `reading`
  Index sent_last;           // the last entry sent, and its term: spares a look at terms that we have forgotten
  Term sent_term;
  Monotonic promised_at{};         // our clock when the last heartbeat left for which it made a promise
  uint64_t read_acknowledged = 0;  // the last round of ReadIndex that it answered
  Inflight inflight;

  void BecomeProbe() {
    // Only an acknowledgement made it replicate, so `match` is where to go on. One that is being probed may never have
    // acknowledged anything: what `next` has found out so far stays.
    if (state == State::kReplicate) next = match + 1;
    state = State::kProbe;
    paused = false;
    ask = false;
    inflight.Clear();
  }
  void BecomeSnapshot() {
    state = State::kSnapshot;
    paused = false;
    ask = false;
    inflight.Clear();
  }
  // It has everything up to `arrived`, if it could install it: asked after its next answer to a heartbeat.
  void LeaveSnapshot(Index arrived) {
    state = State::kProbe;
    next = std::max(match, arrived) + 1;
    paused = true;
  }
  void BecomeReplicate() {
    state = State::kReplicate;
    paused = false;
    ask = false;
    next = match + 1;
    inflight.Clear();
  }

  // The follower has everything up to `index`. False if that was known.
  bool Acknowledge(Index index);
  // The follower refused an Append behind `rejected` and could agree at `hint` at best. False if that is old news. Then
  // the caller lowers nothing.
  bool Refuse(Index rejected, Index hint);
};

}  // namespace trireme::raft
