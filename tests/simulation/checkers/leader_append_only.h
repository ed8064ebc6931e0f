// Raft's second property: a leader never overwrites or deletes entries of its own log.
#pragma once

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class LeaderAppendOnly : public Checker {
 public:
  const char* name() const override { return "leader append-only"; }

  void Appending(const World& world, raft::ReplicaId id, raft::Index first, std::span<const Logged>) override {
    const ReplicaView& replica = world.replicas.at(id);
    if (replica.role == raft::Role::kLeader && first.value() != replica.log.size() + 1) {
      Fail("replica ", id, " leads term ", replica.term, " and wrote from ", first, " on over a log that ends at ",
           replica.log.size());
    }
  }
};

}  // namespace trireme::simulation
