#include "storage/store.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "storage/store_impl.h"

namespace trireme::storage {

using raft::Bytes;
using raft::Entry;
using raft::GroupId;
using raft::Index;
using raft::IndexRange;
using raft::ReplicaId;
using raft::Term;

namespace {

void EndProcess(const absl::Status& status) {
  std::string text(status.ToString());
  std::fprintf(stderr, "trireme: the store failed, and so this process ends: %s\n", text.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace

// ---- ReadPool

ReadPool::ReadPool(int threads) {
  for (int i = 0; i < std::max(threads, 1); ++i) {
    threads_.emplace_back([this] {
      std::unique_lock<std::mutex> lock(mutex_);
      for (;;) {
        wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        absl::AnyInvocable<void()> task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        task();
        task = nullptr;
        lock.lock();
      }
    });
  }
}

ReadPool::~ReadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void ReadPool::Post(absl::AnyInvocable<void()> task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
}

// ---- Store

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const StoreOptions& options) {
  auto impl = std::make_unique<Impl>(options, options.file_system != nullptr ? options.file_system : PosixFileSystem());
  if (absl::Status s = impl->Open(); !s.ok()) return s;
  impl->Start();
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

std::vector<raft::StoredGroup> Store::Recover() {
  return impl_->Recover();
}
void Store::CreateGroup(GroupId group, ReplicaId replica, Bytes descriptor, Done done) {
  impl_->CreateGroup(group, replica, std::move(descriptor), std::move(done));
}
void Store::DeleteGroup(GroupId group, Done done) {
  impl_->DeleteGroup(group, std::move(done));
}
void Store::Write(std::vector<raft::LogWrite> writes, Done done) {
  impl_->Write(std::move(writes), std::move(done));
}
void Store::Read(GroupId group, Index first, Index last, size_t max_bytes, ReadDone done) {
  impl_->Read(group, first, last, max_bytes, std::move(done));
}
void Store::SaveSnapshot(GroupId group, Index index, Term term, Bytes snapshot, Done done) {
  impl_->SaveSnapshot(group, index, term, std::move(snapshot), std::move(done));
}
void Store::Compact(GroupId group, Index upto, std::vector<IndexRange> live) {
  impl_->Compact(group, upto, std::move(live));
}
raft::LogStore::Figures Store::figures() const {
  return impl_->figures();
}
Index Store::Begin(GroupId group, Index index, Term term) {
  return impl_->BeginStaging(group, index, term);
}
void Store::Stage(GroupId group, std::vector<Entry> entries, Done done) {
  impl_->Stage(group, std::move(entries), std::move(done));
}
void Store::StageRows(GroupId group, std::vector<raft::IndexRow> rows, Done done) {
  impl_->StageRows(group, std::move(rows), std::move(done));
}
void Store::Install(GroupId group, const raft::HardState& hard_state, const raft::SnapshotMeta& snapshot, Bytes state,
                    Done done) {
  impl_->Install(group, hard_state, snapshot, std::move(state), std::move(done));
}
void Store::Drop(GroupId group) {
  impl_->Drop(group);
}
void Store::WriteRows(GroupId group, Index mark, std::vector<raft::RowChange> changes) {
  impl_->WriteRows(group, mark, std::move(changes));
}
void Store::ScanRows(GroupId group, std::string from, std::string to, size_t max_bytes, ScanDone done) {
  impl_->ScanRows(group, std::move(from), std::move(to), max_bytes, std::move(done));
}
Store::Deletions Store::deletions() const {
  return impl_->deletions();
}
uint64_t Store::last_synced() const {
  return impl_->last_synced();
}
absl::Status Store::WaitForBackground(std::chrono::seconds at_most) {
  return impl_->WaitForBackground(at_most);
}

// ---- what callers do

Store::Impl::Impl(StoreOptions options, FileSystem* fs) : options_(std::move(options)), fs_(fs) {}

Store::Impl::~Impl() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  writer_wake_.notify_all();
  if (writer_.joinable()) writer_.join();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    background_stopping_ = true;
  }
  background_wake_.notify_all();
  reclaim_wake_.notify_all();
  if (background_.joinable()) background_.join();
  if (old_) old_->CancelReclaim();
  if (reclaimer_.joinable()) reclaimer_.join();
  pool_.reset();
  for (RowScan& scan : row_scans_) scan.done(absl::CancelledError("the store is closed"));
}

void Store::Impl::Start() {
  pool_ = std::make_unique<ReadPool>(options_.read_threads);
  writer_ = std::thread([this] { RunWriter(); });
  background_ = std::thread([this] { RunBackground(); });
  reclaimer_ = std::thread([this] { RunReclaimer(); });
}

void Store::Impl::Fail(const absl::Status& status) {
  // Safety rule 16: nothing is retried, and nothing that is not known to be durable is said to be.
  if (failed_) return;
  failed_ = true;
  (options_.fatal ? options_.fatal : EndProcess)(status);
  writer_wake_.notify_all();
  room_wake_.notify_all();
  background_wake_.notify_all();
  idle_wake_.notify_all();
  reclaim_wake_.notify_all();
}

Store::Impl::Group& Store::Impl::Submitted(GroupId group) {
  auto it = groups_.find(group);
  TRIREME_CHECK(it != groups_.end() && !it->second->deleting) << "group " << group << " does not exist";
  return *it->second;
}

void Store::Impl::CheckNotInstalling(GroupId id, const Group& group) {
  TRIREME_CHECK(!group.staging || !group.staging->installing) << "a snapshot of group " << id << " is being installed";
}

std::optional<raft::MembershipAt> Store::Impl::MembershipAsOf(const Group& group, Index index) {
  for (auto p = group.pending.rbegin(); p != group.pending.rend(); ++p) {
    if (p->entry.index <= index && p->entry.type == raft::EntryType::kConfig) return MembershipOf(p->entry);
  }
  // What is pending overwrites all from its first one on.
  if (!group.pending.empty()) index = std::min(index, group.pending.front().entry.index - 1);
  for (auto m = group.memberships.rbegin(); m != group.memberships.rend(); ++m) {
    if (m->index <= index) return *m;
  }
  return group.snapshot.membership;
}

void Store::Impl::Submit(Submission submission) {
  submission.number = ++submissions_;
  inbox_.push_back(std::move(submission));
  if (inbox_.size() == 1) writer_wake_.notify_one();
}

std::vector<raft::StoredGroup> Store::Impl::Recover() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<raft::StoredGroup> all;
  all.reserve(groups_.size());
  for (const auto& [id, group] : groups_) {
    raft::StoredGroup stored;
    stored.group = id;
    stored.replica = group->replica;
    stored.descriptor = group->descriptor;
    stored.log.hard_state = group->hard_state;
    stored.log.snapshot_index = group->snapshot.index;
    stored.log.snapshot_term = group->snapshot.term;
    stored.log.terms = group->index.terms();
    stored.log.last_index = group->index.last_index();
    if (group->snapshot.membership) stored.log.memberships.push_back(*group->snapshot.membership);
    stored.log.memberships.insert(stored.log.memberships.end(), group->memberships.begin(), group->memberships.end());
    stored.log.compacted = group->index.Compacted();
    if (auto it = recovered_snapshots_.find(id); it != recovered_snapshots_.end()) stored.snapshot = it->second;
    all.push_back(std::move(stored));
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.group < b.group; });
  recovered_snapshots_.clear();
  return all;
}

