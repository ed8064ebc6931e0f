// Raft's fourth property: what was committed is in the log of every later leader.
#pragma once

#include <vector>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class LeaderCompleteness : public Checker {
 public:
  const char* name() const override { return "leader completeness"; }

  void Committing(const World& world, raft::ReplicaId id, raft::Index index, const Logged&) override {
    if (index.value() == committed_in_.size() + 1) committed_in_.push_back(world.replicas.at(id).term);
  }

  void BecameLeader(const World& world, raft::ReplicaId id, raft::Term term) override {
    const LogView& log = world.replicas.at(id).log;
    for (size_t i = 0; i < world.committed.size(); ++i) {
      // One that learns late that it had won an earlier term may lack what was committed since.
      if (committed_in_[i] >= term) continue;
      if (i >= log.size() || log[i] != world.committed[i]) {
        return Fail("replica ", id, " leads term ", term, " without the entry committed at ", i + 1, " ",
                    world.committed[i]);
      }
    }
  }

 private:
  std::vector<raft::Term> committed_in_;  // the term that the first to report each entry was in
};

}  // namespace trireme::simulation
