// Compares the replicas that this node should have with those that it has, and says what to do.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "absl/container/btree_map.h"
#include "broker/cluster/metadata.h"
#include "raft/host/log_store.h"

namespace trireme::broker {

// Pure: no thread, disk or clock.
class Reconciler {
 public:
  // Start the replica: from what is stored of it, or, with nothing, as one that was never born.
  struct Start {
    QueuePtr queue;
    raft::ReplicaId replica;
    std::optional<raft::StoredGroup> stored;

    raft::GroupSpec Spec() const;
  };
  // Tell the replica, which runs, where others live now (raft::Host::Inform).
  struct Inform {
    QueuePtr queue;
  };
  // Delete the replica and all that is stored of it. `running`: it was started before.
  struct Delete {
    raft::GroupId group;
    bool running = false;
  };
  using Action = std::variant<Start, Inform, Delete>;

  // `stored`: the queues' groups found in the store at start.
  Reconciler(raft::NodeId node, std::vector<raft::StoredGroup> stored);

  // What the state wants done now; each action is given once. `births`: whether never-born replicas may be started.
  // That must not be before the metadata is known to be as new as it was when this node last ran, or a replica that was
  // deleted then would be born again from old entries (Safety rule 11).
  std::vector<Action> Reconcile(const MetadataState& state, bool births);
  // The same, for one queue that has just changed; call it until it gives none.
  std::optional<Action> ReconcileQueue(const MetadataState& state, raft::GroupId group, bool births);

  // Groups that are stored, but that the state as known so far neither lists nor has removed.
  size_t unclaimed() const;

 private:
  struct Local {
    raft::ReplicaId replica;
    std::optional<raft::StoredGroup> stored;  // until started
    QueuePtr told = nullptr;                  // as of which it knows where others live
  };

  const raft::NodeId node_;
  absl::btree_map<raft::GroupId, Local> local_;
};

}  // namespace trireme::broker
