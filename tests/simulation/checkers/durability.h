// The promise of the product: what is committed is on the disks of a majority, and stays there.
#pragma once

#include <algorithm>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class Durability : public Checker {
 public:
  const char* name() const override { return "durability"; }

  void Committing(const World& world, raft::ReplicaId id, raft::Index index, const Logged& entry) override {
    if (index.value() <= world.committed.size()) return;
    if (size_t disks = world.DisksWith(index, entry); disks < world.quorum()) {
      Fail("replica ", id, " committed ", index, " ", entry, " with only ", disks, " disks that hold it");
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
      if (world.DisksWith(raft::Index(i + 1), world.committed[i]) <= world.quorum()) {
        Fail("replica ", id, " lost the committed entry at ", i + 1, ", and too few others have it");
      }
    }
  }
};

}  // namespace trireme::simulation
