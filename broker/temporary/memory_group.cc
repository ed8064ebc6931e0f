#include "broker/temporary/memory_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/queue/entry.h"
#include "raft/core/check.h"

namespace trireme::broker {

MemoryGroup::MemoryGroup(raft::Shard* shard, raft::GroupId group, raft::NodeId node) : shard_(shard), node_(node) {
  spec_.group = group;
  spec_.self = raft::ReplicaId(1);
}

void MemoryGroup::Drive(raft::StateMachine* machine, std::function<void()> applied) {
  machine_ = machine;
  applied_batch_ = std::move(applied);
}

raft::Proposed MemoryGroup::Propose(std::vector<raft::Bytes> commands, bool) {
  const raft::Index first(last_ + 1);
  for (raft::Bytes& command : commands) {
    raft::Entry entry;
    entry.term = term();
    entry.index = raft::Index(++last_);
    entry.data = std::move(command);
    bytes_ += entry.data.size() + kEntryBytes;
    entries_.emplace_hint(entries_.end(), last_, std::move(entry));
  }
  if (!std::exchange(apply_due_, true)) {
    shard_->AtTurnEnd([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) Apply();
    });
  }
  return {.error = std::nullopt, .first = first, .term = term()};
}

void MemoryGroup::Apply() {
  apply_due_ = false;
  while (applied_ < last_) {
    const raft::Entry entry = entries_.at(++applied_);
    const absl::Status applied = machine_->Apply(entry);
    // This process has just encoded it.
    TRIREME_CHECK(applied.ok()) << "an entry of a queue in memory does not apply: " << applied.message();
    // What is no message is read by nobody, and would stay behind the first that waits.
    if (absl::IsNotFound(queue::DecodePublished(entry.data).status())) Erase(entries_.find(applied_));
  }
  machine_->AppliedBatch();
  if (applied_ >= trim_at_) Trim();
  for (auto& done : std::exchange(barriers_, {})) done(absl::OkStatus());
  applied_batch_();
}

absl::btree_map<uint64_t, raft::Entry>::iterator MemoryGroup::Erase(
    absl::btree_map<uint64_t, raft::Entry>::iterator at) {
  bytes_ -= at->second.data.size() + kEntryBytes;
  return entries_.erase(at);
}

void MemoryGroup::Trim() {
  const raft::StateMachine::Liveness live = machine_->Live();
  // Both ascend.
  auto range = live.live.begin();
  for (auto at = entries_.begin(); at != entries_.end() && at->first <= std::min(live.floor.value(), applied_);) {
    while (range != live.live.end() && range->last.value() < at->first) ++range;
    const bool alive = range != live.live.end() && range->first.value() <= at->first;
    at = alive ? std::next(at) : Erase(at);
  }
  trimmed_ = std::max(trimmed_, std::min(live.floor.value(), applied_));
  trim_at_ = applied_ + std::max<uint64_t>(kTrimEntries, entries_.size());
}

void MemoryGroup::ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) {
  if (applied_ == last_) return done(absl::OkStatus());
  barriers_.push_back(std::move(done));
}

const raft::Entry* MemoryGroup::TailEntry(raft::Index index) const {
  auto at = entries_.find(index.value());
  return at == entries_.end() ? nullptr : &at->second;
}

void MemoryGroup::ReadEntries(raft::Index first, raft::Index last, size_t max_bytes, raft::LogStore::ReadDone done) {
  std::vector<raft::Entry> out;
  size_t bytes = 0;
  for (uint64_t index = first.value(); index <= std::min(last.value(), last_); ++index) {
    raft::Entry entry;
    if (auto at = entries_.find(index); at != entries_.end()) {
      entry = at->second;
    } else if (index > trimmed_) {
      // Of what was no message: there, and empty.
      entry.type = raft::EntryType::kNoop;
      entry.term = term();
      entry.index = raft::Index(index);
    } else {
      break;
    }
    bytes += entry.data.empty() ? kEntryBytes : entry.data.size();
    if (!out.empty() && bytes > max_bytes) break;
    out.push_back(std::move(entry));
  }
  if (out.empty()) return done(absl::NotFoundError(absl::StrCat("entry ", first.value(), " is not there any more")));
  done(std::move(out));
}

}  // namespace trireme::broker
