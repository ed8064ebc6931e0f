// A group of one, in memory: what lets a queue's replica serve without Raft.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "raft/host/host.h"
#include "raft/host/shard.h"

namespace trireme::broker {

// What is proposed is committed, and applied at the end of the same turn. Always leads, in term 1. Entries stay as long
// as the machine says that they hold something alive. On its shard only.
class MemoryGroup final : public raft::Group {
 public:
  MemoryGroup(raft::Shard* shard, raft::GroupId group, raft::NodeId node);

  // Before anything is proposed. `machine` outlives this. `applied` is called after each turn's entries; neither it nor
  // the machine may destroy this group from within.
  void Drive(raft::StateMachine* machine, std::function<void()> applied);

  // What its entries take in memory.
  size_t bytes() const { return bytes_; }
  // Lets go of what has died by now. Takes time that grows with what is delivered and unsettled.
  void Trim();

  raft::GroupId id() const override { return spec_.group; }
  const raft::GroupSpec& spec() const override { return spec_; }
  raft::Proposed Propose(std::vector<raft::Bytes> commands, bool urgent) override;
  void ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) override;
  const raft::Entry* TailEntry(raft::Index index) const override;
  void ReadEntries(raft::Index first, raft::Index last, size_t max_bytes, raft::LogStore::ReadDone done) override;
  // It has none: what would need them is refused (ReplicaLimits::keeps_rows).
  void ScanRows(std::string, std::string, size_t, raft::IndexRows::ScanDone done) override { done(raft::RowPage()); }
  bool leading() const override { return true; }
  raft::Term term() const override { return raft::Term(1); }
  raft::NodeId leader_node() const override { return node_; }
  raft::Index applied_index() const override { return raft::Index(applied_); }
  size_t uncommitted_bytes() const override { return 0; }
  size_t max_uncommitted_bytes() const override { return kMaxProposalBytes; }
  bool disk_low() const override { return false; }
  void StepDown() override {}
  void WantLeader() override {}
  std::optional<raft::TransferError> HandOver() override { return raft::TransferError::kNotVoter; }
  bool handing_over() const override { return false; }
  bool cut_off() const override { return false; }
  const absl::Status& halted() const override { return halted_; }
  const raft::Membership& membership() const override { return membership_; }
  bool membership_committed() const override { return true; }
  std::optional<raft::MembershipError> ProposeMembers(std::vector<raft::Member>) override {
    return raft::MembershipError::kNotLeader;
  }

 private:
  // How much a producer's batches are put together; what there may be of a queue is its owner's to limit.
  static constexpr size_t kMaxProposalBytes = size_t{1} << 20;
  // Beside an entry's data.
  static constexpr size_t kEntryBytes = 96;
  // Entries are let go of so many at a time, or when as many have come as there are alive: so an entry costs a bounded
  // amount, however much is unsettled.
  static constexpr uint64_t kTrimEntries = 32;

  void Apply();
  absl::btree_map<uint64_t, raft::Entry>::iterator Erase(absl::btree_map<uint64_t, raft::Entry>::iterator at);

  raft::Shard* const shard_;
  const raft::NodeId node_;
  raft::GroupSpec spec_;
  raft::Membership membership_;
  absl::Status halted_;
  raft::StateMachine* machine_ = nullptr;
  std::function<void()> applied_batch_;
  absl::btree_map<uint64_t, raft::Entry> entries_;  // by index
  size_t bytes_ = 0;
  uint64_t last_ = 0;
  uint64_t applied_ = 0;
  uint64_t trimmed_ = 0;             // above it, what is missing was no message
  uint64_t trim_at_ = kTrimEntries;  // the applied index of the next Trim
  bool apply_due_ = false;
  std::vector<absl::AnyInvocable<void(absl::Status)>> barriers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
