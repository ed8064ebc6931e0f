// Raft's third property: two logs with an entry of the same index and term are the same up to there. By induction: an
// (index, term) has one content and one predecessor, wherever it is.
#pragma once

#include <map>
#include <utility>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class LogMatching : public Checker {
 public:
  const char* name() const override { return "log matching"; }

  void Appending(const World& world, raft::ReplicaId id, raft::Index first, std::span<const Logged> entries) override {
    const LogView& log = world.replicas.at(id).log;
    if (first == raft::Index() || first.value() > log.size() + 1) {
      Fail("replica ", id, " wrote from ", first, " on behind a log that ends at ", log.size());
      return;
    }
    raft::Term previous = first.value() > 1 ? log[first.value() - 2].term : raft::Term();
    raft::Index index = first;
    for (const Logged& entry : entries) {
      Known known{entry.digest, previous};
      auto [it, is_new] = known_.emplace(std::pair(index, entry.term), known);
      if (!is_new && it->second != known) {
        Fail("replica ", id, " has another entry at ", index, " of term ", entry.term, " than was seen before: digest ",
             entry.digest, " after term ", previous, ", not ", it->second.digest, " after term ", it->second.previous);
      }
      previous = entry.term;
      ++index;
    }
  }

 private:
  struct Known {
    uint64_t digest = 0;
    raft::Term previous{};
    friend bool operator==(const Known&, const Known&) = default;
  };
  std::map<std::pair<raft::Index, raft::Term>, Known> known_;
};

}  // namespace trireme::simulation
