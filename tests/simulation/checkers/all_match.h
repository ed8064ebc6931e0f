// What is at or below all_match may be deleted everywhere: so it must be on every disk, and what was committed.
#pragma once

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class AllMatch : public Checker {
 public:
  const char* name() const override { return "all match"; }

  void AllMatchRising(const World& world, raft::ReplicaId id, raft::Index index,
                      const raft::Membership& members) override {
    const LogView& log = world.replicas.at(id).log;
    if (index.value() > log.size()) return Fail("replica ", id, " says that all have ", index, " and does not itself");
    // Others repeat what a leader said, when there may be new members already.
    if (index <= said_) return;
    said_ = index;
    for (size_t i = world.replicas.at(id).all_match.value(); i < index.value(); ++i) {
      // What is committed may not have been reported yet.
      const Logged& entry = i < world.committed.size() ? world.committed[i] : log[i];
      for (const raft::Member& member : members.members) {
        if (!world.OnDisk(member.replica, raft::Index(i + 1), entry)) {
          return Fail("replica ", id, " says that all have ", index, ", but the disk of ", member.replica, " lacks ",
                      i + 1);
        }
      }
    }
  }

 private:
  raft::Index said_;
};

}  // namespace trireme::simulation
