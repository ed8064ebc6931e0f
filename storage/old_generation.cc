#include "storage/old_generation.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"
#include "rocksdb/convenience.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/listener.h"
#include "rocksdb/table.h"
#include "rocksdb/write_batch.h"
#include "storage/format_file.h"
#include "storage/membership_record.h"
#include "storage/old_keys.h"
#include "storage/row_family.h"

namespace trireme::storage {
namespace {

using raft::Entry;
using raft::GroupId;
using raft::Index;
using raft::IndexRange;

constexpr uint8_t kRowVersion = 2;
constexpr uint8_t kMemberlessRowVersion = 1;  // of FORMAT up to 3
constexpr size_t kWriteBatchBytes = size_t{4} << 20;
constexpr uint64_t kBlobBytes = 4096;  // larger values lie outside of the tree
// Fewer indexes than this are deleted pack by pack, more by a range tombstone (Safety rule 18).
constexpr uint64_t kShortRange = 64;
constexpr uint64_t kOverheadBytes = 128;  // of a key in memory, at most
constexpr char kFlushedKey[] = "flushed";

absl::Status Convert(const rocksdb::Status& s, const std::string& what) {
  if (s.ok()) return absl::OkStatus();
  std::string text = absl::StrCat(what, ": ", s.ToString());
  if (s.IsCorruption()) return absl::DataLossError(text);
  if (s.IsNotFound()) return absl::NotFoundError(text);
  if (s.IsNoSpace()) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

constexpr size_t kLogKeyBytes = 32;
constexpr uint64_t kMax = ~uint64_t{0};

std::string LogKey(GroupId group, uint64_t generation, uint64_t first, uint64_t last) {
  std::string key;
  key.reserve(kLogKeyBytes + 1);
  PutBig(&key, group.value(), 8);
  PutBig(&key, generation, 8);
  PutBig(&key, first, 8);
  PutBig(&key, last, 8);
  return key;
}

// The indexes of the pack with this key, if it is one of this group and generation.
std::optional<IndexRange> PackRange(const rocksdb::Slice& key, GroupId group, uint64_t generation) {
  if (key.size() != kLogKeyBytes || GetBig(key.data(), 8) != group.value() || GetBig(key.data() + 8, 8) != generation) {
    return std::nullopt;
  }
  return IndexRange{Index(GetBig(key.data() + 16, 8)), Index(GetBig(key.data() + 24, 8))};
}

std::string EncodePack(absl::Span<const Entry> entries) {
  size_t bytes = 4;
  for (const Entry& e : entries) bytes += kPackedEntryBytes + e.data.size();
  std::string pack;
  pack.reserve(bytes);
  auto count = static_cast<uint32_t>(entries.size());
  pack.append(reinterpret_cast<const char*>(&count), 4);
  for (const Entry& e : entries) {
    char head[kPackedEntryBytes] = {};
    uint64_t index = e.index.value();
    uint64_t term = e.term.value();
    auto size = static_cast<uint32_t>(e.data.size());
    std::memcpy(head, &index, 8);
    std::memcpy(head + 8, &term, 8);
    std::memcpy(head + 16, &size, 4);
    head[20] = static_cast<char>(e.type);
    uint32_t crc = raft::Crc32c(e.data.view(), raft::Crc32c({head, 24}));
    std::memcpy(head + 24, &crc, 4);
    pack.append(head, sizeof head);
    pack.append(e.data.view());
  }
  return pack;
}

// Appends what lies in [first, last] and checks its checksums. False when the pack is damaged.
bool DecodePack(const std::shared_ptr<const std::string>& pack, Index first, Index last, std::vector<Entry>* out) {
  const std::string& bytes = *pack;
  if (bytes.size() < 4) return false;
  uint32_t count;
  std::memcpy(&count, bytes.data(), 4);
  size_t at = 4;
  for (uint32_t i = 0; i < count; ++i) {
    if (bytes.size() - at < kPackedEntryBytes) return false;
    const char* head = bytes.data() + at;
    uint64_t index, term;
    uint32_t size, crc;
    std::memcpy(&index, head, 8);
    std::memcpy(&term, head + 8, 8);
    std::memcpy(&size, head + 16, 4);
    std::memcpy(&crc, head + 24, 4);
    at += kPackedEntryBytes;
    if (size > bytes.size() - at) return false;
    if (Index(index) >= first && Index(index) <= last) {
      std::string_view data(bytes.data() + at, size);
      if (crc != raft::Crc32c(data, raft::Crc32c({head, 24}))) return false;
      out->push_back({.term = raft::Term(term),
                      .index = Index(index),
                      .type = static_cast<raft::EntryType>(head[20]),
                      .data = size == 0 ? raft::Bytes() : raft::Bytes(pack, data.data(), size)});
    }
    at += size;
  }
  return at == bytes.size();
}

std::string EncodeRow(const OldRow& row) {
  raft::Writer w;
  w.Byte(kRowVersion);
  w.Varint(row.replica.value());
  w.Varint(row.generation);
  w.Counted(row.descriptor.view());
  w.Varint(row.hard_state.term.value());
  w.Varint(row.hard_state.voted_for.value());
  w.Varint(row.hard_state.commit.value());
  w.Varint(row.bytes);
  w.Varint(row.entries.size());
  for (const IndexRange& r : row.entries) {
    w.Varint(r.first.value());
    w.Varint(r.last - r.first);
  }
  w.Varint(row.terms.size());
  for (const raft::TermRun& r : row.terms) {
    w.Varint(r.first.value());
    w.Varint(r.term.value());
  }
  w.Varint(row.memberships.size());
  for (const raft::MembershipAt& m : row.memberships) w.Counted(EncodeMembershipAt(m).view());
  w.Varint(row.staged);
  return w.Take();
}

std::optional<OldRow> DecodeRow(std::string_view bytes) {
  raft::Reader r(bytes);
  uint8_t version = r.Byte();
  if (version != kRowVersion && version != kMemberlessRowVersion) return std::nullopt;
  OldRow row;
  row.replica = raft::ReplicaId(r.Varint());
  row.generation = r.Varint();
  row.descriptor = raft::Bytes::Copy(r.Counted());
  row.hard_state.term = raft::Term(r.Varint());
  row.hard_state.voted_for = raft::ReplicaId(r.Varint());
  row.hard_state.commit = Index(r.Varint());
  row.bytes = r.Varint();
  size_t ranges = r.Count(2);
  for (size_t i = 0; i < ranges && r.ok(); ++i) {
    Index first(r.Varint());
    row.entries.push_back({first, first + r.Varint()});
  }
  size_t terms = r.Count(2);
  for (size_t i = 0; i < terms && r.ok(); ++i) {
    Index first(r.Varint());
    row.terms.push_back({first, raft::Term(r.Varint())});
  }
  size_t memberships = version == kMemberlessRowVersion ? 0 : r.Count();
  for (size_t i = 0; i < memberships && r.ok(); ++i) {
    std::optional<raft::MembershipAt> membership;
    if (!DecodeMembershipAt(r.Counted(), &membership) || !membership) return std::nullopt;
    row.memberships.push_back(*std::move(membership));
  }
  if (version != kMemberlessRowVersion) row.staged = r.Varint();
  if (!r.done()) return std::nullopt;
  return row;
}

class Listener final : public rocksdb::EventListener {
 public:
  explicit Listener(std::function<void(const absl::Status&)> failed) : failed_(std::move(failed)) {}
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* status) override {
    // A compaction that finds no room leaves everything as it was, so it is as if it had not begun, and what has died
    // can still go (Safety rule 19). Whatever else cannot be written is lost.
    if (reason == rocksdb::BackgroundErrorReason::kCompaction && status->IsNoSpace()) {
      *status = rocksdb::Status::OK();
      return;
    }
    if (failed_) failed_(Convert(*status, "RocksDB failed in the background"));
  }

 private:
  const std::function<void(const absl::Status&)> failed_;
};

}  // namespace

struct OldGeneration::Impl {
  std::string directory;
  std::shared_ptr<rocksdb::Env> env;
  std::unique_ptr<rocksdb::DB> db;
  // In the order of the database's opening: default, log, raft, state, index.
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  std::optional<RowFamily> rows;
  rocksdb::WriteBatch batch;
  uint64_t write_buffer_bytes = 0;
  uint64_t unflushed_bytes = 0;
  std::atomic<uint64_t> points_deleted = 0;
  std::atomic<uint64_t> ranges_deleted = 0;
  std::atomic<uint64_t> rewrites = 0;

