// The store's inside: one mutex over the index and the segments' bookkeeping; a log writer thread, a background thread
// that allocates, moves and deletes, one that reclaims space in RocksDB, and a pool that reads. Split over store.cc
// (what callers do), recovery.cc (opening), log_writer.cc, background.cc, reader.cc, staging.cc and rows.cc.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "storage/format_file.h"
#include "storage/group_index.h"
#include "storage/membership_record.h"
#include "storage/old_generation.h"
#include "storage/segments.h"
#include "storage/store.h"
#include "storage/wal_format.h"

namespace trireme::storage {

// Runs tasks on a few threads, first come, first served. The queue is bounded by what the callers allow to be under
// way.
class ReadPool {
 public:
  explicit ReadPool(int threads);
  // Runs what was posted.
  ~ReadPool();
  void Post(absl::AnyInvocable<void()> task);

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

class Store::Impl {
 public:
  Impl(StoreOptions options, FileSystem* fs);
  ~Impl();

  // ---- opening, before any thread runs
  absl::Status Open();
  void Start();

  // ---- LogStore
  std::vector<raft::StoredGroup> Recover();
  void CreateGroup(raft::GroupId group, raft::ReplicaId replica, raft::Bytes descriptor, Done done);
  void DeleteGroup(raft::GroupId group, Done done);
  void Write(std::vector<raft::LogWrite> writes, Done done);
  void Read(raft::GroupId group, raft::Index first, raft::Index last, size_t max_bytes, ReadDone done);
  void SaveSnapshot(raft::GroupId group, raft::Index index, raft::Term term, raft::Bytes snapshot, Done done);
  void Compact(raft::GroupId group, raft::Index upto, std::vector<raft::IndexRange> live);
  Figures figures() const;

  // ---- SnapshotStaging; staging.cc
  raft::Index BeginStaging(raft::GroupId group, raft::Index index, raft::Term term);
  void Stage(raft::GroupId group, std::vector<raft::Entry> entries, Done done);
  void StageRows(raft::GroupId group, std::vector<raft::IndexRow> rows, Done done);
  void Install(raft::GroupId group, const raft::HardState& hard_state, const raft::SnapshotMeta& snapshot,
               raft::Bytes state, Done done);
  void Drop(raft::GroupId group);

  // ---- IndexRows; rows.cc
  void WriteRows(raft::GroupId group, raft::Index mark, std::vector<raft::RowChange> changes);
  void ScanRows(raft::GroupId group, std::string from, std::string to, size_t max_bytes,
                raft::IndexRows::ScanDone done);

  Deletions deletions() const { return {old_->points_deleted(), old_->ranges_deleted(), old_->rewrites()}; }
  uint64_t last_synced() const;
  absl::Status WaitForBackground(std::chrono::seconds at_most);

 private:
  using Lock = std::unique_lock<std::mutex>;

  // What was submitted and is not durable yet. A group's are those of its last submissions, consecutive.
  struct PendingEntry {
    raft::Entry entry;
    uint64_t submission;
  };

  struct SnapshotRef {
    raft::Index index;
    raft::Term term;
    std::optional<raft::MembershipAt> membership = {};
    // Its parts in the write-ahead log; or, of one that is `stored` in RocksDB, the record that says so. None when
    // nothing in the log is needed of it, or there is none.
    std::vector<RecordRef> parts = {};
    bool stored = false;
  };

  // A snapshot of another replica that is not installed yet.
  struct Staging {
    raft::Index index;
    raft::Term term;
    // The number of the submission that begins it, which tells it from another one of the group.
    uint64_t submission = 0;
    // Of its keys in RocksDB: the number of the batch that says that it was begun; 0 until that is durable.
    uint64_t generation = 0;
    // Of that record; kNoSlot when RocksDB's row says it.
    SlotId slot = kNoSlot;
    // What is staged.
    raft::Index last;
    Ranges live;
    uint64_t bytes = 0;
    bool rows = false;
    bool installing = false;
  };

