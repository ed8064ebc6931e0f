// The store: every group's log, votes and snapshots on this node's disk, in two generations. README.md says how.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "raft/host/index_rows.h"
#include "raft/host/log_store.h"
#include "raft/host/snapshot_staging.h"
#include "storage/file_system.h"

namespace rocksdb {
class Env;
}

namespace trireme::storage {

struct StoreOptions {
  // Made if it is not there (its parent must be). Belongs to the store alone, apart from files whose names it does not
  // use: it uses LOCK, FORMAT, wal/ and old/.
  std::string directory;
  // Its owner knows that the directory held a store before: it is not made anew.
  bool must_exist = false;
  // Outlives the store; nothing = PosixFileSystem().
  FileSystem* file_system = nullptr;
  // What RocksDB runs on; nothing = its own. Tests set it together with file_system.
  std::shared_ptr<rocksdb::Env> old_generation_env;

  // Size of a file of the write-ahead log, a multiple of 4 KiB. No entry may be larger than a half of it. Fixed when
  // the directory is made; of a later one only the value in FORMAT counts.
  uint64_t segment_bytes = uint64_t{64} << 20;
  // What is alive in the write-ahead log's oldest segments moves to RocksDB when more than this is in use; at least
  // two segments. Up to headroom_segments more are in use while the move is under way; then writes wait. A snapshot
  // that is larger than a quarter of it goes to RocksDB at once.
  uint64_t young_budget_bytes = uint64_t{512} << 20;
  uint32_t headroom_segments = 4;
  // A batch, which is one write and one sync, takes no more than this, or a single record.
  size_t batch_cap_bytes = size_t{1} << 20;
  // Small neighbouring entries of a group are packed into values of about this size when they move to RocksDB.
  size_t pack_bytes = size_t{64} << 10;
  // RocksDB's files are rewritten without what is dead when that is at least this much and at least as much as what
  // is alive.
  uint64_t reclaim_bytes = uint64_t{256} << 20;
  // Threads that read from disk.
  int read_threads = 2;

  // Called once, on any thread, when a write or sync has failed (Safety rule 16); nothing completes afterwards. The
  // default prints the error and ends the process. Only tests, whose disks fail on purpose, may return from it.
  std::function<void(const absl::Status&)> fatal;
};

// Thread-safe, as LogStore says. Completions of writes are called on the log writer's thread, those of reads on a
// thread of the pool or the caller's.
//
// What can only be a bug of the caller ends the process: a write to a group that does not exist, a gap in a log, an
// entry at or below the snapshot overwritten, a group created twice.
//
// Memory: writes that are not yet durable are held, so it is bounded by what the callers allow to be under way (the
// caps on uncommitted bytes and on appends in flight). Changes of index rows are held until RocksDB has them; while
// there are too many, writes wait.
//
// After a restart, everything at or below the snapshot that is still stored counts as alive until the next Compact.
class Store final : public raft::LogStore, public raft::SnapshotStaging, public raft::IndexRows {
 public:
  using raft::LogStore::Done;

  // Errors: FailedPrecondition when the directory is in use (naming it and the process), or of another format or
  // version; DataLoss when the log is damaged other than by a torn tail (Safety rule 15); InvalidArgument for options
  // that do not fit; what the file system says.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const StoreOptions& options);
  // Waits for everything submitted to be durable and completed, and for reads.
  ~Store() override;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  std::vector<raft::StoredGroup> Recover() override;
  void CreateGroup(raft::GroupId group, raft::ReplicaId replica, raft::Bytes descriptor, Done done) override;
  void DeleteGroup(raft::GroupId group, Done done) override;
  void Write(std::vector<raft::LogWrite> writes, Done done) override;
  void Read(raft::GroupId group, raft::Index first, raft::Index last, size_t max_bytes, ReadDone done) override;
  void SaveSnapshot(raft::GroupId group, raft::Index index, raft::Term term, raft::Bytes snapshot, Done done) override;
  void Compact(raft::GroupId group, raft::Index upto, std::vector<raft::IndexRange> live) override;
  Figures figures() const override;

  // ---- SnapshotStaging
  raft::Index Begin(raft::GroupId group, raft::Index index, raft::Term term) override;
  void Stage(raft::GroupId group, std::vector<raft::Entry> entries, Done done) override;
  void StageRows(raft::GroupId group, std::vector<raft::IndexRow> rows, Done done) override;
  void Install(raft::GroupId group, const raft::HardState& hard_state, const raft::SnapshotMeta& snapshot,
               raft::Bytes state, Done done) override;
  void Drop(raft::GroupId group) override;

  // ---- IndexRows
  void WriteRows(raft::GroupId group, raft::Index mark, std::vector<raft::RowChange> changes) override;
  void ScanRows(raft::GroupId group, std::string from, std::string to, size_t max_bytes, ScanDone done) override;

  // Made in RocksDB of what died there, since the start (Safety rule 18).
  struct Deletions {
    uint64_t points = 0;  // of single packs
    uint64_t ranges = 0;  // by range tombstones
    // Of RocksDB's files, to give back the space of what is dead.
    uint64_t rewrites = 0;
  };
  Deletions deletions() const;

  // The number of the last batch known to be durable. Grows with every batch for the life of the directory; a
  // directory that comes back with less has forgotten something (Safety rule 12).
  uint64_t last_synced() const override;

  // Waits until no background work (moving, deleting, allocating, reclaiming) is due, or the store has failed. For
  // tests. DeadlineExceeded, saying what is due, when that takes longer than `at_most`.
  absl::Status WaitForBackground(std::chrono::seconds at_most = std::chrono::seconds(60));

 private:
  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::storage