  rocksdb::ColumnFamilyHandle* log() const { return families[1]; }
  rocksdb::ColumnFamilyHandle* raft() const { return families[2]; }
  rocksdb::ColumnFamilyHandle* state() const { return families[3]; }

  ~Impl() {
    if (!db) return;
    rocksdb::CancelAllBackgroundWork(db.get(), true);
    for (rocksdb::ColumnFamilyHandle* family : families) db->DestroyColumnFamilyHandle(family);
    // What was not flushed is in the write-ahead log still.
    db->Close().PermitUncheckedError();
  }

  absl::Status WriteOut() {
    if (batch.Count() == 0) return absl::OkStatus();
    rocksdb::WriteOptions options;
    options.disableWAL = true;
    unflushed_bytes += batch.GetDataSize() + kOverheadBytes * batch.Count();
    rocksdb::Status s = db->Write(options, &batch);
    batch.Clear();
    if (s.ok() && unflushed_bytes > write_buffer_bytes / 2) return FlushAll();
    return Convert(s, "write to RocksDB");
  }
  // The only flush there ever is, on the only thread that writes. RocksDB 7.8 does not bear two flushes at a time when
  // they have different reasons (an assertion, on in Debian's build, ends the process), so its own, for a full buffer
  // or a manual compaction, must not come about.
  absl::Status FlushAll() {
    unflushed_bytes = 0;
    rocksdb::FlushOptions options;
    options.wait = true;
    options.allow_write_stall = true;
    return Convert(db->Flush(options, {log(), raft(), state(), families[4]}), "flush RocksDB");
  }
  absl::Status Added(const rocksdb::Status& s) {
    if (!s.ok()) return Convert(s, "write to RocksDB");
    return batch.GetDataSize() >= kWriteBatchBytes ? WriteOut() : absl::OkStatus();
  }
  std::unique_ptr<rocksdb::Iterator> LogIterator(bool skip_range_tombstones) const {
    rocksdb::ReadOptions options;
    options.ignore_range_deletions = skip_range_tombstones;
    options.fill_cache = false;
    return std::unique_ptr<rocksdb::Iterator>(db->NewIterator(options, log()));
  }
};

OldGeneration::OldGeneration(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OldGeneration::~OldGeneration() = default;

absl::StatusOr<std::unique_ptr<OldGeneration>> OldGeneration::Open(Options options) {
  auto impl = std::make_unique<Impl>();
  impl->directory = options.directory;
  rocksdb::DBOptions db;
  impl->env = options.env;
  if (impl->env) db.env = impl->env.get();
  db.create_if_missing = !options.must_exist;
  db.create_missing_column_families = true;
  db.max_background_jobs = 2;
  // The families are flushed together, so that rows and packs of one point in time are found after a crash.
  db.atomic_flush = true;
  db.avoid_flush_during_shutdown = true;
  // Safety rule 16: a failed write is not tried again.
  db.max_bgerror_resume_count = 0;
  db.info_log_level = rocksdb::WARN_LEVEL;
  db.keep_log_file_num = 2;
  db.max_log_file_size = size_t{4} << 20;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  db.listeners.push_back(std::make_shared<Listener>(std::move(options.failed)));

  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;
  rocksdb::ColumnFamilyOptions family;
  family.compression = rocksdb::kNoCompression;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  family.write_buffer_size = options.write_buffer_bytes;
  family.max_write_buffer_number = 3;
  rocksdb::ColumnFamilyOptions log = family;
  log.enable_blob_files = true;
  log.min_blob_size = kBlobBytes;
  log.blob_compression_type = rocksdb::kNoCompression;
  // By our own count of what is dead: on its own it rewrites what is alive (Safety rule 18).
  log.enable_blob_garbage_collection = false;

  rocksdb::DB* opened = nullptr;
  rocksdb::Status s = rocksdb::DB::Open(db, options.directory,
                                        {{rocksdb::kDefaultColumnFamilyName, rocksdb::ColumnFamilyOptions()},
                                         {"log", log},
                                         {"raft", family},
                                         {"state", family},
                                         {"index", RowFamily::Options(family)}},
                                        &impl->families, &opened);
  if (options.must_exist && s.IsInvalidArgument()) {
    return absl::DataLossError(absl::StrCat("RocksDB in ", options.directory,
                                            " is lost, or a part of it: ", s.ToString(), ". ", kWhatToDoAboutLoss));
  }
  if (!s.ok()) return Convert(s, absl::StrCat("open RocksDB in ", options.directory));
  impl->db.reset(opened);
  impl->rows.emplace(opened, impl->families[4]);
  impl->write_buffer_bytes = options.write_buffer_bytes;
  return std::unique_ptr<OldGeneration>(new OldGeneration(std::move(impl)));
}

absl::StatusOr<std::vector<std::pair<GroupId, OldRow>>> OldGeneration::LoadRows() {
  std::vector<std::pair<GroupId, OldRow>> rows;
  std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(rocksdb::ReadOptions(), impl_->raft()));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (it->key() == rocksdb::Slice(kFlushedKey)) continue;
    std::optional<OldRow> row = it->key().size() == 8 ? DecodeRow(it->value().ToStringView()) : std::nullopt;
    if (!row) {
      return absl::DataLossError(
          absl::StrCat(impl_->directory, ": a group's row, with key ", it->key().ToString(true), ", cannot be read"));
    }
    rows.emplace_back(GroupId(GetBig(it->key().data(), 8)), *std::move(row));
  }
  if (!it->status().ok()) return Convert(it->status(), absl::StrCat("read the groups in ", impl_->directory));
  return rows;
}