  struct Group {
    raft::ReplicaId replica;
    // Of its keys in RocksDB: the number of the batch that created it, or began to stage what was installed in it. So
    // what is left there of others is never taken for its own, not even by reads that skip range tombstones.
    uint64_t generation = 0;
    raft::Bytes descriptor;
    // Durable. The slots are those of the records that hold them, kNoSlot when RocksDB's row does.
    raft::HardState hard_state;
    SlotId hard_state_slot = kNoSlot;
    SlotId created_slot = kNoSlot;
    SnapshotRef snapshot;
    // Of a snapshot whose last part is not durable yet.
    SnapshotRef incoming;
    GroupIndex index;
    // That the log has above the snapshot.
    std::vector<raft::MembershipAt> memberships;
    std::unique_ptr<Staging> staging;
    // What RocksDB holds of live entries, in bytes, about.
    uint64_t old_bytes = 0;
    // Whether RocksDB has a row of it.
    bool row = false;
    // As far in the log as its index rows were given, 0 if it never had any; and the number of the last batch of them
    // in this life.
    raft::Index rows_mark;
    uint64_t rows_given = 0;
    // Of the snapshot that was put into RocksDB past the log last, in this generation, or found there; how many of
    // those wait for their records; and whether one may be there though nothing tells of it.
    raft::Index old_snapshot;
    int storing = 0;
    bool old_snapshot_unknown = false;
    // The submission that created it, which tells it from another one of the same id; 0 = it was found.
    uint64_t submission = 0;

    // As of the last submission.
    std::vector<PendingEntry> pending;
    raft::Index submitted_last;
    bool deleting = false;
  };

  // What a caller handed over, until all of it is durable.
  struct Submission {
    enum class Kind : uint8_t { kWrite, kCreate, kDelete, kSnapshot, kStored, kStage, kInstall };
    Kind kind = Kind::kWrite;
    uint64_t number = 0;
    std::vector<raft::LogWrite> writes = {};  // kWrite
    raft::GroupId group = {};                 // the others
    raft::ReplicaId replica = {};
    raft::Index index = {};
    raft::Term term = {};
    raft::Bytes bytes = {};
    std::optional<raft::MembershipAt> membership = {};
    raft::Bytes encoded_membership = {};
    std::shared_ptr<const SnapshotInstalled> install = {};  // `bytes` is its encoding
    std::shared_ptr<const SnapshotStored> stored = {};      // and so it is of this
    Done done = {};

    // How far batches have got with it: the write, the entry in it; or the byte of the snapshot.
    size_t next_write = 0;
    size_t next_entry = 0;
    bool hard_state_added = false;
    size_t next_byte = 0;
    bool started = false;
  };

  // A record in the batch at hand, and what it does once it is durable.
  struct Added {
    RecordType type;
    raft::GroupId group;
    uint32_t offset;  // in the batch
    uint32_t size;
    uint64_t submission = 0;
    absl::Span<const raft::Entry> entries;
    raft::HardState hard_state;
    SnapshotPart part;
    std::optional<raft::MembershipAt> membership;
    raft::ReplicaId replica;
    raft::Bytes descriptor;
    std::shared_ptr<const SnapshotInstalled> install;
    std::shared_ptr<const SnapshotStored> stored;
  };

  // A change of RocksDB that has to be durable before the segment goes that tells of it.
  struct RequiredOp {
    enum class What : uint8_t {
      kTruncate,        // packs of the generation from `from` on
      kDropGeneration,  // the generation
      kDropBelow,       // those below it
      kDropGroup,       // those below it, and the row
    };
    raft::GroupId group;
    What what = What::kTruncate;
    uint64_t generation = 0;
    raft::Index from = {};
  };

  // What has died in RocksDB.
  struct Dead {
    uint64_t generation = 0;
    Ranges ranges;
  };

  // What the background thread is to do for a snapshot: stage entries or rows, install what was staged, or take one of
  // the group's own, which is too large for the log, or waits for index rows.
  struct StageTask {
    raft::GroupId group;
    uint64_t submission = 0;  // of its Staging; of the group's creation
    std::vector<raft::Entry> entries = {};
    std::vector<raft::IndexRow> rows = {};
    std::shared_ptr<SnapshotInstalled> install = {};
    std::shared_ptr<SnapshotStored> store = {};  // neither = it stages
    raft::Bytes state = {};
    Done done = {};
  };

  // What a call of WriteRows handed over.
  struct RowBatch {
    raft::GroupId group;
    uint64_t generation = 0;
    raft::Index mark;
    std::vector<raft::RowChange> changes;
  };
  struct RowScan {
    uint64_t behind = 0;  // sees the batches up to this one
    raft::GroupId group;
    std::string from, to;
    size_t max_bytes = 0;
    raft::IndexRows::ScanDone done;
  };

  // What has become durable of a group since the background thread began to move its records: the packs and the row
  // that it writes do not know of that.
  struct Meanwhile {
    bool deleted = false;
    // A snapshot was installed: its entries, and those that are moved, have nothing to do with each other.
    bool replaced = false;
    // The lowest index from which on the log was overwritten.
    std::optional<raft::Index> truncated;
  };

