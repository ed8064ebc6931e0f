// Snapshots that come to RocksDB past the write-ahead log. Those of other replicas: staged under a generation of their
// own, and installed by one record of the log (Safety rule 13); README.md has the steps. And those of our own that are
// too large for the log, which a record of it says to be there, or that wait for index rows (Safety rule 14).
#include <algorithm>

#include "raft/core/check.h"
#include "storage/store_impl.h"

namespace trireme::storage {

using raft::Bytes;
using raft::Entry;
using raft::GroupId;
using raft::Index;
using raft::Term;

// ---- what callers do

Index Store::Impl::BeginStaging(GroupId id, Index index, Term term) {
  std::lock_guard<std::mutex> lock(mutex_);
  Group& group = Submitted(id);
  TRIREME_CHECK(group.generation != 0) << "group " << id << " is not durable yet";
  TRIREME_CHECK(index > group.snapshot.index)
      << "a snapshot of group " << id << " as of " << index << ", its own is at " << group.snapshot.index;
  if (group.staging && group.staging->index == index && group.staging->term == term) return group.staging->last;
  DropStaging(id, group);
  group.staging = std::make_unique<Staging>();
  group.staging->index = index;
  group.staging->term = term;
  group.staging->submission = submissions_ + 1;
  Submit({.kind = Submission::Kind::kStage, .group = id, .index = index, .term = term});
  return Index();
}

void Store::Impl::Stage(GroupId id, std::vector<Entry> entries, Done done) {
  std::lock_guard<std::mutex> lock(mutex_);
  Group& group = Submitted(id);
  TRIREME_CHECK(group.staging && !group.staging->installing) << "nothing is staged of group " << id;
  stage_tasks_.push_back(
      {.group = id, .submission = group.staging->submission, .entries = std::move(entries), .done = std::move(done)});
  background_wake_.notify_one();
}

void Store::Impl::Install(GroupId id, const raft::HardState& hard_state, const raft::SnapshotMeta& snapshot,
                          Bytes state, Done done) {
  std::lock_guard<std::mutex> lock(mutex_);
  Group& group = Submitted(id);
  TRIREME_CHECK(group.staging && !group.staging->installing && group.staging->index == snapshot.index &&
                group.staging->term == snapshot.term)
      << "no snapshot of group " << id << " as of " << snapshot.index << " is staged";
  group.staging->installing = true;
  stage_tasks_.push_back({.group = id,
                          .submission = group.staging->submission,
                          .install = std::make_shared<SnapshotInstalled>(),
                          .state = std::move(state),
                          .done = std::move(done)});
  SnapshotInstalled& install = *stage_tasks_.back().install;
  install.hard_state = hard_state;
  install.index = snapshot.index;
  install.term = snapshot.term;
  install.membership = {snapshot.index, snapshot.membership};
  background_wake_.notify_one();
}

void Store::Impl::Drop(GroupId id) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto it = groups_.find(id);
  if (it == groups_.end() || it->second->deleting) return;
  TRIREME_CHECK(!it->second->staging || !it->second->staging->installing)
      << "the snapshot of group " << id << " is being installed";
  DropStaging(id, *it->second);
  TidySegments();
}

void Store::Impl::DropStaging(GroupId id, Group& group) {
  if (!group.staging) return;
  // Without its number there is nothing of it in RocksDB.
  if (group.staging->generation != 0) {
    if (group.staging->slot != kNoSlot) --(*segments_)[group.staging->slot].live;
    Require({.group = id, .what = RequiredOp::What::kDropGeneration, .generation = group.staging->generation});
  }
  staged_bytes_ -= group.staging->bytes;
  group.staging.reset();
}

// ---- what becomes durable

void Store::Impl::ApplyStaged(Group& group, uint64_t submission, SlotId slot, uint64_t sequence) {
  // Dropped, and perhaps begun anew, before it was durable: nothing was staged under this number, nor ever is.
  if (!group.staging || group.staging->submission != submission) return;
  group.staging->generation = sequence;
  group.staging->slot = slot;
  ++(*segments_)[slot].live;
}

