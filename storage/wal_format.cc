#include "storage/wal_format.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"
#include "storage/membership_record.h"

namespace trireme::storage {
namespace {

constexpr uint32_t kBatchMagic = 0x42575254;  // "TRWB"
constexpr char kSegmentMagic[8] = {'T', 'R', 'W', 'A', 'L', 'S', 'E', 'G'};
constexpr uint32_t kSegmentVersion = 1;
constexpr size_t kScanWindowBytes = size_t{4} << 20;
constexpr size_t kKeepBufferBytes = size_t{4} << 20;  // a larger one, which a huge entry needed, is not kept
constexpr size_t kEntriesHeadBytes = 16;              // first index, count, zero
constexpr size_t kEntryHeadBytes = 16;                // term, size, type, zero
constexpr size_t kSnapshotHeadBytes = 40;             // index, term, offset, total, size of the membership

size_t Pad8(size_t n) {
  return (n + 7) & ~size_t{7};
}

template <typename T>
void Put(char* to, T v) {
  std::memcpy(to, &v, sizeof v);
}

template <typename T>
T Get(const char* from) {
  T v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// Layout: magic 4, checksum 4, sequence 8, synced 8, begin 8, bytes 4, records 4, zero 8.
uint32_t BatchChecksum(const char* header, absl::Span<const uint32_t> records, uint32_t salt) {
  uint32_t crc = raft::Crc32c(std::string_view(header + 8, kBatchHeaderBytes - 8), salt);
  // The records' own checksums stand for their bytes, so that these are gone through once.
  return raft::Crc32c({reinterpret_cast<const char*>(records.data()), records.size() * sizeof(uint32_t)}, crc);
}

// Layout: checksum 4, payload size 4, group 8, type 1, zero 7. The checksum covers all that follows it.
uint32_t RecordChecksum(const char* record, size_t size, uint32_t salt) {
  return raft::Crc32c(std::string_view(record + 4, size - 4), salt);
}

}  // namespace

std::string EncodeSegmentHeader(uint32_t salt, uint64_t number, uint64_t segment_bytes) {
  raft::Writer w;
  w.Raw({kSegmentMagic, sizeof kSegmentMagic});
  w.Fixed32(kSegmentVersion);
  w.Fixed32(salt);
  w.Fixed64(number);
  w.Fixed64(segment_bytes);
  w.Fixed32(raft::Crc32c(w.bytes()));
  std::string block = w.Take();
  block.resize(kBlockBytes);
  return block;
}

absl::Status CheckSegmentHeader(std::string_view block, uint32_t salt, uint64_t number, uint64_t segment_bytes,
                                const std::string& path) {
  if (block == EncodeSegmentHeader(salt, number, segment_bytes)) return absl::OkStatus();
  raft::Reader r(block);
  std::string_view magic = r.Raw(sizeof kSegmentMagic);
  uint32_t version = r.Fixed32();
  uint32_t got_salt = r.Fixed32();
  r.Raw(16);
  std::string_view covered = block.substr(0, block.size() - r.rest().size());
  if (r.Fixed32() != raft::Crc32c(covered) || magic != std::string_view(kSegmentMagic, sizeof kSegmentMagic)) {
    return absl::DataLossError(absl::StrCat(path, " is damaged: its header is not that of a log segment"));
  }
  if (version != kSegmentVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is of version ", version, ", this program knows version ", kSegmentVersion));
  }
  if (got_salt != salt) return absl::DataLossError(absl::StrCat(path, " belongs to another store"));
  return absl::DataLossError(absl::StrCat(path, " has a header of another number or size"));
}

size_t EntryBytesInRecord(const raft::Entry& entry) {
  return kEntryHeadBytes + entry.data.size();
}

size_t EntriesRecordBytes(absl::Span<const raft::Entry> entries) {
  size_t n = kRecordHeaderBytes + kEntriesHeadBytes;
  for (const raft::Entry& e : entries) n += EntryBytesInRecord(e);
  return n;
}

size_t SnapshotPartRecordBytes(size_t part_bytes) {
  return kRecordHeaderBytes + kSnapshotHeadBytes + part_bytes;
}

std::optional<EntriesSummary> SummarizeEntries(std::string_view payload) {
  if (payload.size() < kEntriesHeadBytes) return std::nullopt;
  EntriesSummary summary{.first = raft::Index(Get<uint64_t>(payload.data())), .terms = {}, .memberships = {}};
  size_t count = Get<uint32_t>(payload.data() + 8);
  if (count == 0 || count > (payload.size() - kEntriesHeadBytes) / kEntryHeadBytes) return std::nullopt;
  summary.terms.reserve(count);
  size_t bytes = kEntriesHeadBytes + count * kEntryHeadBytes;
  for (size_t i = 0; i < count; ++i) {
    const char* head = payload.data() + kEntriesHeadBytes + i * kEntryHeadBytes;
    summary.terms.push_back(raft::Term(Get<uint64_t>(head)));
    size_t size = Get<uint32_t>(head + 8);
    if (static_cast<raft::EntryType>(Get<uint8_t>(head + 12)) == raft::EntryType::kConfig && bytes <= payload.size()) {
      std::optional<raft::Membership> members = raft::DecodeMembership(payload.substr(bytes, size));
      if (!members) return std::nullopt;
      summary.memberships.push_back({summary.first + i, *std::move(members)});
    }
    bytes += size;
  }
  if (bytes != payload.size()) return std::nullopt;
  return summary;
}

std::optional<std::vector<raft::Entry>> DecodeEntries(std::string_view payload,
                                                      const std::shared_ptr<const void>& owner) {
  std::optional<EntriesSummary> summary = SummarizeEntries(payload);
  if (!summary) return std::nullopt;
  std::vector<raft::Entry> entries;
  entries.reserve(summary->terms.size());
  const char* data = payload.data() + kEntriesHeadBytes + summary->terms.size() * kEntryHeadBytes;
  for (size_t i = 0; i < summary->terms.size(); ++i) {
    const char* head = payload.data() + kEntriesHeadBytes + i * kEntryHeadBytes;
    size_t size = Get<uint32_t>(head + 8);
    entries.push_back({.term = summary->terms[i],
                       .index = summary->first + i,
                       .type = static_cast<raft::EntryType>(Get<uint8_t>(head + 12)),
                       .data = size == 0 ? raft::Bytes() : raft::Bytes(owner, data, size)});
    data += size;
  }
  return entries;
}

std::optional<raft::HardState> DecodeHardState(std::string_view payload) {
  raft::Reader r(payload);
  raft::HardState state;
  state.term = raft::Term(r.Fixed64());
  state.voted_for = raft::ReplicaId(r.Fixed64());
  state.commit = raft::Index(r.Fixed64());
  if (!r.done()) return std::nullopt;
  return state;
}

std::optional<SnapshotPart> DecodeSnapshotPart(const Record& record) {
  raft::Reader r(record.payload);
  SnapshotPart part;
  part.index = raft::Index(r.Fixed64());
  part.term = raft::Term(r.Fixed64());
  part.offset = r.Fixed64();
  part.total = r.Fixed64();
  if (record.type == RecordType::kSnapshotPart) part.membership = r.Raw(r.Fixed64());
  part.bytes = r.rest();
  if (!r.ok() || part.offset > part.total || part.bytes.size() > part.total - part.offset) return std::nullopt;
  return part;
}

std::optional<GroupCreated> DecodeGroupCreated(std::string_view payload) {
  raft::Reader r(payload);
  raft::ReplicaId replica(r.Fixed64());
  if (!r.ok()) return std::nullopt;
  return GroupCreated{replica, r.rest()};
}

std::string EncodeSnapshotStored(const SnapshotStored& stored) {
  raft::Writer w;
  w.Fixed64(stored.generation);
  w.Varint(stored.index.value());
  w.Varint(stored.term.value());
  w.Counted(EncodeMembershipAt(stored.membership).view());
  return w.Take();
}

std::optional<SnapshotStored> DecodeSnapshotStored(std::string_view payload) {
  raft::Reader r(payload);
  SnapshotStored stored;
  stored.generation = r.Fixed64();
  stored.index = raft::Index(r.Varint());
  stored.term = raft::Term(r.Varint());
  if (!DecodeMembershipAt(r.Counted(), &stored.membership) || !r.done()) return std::nullopt;
  return stored;
}

std::string EncodeSnapshotInstalled(const SnapshotInstalled& installed) {
  raft::Writer w;
  w.Fixed64(installed.generation);
  w.Varint(installed.replica.value());
  w.Counted(installed.descriptor.view());
  w.Varint(installed.hard_state.term.value());
  w.Varint(installed.hard_state.voted_for.value());
  w.Varint(installed.hard_state.commit.value());
  w.Varint(installed.index.value());
  w.Varint(installed.term.value());
  w.Counted(EncodeMembershipAt(installed.membership).view());
  w.Varint(installed.bytes);
  w.Varint(installed.live.size());
  uint64_t next = 0;
  for (const raft::IndexRange& r : installed.live) {
    w.Varint(r.first.value() - next);
    w.Varint(r.last - r.first);
    next = r.last.value();
  }
  return w.Take();
}

std::optional<SnapshotInstalled> DecodeSnapshotInstalled(std::string_view payload) {
  raft::Reader r(payload);
  SnapshotInstalled installed;
  installed.generation = r.Fixed64();
  installed.replica = raft::ReplicaId(r.Varint());
  installed.descriptor = raft::Bytes::Copy(r.Counted());
  installed.hard_state.term = raft::Term(r.Varint());
  installed.hard_state.voted_for = raft::ReplicaId(r.Varint());
  installed.hard_state.commit = raft::Index(r.Varint());
  installed.index = raft::Index(r.Varint());
  installed.term = raft::Term(r.Varint());
  if (!DecodeMembershipAt(r.Counted(), &installed.membership)) return std::nullopt;
  installed.bytes = r.Varint();
  size_t ranges = r.Count(2);
  uint64_t next = 0;
  for (size_t i = 0; i < ranges && r.ok(); ++i) {
    raft::Index first(next + r.Varint());
    raft::Index last = first + r.Varint();
    if (first.value() <= next || last < first || last > installed.index) return std::nullopt;
    installed.live.push_back({first, last});
    next = last.value();
  }
  if (!r.done()) return std::nullopt;
  return installed;
}

std::optional<Record> DecodeRecord(std::string_view bytes, uint32_t salt) {
  if (bytes.size() < kRecordHeaderBytes) return std::nullopt;
  uint64_t size = kRecordHeaderBytes + Get<uint32_t>(bytes.data() + 4);
  if (size > bytes.size()) return std::nullopt;
  if (Get<uint32_t>(bytes.data()) != RecordChecksum(bytes.data(), size, salt)) return std::nullopt;
  return Record{.type = static_cast<RecordType>(Get<uint8_t>(bytes.data() + 16)),
                .group = raft::GroupId(Get<uint64_t>(bytes.data() + 8)),
                .payload = bytes.substr(kRecordHeaderBytes, size - kRecordHeaderBytes),
                .offset = 0,
                .size = static_cast<uint32_t>(size)};
}

void BatchBuilder::Start() {
  if (capacity_ > kKeepBufferBytes) {
    buffer_.reset();
    capacity_ = 0;
  }
  size_ = 0;
  records_ = 0;
  checksums_.clear();
  Reserve(kBatchHeaderBytes);
  std::memset(buffer_.get(), 0, kBatchHeaderBytes);
  size_ = kBatchHeaderBytes;
}

void BatchBuilder::Reserve(size_t bytes) {
  size_t want = RoundUpToBlock(size_ + bytes);
  if (want <= capacity_) return;
  want = std::max(want, capacity_ * 2);
  std::unique_ptr<char, Free> larger(static_cast<char*>(std::aligned_alloc(kBlockBytes, want)));
  TRIREME_CHECK(larger != nullptr) << "no memory for a batch of " << want << " bytes";
  if (size_ > 0) std::memcpy(larger.get(), buffer_.get(), size_);
  buffer_ = std::move(larger);
  capacity_ = want;
}

void BatchBuilder::Append(const void* data, size_t size) {
  if (size == 0) return;
  std::memcpy(buffer_.get() + size_, data, size);
  size_ += size;
}

uint32_t BatchBuilder::BeginRecord(RecordType type, raft::GroupId group, size_t payload_bytes) {
  TRIREME_CHECK(size_ + payload_bytes < (uint64_t{1} << 32) - 2 * kBlockBytes) << "a record of " << payload_bytes;
  Reserve(kRecordHeaderBytes + payload_bytes + 8);
  auto at = static_cast<uint32_t>(size_);
  char* header = buffer_.get() + at;
  std::memset(header, 0, kRecordHeaderBytes);
  Put<uint32_t>(header + 4, static_cast<uint32_t>(payload_bytes));
  Put<uint64_t>(header + 8, group.value());
  Put<uint8_t>(header + 16, static_cast<uint8_t>(type));
  size_ += kRecordHeaderBytes;
  return at;
}

void BatchBuilder::EndRecord(uint32_t at) {
  last_record_bytes_ = static_cast<uint32_t>(size_ - at);
  uint32_t crc = RecordChecksum(buffer_.get() + at, last_record_bytes_, salt_);
  Put<uint32_t>(buffer_.get() + at, crc);
  checksums_.push_back(crc);
  size_t padded = Pad8(size_);
  std::memset(buffer_.get() + size_, 0, padded - size_);
  size_ = padded;
  ++records_;
}

uint32_t BatchBuilder::AddEntries(raft::GroupId group, absl::Span<const raft::Entry> entries) {
  uint32_t at = BeginRecord(RecordType::kEntries, group, EntriesRecordBytes(entries) - kRecordHeaderBytes);
  char head[kEntriesHeadBytes] = {};
  Put<uint64_t>(head, entries.front().index.value());
  Put<uint32_t>(head + 8, static_cast<uint32_t>(entries.size()));
  Append(head, sizeof head);
  for (const raft::Entry& e : entries) {
    char entry[kEntryHeadBytes] = {};
    Put<uint64_t>(entry, e.term.value());
    Put<uint32_t>(entry + 8, static_cast<uint32_t>(e.data.size()));
    Put<uint8_t>(entry + 12, static_cast<uint8_t>(e.type));
    Append(entry, sizeof entry);
  }
  for (const raft::Entry& e : entries) Append(e.data.data(), e.data.size());
  EndRecord(at);
  return at;
}

uint32_t BatchBuilder::AddHardState(raft::GroupId group, const raft::HardState& state) {
  uint64_t words[3] = {state.term.value(), state.voted_for.value(), state.commit.value()};
  uint32_t at = BeginRecord(RecordType::kHardState, group, sizeof words);
  Append(words, sizeof words);
  EndRecord(at);
  return at;
}

uint32_t BatchBuilder::AddGroupCreated(raft::GroupId group, raft::ReplicaId replica, std::string_view descriptor) {
  uint32_t at = BeginRecord(RecordType::kGroupCreated, group, 8 + descriptor.size());
  uint64_t id = replica.value();
  Append(&id, sizeof id);
  Append(descriptor.data(), descriptor.size());
  EndRecord(at);
  return at;
}

uint32_t BatchBuilder::AddGroupDeleted(raft::GroupId group) {
  return AddWhole(RecordType::kGroupDeleted, group, {});
}

uint32_t BatchBuilder::AddSnapshotStaged(raft::GroupId group) {
  return AddWhole(RecordType::kSnapshotStaged, group, {});
}

uint32_t BatchBuilder::AddSnapshotStored(raft::GroupId group, std::string_view stored) {
  return AddWhole(RecordType::kSnapshotStored, group, stored);
}

uint32_t BatchBuilder::AddSnapshotInstalled(raft::GroupId group, std::string_view installed) {
  return AddWhole(RecordType::kSnapshotInstalled, group, installed);
}

uint32_t BatchBuilder::AddWhole(RecordType type, raft::GroupId group, std::string_view payload) {
  uint32_t at = BeginRecord(type, group, payload.size());
  Append(payload.data(), payload.size());
  EndRecord(at);
  return at;
}

uint32_t BatchBuilder::AddSnapshotPart(raft::GroupId group, const SnapshotPart& part) {
  uint32_t at =
      BeginRecord(RecordType::kSnapshotPart, group, kSnapshotHeadBytes + part.membership.size() + part.bytes.size());
  uint64_t words[5] = {part.index.value(), part.term.value(), part.offset, part.total, part.membership.size()};
  Append(words, sizeof words);
  Append(part.membership.data(), part.membership.size());
  Append(part.bytes.data(), part.bytes.size());
  EndRecord(at);
  return at;
}

std::string_view BatchBuilder::Finish(uint64_t sequence, uint64_t synced, uint64_t begin) {
  char* header = buffer_.get();
  Put<uint32_t>(header, kBatchMagic);
  Put<uint64_t>(header + 8, sequence);
  Put<uint64_t>(header + 16, synced);
  Put<uint64_t>(header + 24, begin);
  Put<uint32_t>(header + 32, static_cast<uint32_t>(size_));
  Put<uint32_t>(header + 36, records_);
  Put<uint32_t>(header + 4, BatchChecksum(header, checksums_, salt_));
  size_t padded = RoundUpToBlock(size_);
  std::memset(buffer_.get() + size_, 0, padded - size_);
  return {buffer_.get(), padded};
}

BatchScanner::BatchScanner(const File* file, uint64_t from, uint64_t to, uint32_t salt)
    : file_(file), at_(from), to_(to), salt_(salt) {}

// Has at least `want` bytes from at_ on in the buffer, or all there are.
absl::Status BatchScanner::Fill(uint64_t want) {
  want = std::min(want, to_ - at_);
  if (at_ >= buffer_at_ && at_ + want <= buffer_at_ + buffered_) return absl::OkStatus();
  size_t window = std::max<uint64_t>(std::min<uint64_t>(kScanWindowBytes, to_ - at_), want);
  if (window > capacity_) {
    buffer_ = std::make_unique_for_overwrite<char[]>(window);
    capacity_ = window;
  }
  absl::StatusOr<size_t> got = file_->Read(at_, buffer_.get(), window);
  if (!got.ok()) return got.status();
  buffer_at_ = at_;
  buffered_ = *got;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<BatchScanner::Batch>> BatchScanner::Next() {
  for (; at_ + kBatchHeaderBytes <= to_; at_ += kBlockBytes) {
    if (absl::Status s = Fill(kBatchHeaderBytes); !s.ok()) return s;
    if (at_ + kBatchHeaderBytes > buffer_at_ + buffered_) break;  // the file is shorter than it should be
    const char* header = buffer_.get() + (at_ - buffer_at_);
    if (Get<uint32_t>(header) != kBatchMagic) continue;
    Batch batch{.offset = at_,
                .header = {.sequence = Get<uint64_t>(header + 8),
                           .synced = Get<uint64_t>(header + 16),
                           .begin = Get<uint64_t>(header + 24),
                           .bytes = Get<uint32_t>(header + 32),
                           .records = Get<uint32_t>(header + 36)},
                .records = {},
                .bytes = {}};
    if (batch.header.bytes < kBatchHeaderBytes || batch.header.bytes > to_ - at_) continue;
    if (batch.header.records > (batch.header.bytes - kBatchHeaderBytes) / kRecordHeaderBytes) continue;
    if (absl::Status s = Fill(batch.header.bytes); !s.ok()) return s;
    if (at_ + batch.header.bytes > buffer_at_ + buffered_) continue;
    header = buffer_.get() + (at_ - buffer_at_);  // Fill may have moved it
    batch.bytes = {header, batch.header.bytes};
    std::vector<uint32_t> checksums;
    checksums.reserve(batch.header.records);
    batch.records.reserve(batch.header.records);
    size_t at = kBatchHeaderBytes;
    for (uint32_t i = 0; i < batch.header.records && at < batch.bytes.size(); ++i) {
      std::optional<Record> record = DecodeRecord(batch.bytes.substr(at), salt_);
      if (!record) break;
      record->offset = static_cast<uint32_t>(at);
      checksums.push_back(Get<uint32_t>(header + at));
      at += Pad8(record->size);
      batch.records.push_back(*record);
    }
    if (batch.records.size() != batch.header.records || at != batch.bytes.size()) continue;
    if (Get<uint32_t>(header + 4) != BatchChecksum(header, checksums, salt_)) continue;
    at_ += RoundUpToBlock(batch.header.bytes);
    return batch;
  }
  return std::nullopt;
}

}  // namespace trireme::storage