  // What the background thread knows of a group while it moves a segment.
  struct Move {
    std::vector<raft::Entry> pack;
    size_t pack_bytes = 0;
    uint64_t packed_bytes = 0;
    uint64_t generation = 0;
    std::vector<std::pair<RecordRef, Ranges>> records;
    SnapshotRef snapshot;  // moved if it has parts
  };

  // A part of an answer to a read: a record in a segment, or what RocksDB has of a range.
  struct Piece {
    raft::IndexRange range;
    std::optional<RecordRef> record;
    std::shared_ptr<File> file;  // of the record
  };
  struct ReadPlan {
    std::vector<Piece> pieces;
    // Behind the pieces.
    std::vector<raft::Entry> pending;
    // Of RocksDB's keys.
    uint64_t generation = 0;
    // To be unpinned when the pieces are read.
    std::vector<SlotId> pinned;
  };

  // ---- recovery.cc
  struct FoundBatch {
    uint64_t sequence, synced, begin;
    SlotId slot;
    uint64_t offset;
    uint32_t bytes;
    uint32_t records;
    // The groups of which nothing before it counts, and at which byte of the batch: they were deleted, or replaced.
    std::vector<std::pair<raft::GroupId, uint32_t>> cut;
  };
  absl::Status OpenSegments();
  absl::Status FindBatches(std::vector<FoundBatch>* batches);
  // Cuts a torn tail; DataLoss for damage (Safety rule 15).
  absl::Status CheckBatches(std::vector<FoundBatch>* batches) const;
  absl::Status LoadOld();
  absl::Status Replay(const std::vector<FoundBatch>& batches);
  absl::Status ReplayRecord(const Record& record, const RecordRef& ref, uint64_t sequence);
  absl::Status ReplayInstalled(const Record& record, const RecordRef& ref);
  absl::Status CheckGroups() const;
  absl::Status SecureTail(const FoundBatch& last);