absl::StatusOr<uint64_t> OldGeneration::FlushedSequence() {
  std::string value;
  rocksdb::Status s = impl_->db->Get(rocksdb::ReadOptions(), impl_->raft(), kFlushedKey, &value);
  if (s.IsNotFound()) return 0;
  if (!s.ok()) return Convert(s, absl::StrCat("read ", impl_->directory));
  if (value.size() != 8) return absl::DataLossError(absl::StrCat(impl_->directory, ": the sequence cannot be read"));
  return GetBig(value.data(), 8);
}

absl::Status OldGeneration::PutPack(GroupId group, uint64_t generation, absl::Span<const Entry> entries) {
  return impl_->Added(impl_->batch.Put(
      impl_->log(), LogKey(group, generation, entries.front().index.value(), entries.back().index.value()),
      EncodePack(entries)));
}

absl::Status OldGeneration::PutRow(GroupId group, const OldRow& row) {
  return impl_->Added(impl_->batch.Put(impl_->raft(), GroupKey(group), EncodeRow(row)));
}

absl::Status OldGeneration::PutSnapshot(GroupId group, uint64_t generation, const OldSnapshot& snapshot) {
  raft::Writer w;
  w.Fixed64(snapshot.index.value());
  w.Fixed64(snapshot.term.value());
  w.Counted(EncodeMembershipAt(snapshot.membership).view());
  w.Fixed32(raft::Crc32c(snapshot.bytes.view(), raft::Crc32c(w.bytes())));
  w.Raw(snapshot.bytes.view());
  return impl_->Added(impl_->batch.Put(impl_->state(), GenerationKey(group, generation), w.bytes()));
}

