// Raft's fifth property: no two replicas apply different entries at one index. And each applies all of them, in order.
#pragma once

#include <map>
#include <vector>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class StateMachineSafety : public Checker {
 public:
  const char* name() const override { return "state machine safety"; }

  void Committing(const World& world, raft::ReplicaId id, raft::Index index, const Logged& entry) override {
    if (index.value() > world.committed.size() + 1) {
      Fail("replica ", id, " committed ", index, ", but only ", world.committed.size(), " was ever committed before");
    } else if (index.value() <= world.committed.size() && world.committed[index.value() - 1] != entry) {
      Fail("replica ", id, " committed ", entry, " at ", index, " where ", world.committed[index.value() - 1],
           " was committed before");
    }
  }

  void Applying(const World& world, raft::ReplicaId id, raft::Index index, uint64_t state) override {
    const raft::Index applied = world.replicas.at(id).applied;
    if (index != applied + 1) Fail("replica ", id, " applied ", index, " after ", applied);
    auto [it, first] = states_.emplace(index, state);
    if (!first && it->second != state) Fail("replica ", id, " has another state than others had after ", index);
  }

  void Installing(const World& world, raft::ReplicaId id, const raft::SnapshotMeta& snapshot, uint64_t state) override {
    if (snapshot.index.value() > world.committed.size()) {
      Fail("replica ", id, " installed a snapshot at ", snapshot.index, ", which is not committed");
    } else if (world.committed[snapshot.index.value() - 1].term != snapshot.term) {
      Fail("replica ", id, " installed a snapshot at ", snapshot.index, " of another term, ", snapshot.term);
    }
    auto [it, first] = states_.emplace(snapshot.index, state);
    if (!first && it->second != state)
      Fail("replica ", id, " installed another state than others had after ", snapshot.index);
  }

 private:
  std::map<raft::Index, uint64_t> states_;
};

}  // namespace trireme::simulation
