// Reading back: a plan made under the mutex, its segments pinned, carried out on the pool in large pieces.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "storage/store_impl.h"

namespace trireme::storage {

using raft::Bytes;
using raft::Entry;
using raft::GroupId;
using raft::Index;

namespace {

// Records of a group that lie this close together in a segment are read in one piece, with what is between them.
constexpr uint32_t kMaxGapBytes = 64 << 10;
constexpr uint64_t kMaxPieceBytes = 1 << 20;

}  // namespace

void Store::Impl::Read(GroupId id, Index first, Index last, size_t max_bytes, ReadDone done) {
  absl::StatusOr<std::vector<Entry>> now = std::vector<Entry>();
  {
    Lock lock(mutex_);
    auto it = groups_.find(id);
    if (it == groups_.end() || it->second->deleting) {
      now = absl::NotFoundError(absl::StrCat("group ", id.value(), " does not exist"));
    } else if (last < first) {
      now = absl::InvalidArgumentError(absl::StrCat("entries ", first.value(), " to ", last.value()));
    } else if (it->second->pending.empty() || it->second->pending.front().entry.index > first) {
      pool_->Post([this, id, first, last, max_bytes, done = std::move(done)]() mutable {
        ReadOnPool(id, first, last, max_bytes, std::move(done));
      });
      return;
    } else {
      size_t bytes = 0;
      for (const PendingEntry& p : it->second->pending) {
        if (p.entry.index < first) continue;
        bytes += p.entry.data.size();
        if (p.entry.index > last || (!now->empty() && bytes > max_bytes)) break;
        now->push_back(p.entry);
      }
      if (now->empty()) {
        now = absl::NotFoundError(absl::StrCat("entry ", first.value(), " of group ", id.value(), " is not there"));
      }
    }
  }
  done(std::move(now));
}

void Store::Impl::Unpin(const std::vector<SlotId>& slots) {
  for (SlotId slot : slots) --(*segments_)[slot].pins;
  TidySegments();
}

Store::Impl::ReadPlan Store::Impl::PlanRead(GroupId id, Index first, Index last, size_t max_bytes) {
  ReadPlan plan;
  auto it = groups_.find(id);
  if (it == groups_.end() || it->second->deleting) return plan;
  const Group& group = *it->second;
  plan.generation = group.generation;
  Index durable_last = last;
  if (!group.pending.empty()) durable_last = std::min(last, group.pending.front().entry.index - 1);
  size_t planned = 0;
  Index next = first;
  while (next <= durable_last && planned < max_bytes) {
    Piece piece;
    if (const Run* run = group.index.FindRun(next)) {
      piece.record = run->record;
      piece.range = {next, std::min(run->last(), durable_last)};
      Slot& slot = (*segments_)[run->record.slot];
      piece.file = slot.file;
      ++slot.pins;
      plan.pinned.push_back(run->record.slot);
      planned += run->record.size;
    } else {
      const Ranges& old = group.index.old();
      auto range = std::find_if(old.begin(), old.end(), [&](const raft::IndexRange& r) { return r.last >= next; });
      if (range == old.end() || range->first > next) return plan;
      piece.range = {next, std::min(range->last, durable_last)};
    }
    next = piece.range.last + 1;
    bool old_piece = !piece.record;
    plan.pieces.push_back(std::move(piece));
    if (old_piece) return plan;  // its size is not known; what comes behind is planned when it has been read
  }
  if (next > durable_last) {
    for (const PendingEntry& p : group.pending) {
      if (p.entry.index > last) break;
      if (p.entry.index >= next) plan.pending.push_back(p.entry);
    }
  }
  return plan;
}

void Store::Impl::ReadOnPool(GroupId id, Index first, Index last, size_t max_bytes, ReadDone done) {
  std::vector<Entry> entries;
  auto bytes_of = [&entries] {
    size_t bytes = 0;
    for (const Entry& e : entries) bytes += e.data.size();
    return bytes;
  };
  absl::Status status;
  std::optional<uint64_t> generation;
  for (;;) {
    Index next = first + entries.size();
    if (next > last) break;
    ReadPlan plan;
    {
      Lock lock(mutex_);
      plan =
          PlanRead(id, next, last, std::min<uint64_t>(max_bytes - std::min(max_bytes, bytes_of()) + 1, kMaxPieceBytes));
    }
    // A snapshot was installed: what it has does not go on what was read.
    if (generation.value_or(plan.generation) != plan.generation) {
      Lock lock(mutex_);
      Unpin(plan.pinned);
      break;
    }
    generation = plan.generation;
    if (plan.pieces.empty() && plan.pending.empty()) {
      status = absl::NotFoundError(absl::StrCat("entry ", next.value(), " of group ", id.value(), " is not there"));
      break;
    }
    size_t before = entries.size();
    size_t wanted = 0;
    std::vector<Piece> in_log;
    for (Piece& piece : plan.pieces) {
      wanted += piece.range.last - piece.range.first + 1;
      if (piece.record) {
        in_log.push_back(std::move(piece));
      } else {
        status = old_->Read(id, plan.generation, piece.range.first, piece.range.last, max_bytes, &entries);
      }
    }
    if (status.ok()) status = ReadPieces(id, in_log, max_bytes, &entries);
    {
      Lock lock(mutex_);
      Unpin(plan.pinned);
    }
    if (!status.ok() || entries.size() - before < wanted) break;
    size_t bytes = bytes_of();
    bool full = false;
    for (Entry& e : plan.pending) {
      bytes += e.data.size();
      full = !entries.empty() && bytes > max_bytes;
      if (full) break;
      entries.push_back(std::move(e));
    }
    if (full) break;
  }
  if (!entries.empty()) {
    done(std::move(entries));  // what is wrong behind them is said to who asks for that
  } else {
    done(std::move(status));
  }
}

absl::Status Store::Impl::ReadPieces(GroupId id, const std::vector<Piece>& pieces, size_t max_bytes,
                                     std::vector<Entry>* entries) {
  size_t bytes = 0;
  for (const Entry& e : *entries) bytes += e.data.size();
  for (size_t i = 0; i < pieces.size();) {
    // As many as lie close together.
    uint32_t from = pieces[i].record->offset;
    uint32_t to = from + pieces[i].record->size;
    size_t end = i + 1;
    uint64_t used = pieces[i].record->size;
    while (end < pieces.size() && pieces[end].record->slot == pieces[i].record->slot &&
           pieces[end].record->offset >= to && pieces[end].record->offset - to <= kMaxGapBytes &&
           pieces[end].record->offset + pieces[end].record->size - from <= kMaxPieceBytes) {
      to = pieces[end].record->offset + pieces[end].record->size;
      used += pieces[end].record->size;
      ++end;
    }
    std::shared_ptr<char[]> buffer = std::make_shared_for_overwrite<char[]>(to - from);
    absl::StatusOr<size_t> got = pieces[i].file->Read(from, buffer.get(), to - from);
    if (!got.ok()) return got.status();
    // A few entries must not keep a large piece in memory.
    bool copy = used < (to - from) / 2;
    for (; i < end; ++i) {
      const Piece& piece = pieces[i];
      uint32_t at = piece.record->offset - from;
      std::optional<std::vector<Entry>> found;
      if (*got >= at + piece.record->size) {
        // Safety rule 17: nothing that is read is believed without its checksum.
        std::string_view view(buffer.get() + at, piece.record->size);
        std::optional<Record> record = DecodeRecord(view, format_.salt);
        if (record && record->type == RecordType::kEntries && record->group == id) {
          found = DecodeEntries(record->payload, buffer);
        }
      }
      if (!found || found->front().index > piece.range.first || found->back().index < piece.range.last) {
        Lock lock(mutex_);
        return absl::DataLossError(absl::StrCat("entry ", piece.range.first.value(), " of group ", id.value(),
                                                " is damaged in ", (*segments_)[piece.record->slot].path, " at byte ",
                                                piece.record->offset));
      }
      for (Entry& e : *found) {
        if (e.index < piece.range.first || e.index > piece.range.last) continue;
        bytes += e.data.size();
        if (!entries->empty() && bytes > max_bytes) return absl::OkStatus();
        if (copy) e.data = Bytes::Copy(e.data.view());
        entries->push_back(std::move(e));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Bytes> Store::Impl::ReadSnapshotParts(GroupId id, const SnapshotRef& snapshot,
                                                     const std::vector<std::shared_ptr<File>>& files) const {
  std::string whole;
  for (size_t i = 0; i < snapshot.parts.size(); ++i) {
    const RecordRef& ref = snapshot.parts[i];
    std::string bytes(ref.size, '\0');
    absl::StatusOr<size_t> got = files[i]->Read(ref.offset, bytes.data(), bytes.size());
    if (!got.ok()) return got.status();
    std::optional<Record> record = DecodeRecord(bytes, format_.salt);
    std::optional<SnapshotPart> part = record ? DecodeSnapshotPart(*record) : std::nullopt;
    if (!part || record->group != id || part->offset != whole.size()) {
      return absl::DataLossError(absl::StrCat("the snapshot of group ", id.value(), " is damaged in the log"));
    }
    whole.append(part->bytes);
  }
  return Bytes::Take(std::move(whole));
}

}  // namespace trireme::storage
