// The old generation: what has outlived its segment of the write-ahead log, in RocksDB without RocksDB's own log. So
// nothing here is durable before Flush, and the segments that hold the same are kept until then.
//
// Column families: `log` (group, generation, first index, last index -> a pack of entries), `raft` (group -> OldRow),
// `state` (group, generation -> snapshot), `index` (row_family.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/host/index_rows.h"
#include "storage/group_index.h"

namespace rocksdb {
class Env;
}

namespace trireme::storage {

// All that is here of a group, apart from entries and snapshot.
struct OldRow {
  raft::ReplicaId replica;
  // Part of the keys of entries and snapshot: a snapshot that is installed goes beside the state that it replaces
  // (Safety rule 13).
  uint64_t generation = 0;
  raft::Bytes descriptor;
  raft::HardState hard_state;
  // The entries that are alive here.
  Ranges entries;
  // Of those above the snapshot.
  std::vector<raft::TermRun> terms;
  std::vector<raft::MembershipAt> memberships;
  // Under which entries of a snapshot may be staged that is not installed; 0 = none.
  uint64_t staged = 0;
  // What the packs with live entries take, about.
  uint64_t bytes = 0;
};

// Of an entry in a pack, besides its data.
inline constexpr size_t kPackedEntryBytes = 32;

// How far the index rows of a group's generation are written.
struct RowMark {
  raft::GroupId group;
  uint64_t generation = 0;
  raft::Index mark;
};

struct OldSnapshot {
  raft::Index index;
  raft::Term term;
  // As of the index; nothing = that of the group's birth.
  std::optional<raft::MembershipAt> membership;
  raft::Bytes bytes;
};

// Reads are thread-safe; everything else is for one thread.
class OldGeneration {
 public:
  struct Options {
    std::string directory;              // its parent exists
    bool must_exist = false;            // DataLoss if it is not there; else it is made
    std::shared_ptr<rocksdb::Env> env;  // nothing = RocksDB's own
    size_t write_buffer_bytes = size_t{128} << 20;
    // Called, on any thread, when RocksDB failed to write in the background.
    std::function<void(const absl::Status&)> failed;
  };
  static absl::StatusOr<std::unique_ptr<OldGeneration>> Open(Options options);
  ~OldGeneration();

  // ---- at start
  absl::StatusOr<std::vector<std::pair<raft::GroupId, OldRow>>> LoadRows();
  // Of all that have index rows, or had some.
  absl::StatusOr<std::vector<RowMark>> RowMarks() const;
  // The last sequence given to Flush; 0 if there was none.
  absl::StatusOr<uint64_t> FlushedSequence();

  // ---- changes, in order. Later ones win.
  // Ascending, not empty; read back by the ranges between the first and the last index.
  absl::Status PutPack(raft::GroupId group, uint64_t generation, absl::Span<const raft::Entry> entries);
  absl::Status PutRow(raft::GroupId group, const OldRow& row);
  absl::Status PutSnapshot(raft::GroupId group, uint64_t generation, const OldSnapshot& snapshot);
  // Deletes the packs that start at or behind `from`.
  absl::Status Truncate(raft::GroupId group, uint64_t generation, raft::Index from);
  // Deletes the packs of which everything is dead, given that `dead` just died and `alive` is what is alive.
  absl::Status DeleteDead(raft::GroupId group, uint64_t generation, raft::IndexRange dead, const Ranges& alive);
  // Changes of index rows, and the mark of how far they are written, in one step (Safety rule 14). Scans see them after
  // Publish.
  absl::Status ChangeRows(raft::GroupId group, uint64_t generation, raft::Index mark,
                          absl::Span<const raft::RowChange> changes);
  absl::Status Publish();
  // Deletes packs, snapshot and index rows of a generation; of all below one; and the group's row with all below one.
  absl::Status DropGeneration(raft::GroupId group, uint64_t generation);
  absl::Status DropBelow(raft::GroupId group, uint64_t generation);
  absl::Status DropGroup(raft::GroupId group, uint64_t generation);
  // Makes all of it durable. `sequence`: the write-ahead log's last durable batch, without which this is not whole.
  absl::Status Flush(uint64_t sequence);

  // ---- reads
  // Appends entries from `first` on to `out`, consecutive, up to `last`, until `out` holds `max_bytes` (at least one is
  // read). NotFound if `first` is not there, DataLoss if it is damaged.
  absl::Status Read(raft::GroupId group, uint64_t generation, raft::Index first, raft::Index last, size_t max_bytes,
                    std::vector<raft::Entry>* out) const;
  // As IndexRows::ScanRows.
  absl::StatusOr<raft::RowPage> ScanRows(raft::GroupId group, uint64_t generation, const std::string& from,
                                         const std::string& to, size_t max_bytes) const;
  // NotFound if there is none.
  absl::StatusOr<OldSnapshot> ReadSnapshot(raft::GroupId group, uint64_t generation) const;

  // ---- space
  // Of all files of the log family.
  uint64_t StoredBytes() const;
  // By DeleteDead.
  uint64_t points_deleted() const;
  uint64_t ranges_deleted() const;
  // By Reclaim, of the log family's files.
  uint64_t rewrites() const;
  // Rewrites the log family's files without what is dead: all at once when there is room for `alive_bytes` more, else
  // in steps, each of which fits in the room that the ones before it have made (Safety rule 19). Takes long; may run
  // beside everything else. Unavailable when it is to be tried again later, ResourceExhausted when there is no room
  // for a step, Cancelled after CancelReclaim.
  absl::Status Reclaim(uint64_t alive_bytes, absl::FunctionRef<uint64_t()> room_bytes);
  // The last call but for the destructor.
  void CancelReclaim();

 private:
  struct Impl;
  explicit OldGeneration(std::unique_ptr<Impl> impl);
  absl::Status DropRange(const std::string& from, const std::string& to);
  // With what is alive in the oldest part of the blob files, which so become free; nothing = in none of them.
  absl::Status Rewrite(std::optional<double> oldest_part);

  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::storage
