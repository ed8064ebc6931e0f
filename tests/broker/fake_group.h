// A group's log on a slow disk, for what reads it: nothing is in memory, and every read is counted.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "broker/queue/entry.h"
#include "raft/host/host.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {

// A published entry with these bodies, by nobody in particular.
inline raft::Bytes EntryOf(const std::vector<std::string>& bodies) {
  const raft::Bytes batch = BatchOf(bodies);
  queue::fact::Published fact;
  fact.checksums = *queue::CheckBatch(batch.view(), {});
  fact.count = static_cast<uint32_t>(bodies.size());
  return queue::EncodePublished(fact, 0, batch.view());
}

class FakeGroup final : public raft::Group {
 public:
  void Add(uint64_t index, raft::Bytes data) {
    raft::Entry entry;
    entry.index = raft::Index(index);
    entry.term = raft::Term(1);
    entry.data = std::move(data);
    entries_[index] = std::move(entry);
  }

  void ReadEntries(raft::Index first, raft::Index last, size_t max_bytes, raft::LogStore::ReadDone done) override {
    ++reads;
    std::vector<raft::Entry> out;
    size_t bytes = 0;
    for (uint64_t index = first.value(); index <= last.value(); ++index) {
      auto it = entries_.find(index);
      if (it == entries_.end() || (!out.empty() && bytes + it->second.data.size() > max_bytes)) break;
      bytes += it->second.data.size();
      out.push_back(it->second);
    }
    bytes_read += bytes;
    auto answer = [out = std::move(out), done = std::move(done)]() mutable {
      if (out.empty()) return done(absl::NotFoundError("no such entry"));
      done(std::move(out));
    };
    if (!hold) return answer();
    held_.push_back(std::move(answer));
  }
  void ScanRows(std::string, std::string, size_t, raft::IndexRows::ScanDone done) override { done(raft::RowPage()); }
  // Answers the reads that are held, and those that follow from that.
  void Release() {
    while (!held_.empty()) {
      auto next = std::move(held_.front());
      held_.erase(held_.begin());
      next();
    }
  }

  raft::GroupId id() const override { return raft::GroupId(1); }
  const raft::GroupSpec& spec() const override { return spec_; }
  raft::Proposed Propose(std::vector<raft::Bytes>, bool) override { return {.error = raft::ProposeError::kNotLeader}; }
  void ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) override { done(absl::UnavailableError("no")); }
  const raft::Entry* TailEntry(raft::Index) const override { return nullptr; }
  bool leading() const override { return true; }
  raft::Term term() const override { return raft::Term(1); }
  raft::NodeId leader_node() const override { return raft::NodeId(1); }
  raft::Index applied_index() const override { return raft::Index(entries_.empty() ? 0 : entries_.rbegin()->first); }
  size_t uncommitted_bytes() const override { return 0; }
  size_t max_uncommitted_bytes() const override { return 0; }
  bool disk_low() const override { return false; }
  void StepDown() override {}
  bool cut_off() const override { return false; }
  std::optional<raft::TransferError> HandOver() override { return raft::TransferError::kNotLeader; }
  bool handing_over() const override { return false; }
  void WantLeader() override { ++wanted; }
  const absl::Status& halted() const override { return halted_; }
  const raft::Membership& membership() const override { return membership_; }
  bool membership_committed() const override { return true; }
  std::optional<raft::MembershipError> ProposeMembers(std::vector<raft::Member>) override {
    return raft::MembershipError::kNotLeader;
  }

  size_t reads = 0;
  size_t bytes_read = 0;
  int wanted = 0;
  bool hold = false;

 private:
  std::map<uint64_t, raft::Entry> entries_;
  std::vector<absl::AnyInvocable<void()>> held_;
  raft::GroupSpec spec_;
  absl::Status halted_;
  raft::Membership membership_;
};

}  // namespace trireme::broker::testing
