// A node's replica of the queue, with the checkers looking on at all that its host gives it.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "raft/host/state_machine.h"
#include "tests/simulation/queue/plant.h"
#include "tests/simulation/queue/suite.h"
#include "tests/simulation/trace.h"

namespace trireme::queue_simulation {

using simulation::Trace;
class WatchedMachine final : public raft::StateMachine {
 public:
  WatchedMachine(std::unique_ptr<raft::StateMachine> machine, uint64_t node, Suite* suite, Trace* trace, Plant plant)
      : machine_(std::move(machine)), node_(node), suite_(suite), trace_(trace), plant_(plant) {}

  absl::Status Check(const raft::Entry& entry) const override { return machine_->Check(entry); }
  absl::Status Apply(const raft::Entry& entry) override {
    const bool diverges = plant_ == Plant::kDiverges && node_ == 2 && entry.index.value() % 40 == 0;
    absl::Status applied =
        machine_->Apply(diverges ? raft::Entry{entry.term, entry.index, raft::EntryType::kNoop, {}} : entry);
    if (!applied.ok()) {
      suite_->Violated("a replica cannot go on: " + std::string(applied.message()));
      return applied;
    }
    applied_ = entry.index;
    const uint32_t digest = StateDigest();
    trace_->Add(1, node_, entry.index.value(), digest);
    suite_->Tell([&](Checker& c) { c.Applying(node_, entry, digest); });
    return applied;
  }
  std::vector<raft::RowChange> TakeRows() override { return machine_->TakeRows(); }
  void AppliedBatch() override { machine_->AppliedBatch(); }
  void RoleChanged(const raft::RoleChange& change, bool leading) override {
    trace_->Add(2, node_, change.term.value(), leading);
    if (leading) suite_->Tell([&](Checker& c) { c.Leading(node_, change.term); });
    machine_->RoleChanged(change, leading);
  }
  raft::Bytes Snapshot() const override { return machine_->Snapshot(); }
  absl::Status CheckSnapshot(const raft::Bytes& snapshot, raft::Index index) const override {
    return machine_->CheckSnapshot(snapshot, index);
  }
  absl::Status Restore(const raft::Bytes& snapshot, raft::Index index) override {
    absl::Status restored = machine_->Restore(snapshot, index);
    // A machine that skips what a snapshot has is one without it.
    const uint32_t digest = plant_ == Plant::kLosesOfSnapshots ? 0 : StateDigest();
    applied_ = index;
    if (restored.ok()) suite_->Tell([&](Checker& c) { c.Restoring(node_, index, digest); });
    return restored;
  }
  uint64_t Digest() const override { return machine_->Digest(); }
  // What its host compacts by.
  Liveness Live() const override {
    Liveness liveness = machine_->Live();
    suite_->Tell([&](Checker& c) { c.Living(applied_, liveness); });
    return liveness;
  }

 private:
  // Machine::Digest, beside the version that the replica's digest begins with.
  uint32_t StateDigest() const { return static_cast<uint32_t>(machine_->Digest()); }

  const std::unique_ptr<raft::StateMachine> machine_;
  const uint64_t node_;
  Suite* const suite_;
  Trace* const trace_;
  const Plant plant_;
  raft::Index applied_;
};

}  // namespace trireme::queue_simulation
