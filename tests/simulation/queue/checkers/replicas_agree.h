// Replicas that applied the same entries have the same state, byte for byte (Safety rules 3 and 25).
#pragma once

#include <map>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class ReplicasAgree : public Checker {
 public:
  const char* name() const override { return "replicas agree"; }

  void Applying(uint64_t node, const raft::Entry& entry, uint32_t digest) override {
    auto [it, first] = digests_.emplace(entry.index, digest);
    if (!first && it->second != digest)
      Fail("node ", node, " has another state after ", entry.index, " than others had");
  }

 private:
  std::map<raft::Index, uint32_t> digests_;
};

}  // namespace trireme::queue_simulation
