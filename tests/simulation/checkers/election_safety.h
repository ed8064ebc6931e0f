// Raft's first property: at most one leader per term.
#pragma once

#include <map>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class ElectionSafety : public Checker {
 public:
  const char* name() const override { return "election safety"; }

  void BecameLeader(const World&, raft::ReplicaId id, raft::Term term) override {
    auto [it, first] = leaders_.emplace(term, id);
    if (!first) Fail("replicas ", it->second, " and ", id, " both led term ", term);
  }

 private:
  std::map<raft::Term, raft::ReplicaId> leaders_;
};

}  // namespace trireme::simulation
