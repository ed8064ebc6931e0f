// Safety rule 25: the replicas of a group compare digests of their states, taken at the same applied indexes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "raft/core/membership.h"
#include "raft/core/types.h"

namespace trireme::raft {

// From a follower to its leader: what its state is at `index`. With `differs`, from the leader: that this is not what
// the others have.
struct StateDigest {
  GroupId group;
  ReplicaId from;
  ReplicaId to;
  Index index;
  uint64_t digest = 0;  // as StateMachine::Digest
  bool differs = false;
};

// The last digests of one replica, and, while it leads, what the others say of theirs.
class DigestCheck {
 public:
  // That a replica is to stop, for what it said.
  struct Stop {
    ReplicaId replica;
    Index index;
    uint64_t digest = 0;
  };
  struct Verdict {
    Index index;
    // Those that differ from what a majority of the voters has, or all when no majority can agree. Mostly empty.
    std::vector<Stop> stop{};
    std::string said{};  // what by whom, for the log
  };

  // This replica's own, and another's.
  void Own(ReplicaId self, Index index, uint64_t digest);
  void Heard(ReplicaId from, Index index, uint64_t digest);
  // The own ones, ascending; the last few.
  const std::vector<std::pair<Index, uint64_t>>& own() const { return own_; }
  std::optional<uint64_t> OwnAt(Index index) const;

  // On a leader: what can be said now and was not said before. While those who have not spoken could still make a
  // majority, nothing is said of who differs. Only digests that are made alike are compared.
  std::vector<Verdict> Judge(const Membership& members, ReplicaId self);
  // Those who were to stop, again, a number of times: they may not have heard it.
  std::vector<Stop> Repeat();
  bool repeats() const { return !repeat_.empty(); }
  // The role has changed: what others said is said again to whoever leads.
  void Reset();

 private:
  static constexpr size_t kRoundsMax = 8;
  static constexpr int kRepeats = 30;

  // One index.
  struct Round {
    std::map<ReplicaId, uint64_t> said;
    // A majority has it; those that speak later are judged by it.
    std::optional<uint64_t> agreed;
    std::map<ReplicaId, uint64_t> stopped;
    bool hopeless = false;  // there is no majority, and all were stopped
  };

  std::vector<std::pair<Index, uint64_t>> own_;
  std::map<Index, Round> rounds_;
  std::vector<std::pair<Stop, int>> repeat_;
};

}  // namespace trireme::raft
