// The background thread: makes segments, moves what is alive in the oldest ones to RocksDB, and deletes there what has
// died; and the one that gives its space back.
#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "storage/store_impl.h"

namespace trireme::storage {

using raft::Entry;
using raft::GroupId;
using raft::Index;
using raft::IndexRange;

namespace {

// On a full disk, before it is asked for room again.
constexpr std::chrono::seconds kNoRoomPause(1);
constexpr uint64_t kReclaimMarginSegments = 4;

uint64_t CountOf(const Ranges& ranges) {
  uint64_t count = 0;
  for (const IndexRange& r : ranges) count += r.last - r.first + 1;
  return count;
}

}  // namespace

// ---- what is due, with the mutex held

bool Store::Impl::BackgroundDue() const {
  return NeedsRows() || NeedsSlot() || NeedsStage() || NeedsMove() || NeedsFlush() || NeedsDelete();
}

bool Store::Impl::NeedsSlot() const {
  if (segments_->free() > 0 || std::chrono::steady_clock::now() < slot_not_before_) return false;
  size_t most = budget_slots() + options_.headroom_segments;
  if (segments_->retired() == 0) return segments_->size() < most;
  // What is retired becomes free with the next batch, unless that has nowhere to go.
  return writer_waits_ && segments_->room() < kBlockBytes && segments_->size() <= most;
}

bool Store::Impl::NeedsMove() const {
  return segments_->in_use() > budget_slots() && (*segments_)[segments_->oldest()].live > 0 &&
         (move_blocked_at_ == 0 || move_blocked_at_ < synced_);
}

bool Store::Impl::NeedsFlush() const {
  return required_asked_ != required_durable_ && segments_->in_use() > 1 && (*segments_)[segments_->oldest()].live == 0;
}

bool Store::Impl::NeedsDelete() const {
  return !dead_.empty() && (dead_bytes_ >= options_.reclaim_bytes / 8 || old_bytes_ == 0);
}

void Store::Impl::Require(RequiredOp op) {
  required_.push_back(op);
  ++required_asked_;
}

void Store::Impl::AddDead(GroupId id, Group& group, const Ranges& dead) {
  if (dead.empty()) return;
  uint64_t count = CountOf(dead);
  uint64_t all = CountOf(group.index.old()) + count;
  auto bytes = static_cast<uint64_t>(static_cast<double>(group.old_bytes) * static_cast<double>(count) /
                                     static_cast<double>(all));
  group.old_bytes -= bytes;
  old_bytes_ -= std::min(old_bytes_, bytes);
  dead_bytes_ += bytes;
  // Merged, so that what is consumed bit by bit is deleted in long ranges (Safety rule 18).
  Dead& all_dead = dead_[id];
  all_dead.generation = group.generation;
  all_dead.ranges = Unite(all_dead.ranges, dead);
}

OldRow Store::Impl::RowOf(GroupId id, const Group& group, const Move* moved) const {
  OldRow row{.replica = group.replica,
             .generation = group.generation,
             .descriptor = group.descriptor,
             .hard_state = group.hard_state,
             .entries = group.index.old(),
             .terms = {},
             .memberships = {},
             .staged = group.staging ? group.staging->generation : 0,
             .bytes = group.old_bytes};
  if (moved != nullptr) {
    row.bytes += moved->packed_bytes;
    for (const auto& [record, ranges] : moved->records) {
      for (const IndexRange& r : group.index.LiveIn(record, {ranges.front().first, ranges.back().last})) {
        AddRange(row.entries, r);
      }
    }
  }
  // What is to be deleted stays known until then.
  if (auto it = dead_.find(id); it != dead_.end()) row.entries = Unite(row.entries, it->second.ranges);
  if (!row.entries.empty()) {
    for (const raft::TermRun& run : group.index.terms()) {
      if (run.first <= row.entries.back().last) row.terms.push_back(run);
    }
    for (const raft::MembershipAt& m : group.memberships) {
      if (m.index <= row.entries.back().last) row.memberships.push_back(m);
    }
  }
  return row;
}

// ---- the thread

void Store::Impl::RunBackground() {
  Lock lock(mutex_);
  for (;;) {
    if (failed_ || background_stopping_) return;
    if (!BackgroundDue()) {
      // Also when what it was woken for has come to nothing meanwhile.
      idle_wake_.notify_all();
      if (std::chrono::steady_clock::now() < slot_not_before_) {
        background_wake_.wait_until(lock, slot_not_before_);
      } else {
        background_wake_.wait(lock);
      }
      continue;
    }
    background_busy_ = true;
    if (NeedsRows()) {
      WriteGatheredRows(lock);
      background_busy_ = false;
      continue;
    }
    if (NeedsSlot()) {
      absl::Status s = AllocateSlot(lock);
      if (absl::IsResourceExhausted(s)) {
        // Writers wait, for what is consumed frees those that are in use; nothing that was written is lost.
        slot_not_before_ = std::chrono::steady_clock::now() + kNoRoomPause;
      } else if (!s.ok() && !absl::IsCancelled(s)) {
        Fail(s);
      }
    } else if (NeedsStage() && (!staged_last_ || !(NeedsFlush() || NeedsMove()))) {
      // In turn with the rest.
      staged_last_ = true;
      RunStageTask(lock);
      background_busy_ = false;
      continue;
    } else if (NeedsFlush()) {
      RunOldOps(lock, /*flush=*/true);
    } else if (NeedsMove()) {
      MoveOldest(lock);
    } else {
      RunOldOps(lock, /*flush=*/false);
    }
    staged_last_ = false;
    background_busy_ = false;
  }
}

absl::Status Store::Impl::AllocateSlot(Lock& lock) {
  // On this thread alone.
  const uint64_t number = next_segment_number_;
  lock.unlock();
  std::string name = SegmentName(number);
  absl::StatusOr<std::shared_ptr<File>> file = MakeSegmentFile(
      fs_, wal_, name, EncodeSegmentHeader(format_.salt, number, format_.segment_bytes), format_.segment_bytes, [this] {
        std::lock_guard<std::mutex> guard(mutex_);
        return background_stopping_ || failed_;
      });
  absl::Status status = file.status();
  if (status.ok()) {
    // Counted before it is used, so that it is missed once it is lost.
    Format format = format_;
    format.segments = number;
    status = WriteFormat(fs_, options_.directory, format);
  }
  lock.lock();
  if (!status.ok()) return status;
  ++next_segment_number_;
  segments_->Add(*std::move(file), absl::StrCat(wal_, "/", name));
  room_wake_.notify_one();
  return absl::OkStatus();
}

void Store::Impl::MoveOldest(Lock& lock) {
  RunOldOps(lock, /*flush=*/false);
  if (failed_ || !NeedsMove()) return;
  auto started = std::chrono::steady_clock::now();
  SlotId slot = segments_->oldest();
  Slot& s = (*segments_)[slot];
  uint64_t first = s.first_sequence, last = s.last_sequence, end = s.end;
  ++s.pins;
  std::map<GroupId, Move> moves;
  lock.unlock();
  absl::Status status = CollectLive(slot, first, last, end, &moves);
  if (status.ok()) status = WriteMovedRows(slot, moves);
  lock.lock();
  if (!status.ok()) {
    Fail(status);
  } else if (FlushOld(lock)) {
    FinishMove(slot, moves);
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    double rate = static_cast<double>(end) / std::max(seconds, 1e-6);
    move_rate_ = move_rate_ <= 0 ? rate : 0.7 * move_rate_ + 0.3 * rate;
    move_blocked_at_ = s.live > 0 ? synced_ : 0;
  }
  moving_.clear();
  --s.pins;
  TidySegments();
}

absl::Status Store::Impl::CollectLive(SlotId slot, uint64_t first, uint64_t last, uint64_t end,
                                      std::map<GroupId, Move>* moves) {
  std::shared_ptr<File> file;
  std::string path;
  {
    Lock lock(mutex_);
    file = (*segments_)[slot].file;
    path = (*segments_)[slot].path;
  }
  BatchScanner scanner(file.get(), kBlockBytes, end, format_.salt);
  for (uint64_t sequence = first; sequence <= last; ++sequence) {
    absl::StatusOr<std::optional<BatchScanner::Batch>> batch = scanner.Next();
    if (!batch.ok()) return batch.status();
    if (!*batch || (*batch)->header.sequence != sequence) {
      return absl::DataLossError(absl::StrCat(path, " is damaged: batch ", sequence, " cannot be read any more"));
    }
    std::vector<std::pair<const Record*, Ranges>> live;
    {
      Lock lock(mutex_);
      for (const Record& record : (*batch)->records) {
        auto it = groups_.find(record.group);
        if (it == groups_.end()) continue;
        const Group& group = *it->second;
        RecordRef ref{slot, static_cast<uint32_t>((*batch)->offset + record.offset), record.size};
        bool needed = false;
        switch (record.type) {
          case RecordType::kHardState:
            needed = group.hard_state_slot == slot;
            break;
          case RecordType::kGroupCreated:
            needed = group.created_slot == slot;
            break;
          case RecordType::kMemberlessSnapshotPart:
          case RecordType::kSnapshotPart:
          case RecordType::kSnapshotStored:
            needed =
                std::find(group.snapshot.parts.begin(), group.snapshot.parts.end(), ref) != group.snapshot.parts.end();
            break;
          case RecordType::kEntries: {
            std::optional<EntriesSummary> summary = SummarizeEntries(record.payload);
            if (!summary) break;
            Ranges ranges = group.index.LiveIn(ref, {summary->first, summary->first + (summary->terms.size() - 1)});
            if (ranges.empty()) break;
            needed = true;
            live.emplace_back(&record, ranges);
            (*moves)[record.group].records.emplace_back(ref, std::move(ranges));
            break;
          }
          case RecordType::kSnapshotStaged:
            needed = group.staging && group.staging->slot == slot;
            break;
          case RecordType::kSnapshotInstalled:
            needed = group.created_slot == slot || group.hard_state_slot == slot;
            break;
          case RecordType::kGroupDeleted:
            break;
        }
        if (needed) {
          (*moves)[record.group].generation = group.generation;
          moving_.try_emplace(record.group);
        }
      }
    }
    for (const auto& [record, ranges] : live) {
      auto bytes = std::make_shared<const std::string>(record->payload);
      std::optional<std::vector<Entry>> entries = DecodeEntries(*bytes, bytes);
      TRIREME_CHECK(entries.has_value()) << "a record of group " << record->group;
      Move& move = (*moves)[record->group];
      for (Entry& e : *entries) {
        if (!Contains(ranges, e.index)) continue;
        move.pack_bytes += e.data.size() + sizeof(Entry);
        move.pack.push_back(std::move(e));
        if (move.pack_bytes < options_.pack_bytes) continue;
        if (absl::Status s = WritePack(record->group, move); !s.ok()) return s;
      }
    }
  }
  for (auto& [id, move] : *moves) {
    if (absl::Status s = WritePack(id, move); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Store::Impl::WritePack(GroupId group, Move& move) {
  if (move.pack.empty()) return absl::OkStatus();
  absl::Status status = old_->PutPack(group, move.generation, move.pack);
  for (const Entry& e : move.pack) move.packed_bytes += e.data.size() + kPackedEntryBytes;
  move.pack.clear();
  move.pack_bytes = 0;
  return status;
}

absl::Status Store::Impl::WriteMovedRows(SlotId slot, std::map<GroupId, Move>& moves) {
  for (auto& [id, move] : moves) {
    OldRow row;
    std::vector<std::shared_ptr<File>> files;
    std::vector<SlotId> pinned;
    {
      Lock lock(mutex_);
      if (moving_.at(id).deleted) continue;
      const Group& group = *groups_.at(id);
      row = RowOf(id, group, moving_.at(id).replaced ? nullptr : &move);
      const std::vector<RecordRef>& parts = group.snapshot.parts;
      if (std::any_of(parts.begin(), parts.end(), [&](const RecordRef& r) { return r.slot == slot; })) {
        move.snapshot = group.snapshot;
        // RocksDB may have one by now that is to take its place, whose record is not durable yet; it is covered by the
        // log.
        const bool there = group.snapshot.stored || (group.storing > 0 && group.old_snapshot >= group.snapshot.index);
        for (const RecordRef& ref : there ? std::vector<RecordRef>() : parts) {
          files.push_back((*segments_)[ref.slot].file);
          ++(*segments_)[ref.slot].pins;
          pinned.push_back(ref.slot);
        }
      }
    }
    if (!pinned.empty()) {
      absl::StatusOr<raft::Bytes> bytes = ReadSnapshotParts(id, move.snapshot, files);
      {
        Lock lock(mutex_);
        Unpin(pinned);
      }
      if (!bytes.ok()) return bytes.status();
      absl::Status s = old_->PutSnapshot(id, move.generation,
                                         {move.snapshot.index, move.snapshot.term, move.snapshot.membership, *bytes});
      if (!s.ok()) return s;
    }
    if (absl::Status s = old_->PutRow(id, row); !s.ok()) return s;
  }
  return absl::OkStatus();
}

void Store::Impl::FinishMove(SlotId slot, std::map<GroupId, Move>& moves) {
  for (auto& [id, move] : moves) {
    figures_.bytes_moved += move.packed_bytes;
    const Meanwhile& meanwhile = moving_.at(id);
    if (meanwhile.deleted) continue;
    Group& group = *groups_.at(id);
    group.row = true;
    if (meanwhile.replaced) continue;  // what was moved goes with its generation
    group.old_bytes += move.packed_bytes;
    old_bytes_ += move.packed_bytes;
    const std::optional<Index>& truncated = meanwhile.truncated;
    Ranges dead;
    for (const auto& [record, ranges] : move.records) {
      for (const IndexRange& r : Subtract(ranges, group.index.MovedToOld(record, ranges, Releaser()))) {
        if (!truncated || r.last < *truncated) {
          AddRange(dead, r);
        } else if (r.first < *truncated) {
          AddRange(dead, {r.first, *truncated - 1});
        }
      }
    }
    AddDead(id, group, dead);
    if (group.hard_state_slot == slot) {
      --(*segments_)[slot].live;
      group.hard_state_slot = kNoSlot;
    }
    if (group.created_slot == slot) {
      --(*segments_)[slot].live;
      group.created_slot = kNoSlot;
    }
    if (group.staging && group.staging->slot == slot) {
      --(*segments_)[slot].live;
      group.staging->slot = kNoSlot;
    }
    if (!move.snapshot.parts.empty() && group.snapshot.parts == move.snapshot.parts) ReleaseSnapshot(group.snapshot);
  }
}

bool Store::Impl::FlushOld(Lock& lock) {
  uint64_t written = required_written_;
  uint64_t rows_written = rows_written_;
  uint64_t synced = synced_;
  lock.unlock();
  absl::Status status = old_->Flush(synced);
  lock.lock();
  if (!status.ok()) {
    Fail(status);
    return false;
  }
  required_durable_ = written;
  rows_flushed_ = rows_written;
  if (!reclaim_due_ && WorthReclaiming() && std::chrono::steady_clock::now() >= reclaim_not_before_) {
    reclaim_due_ = true;
    reclaim_wake_.notify_one();
  }
  return true;
}

absl::Status Store::Impl::RunRequired(const RequiredOp& op) {
  switch (op.what) {
    case RequiredOp::What::kTruncate:
      return old_->Truncate(op.group, op.generation, op.from);
    case RequiredOp::What::kDropGeneration:
      return old_->DropGeneration(op.group, op.generation);
    case RequiredOp::What::kDropBelow:
      return old_->DropBelow(op.group, op.generation);
    case RequiredOp::What::kDropGroup:
      return old_->DropGroup(op.group, op.generation);
  }
  return absl::InternalError("an operation of no kind");
}

void Store::Impl::RunOldOps(Lock& lock, bool flush) {
  std::deque<RequiredOp> required = std::move(required_);
  required_.clear();
  auto dead = std::move(dead_);
  dead_.clear();
  uint64_t dead_bytes = std::exchange(dead_bytes_, 0);
  std::map<GroupId, bool> touched;
  lock.unlock();
  absl::Status status;
  for (const RequiredOp& op : required) {
    status = RunRequired(op);
    if (!status.ok()) break;
    touched[op.group] = true;
  }
  for (auto it = dead.begin(); status.ok() && it != dead.end(); ++it) {
    Ranges alive;
    uint64_t generation = 0;
    lock.lock();
    auto group = groups_.find(it->first);
    // Of a generation that was replaced meanwhile all goes, and the indexes say nothing for the new one.
    bool there = group != groups_.end() && group->second->generation == it->second.generation;
    if (there) {
      alive = group->second->index.old();
      generation = group->second->generation;
    }
    lock.unlock();
    if (!there) continue;
    for (const IndexRange& range : it->second.ranges) {
      status = old_->DeleteDead(it->first, generation, range, alive);
      if (!status.ok()) break;
    }
    touched[it->first] = true;
  }
  for (auto it = touched.begin(); status.ok() && it != touched.end(); ++it) {
    std::optional<OldRow> row;
    lock.lock();
    if (auto group = groups_.find(it->first); group != groups_.end() && group->second->row) {
      row = RowOf(it->first, *group->second, nullptr);
    }
    lock.unlock();
    if (row) status = old_->PutRow(it->first, *row);
  }
  lock.lock();
  if (!status.ok()) return Fail(status);
  required_written_ += required.size();
  // What a lot has died is worth a flush, so that it is known after a crash, and its space can be given back.
  if ((flush || dead_bytes >= options_.reclaim_bytes / 8) && !FlushOld(lock)) return;
  TidySegments();
}

bool Store::Impl::WorthReclaiming() const {
  uint64_t alive = old_bytes_ + staged_bytes_;
  return old_->StoredBytes() >= alive + unreclaimable_ + std::max(options_.reclaim_bytes, alive);
}

void Store::Impl::RunReclaimer() {
  constexpr int kTries = 100;
  // What is left to the moving of segments meanwhile.
  const uint64_t margin = kReclaimMarginSegments * format_.segment_bytes;
  auto room = [&]() -> uint64_t {
    absl::StatusOr<uint64_t> free = fs_->FreeBytes(options_.directory);
    // Where that cannot be told there is none.
    return free.ok() ? *free - std::min(*free, margin) : 0;
  };
  bool lacked_room = false;
  uint64_t room_then = 0;
  int tries = 0;
  Lock lock(mutex_);
  auto woken = [this] { return failed_ || background_stopping_ || reclaim_due_; };
  for (;;) {
    if (!lacked_room) {
      reclaim_wake_.wait(lock, woken);
    } else if (!reclaim_wake_.wait_for(lock, kNoRoomPause, woken)) {
      lock.unlock();
      const bool grown = room() >= room_then + format_.segment_bytes;
      lock.lock();
      reclaim_due_ = reclaim_due_ || (grown && WorthReclaiming());
      continue;
    }
    if (failed_ || background_stopping_) return;
    uint64_t alive = old_bytes_ + staged_bytes_;
    lock.unlock();
    absl::Status status = old_->Reclaim(alive, room);
    lacked_room = absl::IsResourceExhausted(status);
    if (lacked_room) room_then = room();
    lock.lock();
    if (absl::IsCancelled(status)) return;
    if (absl::IsUnavailable(status) && ++tries < kTries) {
      reclaim_wake_.wait_for(lock, std::chrono::milliseconds(50), [this] { return failed_ || background_stopping_; });
      continue;
    }
    tries = 0;
    reclaim_due_ = false;
    if (lacked_room) {
      // Once there is more room, or more has died, which then may be enough.
      reclaim_not_before_ = std::chrono::steady_clock::now() + 10 * kNoRoomPause;
    } else if (!status.ok() && !absl::IsUnavailable(status)) {
      return Fail(status);
    } else {
      uint64_t stored = old_->StoredBytes();
      unreclaimable_ = stored - std::min(stored, old_bytes_ + staged_bytes_);
    }
    idle_wake_.notify_all();
  }
}

}  // namespace trireme::storage