absl::Status OldGeneration::Truncate(GroupId group, uint64_t generation, Index from) {
  if (absl::Status s = impl_->WriteOut(); !s.ok()) return s;
  // Reads skip range tombstones, so what these cover goes as well, and by point deletes: after a crash its indexes may
  // be replayed from the log, and come back in packs with other bounds.
  auto it = impl_->LogIterator(/*skip_range_tombstones=*/true);
  for (it->Seek(LogKey(group, generation, from.value(), 0)); it->Valid() && PackRange(it->key(), group, generation);
       it->Next()) {
    if (absl::Status s = impl_->Added(impl_->batch.Delete(impl_->log(), it->key())); !s.ok()) return s;
  }
  return Convert(it->status(), absl::StrCat("truncate group ", group.value()));
}

absl::Status OldGeneration::DeleteDead(GroupId group, uint64_t generation, IndexRange dead, const Ranges& alive) {
  if (absl::Status s = impl_->WriteOut(); !s.ok()) return s;
  auto it = impl_->LogIterator(/*skip_range_tombstones=*/true);
  // [begin, end) of the keys whose packs lie in `dead`, and those across its ends of which nothing else is alive.
  std::string begin = LogKey(group, generation, dead.first.value(), 0);
  it->SeekForPrev(begin);
  if (it->Valid()) {
    std::optional<IndexRange> pack = PackRange(it->key(), group, generation);
    if (pack && pack->last >= dead.first && !Intersects(alive, *pack)) begin = it->key().ToString();
  }
  std::string end = LogKey(group, generation, dead.last.value(), kMax);
  it->SeekForPrev(end);
  if (it->Valid()) {
    std::optional<IndexRange> pack = PackRange(it->key(), group, generation);
    if (pack && Intersects(alive, *pack)) end = it->key().ToString();
  }
  if (begin >= end) return absl::OkStatus();
  if (dead.last - dead.first >= kShortRange) {
    ++impl_->ranges_deleted;
    return impl_->Added(impl_->batch.DeleteRange(impl_->log(), begin, end));
  }
  for (it->Seek(begin); it->Valid() && it->key().compare(end) < 0; it->Next()) {
    ++impl_->points_deleted;
    if (absl::Status s = impl_->Added(impl_->batch.Delete(impl_->log(), it->key())); !s.ok()) return s;
  }
  return Convert(it->status(), absl::StrCat("delete entries of group ", group.value()));
}