void Store::Impl::ApplyInstalled(GroupId id, Group& group, const SnapshotInstalled& installed, SlotId slot) {
  bool with_rows = false;
  if (group.staging) {
    if (group.staging->slot != kNoSlot) --(*segments_)[group.staging->slot].live;
    staged_bytes_ -= group.staging->bytes;
    with_rows = group.staging->rows;
    group.staging.reset();
  }
  ReleaseSnapshot(group.snapshot);
  ReleaseSnapshot(group.incoming);
  group.incoming = {};
  group.snapshot = {.index = installed.index, .term = installed.term, .membership = installed.membership};
  group.memberships.clear();
  group.index.Replace(installed.index, installed.live, Releaser());
  old_bytes_ -= std::min(old_bytes_, group.old_bytes);
  old_bytes_ += installed.bytes;
  group.old_bytes = installed.bytes;
  // What was dead, or about to die or move, was of the old generation, which goes as a whole.
  dead_.erase(id);
  if (auto moving = moving_.find(id); moving != moving_.end()) moving->second.replaced = true;
  group.generation = installed.generation;
  group.old_snapshot = installed.index;
  group.rows_mark = with_rows ? installed.index : Index();
  group.rows_given = 0;
  Require({.group = id, .what = RequiredOp::What::kDropBelow, .generation = installed.generation});
  ApplyHardState(group, installed.hard_state, slot);
  // The record is the group's birth, too: of what the log has of it before, nothing counts any more.
  SetCreatedSlot(group, slot);
  // The next change of the group in RocksDB, which is that deletion, writes one: replay must not take for alive what
  // has died and was deleted there since.
  group.row = true;
}

// ---- the background thread's part

bool Store::Impl::NeedsStage() const {
  return NextStageTask() != stage_tasks_.end();
}

std::deque<Store::Impl::StageTask>::const_iterator Store::Impl::NextStageTask() const {
  return std::find_if(stage_tasks_.begin(), stage_tasks_.end(), [this](const StageTask& task) { return Ready(task); });
}

bool Store::Impl::Ready(const StageTask& task) const {
  if (task.store) {
    // What it covers is durable: else a crash might leave it ahead of the log.
    const Group* group = GroupOf(task);
    return group == nullptr || (group->generation != 0 &&
                                (group->pending.empty() || group->pending.front().entry.index > task.store->index));
  }
  const Staging* staging = StagingOf(task);
  return staging == nullptr || staging->generation != 0;
}

Store::Impl::Group* Store::Impl::GroupOf(const StageTask& task) const {
  auto it = groups_.find(task.group);
  if (it == groups_.end() || it->second->deleting || it->second->submission != task.submission) return nullptr;
  return it->second.get();
}

Store::Impl::Staging* Store::Impl::StagingOf(const StageTask& task) const {
  auto it = groups_.find(task.group);
  if (it == groups_.end() || it->second->deleting || !it->second->staging ||
      it->second->staging->submission != task.submission) {
    return nullptr;
  }
  return it->second->staging.get();
}

void Store::Impl::RunStageTask(Lock& lock) {
  auto next = stage_tasks_.begin() + (NextStageTask() - stage_tasks_.cbegin());
  StageTask task = std::move(*next);
  stage_tasks_.erase(next);
  if (task.store) return StoreSnapshot(lock, std::move(task));
  const Staging* staging = StagingOf(task);
  if (staging == nullptr) {
    // Dropped, or its group is deleted: there is nothing to do, and nothing that an install could say.
    if (task.install) return;
    lock.unlock();
    task.done();
    lock.lock();
  } else if (task.install) {
    InstallStaged(lock, std::move(task));
  } else {
    StageEntries(lock, std::move(task));
  }
}

