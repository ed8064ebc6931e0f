// Where a group's entries are: in segments of the write-ahead log (young) or in RocksDB (old). What is durable only.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "raft/core/entry.h"

namespace trireme::storage {

using SlotId = uint32_t;
inline constexpr SlotId kNoSlot = std::numeric_limits<SlotId>::max();

// Where a record lies.
struct RecordRef {
  SlotId slot = kNoSlot;
  uint32_t offset = 0;  // in the segment's file
  uint32_t size = 0;    // with its header

  friend bool operator==(const RecordRef&, const RecordRef&) = default;
};

// Consecutive entries that are alive in one record, which may hold more.
struct Run {
  raft::Index first;
  uint32_t count = 0;
  RecordRef record;

  raft::Index last() const { return first + (count - 1); }
};

// Sets of indexes, as ascending disjoint ranges that do not touch.
using Ranges = std::vector<raft::IndexRange>;
bool Contains(const Ranges& ranges, raft::Index index);
// Whether any of [range.first, range.last] is in it.
bool Intersects(const Ranges& ranges, raft::IndexRange range);
// Adds a range that lies behind all others or overlaps with the last.
void AddRange(Ranges& ranges, raft::IndexRange range);
// What is in `a` or in `b`; in `a` and in `b`; in `a` and not in `b`.
Ranges Unite(const Ranges& a, const Ranges& b);
Ranges Intersect(const Ranges& a, const Ranges& b);
Ranges Subtract(const Ranges& a, const Ranges& b);

// Not thread-safe. Memory: 24 bytes per record that has live entries in the write-ahead log, 16 per gap in what is in
// RocksDB, nothing per entry.
//
// Invariants: old() lies below all runs. Above snapshot_index() there are no gaps. terms() covers
// (snapshot_index(), last_index()] and nothing else.
class GroupIndex {
 public:
  // Called with how many live entries a segment lost.
  using Release = absl::FunctionRef<void(SlotId slot, uint64_t entries)>;

  // Everything up to the last of these, or the snapshot.
  raft::Index last_index() const;
  raft::Index snapshot_index() const { return snapshot_index_; }
  const std::vector<raft::TermRun>& terms() const { return terms_; }
  absl::Span<const Run> runs() const { return absl::MakeConstSpan(runs_).subspan(head_); }
  const Ranges& old() const { return old_; }

  // Overwrites the log from the run's first on. `terms` has one per entry. Returns whether entries of old() went.
  bool Append(const Run& run, absl::Span<const raft::Term> terms, Release release);
  // Everything above it is there, also after a crash; what is at or below it may not be. At most the snapshot's index.
  raft::Index Compacted() const;
  // Whether nothing is missing above the snapshot. Replay may pass through states in which something is.
  bool Complete() const;
  // The state machine's snapshot covers everything up to `index`.
  void SetSnapshot(raft::Index index);
  // Only `live` stays alive of what is at or below `upto`. Returns what died of old().
  Ranges Compact(raft::Index upto, const std::vector<raft::IndexRange>& live, Release release);
  // `live`, at or below `snapshot`, is in RocksDB, and all that there is (Safety rule 13).
  void Replace(raft::Index snapshot, Ranges live, Release release);
  // Everything dies.
  void Clear(Release release);

  // What of the record is alive.
  Ranges LiveIn(const RecordRef& record, raft::IndexRange entries) const;
  // `moved`, parts of the record, are in RocksDB now. Returns what of them is alive, which is old() from here on.
  // Records are moved in the order in which they were appended.
  Ranges MovedToOld(const RecordRef& record, const Ranges& moved, Release release);

  // The run that holds the entry; nothing if it is not in the write-ahead log.
  const Run* FindRun(raft::Index index) const;

  // As RocksDB's row of the group has it, before the log is replayed on it.
  void RestoreOld(Ranges old, std::vector<raft::TermRun> terms);

 private:
  // Position in runs_ of the first run that ends at or behind `index`.
  size_t LowerBound(raft::Index index) const;
  void Tidy();

  raft::Index snapshot_index_;
  // Those before head_ have gone; they are erased many at a time.
  std::vector<Run> runs_;
  size_t head_ = 0;
  Ranges old_;
  std::vector<raft::TermRun> terms_;
};

}  // namespace trireme::storage