  // ---- store.cc
  Group& Submitted(raft::GroupId group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Until a snapshot is installed, its group has nothing to persist.
  static void CheckNotInstalling(raft::GroupId id, const Group& group);
  // As the log stands that was submitted. Nothing = that of the group's birth.
  static std::optional<raft::MembershipAt> MembershipAsOf(const Group& group, raft::Index index);
  void Submit(Submission submission) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // By the log.
  void SubmitSnapshot(raft::GroupId id, SnapshotStored snapshot, raft::Bytes state, Done done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Safety rule 16. With the mutex held.
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // ---- what becomes durable; log_writer.cc, and recovery.cc uses them, too
  GroupIndex::Release Releaser() { return releaser_; }
  void ApplyCreated(raft::GroupId id, raft::ReplicaId replica, raft::Bytes descriptor, SlotId slot, uint64_t sequence);
  // Of the group's record that counts as its birth.
  void SetCreatedSlot(Group& group, SlotId slot);
  void ApplyDeleted(raft::GroupId id, uint64_t sequence);
  void ApplyHardState(Group& group, const raft::HardState& state, SlotId slot);
  void ApplyEntries(raft::GroupId id, Group& group, const Run& run, absl::Span<const raft::Term> terms,
                    std::vector<raft::MembershipAt> memberships);
  // Returns whether the snapshot is whole now. `membership` is the part's, decoded.
  bool ApplySnapshotPart(Group& group, const SnapshotPart& part, const RecordRef& ref,
                         std::optional<raft::MembershipAt> membership);
  // RocksDB has it, as the record there says.
  void ApplySnapshotStored(Group& group, const SnapshotStored& stored, const RecordRef& ref);
  static void SetSnapshot(Group& group, SnapshotRef snapshot);
  void ReleaseSnapshot(SnapshotRef& snapshot);
  void ApplyStaged(Group& group, uint64_t submission, SlotId slot, uint64_t sequence);
  void ApplyInstalled(raft::GroupId id, Group& group, const SnapshotInstalled& installed, SlotId slot);
  // Forgets what is staged, if anything is.
  void DropStaging(raft::GroupId id, Group& group);
  // Retires and frees what can be.
  void TidySegments();

  // ---- log_writer.cc
  void RunWriter();
  void Gather();
  // Adds the next record of the submission to the batch; false when it has to wait for the next batch.
  bool AddNext(Submission& submission);
  bool Fits(size_t record_bytes) const;
  static bool AllAdded(const Submission& submission);
  // Writes and syncs the batch. False when that failed.
  bool Commit(Lock& lock);
  // `says_nothing`: it has no records.
  bool WriteBatch(Lock& lock, BatchBuilder& builder, bool says_nothing);
  bool MakeRoom(Lock& lock, uint64_t bytes);
  void Apply();
  void Pace(Lock& lock, uint64_t bytes);

  // ---- background.cc
  void RunBackground();
  // Whether the background thread has anything to do. Whoever makes it true wakes that thread (TidySegments does).
  bool BackgroundDue() const;
  bool NeedsSlot() const;
  bool NeedsMove() const;
  bool NeedsFlush() const;
  bool NeedsDelete() const;
  absl::Status AllocateSlot(Lock& lock);
  void MoveOldest(Lock& lock);
  absl::Status CollectLive(SlotId slot, uint64_t first_sequence, uint64_t last_sequence, uint64_t end,
                           std::map<raft::GroupId, Move>* moves);
  absl::Status WritePack(raft::GroupId group, Move& move);
  absl::Status WriteMovedRows(SlotId slot, std::map<raft::GroupId, Move>& moves);
  void FinishMove(SlotId slot, std::map<raft::GroupId, Move>& moves);
  // Deletes in RocksDB what is due; with `flush`, durably.
  void RunOldOps(Lock& lock, bool flush);
  // Flushes RocksDB. False when that failed.
  bool FlushOld(Lock& lock);
  // With `moved`, which are about to be in RocksDB, too.
  OldRow RowOf(raft::GroupId id, const Group& group, const Move* moved) const;
  void Require(RequiredOp op);
  absl::Status RunRequired(const RequiredOp& op);
  void AddDead(raft::GroupId id, Group& group, const Ranges& dead);
  // What is dead in RocksDB is worth to be given back.
  bool WorthReclaiming() const;
  void RunReclaimer();

  // ---- staging.cc, on the background thread
  bool NeedsStage() const;
  std::deque<StageTask>::const_iterator NextStageTask() const;
  // Null if it was dropped.
  Staging* StagingOf(const StageTask& task) const;
  // Null if it was deleted.
  Group* GroupOf(const StageTask& task) const;
  bool Ready(const StageTask& task) const;
  void RunStageTask(Lock& lock);
  void StageEntries(Lock& lock, StageTask task);
  void InstallStaged(Lock& lock, StageTask task);
  void StoreSnapshot(Lock& lock, StageTask task);

  // ---- rows.cc
  void ScanOnPool(RowScan scan);
  // On the background thread.
  bool NeedsRows() const;
  bool TooManyRows() const;
  // Hands all that were given to RocksDB; false when that failed.
  bool WriteGatheredRows(Lock& lock);
  // Up to that batch.
  bool MakeRowsDurable(Lock& lock, uint64_t given);

  // ---- reader.cc
  void Unpin(const std::vector<SlotId>& slots);
  ReadPlan PlanRead(raft::GroupId group, raft::Index first, raft::Index last, size_t max_bytes);
  void ReadOnPool(raft::GroupId group, raft::Index first, raft::Index last, size_t max_bytes, ReadDone done);
  absl::Status ReadPieces(raft::GroupId group, const std::vector<Piece>& pieces, size_t max_bytes,
                          std::vector<raft::Entry>* entries);
  // The parts' files, which are pinned.
  absl::StatusOr<raft::Bytes> ReadSnapshotParts(raft::GroupId group, const SnapshotRef& snapshot,
                                                const std::vector<std::shared_ptr<File>>& files) const;

  // A larger one takes the way past the log: its parts could fill it before the last is there.
  size_t largest_snapshot_in_log() const { return options_.young_budget_bytes / 4; }
  uint64_t budget_slots() const { return options_.young_budget_bytes / format_.segment_bytes; }

  struct SlotReleaser {
    Impl* impl;
    void operator()(SlotId slot, uint64_t entries) const { (*impl->segments_)[slot].live -= entries; }
  };
  const SlotReleaser releaser_{this};

  // ---- constant once open
  const StoreOptions options_;
  FileSystem* const fs_;
  std::string wal_;  // the segments' directory
  Format format_;
  size_t batch_cap_ = 0;
  std::unique_ptr<DirectoryLock> directory_lock_;
  std::unique_ptr<OldGeneration> old_;

  mutable std::mutex mutex_;
  std::condition_variable writer_wake_;
  std::condition_variable room_wake_;  // the writer, for a free slot
  std::condition_variable background_wake_;
  std::condition_variable idle_wake_;  // WaitForBackground: a background thread has nothing to do
  std::condition_variable reclaim_wake_;

  // Node-based, so that a group stays where it is; on the heap, so that the table is small.
  absl::flat_hash_map<raft::GroupId, std::unique_ptr<Group>> groups_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Segments> segments_ ABSL_GUARDED_BY(mutex_);
  std::deque<Submission> inbox_ ABSL_GUARDED_BY(mutex_);
  uint64_t submissions_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_segment_number_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  // The last durable batch, and its `begin`.
  uint64_t synced_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t synced_begin_ ABSL_GUARDED_BY(mutex_) = 0;
  bool last_batch_empty_ ABSL_GUARDED_BY(mutex_) = true;
  bool writer_waits_ ABSL_GUARDED_BY(mutex_) = false;

  std::deque<RequiredOp> required_ ABSL_GUARDED_BY(mutex_);
  // Of these so far: asked for, handed to RocksDB, flushed.
  uint64_t required_asked_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t required_written_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t required_durable_ ABSL_GUARDED_BY(mutex_) = 0;
  // What has died in RocksDB and is not deleted there yet.
  absl::flat_hash_map<raft::GroupId, Dead> dead_ ABSL_GUARDED_BY(mutex_);
  uint64_t dead_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Bounded by what the callers allow to be under way.
  std::deque<StageTask> stage_tasks_ ABSL_GUARDED_BY(mutex_);
  bool staged_last_ ABSL_GUARDED_BY(mutex_) = false;
  // Changes of index rows that RocksDB does not have yet, and about how many bytes they are.
  std::deque<RowBatch> row_batches_ ABSL_GUARDED_BY(mutex_);
  size_t row_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Scans that wait for such.
  std::deque<RowScan> row_scans_ ABSL_GUARDED_BY(mutex_);
  // Of their batches so far: given by callers, handed to RocksDB, flushed.
  uint64_t rows_given_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t rows_written_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t rows_flushed_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of what is alive in RocksDB, and of what is staged there.
  uint64_t old_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t staged_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Groups of which a segment is being moved, from before the first of it reaches RocksDB until its index says so.
  absl::flat_hash_map<raft::GroupId, Meanwhile> moving_ ABSL_GUARDED_BY(mutex_);
  // A move that could not empty its segment is not tried again before another batch is durable.
  uint64_t move_blocked_at_ ABSL_GUARDED_BY(mutex_) = 0;
  bool background_busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool reclaim_due_ ABSL_GUARDED_BY(mutex_) = false;
  // Before then there is no room for it.
  std::chrono::steady_clock::time_point reclaim_not_before_ ABSL_GUARDED_BY(mutex_);
  // No segment could be made, for the disk is full: not tried again before then.
  std::chrono::steady_clock::time_point slot_not_before_ ABSL_GUARDED_BY(mutex_);
  // What the last reclaiming left beyond what is alive.
  uint64_t unreclaimable_ ABSL_GUARDED_BY(mutex_) = 0;
  // Bytes of the write-ahead log per second that moves have freed lately.
  double move_rate_ ABSL_GUARDED_BY(mutex_) = 0;

  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;  // the writer, once it has nothing left
  bool background_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  Figures figures_ ABSL_GUARDED_BY(mutex_);
  // From Open to Recover.
  absl::flat_hash_map<raft::GroupId, raft::Bytes> recovered_snapshots_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<raft::GroupId, std::string> incoming_snapshots_ ABSL_GUARDED_BY(mutex_);
  // Groups that records spoke of before they were known; only those that are deleted later may be.
  absl::flat_hash_set<raft::GroupId> unknown_ ABSL_GUARDED_BY(mutex_);
  // Batch and byte of the last record that deleted a group, or replaced all of it.
  absl::flat_hash_map<raft::GroupId, std::pair<uint64_t, uint32_t>> last_cut_ ABSL_GUARDED_BY(mutex_);

  // ---- the log writer's own
  std::unique_ptr<BatchBuilder> builder_;
  std::unique_ptr<BatchBuilder> empty_builder_;
  std::deque<Submission> work_;
  std::vector<Submission> gathered_;  // wholly in the batch at hand, or before it
  std::vector<Added> added_;

  std::unique_ptr<ReadPool> pool_;
  std::thread writer_;
  std::thread background_;
  std::thread reclaimer_;
};

}  // namespace trireme::storage