absl::Status OldGeneration::ChangeRows(GroupId group, uint64_t generation, Index mark,
                                       absl::Span<const raft::RowChange> changes) {
  return impl_->Added(impl_->rows->Change(&impl_->batch, group, generation, mark, changes));
}

absl::Status OldGeneration::Publish() {
  return impl_->WriteOut();
}

absl::StatusOr<raft::RowPage> OldGeneration::ScanRows(GroupId group, uint64_t generation, const std::string& from,
                                                      const std::string& to, size_t max_bytes) const {
  raft::RowPage page;
  rocksdb::Status s = impl_->rows->Scan(group, generation, from, to, max_bytes, &page);
  if (!s.ok()) return Convert(s, absl::StrCat("read index rows of group ", group.value()));
  return page;
}

absl::StatusOr<std::vector<RowMark>> OldGeneration::RowMarks() const {
  std::vector<RowMark> found;
  rocksdb::Status s = impl_->rows->Marks(&found);
  if (!s.ok()) return Convert(s, absl::StrCat("read index rows in ", impl_->directory));
  return found;
}

absl::Status OldGeneration::DropRange(const std::string& from, const std::string& to) {
  if (absl::Status s = impl_->WriteOut(); !s.ok()) return s;
  // The keys of the three families begin alike.
  rocksdb::Status s = impl_->batch.DeleteRange(impl_->log(), from, to);
  if (s.ok()) s = impl_->batch.DeleteRange(impl_->state(), from, to);
  if (s.ok()) s = impl_->rows->Delete(&impl_->batch, from, to);
  return impl_->Added(s);
}

absl::Status OldGeneration::DropGeneration(GroupId group, uint64_t generation) {
  return DropRange(GenerationKey(group, generation), GenerationKey(group, generation + 1));
}

absl::Status OldGeneration::DropBelow(GroupId group, uint64_t generation) {
  return DropRange(GroupKey(group), GenerationKey(group, generation));
}

absl::Status OldGeneration::DropGroup(GroupId group, uint64_t generation) {
  if (absl::Status s = DropBelow(group, generation); !s.ok()) return s;
  return impl_->Added(impl_->batch.Delete(impl_->raft(), GroupKey(group)));
}

absl::Status OldGeneration::Flush(uint64_t sequence) {
  std::string value;
  PutBig(&value, sequence, 8);
  if (absl::Status s = impl_->Added(impl_->batch.Put(impl_->raft(), kFlushedKey, value)); !s.ok()) return s;
  if (absl::Status s = impl_->WriteOut(); !s.ok()) return s;
  return impl_->FlushAll();
}

