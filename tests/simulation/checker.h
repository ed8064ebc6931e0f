// Something that must hold in every run. Each checker is a small file in checkers/; Suite tells all of them what
// happens.
#pragma once

#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <utility>

#include "tests/simulation/world.h"

namespace trireme::simulation {

class Checker {
 public:
  virtual ~Checker() = default;
  virtual const char* name() const = 0;

  // `world` is as it was before the event, where the event changes it.

  // The replica's log is overwritten from `first` on, in memory.
  virtual void Appending(const World&, raft::ReplicaId, raft::Index first, std::span<const Logged>) { (void)first; }
  // The same, on its disk.
  virtual void Syncing(const World&, raft::ReplicaId, raft::Index first, std::span<const Logged>) { (void)first; }
  // A replica came back with less on its disk than it had synced: entries above `left` are gone.
  virtual void Forgetting(const World&, raft::ReplicaId, raft::Index left) { (void)left; }
  // After its appends of this step.
  virtual void BecameLeader(const World&, raft::ReplicaId, raft::Term) {}
  // A leader counted the entry at this index as committed among `members`, before anyone can have heard of it.
  virtual void Counting(const World&, raft::ReplicaId, raft::Index, const raft::Membership& members) { (void)members; }
  // A replica gave it out as committed.
  virtual void Committing(const World&, raft::ReplicaId, raft::Index, const Logged&) {}
  // The state machine took the entry at this index in and now has a state with this digest.
  virtual void Applying(const World&, raft::ReplicaId, raft::Index, uint64_t state) { (void)state; }
  // `members` may be those of an instant before.
  // A snapshot took the place of the replica's log and state; the state has this digest.
  virtual void Installing(const World&, raft::ReplicaId, const raft::SnapshotMeta&, uint64_t state) { (void)state; }
  virtual void AllMatchRising(const World&, raft::ReplicaId, raft::Index, const raft::Membership& members) {
    (void)members;
  }
  virtual void ReadAsked(const World&, uint64_t context) { (void)context; }
  virtual void ReadServed(const World&, uint64_t context, raft::Index) { (void)context; }

  // What was violated first.
  const std::optional<std::string>& failure() const { return failure_; }

 protected:
  template <typename... Parts>
  void Fail(const Parts&... parts) {
    if (failure_) return;
    std::ostringstream text;
    text << name() << ": ";
    (text << ... << parts);
    failure_ = text.str();
  }

 private:
  std::optional<std::string> failure_;
};

}  // namespace trireme::simulation
