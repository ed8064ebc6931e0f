// The bytes of the write-ahead log. A segment is a file: one header block, then batches, each starting at a multiple
// of kBlockBytes, so that a block that was synced is never written again with other bytes while it is needed. A batch
// is a header and records.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "storage/file_system.h"

namespace trireme::storage {

inline constexpr uint64_t kBlockBytes = 4096;
inline constexpr uint64_t RoundUpToBlock(uint64_t n) {
  return (n + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

// ---- the segment's header

// Written once, when the file is made; the same for each use of it.
std::string EncodeSegmentHeader(uint32_t salt, uint64_t number, uint64_t segment_bytes);
// DataLoss, naming `path`, when it is not one, or one of another store (by its salt) or another size.
absl::Status CheckSegmentHeader(std::string_view block, uint32_t salt, uint64_t number, uint64_t segment_bytes,
                                const std::string& path);

// ---- batches

struct BatchHeader {
  uint64_t sequence = 0;  // consecutive over all segments, from 1, never reused
  uint64_t synced = 0;    // the last batch known to be durable when this one was written
  uint64_t begin = 0;     // the oldest batch that was needed then
  uint32_t bytes = 0;     // header and records, not rounded up to blocks
  uint32_t records = 0;
};
inline constexpr size_t kBatchHeaderBytes = 48;
inline constexpr size_t kRecordHeaderBytes = 24;

enum class RecordType : uint8_t {
  kEntries = 1,
  kHardState = 2,
  kGroupCreated = 3,
  kGroupDeleted = 4,
  kMemberlessSnapshotPart = 5,  // a kSnapshotPart without its membership; of FORMAT up to 3
  kSnapshotPart = 6,
  kSnapshotStaged = 7,     // from now on RocksDB may hold entries of the group under this batch's number
  kSnapshotInstalled = 8,  // and from now on they, and nothing else, are the group's
  kSnapshotStored = 9,     // RocksDB has the group's snapshot, which is too large for the log; since FORMAT 5
};

// What a record says. Views point into the bytes it was decoded from.
struct Record {
  RecordType type;
  raft::GroupId group;
  std::string_view payload;
  uint32_t offset;  // from the start of the batch
  uint32_t size;    // with its header, without padding
};

// A part of a group's snapshot. It counts once the part that ends at `total` is there.
struct SnapshotPart {
  raft::Index index;
  raft::Term term;
  uint64_t offset = 0;
  uint64_t total = 0;
  std::string_view membership;  // as of the index (EncodeMembershipAt); in the part at offset 0
  std::string_view bytes;
};

// RocksDB has this one, or a later one, under the group's generation.
struct SnapshotStored {
  uint64_t generation = 0;
  raft::Index index;
  raft::Term term;
  std::optional<raft::MembershipAt> membership;
};
std::string EncodeSnapshotStored(const SnapshotStored& stored);

// All of a group, at once: what came before it in the log counts for nothing.
struct SnapshotInstalled {
  raft::ReplicaId replica;
  raft::Bytes descriptor;
  // Under which RocksDB has the state machine's snapshot and the entries.
  uint64_t generation = 0;
  raft::HardState hard_state;
  raft::Index index;
  raft::Term term;
  std::optional<raft::MembershipAt> membership;
  // The entries at or below the index that are alive.
  std::vector<raft::IndexRange> live;
  uint64_t bytes = 0;  // that they take in RocksDB, about
};
std::string EncodeSnapshotInstalled(const SnapshotInstalled& installed);

struct GroupCreated {
  raft::ReplicaId replica;
  std::string_view descriptor;
};

// Of the record that holds `entries`, header included.
size_t EntriesRecordBytes(absl::Span<const raft::Entry> entries);
size_t EntryBytesInRecord(const raft::Entry& entry);
// Of a part with so many bytes, membership included.
size_t SnapshotPartRecordBytes(size_t part_bytes);

// Payload decoders. Nothing when the payload is not what it should be, which behind a good checksum only a bug can
// cause. Entries share `owner`.
std::optional<std::vector<raft::Entry>> DecodeEntries(std::string_view payload,
                                                      const std::shared_ptr<const void>& owner);
// As DecodeEntries, without the bytes.
struct EntriesSummary {
  raft::Index first;
  std::vector<raft::Term> terms;                // of all
  std::vector<raft::MembershipAt> memberships;  // that are among them
};
std::optional<EntriesSummary> SummarizeEntries(std::string_view payload);
std::optional<raft::HardState> DecodeHardState(std::string_view payload);
// Of a record of either type of parts.
std::optional<SnapshotPart> DecodeSnapshotPart(const Record& record);
std::optional<GroupCreated> DecodeGroupCreated(std::string_view payload);
std::optional<SnapshotInstalled> DecodeSnapshotInstalled(std::string_view payload);
std::optional<SnapshotStored> DecodeSnapshotStored(std::string_view payload);

// Checks and reads the record that starts `bytes` (which may go on behind it). Nothing if its checksum is wrong.
std::optional<Record> DecodeRecord(std::string_view bytes, uint32_t salt);

// Builds one batch after the other in one reused buffer, aligned to blocks.
class BatchBuilder {
 public:
  explicit BatchBuilder(uint32_t salt) : salt_(salt) {}

  void Start();
  // Each returns the record's offset from the start of the batch.
  uint32_t AddEntries(raft::GroupId group, absl::Span<const raft::Entry> entries);
  uint32_t AddHardState(raft::GroupId group, const raft::HardState& state);
  uint32_t AddGroupCreated(raft::GroupId group, raft::ReplicaId replica, std::string_view descriptor);
  uint32_t AddGroupDeleted(raft::GroupId group);
  uint32_t AddSnapshotPart(raft::GroupId group, const SnapshotPart& part);
  uint32_t AddSnapshotStaged(raft::GroupId group);
  // What EncodeSnapshotStored gave.
  uint32_t AddSnapshotStored(raft::GroupId group, std::string_view stored);
  // What EncodeSnapshotInstalled gave.
  uint32_t AddSnapshotInstalled(raft::GroupId group, std::string_view installed);
  // The size of the record added last, with its header, without padding.
  uint32_t last_record_bytes() const { return last_record_bytes_; }
  size_t bytes() const { return size_; }
  uint32_t records() const { return records_; }
  // The whole batch, rounded up to blocks. Valid until the next Start.
  std::string_view Finish(uint64_t sequence, uint64_t synced, uint64_t begin);

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };

  void Reserve(size_t bytes);
  void Append(const void* data, size_t size);
  uint32_t AddWhole(RecordType type, raft::GroupId group, std::string_view payload);
  uint32_t BeginRecord(RecordType type, raft::GroupId group, size_t payload_bytes);
  void EndRecord(uint32_t at);

  const uint32_t salt_;
  std::unique_ptr<char, Free> buffer_;
  size_t capacity_ = 0;
  size_t size_ = 0;
  uint32_t records_ = 0;
  uint32_t last_record_bytes_ = 0;
  std::vector<uint32_t> checksums_;
};

// Reads a segment's batches in turn. The bytes that a batch's records view are valid until the next call.
class BatchScanner {
 public:
  // Outlives the scanner. Reads [from, to) of it.
  BatchScanner(const File* file, uint64_t from, uint64_t to, uint32_t salt);

  struct Batch {
    uint64_t offset;  // in the file
    BatchHeader header;
    std::vector<Record> records;
    std::string_view bytes;  // not rounded up
  };
  // The next valid batch, or nothing at the end. Blocks at which none starts are stepped over. An error is the file
  // system's.
  absl::StatusOr<std::optional<Batch>> Next();

 private:
  absl::Status Fill(uint64_t want);

  const File* const file_;
  uint64_t at_;
  const uint64_t to_;
  const uint32_t salt_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  uint64_t buffer_at_ = 0;  // offset in the file of buffer_[0]
  size_t buffered_ = 0;
};

}  // namespace trireme::storage