absl::Status OldGeneration::Read(GroupId group, uint64_t generation, Index first, Index last, size_t max_bytes,
                                 std::vector<Entry>* out) const {
  // What is asked for is alive, so no range tombstone covers it, and they need not be looked at (Safety rule 18).
  auto it = impl_->LogIterator(/*skip_range_tombstones=*/true);
  size_t bytes = 0;
  for (const Entry& e : *out) bytes += e.data.size();
  Index next = first;
  it->SeekForPrev(LogKey(group, generation, first.value(), kMax));
  while (it->Valid() && next <= last) {
    std::optional<IndexRange> range = PackRange(it->key(), group, generation);
    if (!range || range->first > next) break;
    auto pack = range->last < next ? nullptr : std::make_shared<const std::string>(it->value().ToString());
    it->Next();
    // Where the next pack starts this one ends: the log was truncated there, and this one's rest overwritten.
    Index limit = last;
    if (it->Valid()) {
      if (auto following = PackRange(it->key(), group, generation)) limit = std::min(limit, following->first - 1);
    }
    if (!pack || limit < next) continue;
    std::vector<Entry> found;
    if (!DecodePack(pack, next, limit, &found)) {
      if (next > first) return absl::OkStatus();
      return absl::DataLossError(
          absl::StrCat("entry ", next.value(), " of group ", group.value(), " is damaged in ", impl_->directory));
    }
    for (Entry& e : found) {
      if (e.index != next) break;
      bytes += e.data.size();
      if (!out->empty() && bytes > max_bytes) return absl::OkStatus();
      out->push_back(std::move(e));
      next = next + 1;
    }
  }
  if (next > first) return absl::OkStatus();
  if (!it->status().ok()) {
    return Convert(it->status(), absl::StrCat("read entry ", first.value(), " of group ", group.value()));
  }
  return absl::NotFoundError(absl::StrCat("entry ", first.value(), " of group ", group.value(), " is not there"));
}

absl::StatusOr<OldSnapshot> OldGeneration::ReadSnapshot(GroupId group, uint64_t generation) const {
  std::string value;
  rocksdb::Status s = impl_->db->Get(rocksdb::ReadOptions(), impl_->state(), GenerationKey(group, generation), &value);
  // FORMAT up to 3 had snapshots under GroupKey, without a membership.
  bool with_membership = !s.IsNotFound();
  if (!with_membership) s = impl_->db->Get(rocksdb::ReadOptions(), impl_->state(), GroupKey(group), &value);
  if (!s.ok()) return Convert(s, absl::StrCat("read the snapshot of group ", group.value()));
  raft::Reader r(value);
  OldSnapshot snapshot;
  snapshot.index = Index(r.Fixed64());
  snapshot.term = raft::Term(r.Fixed64());
  std::string_view membership;
  if (with_membership) membership = r.Counted();
  size_t checked = value.size() - r.rest().size();
  uint32_t crc = r.Fixed32();
  if (!r.ok() || crc != raft::Crc32c(r.rest(), raft::Crc32c(std::string_view(value).substr(0, checked))) ||
      !DecodeMembershipAt(membership, &snapshot.membership)) {
    return absl::DataLossError(
        absl::StrCat("the snapshot of group ", group.value(), " is damaged in ", impl_->directory));
  }
  size_t head = value.size() - r.rest().size();
  size_t size = r.rest().size();
  snapshot.bytes = raft::Bytes::Take(std::move(value)).Sub(head, size);
  return snapshot;
}

uint64_t OldGeneration::StoredBytes() const {
  uint64_t blobs = 0, tables = 0;
  impl_->db->GetIntProperty(impl_->log(), rocksdb::DB::Properties::kLiveBlobFileSize, &blobs);
  impl_->db->GetIntProperty(impl_->log(), rocksdb::DB::Properties::kLiveSstFilesSize, &tables);
  return blobs + tables;
}

uint64_t OldGeneration::points_deleted() const {
  return impl_->points_deleted;
}

uint64_t OldGeneration::ranges_deleted() const {
  return impl_->ranges_deleted;
}

