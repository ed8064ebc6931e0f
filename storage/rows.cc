// Index rows (Safety rule 14): handed over by the shards, written to RocksDB by the background thread, scanned on the
// pool. They are made from the log, so nothing of them is durable by itself: a snapshot waits for those that it covers.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "storage/store_impl.h"

namespace trireme::storage {

using raft::GroupId;
using raft::Index;
using raft::RowChange;

namespace {

// So much is gathered before the background thread is woken for it.
constexpr size_t kGatheredBytes = size_t{256} << 10;
// More than this waits for RocksDB only until the log has come to a stop.
constexpr size_t kWaitingBytesMax = size_t{16} << 20;
constexpr size_t kChangeOverhead = sizeof(RowChange);

}  // namespace

// ---- what callers do

void Store::Impl::WriteRows(GroupId id, Index mark, std::vector<RowChange> changes) {
  if (changes.empty()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  Group& group = Submitted(id);
  TRIREME_CHECK(group.generation != 0) << "group " << id << " is not durable yet";
  // Made again from the log after a restart; or a snapshot was installed, with its rows, while this was on the way.
  if (mark <= std::max(group.rows_mark, group.snapshot.index)) return;
  for (const RowChange& change : changes) {
    TRIREME_CHECK(!change.key.empty() && change.key.size() + change.value.size() <= raft::kRowBytesMax)
        << "a row of group " << id << " with a key of " << change.key.size() << " bytes and a value of "
        << change.value.size();
    row_bytes_ += kChangeOverhead + change.key.size() + change.value.size();
  }
  row_batches_.push_back({id, group.generation, mark, std::move(changes)});
  group.rows_mark = mark;
  group.rows_given = ++rows_given_;
  if (NeedsRows()) background_wake_.notify_one();
}

void Store::Impl::ScanRows(GroupId id, std::string from, std::string to, size_t max_bytes,
                           raft::IndexRows::ScanDone done) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    auto it = groups_.find(id);
    if (it != groups_.end() && !it->second->deleting && it->second->rows_mark > Index()) {
      RowScan scan{it->second->rows_given, id, std::move(from), std::move(to), max_bytes, std::move(done)};
      if (scan.behind <= rows_written_) return ScanOnPool(std::move(scan));
      row_scans_.push_back(std::move(scan));
      background_wake_.notify_one();
      return;
    }
  }
  done(raft::RowPage());
}

void Store::Impl::ScanOnPool(RowScan scan) {
  pool_->Post([this, scan = std::move(scan)]() mutable {
    uint64_t generation = 0;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      auto it = groups_.find(scan.group);
      if (it != groups_.end() && !it->second->deleting) generation = it->second->generation;
    }
    if (generation == 0) {
      return scan.done(absl::NotFoundError(absl::StrCat("group ", scan.group.value(), " does not exist")));
    }
    scan.done(old_->ScanRows(scan.group, generation, scan.from, scan.to, scan.max_bytes));
  });
}

void Store::Impl::StageRows(GroupId id, std::vector<raft::IndexRow> rows, Done done) {
  std::lock_guard<std::mutex> lock(mutex_);
  Group& group = Submitted(id);
  TRIREME_CHECK(group.staging && !group.staging->installing) << "nothing is staged of group " << id;
  stage_tasks_.push_back(
      {.group = id, .submission = group.staging->submission, .rows = std::move(rows), .done = std::move(done)});
  background_wake_.notify_one();
}

// ---- the background thread's part

bool Store::Impl::NeedsRows() const {
  return row_bytes_ >= kGatheredBytes || !row_scans_.empty();
}

bool Store::Impl::TooManyRows() const {
  return row_bytes_ > kWaitingBytesMax;
}

bool Store::Impl::WriteGatheredRows(Lock& lock) {
  const uint64_t given = rows_given_;
  std::deque<RowBatch> batches = std::exchange(row_batches_, {});
  row_bytes_ = 0;
  // What was deleted or replaced since has no rows any more. What is so from here on is deleted there behind this.
  std::erase_if(batches, [this](const RowBatch& batch) {
    auto it = groups_.find(batch.group);
    return it == groups_.end() || it->second->generation != batch.generation;
  });
  lock.unlock();
  absl::Status status;
  for (const RowBatch& batch : batches) {
    status = old_->ChangeRows(batch.group, batch.generation, batch.mark, batch.changes);
    if (!status.ok()) break;
  }
  if (status.ok()) status = old_->Publish();
  lock.lock();
  if (!status.ok()) {
    Fail(status);
    return false;
  }
  rows_written_ = given;
  room_wake_.notify_one();
  while (!row_scans_.empty() && row_scans_.front().behind <= rows_written_) {
    ScanOnPool(std::move(row_scans_.front()));
    row_scans_.pop_front();
  }
  return true;
}

// Safety rule 14: before a snapshot is durable that relies on them.
bool Store::Impl::MakeRowsDurable(Lock& lock, uint64_t given) {
  if (given > rows_written_ && !WriteGatheredRows(lock)) return false;
  return given <= rows_flushed_ || FlushOld(lock);
}

}  // namespace trireme::storage
