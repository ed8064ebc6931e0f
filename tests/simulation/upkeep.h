// What a node's host does for a replica where liveness is between nodes: production's promises over the simulated
// network, the words about them, and no ticks for who is quiet. raft/host/quiet.cc does the same for thousands.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "raft/core/quiescence.h"
#include "raft/core/replica.h"
#include "raft/host/node_liveness.h"

namespace trireme::simulation {

// Of one life of a node. Replica n lives on node n.
class Upkeep final : public raft::Support {
 public:
  struct Options {
    uint64_t incarnation = 1;
    // Who sleeps when its leader is lost waits for its turn to campaign, rather than for its own timer.
    bool queues = false;
    bool last_member_first = false;  // as Config has it
    // What this node remembers of the others from before its start.
    std::map<raft::NodeId, raft::NodeMemory> announced{};
  };
  explicit Upkeep(Options options);

  bool Gives(raft::ReplicaId leader) const override { return liveness_.Gives(NodeOf(leader), leader_incarnation_); }
  bool Gets(raft::ReplicaId follower) const override { return liveness_.Gets(NodeOf(follower)); }

  // The replica, which outlives it, is there. Before all that follows.
  void Begin(raft::Replica* replica);
  void Tick(raft::MonotonicTime now);
  // Something came from there. False: nothing of it is to be taken in.
  bool Heard(raft::ReplicaId from, uint64_t incarnation, const std::optional<raft::NodeHeartbeat>& heartbeat,
             raft::MonotonicTime now);
  // A message of what came was put in.
  void Step(raft::Message message, uint64_t incarnation);
  // Something else was, for somebody who waits.
  void Stirred();
  void ConnectionChanged(raft::ReplicaId peer, bool open);

  // To whom heartbeats are due by now.
  std::set<raft::ReplicaId> TakeDue() { return std::exchange(due_, {}); }
  raft::NodeHeartbeat Next(raft::ReplicaId to, raft::MonotonicTime now) { return liveness_.Next(NodeOf(to), now); }

  bool asleep() const { return asleep_; }
  // How often the replica went to sleep.
  uint64_t sleeps() const { return sleeps_; }
  std::map<raft::NodeId, raft::NodeMemory> announced() const { return liveness_.announced(); }

 private:
  static raft::NodeId NodeOf(raft::ReplicaId replica) { return raft::NodeId(replica.value()); }
  bool Alive(raft::ReplicaId replica) const;
  bool QuorumAlive() const;
  bool SupportsLeader() const;
  uint64_t CandidatesBefore() const;
  void TakeChanges();
  void Changed(raft::ReplicaId peer, raft::NodeLiveness::Event event);
  void LeaderHears(raft::ReplicaId follower, raft::NodeLiveness::Event event);
  void Wake();
  void Orphan(uint64_t ticks);
  void HoldElection();
  void AskAgain();

  const Options options_;
  raft::NodeLiveness liveness_;
  raft::Replica* replica_ = nullptr;
  uint64_t ticks_ = 0;
  uint64_t leader_incarnation_ = 0;  // in which the present leader was heard to lead
  std::set<raft::ReplicaId> neighbours_, due_;
  bool asleep_ = false;
  uint64_t sleeps_ = 0;
  std::optional<uint64_t> election_due_;  // in ticks; it waits, asleep
  bool waited_turn_ = false;
  // An election by its turn is under way since that tick.
  std::optional<uint64_t> electing_since_;
};

}  // namespace trireme::simulation
