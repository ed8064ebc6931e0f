// ReadIndex: a read sees all that was committed, anywhere, before it was asked for.
#pragma once

#include <map>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class LinearizableReads : public Checker {
 public:
  const char* name() const override { return "linearizable reads"; }

  void ReadAsked(const World& world, uint64_t context) override {
    asked_[context] = raft::Index(world.committed.size());
  }
  void ReadServed(const World&, uint64_t context, raft::Index index) override {
    auto it = asked_.find(context);
    if (it == asked_.end()) return Fail("read ", context, " was served twice, or never asked for");
    if (index < it->second) {
      Fail("read ", context, " is served as of ", index, ", but ", it->second, " was committed when it was asked for");
    }
    asked_.erase(it);
  }

 private:
  std::map<uint64_t, raft::Index> asked_;
};

}  // namespace trireme::simulation