void Store::Impl::CreateGroup(GroupId id, ReplicaId replica, Bytes descriptor, Done done) {
  TRIREME_CHECK(kRecordHeaderBytes + 8 + descriptor.size() <= format_.segment_bytes / 2) << "of group " << id;
  std::lock_guard<std::mutex> lock(mutex_);
  auto [it, fresh] = groups_.try_emplace(id, nullptr);
  TRIREME_CHECK(fresh) << "group " << id << " exists";
  it->second = std::make_unique<Group>();
  it->second->replica = replica;
  it->second->descriptor = descriptor;
  it->second->submission = submissions_ + 1;
  Submit({.kind = Submission::Kind::kCreate,
          .group = id,
          .replica = replica,
          .bytes = std::move(descriptor),
          .done = std::move(done)});
}

void Store::Impl::DeleteGroup(GroupId id, Done done) {
  std::lock_guard<std::mutex> lock(mutex_);
  Submitted(id).deleting = true;
  Submit({.kind = Submission::Kind::kDelete, .group = id, .done = std::move(done)});
}

void Store::Impl::Write(std::vector<raft::LogWrite> writes, Done done) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const raft::LogWrite& write : writes) {
    Group& group = Submitted(write.group);
    CheckNotInstalling(write.group, group);
    if (write.entries.empty()) continue;
    Index first = write.entries.front().index;
    TRIREME_CHECK(first <= group.submitted_last + 1)
        << "entry " << first << " of group " << write.group << " leaves a gap behind " << group.submitted_last;
    TRIREME_CHECK(first > group.snapshot.index)
        << "entry " << first << " of group " << write.group << " is covered by its snapshot";
    std::vector<PendingEntry>& pending = group.pending;
    while (!pending.empty() && pending.back().entry.index >= first) pending.pop_back();
    for (size_t i = 0; i < write.entries.size(); ++i) {
      const Entry& e = write.entries[i];
      TRIREME_CHECK(e.index == first + i)
          << "entries of group " << write.group << " are not consecutive at " << e.index;
      TRIREME_CHECK(e.data.size() <= format_.segment_bytes / 2)
          << "entry " << e.index << " of group " << write.group << " has " << e.data.size() << " bytes";
      figures_.bytes_appended += e.data.size();
      pending.push_back({e, submissions_ + 1});
    }
    group.submitted_last = write.entries.back().index;
  }
  Submit({.kind = Submission::Kind::kWrite, .writes = std::move(writes), .done = std::move(done)});
}

