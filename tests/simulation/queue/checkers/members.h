// A term has one leader, whoever the members are; and no replica is deleted while it is one of them (Safety rule 11).
#pragma once

#include <map>

#include "raft/core/membership.h"
#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class Members : public Checker {
 public:
  const char* name() const override { return "members"; }

  void Leading(uint64_t node, raft::Term term) override {
    auto [it, first] = leaders_.emplace(term, node);
    if (!first && it->second != node) Fail("nodes ", it->second, " and ", node, " lead in term ", term);
  }
  void Applying(uint64_t, const raft::Entry& entry, uint32_t) override {
    if (entry.type != raft::EntryType::kConfig || entry.index <= since_) return;
    committed_ = *raft::DecodeMembership(entry.data.view());
    since_ = entry.index;
  }
  void Deleting(uint64_t node, raft::ReplicaId replica) override {
    if (committed_.Find(replica) == nullptr) return;
    Fail("node ", node, " deletes replica ", replica, ", which is a member since ", since_);
  }

 private:
  std::map<raft::Term, uint64_t> leaders_;
  raft::Membership committed_;  // the last; empty: those of the group's birth
  raft::Index since_;
};

}  // namespace trireme::queue_simulation