void Store::Impl::StageEntries(Lock& lock, StageTask task) {
  const Staging& before = *StagingOf(task);
  const uint64_t generation = before.generation;
  const Index as_of = before.index;
  // Those that came before, and come again because their sender did not hear of it.
  std::erase_if(task.entries, [&](const Entry& e) { return e.index <= before.last; });
  for (size_t i = 0; i < task.entries.size(); ++i) {
    Index index = task.entries[i].index;
    TRIREME_CHECK(index <= before.index && (i == 0 || index > task.entries[i - 1].index))
        << "entry " << index << " of group " << task.group << " is out of place in a snapshot as of " << before.index;
  }
  lock.unlock();
  uint64_t bytes = 0;
  absl::Status status;
  for (size_t first = 0, i = 0; i < task.entries.size() && status.ok(); first = i) {
    size_t pack_bytes = 0;
    do {
      pack_bytes += task.entries[i].data.size() + sizeof(Entry);
      bytes += task.entries[i].data.size() + kPackedEntryBytes;
      ++i;
    } while (i < task.entries.size() && pack_bytes < options_.pack_bytes);
    status = old_->PutPack(task.group, generation, absl::MakeConstSpan(task.entries).subspan(first, i - first));
  }
  if (!task.rows.empty() && status.ok()) {
    std::vector<raft::RowChange> changes;
    changes.reserve(task.rows.size());
    for (raft::IndexRow& row : task.rows) {
      changes.push_back({raft::RowChange::Kind::kPut, std::move(row.key), std::move(row.value)});
    }
    status = old_->ChangeRows(task.group, generation, as_of, changes);
  }
  lock.lock();
  if (!status.ok()) return Fail(status);
  if (Staging* staging = StagingOf(task); staging != nullptr && !task.rows.empty()) staging->rows = true;
  if (Staging* staging = StagingOf(task); staging != nullptr && !task.entries.empty()) {
    for (const Entry& e : task.entries) AddRange(staging->live, {e.index, e.index});
    staging->last = task.entries.back().index;
    staging->bytes += bytes;
    staged_bytes_ += bytes;
  }
  lock.unlock();
  task.done();
  lock.lock();
}

void Store::Impl::InstallStaged(Lock& lock, StageTask task) {
  Staging& staging = *StagingOf(task);
  SnapshotInstalled& install = *task.install;
  install.generation = staging.generation;
  install.live = staging.live;
  install.bytes = staging.bytes;
  lock.unlock();
  absl::Status status =
      old_->PutSnapshot(task.group, install.generation, {install.index, install.term, install.membership, task.state});
  lock.lock();
  if (!status.ok()) return Fail(status);
  // Safety rules 13 and 14: all of it is in flushed files before the record that makes it the group's.
  if (!FlushOld(lock)) return;
  if (StagingOf(task) == nullptr) return;  // deleted meanwhile
  const Group& group = *groups_.at(task.group);
  install.replica = group.replica;
  install.descriptor = group.descriptor;
  Bytes record = Bytes::Take(EncodeSnapshotInstalled(install));
  TRIREME_CHECK(kRecordHeaderBytes + record.size() <= format_.segment_bytes / 2)
      << "of group " << task.group << ", " << record.size() << " bytes";
  Submit({.kind = Submission::Kind::kInstall,
          .group = task.group,
          .bytes = std::move(record),
          .install = std::move(task.install),
          .done = std::move(task.done)});
}

void Store::Impl::StoreSnapshot(Lock& lock, StageTask task) {
  const Index index = task.store->index;
  // Null when there is nothing to store any more: the group is deleted, or has a later one.
  auto wanted = [&] {
    Group* group = GroupOf(task);
    return group != nullptr && index >= group->snapshot.index ? group : nullptr;
  };
  if (const Group* group = wanted(); group != nullptr && !MakeRowsDurable(lock, group->rows_given)) return;
  Group* group = wanted();
  if (group != nullptr && task.state.size() <= largest_snapshot_in_log()) {
    return SubmitSnapshot(task.group, std::move(*task.store), std::move(task.state), std::move(task.done));
  }
  if (group != nullptr) {
    const uint64_t generation = task.store->generation = group->generation;
    group->old_snapshot = index;
    ++group->storing;
    lock.unlock();
    absl::Status status =
        old_->PutSnapshot(task.group, generation, {index, task.store->term, task.store->membership, task.state});
    lock.lock();
    if (!status.ok()) return Fail(status);
    // Safety rule 14: it is in a flushed file before the record that says so.
    if (!FlushOld(lock)) return;
    group = wanted();
    if (group == nullptr || group->generation != generation) {
      if (Group* there = GroupOf(task)) --there->storing;
    } else {
      Bytes record = Bytes::Take(EncodeSnapshotStored(*task.store));
      return Submit({.kind = Submission::Kind::kStored,
                     .group = task.group,
                     .bytes = std::move(record),
                     .stored = std::move(task.store),
                     .done = std::move(task.done)});
    }
  }
  lock.unlock();
  task.done();
  lock.lock();
}

}  // namespace trireme::storage
