// What a replica knows of the members' nodes, where liveness is a matter between nodes and not between replicas, and
// so when a group needs neither ticks nor messages. quiescence.cc has the replica's side of it.
#pragma once

#include "raft/core/types.h"

namespace trireme::raft {

// The promises between this node and the others (Safety rule 9), as the host has them from the nodes' heartbeats. An
// input that is read when it is needed, so that no decision rests on an older one; whoever drives a replica gives it.
class Support {
 public:
  virtual ~Support() = default;
  // Whether this node has promised the node of `leader`, as of the incarnation in which that replica was last followed,
  // to support it, and the promise is in force: while it is, this replica neither campaigns nor votes against it.
  virtual bool Gives(ReplicaId leader) const = 0;
  // Whether the node of `follower` has promised the same to this one.
  virtual bool Gets(ReplicaId follower) const = 0;
};

}  // namespace trireme::raft
