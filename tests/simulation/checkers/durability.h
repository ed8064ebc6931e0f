// The promise of the product: what is committed is on the disks of a majority, and stays there.
#pragma once

#include <algorithm>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class Durability : public Checker {
 public:
  const char* name() const override { return "durability"; }

  void Counting(const World& world, raft::ReplicaId id, raft::Index index, const raft::Membership& members) override {
    const LogView& log = world.replicas.at(id).log;
    if (index.value() > log.size()) {
      Fail("replica ", id, " counts ", index, " as committed, behind the end of its log at ", log.size());
    } else if (!world.OnQuorum(members, index, log[index.value() - 1])) {
      Fail("replica ", id, " counts ", index, " as committed, which no majority's disks hold");
    }
  }

  void Syncing(const World& world, raft::ReplicaId id, raft::Index first, std::span<const Logged> entries) override {
    const LogView& durable = world.replicas.at(id).durable;
    for (size_t i = first.value() - 1; i < durable.size() && i < world.committed.size(); ++i) {
      size_t with = i - (first.value() - 1);
      bool stays = with < entries.size() && entries[with] == durable[i];
      if (durable[i] == world.committed[i] && !stays) {
        Fail("replica ", id, " overwrote the committed entry at ", i + 1, " on its disk");
      }
    }
  }

  void Forgetting(const World& world, raft::ReplicaId id, raft::Index left) override {
    const LogView& durable = world.replicas.at(id).durable;
    for (size_t i = left.value(); i < std::min(durable.size(), world.committed.size()); ++i) {
      if (durable[i] != world.committed[i]) continue;
      if (!world.OnQuorum(world.membership, raft::Index(i + 1), world.committed[i], id)) {
        Fail("replica ", id, " lost the committed entry at ", i + 1, ", and too few others have it");
      }
    }
  }
};

}  // namespace trireme::simulation
