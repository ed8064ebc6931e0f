// Opening a directory: is it ours, is it whole, what is in it.
#include <algorithm>
#include <random>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "storage/store_impl.h"

namespace trireme::storage {

using raft::Bytes;
using raft::GroupId;
using raft::Index;

absl::Status Store::Impl::Open() {
  const StoreOptions& o = options_;
  if (o.directory.empty()) return absl::InvalidArgumentError("the store has no directory");
  if (o.segment_bytes % kBlockBytes != 0 || o.segment_bytes < 16 * kBlockBytes || o.segment_bytes > uint64_t{1} << 31) {
    return absl::InvalidArgumentError(
        absl::StrCat("segments of ", o.segment_bytes, " bytes: a multiple of 4096 from 65536 to 2147483648 is needed"));
  }
  if (absl::Status s = fs_->CreateDirectory(o.directory); !s.ok()) return s;
  absl::StatusOr<std::unique_ptr<DirectoryLock>> lock = fs_->Lock(o.directory, "LOCK");
  if (!lock.ok()) return lock.status();
  directory_lock_ = *std::move(lock);

  std::random_device random;
  absl::StatusOr<Format> format =
      ReadOrMakeFormat(fs_, o.directory, {.salt = random(), .segment_bytes = o.segment_bytes}, o.must_exist);
  if (!format.ok()) return format.status();
  format_ = *format;
  if (budget_slots() < 2) {
    return absl::InvalidArgumentError(absl::StrCat("a young generation of ", o.young_budget_bytes,
                                                   " bytes: two segments of ", format_.segment_bytes, " are needed"));
  }
  batch_cap_ = std::min<uint64_t>(std::max<size_t>(o.batch_cap_bytes, kBlockBytes), format_.segment_bytes / 4);
  builder_ = std::make_unique<BatchBuilder>(format_.salt);
  empty_builder_ = std::make_unique<BatchBuilder>(format_.salt);
  segments_ = std::make_unique<Segments>(format_.segment_bytes);

  wal_ = absl::StrCat(o.directory, "/wal");
  if (absl::Status s = fs_->CreateDirectory(wal_); !s.ok()) return s;
  if (absl::Status s = fs_->SyncDirectory(o.directory); !s.ok()) return s;
  if (absl::Status s = OpenSegments(); !s.ok()) return s;

  absl::StatusOr<std::unique_ptr<OldGeneration>> old =
      OldGeneration::Open({.directory = absl::StrCat(o.directory, "/old"),
                           // It is made before the first segment.
                           .must_exist = segments_->size() > 0,
                           .env = o.old_generation_env,
                           // A moved segment fits in, so that it reaches the disk by our flush and at once.
                           .write_buffer_bytes = static_cast<size_t>(2 * format_.segment_bytes + (size_t{8} << 20)),
                           .failed = [this](const absl::Status& status) {
                             std::lock_guard<std::mutex> guard(mutex_);
                             Fail(status);
                           }});
  if (!old.ok()) return old.status();
  old_ = *std::move(old);
  if (absl::Status s = fs_->SyncDirectory(o.directory); !s.ok()) return s;
  if (absl::Status s = LoadOld(); !s.ok()) return s;

  std::vector<FoundBatch> batches;
  if (absl::Status s = FindBatches(&batches); !s.ok()) return s;
  if (absl::Status s = CheckBatches(&batches); !s.ok()) return s;
  absl::StatusOr<uint64_t> flushed = old_->FlushedSequence();
  if (!flushed.ok()) return flushed.status();
  uint64_t last = batches.empty() ? 0 : batches.back().sequence;
  if (last < *flushed) {
    return absl::DataLossError(absl::StrCat("the write-ahead log in ", wal_, " ends at batch ", last, ", but batch ",
                                            *flushed, " is known to have been synced"));
  }
  if (!batches.empty()) {
    if (absl::Status s = SecureTail(batches.back()); !s.ok()) return s;
  }
  if (absl::Status s = Replay(batches); !s.ok()) return s;
  if (absl::Status s = CheckGroups(); !s.ok()) return s;
  absl::StatusOr<std::vector<RowMark>> marks = old_->RowMarks();
  if (!marks.ok()) return marks.status();
  for (const RowMark& row : *marks) {
    // Those of other generations are about to be deleted.
    auto it = groups_.find(row.group);
    if (it != groups_.end() && it->second->generation == row.generation) it->second->rows_mark = row.mark;
  }
  for (auto& [id, group] : groups_) {
    ReleaseSnapshot(group->incoming);  // cut short by the end of the process
    DropStaging(id, *group);           // and so was this
    group->old_snapshot_unknown = group->old_snapshot == Index();
    group->submitted_last = group->index.last_index();
    // A move that a crash cut short may have left packs of what is replayed from the log; in a directory, too, that
    // was never flushed by its own: RocksDB is flushed when its memory is full.
    if (!group->index.runs().empty()) {
      Require({.group = id, .generation = group->generation, .from = group->index.runs().front().first});
    }
  }
  incoming_snapshots_.clear();
  last_cut_.clear();
  if (segments_->size() == 0) {
    Lock guard(mutex_);
    if (absl::Status s = AllocateSlot(guard); !s.ok()) return s;
  }
  TidySegments();
  return absl::OkStatus();
}

absl::Status Store::Impl::OpenSegments() {
  absl::StatusOr<std::vector<std::string>> names = fs_->List(wal_);
  if (!names.ok()) return names.status();
  std::set<uint64_t> found;
  std::sort(names->begin(), names->end());
  for (const std::string& name : *names) {
    std::string path = absl::StrCat(wal_, "/", name);
    uint64_t number = 0;
    if (absl::EndsWith(name, ".tmp")) {
      if (absl::Status s = fs_->Remove(path); !s.ok()) return s;
      continue;
    }
    if (!ParseSegmentName(name, &number)) continue;
    absl::StatusOr<std::unique_ptr<File>> file = fs_->Open(path, FileSystem::Mode::kReadWrite);
    if (!file.ok()) return file.status();
    std::string block(kBlockBytes, '\0');
    absl::StatusOr<size_t> got = (*file)->Read(0, block.data(), block.size());
    if (!got.ok()) return got.status();
    block.resize(*got);
    if (absl::Status s = CheckSegmentHeader(block, format_.salt, number, format_.segment_bytes, path); !s.ok())
      return s;
    absl::StatusOr<uint64_t> size = (*file)->Size();
    if (!size.ok()) return size.status();
    if (*size != format_.segment_bytes) {
      return absl::DataLossError(
          absl::StrCat(path, " is damaged: it has ", *size, " bytes instead of ", format_.segment_bytes));
    }
    segments_->Add(*std::move(file), path);
    found.insert(number);
  }
  uint64_t made = found.empty() ? format_.segments : std::max(format_.segments, *found.rbegin());
  for (uint64_t number = 1; number <= made; ++number) {
    if (found.contains(number)) continue;
    return absl::DataLossError(absl::StrCat("the write-ahead log has lost ", made - found.size(), " of its ", made,
                                            " files, the first of them ", wal_, "/", SegmentName(number), ". ",
                                            kWhatToDoAboutLoss));
  }
  next_segment_number_ = made + 1;
  // More than were counted: version 2 did not count; or a crash came between the making and the counting of the last.
  if (format_.segments == made && format_.current) return absl::OkStatus();
  format_.segments = made;
  return WriteFormat(fs_, options_.directory, format_);
}

absl::Status Store::Impl::FindBatches(std::vector<FoundBatch>* batches) {
  for (SlotId slot = 0; slot < segments_->size(); ++slot) {
    BatchScanner scanner((*segments_)[slot].file.get(), kBlockBytes, format_.segment_bytes, format_.salt);
    for (;;) {
      absl::StatusOr<std::optional<BatchScanner::Batch>> batch = scanner.Next();
      if (!batch.ok()) return batch.status();
      if (!*batch) break;
      const BatchHeader& h = (*batch)->header;
      batches->push_back({h.sequence, h.synced, h.begin, slot, (*batch)->offset, h.bytes, h.records, {}});
      for (const Record& record : (*batch)->records) {
        if (record.type != RecordType::kSnapshotInstalled && record.type != RecordType::kGroupDeleted) continue;
        batches->back().cut.emplace_back(record.group, record.offset);
      }
    }
  }
  std::sort(batches->begin(), batches->end(),
            [](const FoundBatch& a, const FoundBatch& b) { return a.sequence < b.sequence; });
  return absl::OkStatus();
}

// Safety rule 15. What is valid of earlier uses of the segments lies before the last batch's `begin`, and is not looked
// at.
absl::Status Store::Impl::CheckBatches(std::vector<FoundBatch>* batches) const {
  if (batches->empty()) return absl::OkStatus();
  uint64_t synced = 0, claimant = 0;
  for (const FoundBatch& b : *batches) {
    if (b.synced >= synced) {
      synced = b.synced;
      claimant = b.sequence;
    }
  }
  uint64_t begin = batches->back().begin;
  std::erase_if(*batches, [begin](const FoundBatch& b) { return b.sequence < begin; });
  uint64_t expected = begin;
  for (size_t i = 0; i < batches->size(); ++i, ++expected) {
    const FoundBatch& b = (*batches)[i];
    if (b.sequence == expected) continue;
    if (b.sequence < expected) {
      return absl::DataLossError(
          absl::StrCat("the write-ahead log in ", wal_, " is damaged: batch ", b.sequence, " is there twice"));
    }
    if (expected <= synced) {
      return absl::DataLossError(absl::StrCat("the write-ahead log in ", wal_, " is damaged: batch ", expected,
                                              " is missing or its checksum is wrong, but batch ", claimant,
                                              " says that everything up to batch ", synced,
                                              " was synced. This is no torn tail: rebuild this node from its peers"));
    }
    batches->resize(i);  // a torn tail
    break;
  }
  return absl::OkStatus();
}

// The tail may be in the page cache only: the process died before its sync, or its sync failed. Writing the same bytes
// again makes it durable, before anything is built on it.
absl::Status Store::Impl::SecureTail(const FoundBatch& last) {
  File& file = *(*segments_)[last.slot].file;
  std::string bytes(RoundUpToBlock(last.bytes), '\0');
  absl::StatusOr<size_t> got = file.Read(last.offset, bytes.data(), bytes.size());
  if (!got.ok()) return got.status();
  if (absl::Status s = file.Write(last.offset, std::string_view(bytes).substr(0, *got)); !s.ok()) return s;
  if (absl::Status s = file.Sync(); !s.ok()) return s;
  next_sequence_ = last.sequence + 1;
  synced_ = last.sequence;
  synced_begin_ = last.begin;
  last_batch_empty_ = last.records == 0;
  return absl::OkStatus();
}

absl::Status Store::Impl::LoadOld() {
  absl::StatusOr<std::vector<std::pair<GroupId, OldRow>>> rows = old_->LoadRows();
  if (!rows.ok()) return rows.status();
  for (auto& [id, row] : *rows) {
    auto group = std::make_unique<Group>();
    group->replica = row.replica;
    group->generation = row.generation;
    group->descriptor = std::move(row.descriptor);
    group->hard_state = row.hard_state;
    group->old_bytes = row.bytes;
    old_bytes_ += row.bytes;
    group->row = true;
    group->index.RestoreOld(std::move(row.entries), std::move(row.terms));
    group->memberships = std::move(row.memberships);
    if (row.staged != 0) {
      group->staging = std::make_unique<Staging>();
      group->staging->generation = row.staged;
    }
    absl::StatusOr<OldSnapshot> snapshot = old_->ReadSnapshot(id, group->generation);
    if (snapshot.ok()) {
      SetSnapshot(*group, {.index = snapshot->index, .term = snapshot->term, .membership = snapshot->membership});
      group->old_snapshot = snapshot->index;
      recovered_snapshots_[id] = snapshot->bytes;
    } else if (!absl::IsNotFound(snapshot.status())) {
      return snapshot.status();
    }
    groups_[id] = std::move(group);
  }
  return absl::OkStatus();
}

absl::Status Store::Impl::Replay(const std::vector<FoundBatch>& batches) {
  for (const FoundBatch& batch : batches) {
    for (const auto& [group, offset] : batch.cut) last_cut_[group] = {batch.sequence, offset};
  }
  for (size_t i = 0; i < batches.size();) {
    SlotId slot = batches[i].slot;
    size_t end = i;
    while (end < batches.size() && batches[end].slot == slot) ++end;
    segments_->Adopt(slot, batches[i].sequence, batches[end - 1].sequence,
                     batches[end - 1].offset + RoundUpToBlock(batches[end - 1].bytes));
    BatchScanner scanner((*segments_)[slot].file.get(), batches[i].offset, (*segments_)[slot].end, format_.salt);
    for (; i < end; ++i) {
      absl::StatusOr<std::optional<BatchScanner::Batch>> batch = scanner.Next();
      if (!batch.ok()) return batch.status();
      if (!*batch || (*batch)->header.sequence != batches[i].sequence) {
        return absl::DataLossError(absl::StrCat((*segments_)[slot].path, " is damaged: batch ", batches[i].sequence,
                                                " does not follow the one before it"));
      }
      for (const Record& record : (*batch)->records) {
        RecordRef ref{slot, static_cast<uint32_t>((*batch)->offset + record.offset), record.size};
        if (absl::Status s = ReplayRecord(record, ref, batches[i].sequence); !s.ok()) return s;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Store::Impl::ReplayRecord(const Record& record, const RecordRef& ref, uint64_t sequence) {
  auto damaged = [&] {
    return absl::DataLossError(absl::StrCat((*segments_)[ref.slot].path, " is damaged: the record at byte ", ref.offset,
                                            ", of group ", record.group.value(), ", cannot be read"));
  };
  // Safety rule 13: of what was there before a snapshot was installed, or the group deleted, nothing counts any more.
  // It could do harm: what RocksDB has of the group may be of a time after it, or gone.
  auto cut = last_cut_.find(record.group);
  if (cut != last_cut_.end() && std::pair(sequence, record.offset) < cut->second) return absl::OkStatus();
  if (record.type == RecordType::kSnapshotInstalled) return ReplayInstalled(record, ref);
  if (record.type == RecordType::kGroupCreated) {
    std::optional<GroupCreated> created = DecodeGroupCreated(record.payload);
    if (!created) return damaged();
    ApplyCreated(record.group, created->replica, Bytes::Copy(created->descriptor), ref.slot, sequence);
    return absl::OkStatus();
  }
  if (record.type == RecordType::kGroupDeleted) {
    ApplyDeleted(record.group, sequence);
    Require({.group = record.group, .what = RequiredOp::What::kDropGroup, .generation = sequence});
    unknown_.erase(record.group);
    recovered_snapshots_.erase(record.group);
    incoming_snapshots_.erase(record.group);
    return absl::OkStatus();
  }
  auto it = groups_.find(record.group);
  if (it == groups_.end()) {
    unknown_.insert(record.group);
    return absl::OkStatus();
  }
  Group& group = *it->second;
  switch (record.type) {
    case RecordType::kHardState: {
      std::optional<raft::HardState> state = DecodeHardState(record.payload);
      if (!state) return damaged();
      ApplyHardState(group, *state, ref.slot);
      return absl::OkStatus();
    }
    case RecordType::kEntries: {
      std::optional<EntriesSummary> summary = SummarizeEntries(record.payload);
      if (!summary) return damaged();
      ApplyEntries(record.group, group, {summary->first, static_cast<uint32_t>(summary->terms.size()), ref},
                   summary->terms, std::move(summary->memberships));
      return absl::OkStatus();
    }
    case RecordType::kSnapshotStaged:
      if (!group.staging || group.staging->generation != sequence) {
        DropStaging(record.group, group);
        group.staging = std::make_unique<Staging>();
      }
      ApplyStaged(group, group.staging->submission, ref.slot, sequence);
      return absl::OkStatus();
    case RecordType::kMemberlessSnapshotPart:
    case RecordType::kSnapshotPart: {
      std::optional<SnapshotPart> part = DecodeSnapshotPart(record);
      std::optional<raft::MembershipAt> membership;
      if (!part || !DecodeMembershipAt(part->membership, &membership)) return damaged();
      if (record.type == RecordType::kMemberlessSnapshotPart) membership = MembershipAsOf(group, part->index);
      // One that RocksDB has a later one of.
      if (part->index < group.snapshot.index) return absl::OkStatus();
      std::string& bytes = incoming_snapshots_[record.group];
      if (part->offset == 0) bytes.clear();
      // The parts before it are not there any more: then RocksDB has the whole.
      if (part->offset != bytes.size()) return absl::OkStatus();
      bytes.append(part->bytes);
      if (ApplySnapshotPart(group, *part, ref, std::move(membership))) {
        recovered_snapshots_[record.group] = Bytes::Take(std::move(bytes));
        incoming_snapshots_.erase(record.group);
      }
      return absl::OkStatus();
    }
    case RecordType::kSnapshotStored: {
      std::optional<SnapshotStored> stored = DecodeSnapshotStored(record.payload);
      if (!stored) return damaged();
      if (stored->generation != group.generation || stored->index < group.snapshot.index) return absl::OkStatus();
      absl::StatusOr<OldSnapshot> snapshot = old_->ReadSnapshot(record.group, group.generation);
      if (!snapshot.ok() || snapshot->index < stored->index) {
        return absl::DataLossError(
            absl::StrCat((*segments_)[ref.slot].path, ", byte ", ref.offset, ": the snapshot of group ",
                         record.group.value(), " as of ", stored->index.value(), " is not in RocksDB: ",
                         snapshot.ok() ? absl::StrCat("there is one as of ", snapshot->index.value())
                                       : snapshot.status().ToString()));
      }
      // A later one is of a log that is there, too: its own record was not durable yet.
      ApplySnapshotStored(group, {stored->generation, snapshot->index, snapshot->term, snapshot->membership}, ref);
      group.old_snapshot = snapshot->index;
      recovered_snapshots_[record.group] = snapshot->bytes;
      return absl::OkStatus();
    }
    default:
      return absl::FailedPreconditionError(absl::StrCat((*segments_)[ref.slot].path, " has a record of type ",
                                                        static_cast<int>(record.type),
                                                        ", which this program does not know"));
  }
}

absl::Status Store::Impl::ReplayInstalled(const Record& record, const RecordRef& ref) {
  const std::string at = absl::StrCat((*segments_)[ref.slot].path, ", byte ", ref.offset, ": the snapshot of group ",
                                      record.group.value());
  std::optional<SnapshotInstalled> installed = DecodeSnapshotInstalled(record.payload);
  if (!installed) return absl::DataLossError(absl::StrCat(at, " cannot be read"));
  std::unique_ptr<Group>& group = groups_[record.group];
  if (group && group->generation == installed->generation) {
    // RocksDB's row was written behind it.
    ApplyHardState(*group, installed->hard_state, ref.slot);
    SetCreatedSlot(*group, ref.slot);
    Require({.group = record.group, .what = RequiredOp::What::kDropBelow, .generation = installed->generation});
    return absl::OkStatus();
  }
  absl::StatusOr<OldSnapshot> snapshot = old_->ReadSnapshot(record.group, installed->generation);
  if (!snapshot.ok() || snapshot->index != installed->index || snapshot->term != installed->term) {
    return absl::DataLossError(absl::StrCat(at, " as of ", installed->index.value(), " is not in RocksDB: ",
                                            snapshot.ok() ? "another one is" : snapshot.status().ToString()));
  }
  if (!group) group = std::make_unique<Group>();
  group->replica = installed->replica;
  group->descriptor = installed->descriptor;
  ApplyInstalled(record.group, *group, *installed, ref.slot);
  recovered_snapshots_[record.group] = snapshot->bytes;
  return absl::OkStatus();
}

absl::Status Store::Impl::CheckGroups() const {
  if (!unknown_.empty()) {
    return absl::DataLossError(absl::StrCat("the write-ahead log in ", wal_, " has records of group ",
                                            unknown_.begin()->value(),
                                            ", of which neither it nor RocksDB says that it was created"));
  }
  for (const auto& [id, group] : groups_) {
    if (group->index.Complete()) continue;
    return absl::DataLossError(absl::StrCat("the log of group ", id.value(), " in ", options_.directory,
                                            " has a gap between its snapshot at ", group->snapshot.index.value(),
                                            " and its last entry ", group->index.last_index().value()));
  }
  return absl::OkStatus();
}

}  // namespace trireme::storage
