// The nodes that there are and the replicas that the queue should have: what the metadata says, and what each node
// makes of as much of it as it has heard. State, reconciler and the plan of steps are those of production; the metadata
// group is not, so that its log is a list of states that is never lost, and heard of late.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "broker/cluster/metadata.h"
#include "broker/cluster/metadata_view.h"
#include "broker/cluster/reconciler.h"
#include "tests/broker/queue_cluster.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/queue/clients.h"
#include "tests/simulation/queue/plant.h"
#include "tests/simulation/queue/suite.h"
#include "tests/simulation/trace.h"

namespace trireme::queue_simulation {

class Cluster {
 public:
  // All outlive it, and it every process of the world.
  Cluster(QueueWorld* queue, Clients* clients, Suite* suite, Chance* chance, Trace* trace, Plant plant);

  // Starts nodes 1 to `nodes`; the queue is made on the first `replicas` of them.
  void Begin(uint64_t nodes, uint64_t replicas);
  // Nodes hear of news, and who leads the queue takes the next step towards the members that there should be.
  void Step(bool faults);

  // As of now, whoever has heard of it.
  const broker::MetadataState& state() const { return history_.back(); }
  broker::QueuePtr info() const { return state().FindGroup(queue_->group); }
  // Nodes with a process, or that may have one again.
  const std::vector<uint64_t>& nodes() const { return nodes_; }
  // Nobody who runs is behind. Operators wait for it: a leader that still works towards what there should have been
  // before would undo what another has done since.
  bool AllHeard() const;
  bool down(uint64_t node) const { return !queue_->world.node(node).up(); }

  void Start(uint64_t node);
  void Kill(uint64_t node);
  // It never comes back under its name (Safety rule 12): its disk is gone.
  void Lose(uint64_t node);
  // It comes back as it was at that time, and ends once others have told it so.
  void RollBack(uint64_t node, const raft::testing::SimStore::Image& image, uint64_t starts);
  // The last node that was lost and that none has replaced yet; 0 if there is none.
  uint64_t lost() const { return lost_; }

  // What operators ask for. In place of the lost node:
  void ReplaceLost();
  void ReplaceReplica(raft::ReplicaId replica);
  // Whatever else the replicas should be: no command makes it yet. `members` may have new ones, of replica 0.
  void Place(std::vector<raft::Member> members);

  // The members in force are those that there should be, all of which run, and nothing is left of any other.
  bool Settled() const { return WhyNotSettled().empty(); }
  std::string WhyNotSettled() const;
  // To the trace, for whoever looks into a seed.
  void PrintReplicas() const;
  uint64_t deleted() const { return deleted_; }

 private:
  // What a node knows, in this life.
  struct Local {
    size_t heard = 0;  // of the history
    bool births = false;
    std::optional<broker::Reconciler> reconciler;
    broker::MetadataView view;
    raft::MonotonicTime looked{};
  };

  void Say(uint64_t node, const std::string& what) const;
  broker::MetadataOutcome Apply(const trireme::meta::v1::Command& command);
  void Hear(uint64_t node, size_t upto);
  void Take(uint64_t node, broker::Reconciler::Action action);
  void Report(raft::GroupId group, const std::vector<raft::Member>& members, bool faults);
  // Planted: said before anything has changed.
  void ReportWhatShouldBe();
  void Began();

  QueueWorld* const queue_;
  Clients* const clients_;
  Suite* const suite_;
  Chance* const chance_;
  Trace* const trace_;
  const Plant plant_;
  const std::chrono::milliseconds look_every_;  // at the members
  std::vector<broker::MetadataState> history_;
  std::map<uint64_t, Local> local_;
  std::vector<uint64_t> nodes_;
  uint64_t lost_ = 0;
  uint64_t deleted_ = 0;
};

}  // namespace trireme::queue_simulation