absl::Status OldGeneration::Rewrite(std::optional<double> oldest_part) {
  rocksdb::ColumnFamilyMetaData meta;
  impl_->db->GetColumnFamilyMetaData(impl_->log(), &meta);
  std::vector<std::string> files;
  for (const rocksdb::LevelMetaData& level : meta.levels) {
    for (const rocksdb::SstFileMetaData& file : level.files) {
      if (file.being_compacted) return absl::UnavailableError("files are being compacted");
      files.push_back(file.relative_filename);
    }
  }
  if (files.empty()) return absl::OkStatus();
  ++impl_->rewrites;
  // Not CompactRange, which flushes.
  auto collect = [this](const char* on, double part) {
    return impl_->db->SetOptions(impl_->log(), {{"enable_blob_garbage_collection", on},
                                                {"blob_garbage_collection_age_cutoff", absl::StrCat(part)}});
  };
  rocksdb::Status s = oldest_part ? collect("true", *oldest_part) : rocksdb::Status::OK();
  if (s.ok()) {
    rocksdb::CompactionOptions options;
    options.compression = rocksdb::kNoCompression;
    options.output_file_size_limit = uint64_t{64} << 20;
    s = impl_->db->CompactFiles(options, impl_->log(), files, static_cast<int>(meta.levels.size()) - 1);
    rocksdb::Status off = oldest_part ? collect("false", 1.0) : rocksdb::Status::OK();
    if (s.ok()) s = off;
  }
  if (s.IsIncomplete() || s.IsShutdownInProgress()) return absl::CancelledError(s.ToString());
  // Some of the files went into a compaction of RocksDB's own meanwhile.
  if (s.IsAborted() || s.IsInvalidArgument()) return absl::UnavailableError(s.ToString());
  return Convert(s, "reclaim space in RocksDB");
}

absl::Status OldGeneration::Reclaim(uint64_t alive_bytes, absl::FunctionRef<uint64_t()> room_bytes) {
  std::optional<uint64_t> last_file;  // of those that there were at the beginning
  uint64_t first_file = 0;
  for (;;) {
    rocksdb::ColumnFamilyMetaData meta;
    impl_->db->GetColumnFamilyMetaData(impl_->log(), &meta);
    std::vector<rocksdb::BlobMetaData>& blobs = meta.blob_files;
    std::sort(blobs.begin(), blobs.end(),
              [](const auto& a, const auto& b) { return a.blob_file_number < b.blob_file_number; });
    const uint64_t room = room_bytes();
    const auto no_room = [&](uint64_t needed) {
      return absl::ResourceExhaustedError(absl::StrCat("to reclaim space in ", impl_->directory, " takes ", needed,
                                                       " bytes, there is room for ", room));
    };
    if (!last_file) {
      if (meta.size + alive_bytes <= room) {
        absl::Status s = Rewrite(1.0);
        if (!absl::IsResourceExhausted(s)) return s;
      }
      if (meta.size > room) return no_room(meta.size);
      // Only the tree, without what is dead: so all blob files go of which nothing is alive, and it is known how much
      // is alive in the others.
      last_file = blobs.empty() ? 0 : blobs.back().blob_file_number;
      if (absl::Status s = Rewrite(std::nullopt); !s.ok()) return s;
      continue;
    }
    // All that were there are gone; or, which nothing here brings about, one stays.
    if (blobs.empty() || blobs.front().blob_file_number > *last_file) return absl::OkStatus();
    if (blobs.front().blob_file_number == first_file) return absl::UnavailableError("a blob file is in use");
    first_file = blobs.front().blob_file_number;
    // As many of the oldest as there is room for what is alive in them, which comes to lie in new ones.
    size_t count = 0;
    uint64_t bytes = meta.size;
    for (const rocksdb::BlobMetaData& file : blobs) {
      bytes += file.total_blob_bytes - std::min(file.total_blob_bytes, file.garbage_blob_bytes);
      if (file.blob_file_number > *last_file || bytes > room) break;
      ++count;
    }
    if (count == 0) return no_room(bytes);
    // RocksDB rounds down, and newer ones may have come.
    double part = (static_cast<double>(count) + 0.5) / static_cast<double>(blobs.size());
    if (absl::Status s = Rewrite(std::min(part, 1.0)); !s.ok()) return s;
  }
}

uint64_t OldGeneration::rewrites() const {
  return impl_->rewrites;
}

void OldGeneration::CancelReclaim() {
  rocksdb::CancelAllBackgroundWork(impl_->db.get(), false);
}

}  // namespace trireme::storage
