// The log writer's thread: gathers what the shards have submitted, writes it as one batch, syncs once, and says so.
#include <algorithm>
#include <chrono>

#include "raft/core/check.h"
#include "storage/store_impl.h"

namespace trireme::storage {

using raft::Entry;
using raft::GroupId;
using raft::Index;

namespace {

// A record's entries are read and checked together, so it is kept about this small.
constexpr size_t kRecordBytes = size_t{256} << 10;
// Left free at a segment's end: for the batch that says which older segments are not needed any more when the writer
// has no other to go on in, and for the one that closes the log.
constexpr uint64_t kReservedBytes = 2 * kBlockBytes;

}  // namespace

// ---- what is durable now, with the mutex held (or before there are threads)

void Store::Impl::ApplyCreated(GroupId id, raft::ReplicaId replica, raft::Bytes descriptor, SlotId slot,
                               uint64_t sequence) {
  std::unique_ptr<Group>& group = groups_[id];
  if (!group) group = std::make_unique<Group>();
  group->replica = replica;
  group->generation = sequence;
  group->descriptor = std::move(descriptor);
  SetCreatedSlot(*group, slot);
}

void Store::Impl::SetCreatedSlot(Group& group, SlotId slot) {
  if (group.created_slot != kNoSlot) --(*segments_)[group.created_slot].live;
  group.created_slot = slot;
  ++(*segments_)[slot].live;
}

void Store::Impl::ApplyDeleted(GroupId id, uint64_t sequence) {
  auto it = groups_.find(id);
  if (it == groups_.end()) return;
  Group& group = *it->second;
  // What was installed has no row at first.
  const bool in_old = group.row || group.rows_mark > Index() || group.staging || !group.index.old().empty() ||
                      (group.snapshot.index > Index() && group.snapshot.parts.empty()) ||
                      group.old_snapshot > Index() || group.old_snapshot_unknown;
  if (group.created_slot != kNoSlot) --(*segments_)[group.created_slot].live;
  if (group.hard_state_slot != kNoSlot) --(*segments_)[group.hard_state_slot].live;
  ReleaseSnapshot(group.snapshot);
  ReleaseSnapshot(group.incoming);
  DropStaging(id, group);
  group.index.Clear(Releaser());
  old_bytes_ -= std::min(old_bytes_, group.old_bytes);
  // Safety rule 14: what is on its way to RocksDB must not outlive the segment that tells of the deletion, so that one
  // waits for it from now on, not from when the move is over.
  auto moving = moving_.find(id);
  if (moving != moving_.end()) moving->second.deleted = true;
  if (in_old || moving != moving_.end()) {
    Require({.group = id, .what = RequiredOp::What::kDropGroup, .generation = sequence});
  }
  dead_.erase(id);
  groups_.erase(it);
}

void Store::Impl::ApplyHardState(Group& group, const raft::HardState& state, SlotId slot) {
  if (group.hard_state_slot != kNoSlot) --(*segments_)[group.hard_state_slot].live;
  group.hard_state = state;
  group.hard_state_slot = slot;
  ++(*segments_)[slot].live;
}

void Store::Impl::ApplyEntries(GroupId id, Group& group, const Run& run, absl::Span<const raft::Term> terms,
                               std::vector<raft::MembershipAt> memberships) {
  bool overwrites = run.first <= group.index.last_index();
  CutMemberships(group.memberships, run.first);
  for (raft::MembershipAt& m : memberships) {
    if (m.index > group.snapshot.index) group.memberships.push_back(std::move(m));
  }
  bool cut_old = group.index.Append(run, terms, Releaser());
  (*segments_)[run.record.slot].live += run.count;
  auto moving = moving_.find(id);
  bool cut_moving = overwrites && moving != moving_.end() && !moving->second.deleted;
  if (cut_moving) {
    std::optional<Index>& truncated = moving->second.truncated;
    truncated = truncated ? std::min(*truncated, run.first) : run.first;
  }
  if (cut_old || cut_moving) Require({.group = id, .generation = group.generation, .from = run.first});
}

bool Store::Impl::ApplySnapshotPart(Group& group, const SnapshotPart& part, const RecordRef& ref,
                                    std::optional<raft::MembershipAt> membership) {
  if (part.offset == 0) {
    ReleaseSnapshot(group.incoming);
    group.incoming = {.index = part.index, .term = part.term, .membership = std::move(membership)};
  }
  group.incoming.parts.push_back(ref);
  ++(*segments_)[ref.slot].live;
  if (part.offset + part.bytes.size() < part.total) return false;
  if (part.index < group.snapshot.index) {
    ReleaseSnapshot(group.incoming);  // a larger one has overtaken it
    return false;
  }
  ReleaseSnapshot(group.snapshot);
  SetSnapshot(group, std::exchange(group.incoming, {}));
  return true;
}

void Store::Impl::ApplySnapshotStored(Group& group, const SnapshotStored& stored, const RecordRef& ref) {
  // One of another replica has taken its place, or a smaller one, which went by the log, has overtaken it.
  if (stored.generation != group.generation || stored.index < group.snapshot.index) return;
  ReleaseSnapshot(group.snapshot);
  SetSnapshot(
      group,
      {.index = stored.index, .term = stored.term, .membership = stored.membership, .parts = {ref}, .stored = true});
  ++(*segments_)[ref.slot].live;
}

void Store::Impl::SetSnapshot(Group& group, SnapshotRef snapshot) {
  group.snapshot = std::move(snapshot);
  group.index.SetSnapshot(group.snapshot.index);
  std::erase_if(group.memberships, [&](const raft::MembershipAt& m) { return m.index <= group.snapshot.index; });
}

void Store::Impl::ReleaseSnapshot(SnapshotRef& snapshot) {
  for (const RecordRef& ref : snapshot.parts) --(*segments_)[ref.slot].live;
  snapshot.parts.clear();
}

void Store::Impl::TidySegments() {
  // Safety rule 14: what a segment tells of RocksDB is in flushed files before it goes.
  if (required_asked_ == required_durable_) segments_->Retire();
  if (segments_->Free(synced_begin_) || segments_->WouldFree()) room_wake_.notify_one();
  if (BackgroundDue()) background_wake_.notify_one();
}

// ---- the thread

void Store::Impl::RunWriter() {
  Lock lock(mutex_);
  for (;;) {
    writer_wake_.wait(lock, [this] { return failed_ || stopping_ || !inbox_.empty() || !work_.empty(); });
    // What is not durable is not applied either, and so makes no more of them.
    while (TooManyRows() && !failed_) {
      background_wake_.notify_one();
      room_wake_.wait(lock);
    }
    if (failed_) return;
    if (inbox_.empty() && work_.empty()) break;
    while (!inbox_.empty()) {
      work_.push_back(std::move(inbox_.front()));
      inbox_.pop_front();
    }
    lock.unlock();
    Gather();
    lock.lock();
    if (!added_.empty()) {
      if (!Commit(lock)) return;
      Apply();
    }
    uint64_t bytes = added_.empty() ? 0 : builder_->bytes();
    lock.unlock();
    for (Submission& s : gathered_) {
      if (s.done) s.done();
    }
    gathered_.clear();
    added_.clear();
    lock.lock();
    Pace(lock, bytes);
  }
  // So that, after a clean stop, damage to the last batch is told from a torn tail (Safety rule 15).
  if (!last_batch_empty_ && !segments_->empty() && segments_->room() >= kBlockBytes) {
    empty_builder_->Start();
    WriteBatch(lock, *empty_builder_, /*says_nothing=*/true);
  }
}

bool Store::Impl::Fits(size_t record_bytes) const {
  return added_.empty() || builder_->bytes() + record_bytes <= batch_cap_;
}

bool Store::Impl::AllAdded(const Submission& s) {
  switch (s.kind) {
    case Submission::Kind::kWrite:
      return s.next_write == s.writes.size();
    case Submission::Kind::kSnapshot:
      return s.started && s.next_byte == s.bytes.size();
    default:
      return s.started;
  }
}

void Store::Impl::Gather() {
  builder_->Start();
  while (!work_.empty()) {
    Submission& s = work_.front();
    while (!AllAdded(s)) {
      if (!AddNext(s)) return;
    }
    // Moving it moves no entry: `added_` may go on pointing at them.
    gathered_.push_back(std::move(s));
    work_.pop_front();
  }
}

bool Store::Impl::AddNext(Submission& s) {
  auto add = [&](RecordType type, GroupId group, uint32_t offset) -> Added& {
    Added& added = added_.emplace_back();
    added.type = type;
    added.group = group;
    added.offset = offset;
    added.size = builder_->last_record_bytes();
    added.submission = s.number;
    return added;
  };
  switch (s.kind) {
    case Submission::Kind::kCreate: {
      if (!Fits(kRecordHeaderBytes + 8 + s.bytes.size())) return false;
      Added& added =
          add(RecordType::kGroupCreated, s.group, builder_->AddGroupCreated(s.group, s.replica, s.bytes.view()));
      added.replica = s.replica;
      added.descriptor = s.bytes;
      s.started = true;
      return true;
    }
    case Submission::Kind::kDelete:
      if (!Fits(kRecordHeaderBytes)) return false;
      add(RecordType::kGroupDeleted, s.group, builder_->AddGroupDeleted(s.group));
      s.started = true;
      return true;
    case Submission::Kind::kStage:
      if (!Fits(kRecordHeaderBytes)) return false;
      add(RecordType::kSnapshotStaged, s.group, builder_->AddSnapshotStaged(s.group));
      s.started = true;
      return true;
    case Submission::Kind::kStored:
      if (!Fits(kRecordHeaderBytes + s.bytes.size())) return false;
      add(RecordType::kSnapshotStored, s.group, builder_->AddSnapshotStored(s.group, s.bytes.view())).stored = s.stored;
      s.started = true;
      return true;
    case Submission::Kind::kInstall:
      if (!Fits(kRecordHeaderBytes + s.bytes.size())) return false;
      add(RecordType::kSnapshotInstalled, s.group, builder_->AddSnapshotInstalled(s.group, s.bytes.view())).install =
          s.install;
      s.started = true;
      return true;
    case Submission::Kind::kSnapshot: {
      size_t size = std::min(s.bytes.size() - s.next_byte, batch_cap_ / 2);
      std::string_view membership = s.next_byte == 0 ? s.encoded_membership.view() : std::string_view();
      if (!Fits(SnapshotPartRecordBytes(membership.size() + size))) return false;
      SnapshotPart part{.index = s.index,
                        .term = s.term,
                        .offset = s.next_byte,
                        .total = s.bytes.size(),
                        .membership = membership,
                        .bytes = s.bytes.view().substr(s.next_byte, size)};
      Added& added = add(RecordType::kSnapshotPart, s.group, builder_->AddSnapshotPart(s.group, part));
      added.part = part;
      if (s.next_byte == 0) added.membership = s.membership;
      s.started = true;
      s.next_byte += size;
      return true;
    }
    case Submission::Kind::kWrite:
      break;
  }

  const raft::LogWrite& write = s.writes[s.next_write];
  if (write.hard_state && !s.hard_state_added) {
    // Before the entries: none may be durable in a term that is not.
    if (!Fits(kRecordHeaderBytes + 24)) return false;
    Added& added = add(RecordType::kHardState, write.group, builder_->AddHardState(write.group, *write.hard_state));
    added.hard_state = *write.hard_state;
    s.hard_state_added = true;
  }
  if (s.next_entry < write.entries.size()) {
    auto rest = absl::MakeConstSpan(write.entries).subspan(s.next_entry);
    size_t bytes = EntriesRecordBytes(rest.first(1));
    if (!Fits(bytes)) return false;
    size_t count = 1;
    while (count < rest.size()) {
      size_t more = bytes + EntryBytesInRecord(rest[count]);
      if (more > kRecordBytes || builder_->bytes() + more > batch_cap_) break;
      bytes = more;
      ++count;
    }
    Added& added = add(RecordType::kEntries, write.group, builder_->AddEntries(write.group, rest.first(count)));
    added.entries = rest.first(count);
    s.next_entry += count;
  }
  if (s.next_entry == write.entries.size()) {
    ++s.next_write;
    s.next_entry = 0;
    s.hard_state_added = false;
  }
  return true;
}

bool Store::Impl::WriteBatch(Lock& lock, BatchBuilder& builder, bool says_nothing) {
  uint64_t sequence = next_sequence_;
  uint64_t begin = segments_->begin();
  Slot& slot = (*segments_)[segments_->current()];
  uint64_t at = slot.end;
  std::shared_ptr<File> file = slot.file;
  std::string_view bytes = builder.Finish(sequence, synced_, begin);
  lock.unlock();
  absl::Status status = file->Write(at, bytes);
  if (status.ok()) status = file->Sync();
  lock.lock();
  if (!status.ok()) {
    Fail(status);
    return false;
  }
  next_sequence_ = sequence + 1;
  synced_ = sequence;
  synced_begin_ = begin;
  slot.last_sequence = sequence;
  slot.end = at + bytes.size();
  last_batch_empty_ = says_nothing;
  ++figures_.syncs;
  figures_.bytes_written += bytes.size();
  return true;
}

bool Store::Impl::MakeRoom(Lock& lock, uint64_t bytes) {
  if (!segments_->empty() && segments_->room() >= bytes + kReservedBytes) return true;
  while (segments_->free() == 0) {
    if (failed_) return false;
    if (!segments_->empty() && segments_->WouldFree() && segments_->room() >= kBlockBytes) {
      // Of the reserved room: a batch that says nothing but what is not needed any more, and so frees it.
      empty_builder_->Start();
      if (!WriteBatch(lock, *empty_builder_, /*says_nothing=*/true)) return false;
      segments_->Free(synced_begin_);
      continue;
    }
    // The disk does not keep up with the moving of the oldest: this is where everyone waits.
    writer_waits_ = true;
    background_wake_.notify_one();
    room_wake_.wait(lock);
    writer_waits_ = false;
  }
  segments_->Rotate(next_sequence_);
  return true;
}

bool Store::Impl::Commit(Lock& lock) {
  return MakeRoom(lock, RoundUpToBlock(builder_->bytes())) && WriteBatch(lock, *builder_, /*says_nothing=*/false);
}

void Store::Impl::Apply() {
  SlotId slot = segments_->current();
  uint64_t base = (*segments_)[slot].end - RoundUpToBlock(builder_->bytes());
  std::vector<raft::Term> terms;
  for (const Added& a : added_) {
    RecordRef ref{slot, static_cast<uint32_t>(base + a.offset), a.size};
    if (a.type == RecordType::kGroupCreated) {
      ApplyCreated(a.group, a.replica, a.descriptor, slot, synced_);
      continue;
    }
    if (a.type == RecordType::kGroupDeleted) {
      ApplyDeleted(a.group, synced_);
      continue;
    }
    auto it = groups_.find(a.group);
    TRIREME_CHECK(it != groups_.end()) << "group " << a.group << " went while it was written";
    Group& group = *it->second;
    switch (a.type) {
      case RecordType::kHardState:
        ApplyHardState(group, a.hard_state, slot);
        break;
      case RecordType::kSnapshotStaged:
        ApplyStaged(group, a.submission, slot, synced_);
        break;
      case RecordType::kSnapshotInstalled:
        // Of its log nothing is left, and nothing was submitted since.
        TRIREME_CHECK(group.pending.empty() || group.pending.back().submission < a.submission)
            << "group " << a.group << " went on while a snapshot was installed";
        std::vector<PendingEntry>().swap(group.pending);
        group.submitted_last = a.install->index;
        ApplyInstalled(a.group, group, *a.install, slot);
        break;
      case RecordType::kSnapshotPart:
        ApplySnapshotPart(group, a.part, ref, a.membership);
        break;
      case RecordType::kSnapshotStored:
        // One that was installed meanwhile covers it.
        --group.storing;
        ApplySnapshotStored(group, *a.stored, ref);
        break;
      default: {
        terms.clear();
        std::vector<raft::MembershipAt> memberships;
        for (const Entry& e : a.entries) {
          terms.push_back(e.term);
          if (e.type == raft::EntryType::kConfig) memberships.push_back(MembershipOf(e));
        }
        ApplyEntries(a.group, group, {a.entries.front().index, static_cast<uint32_t>(a.entries.size()), ref}, terms,
                     std::move(memberships));
        // These are found in the log from here on, unless a later submission has overwritten them.
        std::vector<PendingEntry>& pending = group.pending;
        Index last = a.entries.back().index;
        auto end = std::find_if(pending.begin(), pending.end(), [&](const PendingEntry& p) {
          return p.submission > a.submission || (p.submission == a.submission && p.entry.index > last);
        });
        if (end == pending.end()) {
          std::vector<PendingEntry>().swap(pending);  // an idle group holds none
        } else {
          pending.erase(pending.begin(), end);
        }
        break;
      }
    }
  }
  TidySegments();
}

// While more than the budget is in use, a batch waits for as long as moving as much takes, the longer the less room is
// left, so that writes slow down rather than stop.
void Store::Impl::Pace(Lock& lock, uint64_t bytes) {
  if (bytes == 0 || move_rate_ <= 0 || segments_->in_use() <= budget_slots() || !NeedsMove()) return;
  double over = static_cast<double>(segments_->in_use() - budget_slots()) -
                static_cast<double>(segments_->room()) / static_cast<double>(format_.segment_bytes);
  double full = over / std::max<double>(options_.headroom_segments, 1);
  double seconds = std::min(1.0, static_cast<double>(bytes) / move_rate_ * std::clamp(full, 0.0, 1.0));
  size_t in_use = segments_->in_use();
  room_wake_.wait_for(lock, std::chrono::duration<double>(seconds),
                      [&] { return failed_ || stopping_ || segments_->in_use() < in_use; });
}

}  // namespace trireme::storage
