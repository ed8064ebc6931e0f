// A state that comes from a snapshot is the one that all entries up to there make.
#pragma once

#include <map>
#include <vector>

#include "broker/queue/machine.h"
#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class SnapshotIsReplay : public Checker {
 public:
  const char* name() const override { return "snapshot is replay"; }

  // The first to apply an entry gives it to the replay, which never sees a snapshot.
  void Applying(uint64_t, const raft::Entry& entry, uint32_t) override {
    if (entry.index.value() != digests_.size() + 1) return;
    if (entry.type == raft::EntryType::kCommand) {
      if (!replay_.Apply(entry.index.value(), entry.data).ok()) Fail("the replay refuses the entry at ", entry.index);
    } else {
      replay_.ApplyNoop(entry.index.value());
    }
    digests_.push_back(replay_.Digest());
  }
  void Restoring(uint64_t node, raft::Index index, uint32_t digest) override {
    if (index.value() > digests_.size()) {
      Fail("node ", node, " has a snapshot as of ", index, ", which nobody has applied");
    } else if (digests_[index.value() - 1] != digest) {
      Fail("node ", node, " has another state from the snapshot as of ", index, " than from the log");
    }
  }

 private:
  queue::Machine replay_;
  std::vector<uint32_t> digests_;  // after the entry at [i - 1]
};

}  // namespace trireme::queue_simulation