void Store::Impl::SaveSnapshot(GroupId id, Index index, Term term, Bytes snapshot, Done done) {
  std::lock_guard<std::mutex> lock(mutex_);
  Group& group = Submitted(id);
  CheckNotInstalling(id, group);
  TRIREME_CHECK(index >= group.snapshot.index) << "the snapshot of group " << id << " goes back to " << index;
  TRIREME_CHECK(index <= group.submitted_last) << "the snapshot of group " << id << " is ahead of its log";
  std::optional<raft::MembershipAt> membership = MembershipAsOf(group, index);
  // One that has to wait for index rows, or is too large for the log, goes by the background thread.
  if (snapshot.size() > largest_snapshot_in_log() || group.rows_given > rows_flushed_) {
    stage_tasks_.push_back({.group = id,
                            .submission = group.submission,
                            .store = std::make_shared<SnapshotStored>(
                                SnapshotStored{.index = index, .term = term, .membership = std::move(membership)}),
                            .state = std::move(snapshot),
                            .done = std::move(done)});
    background_wake_.notify_one();
    return;
  }
  SubmitSnapshot(id, {.index = index, .term = term, .membership = std::move(membership)}, std::move(snapshot),
                 std::move(done));
}

void Store::Impl::SubmitSnapshot(GroupId id, SnapshotStored snapshot, Bytes state, Done done) {
  Bytes encoded = EncodeMembershipAt(snapshot.membership);
  Submit({.kind = Submission::Kind::kSnapshot,
          .group = id,
          .index = snapshot.index,
          .term = snapshot.term,
          .bytes = std::move(state),
          .membership = std::move(snapshot.membership),
          .encoded_membership = std::move(encoded),
          .done = std::move(done)});
}

void Store::Impl::Compact(GroupId id, Index upto, std::vector<IndexRange> live) {
  std::lock_guard<std::mutex> lock(mutex_);
  Group& group = Submitted(id);
  TRIREME_CHECK(upto <= group.snapshot.index)
      << "group " << id << " compacted to " << upto << ", its durable snapshot is at " << group.snapshot.index;
  AddDead(id, group, group.index.Compact(upto, live, Releaser()));
  TidySegments();
}

raft::LogStore::Figures Store::Impl::figures() const {
  std::lock_guard<std::mutex> lock(mutex_);
  Figures figures = figures_;
  figures.segments = segments_->size();
  figures.segments_free = segments_->free();
  return figures;
}

uint64_t Store::Impl::last_synced() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return synced_;
}

absl::Status Store::Impl::WaitForBackground(std::chrono::seconds at_most) {
  Lock lock(mutex_);
  auto idle = [this] { return failed_ || (!background_busy_ && !reclaim_due_ && !BackgroundDue()); };
  if (idle_wake_.wait_for(lock, at_most, idle)) return absl::OkStatus();
  std::string due;
  auto say = [&due](bool is, const char* what) {
    if (is) absl::StrAppend(&due, due.empty() ? "" : ", ", what);
  };
  say(background_busy_, "what the background thread is at");
  say(reclaim_due_, "to reclaim space in RocksDB");
  say(NeedsSlot(), "a new segment");
  say(NeedsRows(), "to write index rows");
  say(NeedsStage(), "to stage, install or store a snapshot");
  say(NeedsMove(), "to move the oldest segment");
  say(NeedsFlush(), "to flush RocksDB");
  say(NeedsDelete(), "to delete what is dead in RocksDB");
  return absl::DeadlineExceededError(
      absl::StrCat("the store in ", options_.directory, " has work due for ", at_most.count(), " s: ", due));
}

}  // namespace trireme::storage
