#include "tests/storage/store_harness.h"

#include <algorithm>
#include <future>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"
#include "tests/storage/rocksdb_adapter.h"
#include "tests/storage/row_model.h"

namespace trireme::storage {

using raft::Bytes;
using raft::Entry;
using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::IndexRange;
using raft::Term;
using raft::TermRun;

namespace {

// What takes longer hangs.
constexpr std::chrono::seconds kWaitAtMost(60);

}  // namespace

uint64_t ModelState::last() const {
  return log.empty() ? snapshot_index : std::max(snapshot_index, log.rbegin()->first);
}

std::vector<raft::MembershipAt> ModelState::memberships() const {
  std::vector<raft::MembershipAt> all;
  if (installed) all.push_back(*installed);
  for (const auto& [index, entry] : log) {
    if (entry.type != raft::EntryType::kConfig || (installed && entry.index <= installed->index)) continue;
    if (index <= snapshot_index) all.clear();
    all.push_back({entry.index, *raft::DecodeMembership(entry.data.view())});
  }
  return all;
}

bool ModelGroup::Alive(uint64_t index) const {
  if (index > compacted) return true;
  return std::any_of(live.begin(), live.end(),
                     [index](const IndexRange& r) { return r.first.value() <= index && index <= r.last.value(); });
}

void ModelGroup::TakeInstalled() {
  if (!durable.installed || durable.installed->index.value() <= compacted) return;
  compacted = durable.installed->index.value();
  live.clear();
  for (const auto& [index, entry] : durable.log) {
    if (index > compacted) break;
    live.push_back({Index(index), Index(index)});
  }
}

void ApplyChange(const ModelGroup::Change& change, ModelState* state) {
  if (const auto* created = std::get_if<ModelGroup::Created>(&change)) {
    *state = ModelState();
    state->exists = true;
    state->replica = created->replica;
    state->descriptor = created->descriptor;
  } else if (std::holds_alternative<ModelGroup::Deleted>(change)) {
    *state = ModelState();
  } else if (const auto* hard_state = std::get_if<HardState>(&change)) {
    state->hard_state = *hard_state;
  } else if (const auto* entry = std::get_if<Entry>(&change)) {
    state->log.erase(state->log.lower_bound(entry->index.value()), state->log.end());
    state->log[entry->index.value()] = *entry;
  } else if (const auto* installed = std::get_if<ModelGroup::Installed>(&change)) {
    state->hard_state = installed->hard_state;
    state->snapshot_index = installed->snapshot.index.value();
    state->snapshot_term = installed->snapshot.term;
    state->snapshot = installed->bytes;
    state->installed = {installed->snapshot.index, installed->snapshot.membership};
    state->log.clear();
    for (const Entry& e : installed->live) state->log[e.index.value()] = e;
  } else {
    const auto& saved = std::get<ModelGroup::Saved>(change);
    state->snapshot_index = saved.index;
    state->snapshot_term = saved.term;
    state->snapshot = saved.bytes;
  }
}

StoreHarness::StoreHarness(StoreOptions options) : options_(std::move(options)) {
  disk_ = std::make_unique<FaultFileSystem>();
  (void)disk_->CreateDirectory("/disk");
  disk_->GoOnAfterCrash("/disk/store/old");
  options_.directory = "/disk/store";
  options_.file_system = disk_.get();
  options_.old_generation_env = MakeRocksDbEnv(disk_.get());
  options_.read_threads = 1;
  options_.fatal = [this](const absl::Status& status) {
    std::lock_guard<std::mutex> lock(mutex_);
    failed_ = ever_failed_ = true;
    failure_ = status.ToString();
    wake_.notify_all();
  };
}

StoreHarness::~StoreHarness() {
  Close();
}

bool StoreHarness::failed() {
  std::lock_guard<std::mutex> lock(mutex_);
  return failed_;
}

bool StoreHarness::ever_failed() {
  std::lock_guard<std::mutex> lock(mutex_);
  return ever_failed_;
}

void StoreHarness::Close() {
  store_.reset();
  // What has completed is durable for sure now.
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [id, group] : groups_) {
    while (!group.outstanding.empty() && group.outstanding.front().first <= completed_) {
      ApplyChange(group.outstanding.front().second, &group.durable);
      group.outstanding.pop_front();
    }
  }
}

absl::Status StoreHarness::OpenStatus() {
  Close();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    failed_ = false;
  }
  return Store::Open(options_).status();
}

std::string StoreHarness::Open() {
  Close();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    failed_ = false;
  }
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(options_);
  if (!store.ok()) return disk_->crashed() ? "" : absl::StrCat("open: ", store.status().ToString());
  store_ = *std::move(store);
  std::vector<raft::StoredGroup> found = store_->Recover();
  dead_may_live_ = true;
  for (const raft::StoredGroup& stored : found) {
    if (groups_.count(stored.group) == 0) return absl::StrCat("group ", stored.group.value(), " was never created");
  }
  for (auto it = groups_.begin(); it != groups_.end();) {
    auto stored = std::find_if(found.begin(), found.end(), [&](const auto& s) { return s.group == it->first; });
    std::string wrong = Adopt(stored == found.end() ? nullptr : &*stored, it->first, it->second);
    if (wrong.empty() && stored != found.end()) wrong = CheckCompacted(*stored);
    if (!wrong.empty()) return absl::StrCat("group ", it->first.value(), ": ", wrong);
    it = it->second.durable.exists ? std::next(it) : groups_.erase(it);
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    completed_ = submissions_;  // what was lost completes no more
  }
  for (auto& [id, group] : groups_) {
    std::string wrong = AdoptRows(id, group);
    if (!wrong.empty()) return absl::StrCat("index rows of group ", id.value(), ": ", wrong);
  }
  return CheckAll();
}

namespace {

// What differs, or nothing.
std::string Compare(const raft::StoredGroup* stored, const ModelState& want) {
  if (!want.exists || stored == nullptr) {
    return want.exists == (stored != nullptr) ? "" : want.exists ? "it is gone" : "it is there";
  }
  if (stored->replica != want.replica || stored->descriptor.view() != want.descriptor) return "another descriptor";
  const HardState& hs = stored->log.hard_state;
  if (hs != want.hard_state) {
    return absl::StrCat("hard state ", hs.term.value(), "/", hs.voted_for.value(), "/", hs.commit.value(),
                        " instead of ", want.hard_state.term.value(), "/", want.hard_state.voted_for.value(), "/",
                        want.hard_state.commit.value());
  }
  if (stored->log.snapshot_index.value() != want.snapshot_index || stored->log.snapshot_term != want.snapshot_term ||
      stored->snapshot.view() != want.snapshot) {
    return absl::StrCat("snapshot at ", stored->log.snapshot_index.value(), " with ", stored->snapshot.size(),
                        " bytes instead of at ", want.snapshot_index, " with ", want.snapshot.size());
  }
  if (stored->log.last_index.value() != want.last()) {
    return absl::StrCat("last index ", stored->log.last_index.value(), " instead of ", want.last());
  }
  std::vector<TermRun> terms;
  for (auto it = want.log.upper_bound(want.snapshot_index); it != want.log.end(); ++it) {
    if (terms.empty() || terms.back().term != it->second.term) terms.push_back({it->second.index, it->second.term});
  }
  if (terms != stored->log.terms) return "other terms";
  if (want.memberships() != stored->log.memberships) return "other memberships";
  return "";
}

}  // namespace

std::string StoreHarness::Adopt(const raft::StoredGroup* stored, GroupId, ModelGroup& group) {
  std::string wrong = Compare(stored, group.durable);
  std::string tried = wrong;
  while (!wrong.empty() && !group.outstanding.empty()) {
    ApplyChange(group.outstanding.front().second, &group.durable);
    group.outstanding.pop_front();
    wrong = Compare(stored, group.durable);
    if (!wrong.empty()) absl::StrAppend(&tried, "; ", wrong);
  }
  group.outstanding.clear();
  group.submitted = group.durable;
  group.TakeInstalled();
  return wrong.empty() ? "" : tried;
}

std::string StoreHarness::CheckCompacted(const raft::StoredGroup& stored) {
  const ModelGroup& group = groups_.at(stored.group);
  uint64_t compacted = stored.log.compacted.value();
  // It may be said of more than was asked for: what has moved to RocksDB is not counted on.
  if (compacted > group.durable.snapshot_index) {
    return absl::StrCat("compacted to ", compacted, ", above the snapshot at ", group.durable.snapshot_index);
  }
  for (uint64_t i = compacted + 1; i <= group.durable.snapshot_index;) {
    absl::StatusOr<std::vector<Entry>> got = Read(stored.group, i, group.durable.snapshot_index, size_t{64} << 20);
    if (!got.ok()) {
      return disk_->crashed() ? "" : absl::StrCat(i, " is above ", compacted, ": ", got.status().ToString());
    }
    for (const Entry& entry : *got) {
      auto want = group.durable.log.find(i);
      if (want == group.durable.log.end() || entry != want->second)
        return absl::StrCat(i, ", compacted to ", compacted, ", is wrong");
      ++i;
    }
  }
  return "";
}

void StoreHarness::Submitted(GroupId group, ModelGroup::Change change) {
  ModelGroup& g = groups_[group];
  ApplyChange(change, &g.submitted);
  g.outstanding.emplace_back(submissions_, std::move(change));
}

raft::LogStore::Done StoreHarness::Completion() {
  return [this, number = submissions_] {
    std::lock_guard<std::mutex> lock(mutex_);
    completed_ = std::max(completed_, number);
    wake_.notify_all();
  };
}

void StoreHarness::Await() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    bool done = wake_.wait_for(lock, kWaitAtMost, [this] { return failed_ || completed_ == submissions_; });
    TRIREME_CHECK(done) << "submission " << submissions_ << " is not durable, " << completed_ << " is";
    for (auto& [id, group] : groups_) {
      while (!group.outstanding.empty() && group.outstanding.front().first <= completed_) {
        ApplyChange(group.outstanding.front().second, &group.durable);
        group.outstanding.pop_front();
      }
    }
  }
  if (!failed()) std::erase_if(groups_, [](const auto& g) { return !g.second.durable.exists; });
}

std::string StoreHarness::Settle() {
  absl::Status status = store_->WaitForBackground(kWaitAtMost);
  return status.ok() ? "" : status.ToString();
}

void StoreHarness::Create(GroupId group, std::string descriptor) {
  if (failed()) return;
  ++submissions_;
  raft::ReplicaId replica(group.value() * 100 + submissions_);
  Submitted(group, ModelGroup::Created{replica, descriptor});
  groups_[group].rows = 0;
  store_->CreateGroup(group, replica, Bytes::Copy(descriptor), Completion());
}

void StoreHarness::Delete(GroupId group) {
  if (failed()) return;
  ++submissions_;
  Submitted(group, ModelGroup::Deleted());
  store_->DeleteGroup(group, Completion());
}

void StoreHarness::Write(std::vector<raft::LogWrite> writes) {
  if (failed()) return;
  ++submissions_;
  for (const raft::LogWrite& write : writes) {
    if (write.hard_state) Submitted(write.group, *write.hard_state);
    for (const Entry& e : write.entries) Submitted(write.group, e);
  }
  store_->Write(std::move(writes), Completion());
}

void StoreHarness::Save(GroupId group, uint64_t index, std::string bytes) {
  if (failed()) return;
  ++submissions_;
  const ModelState& state = groups_[group].submitted;
  auto it = state.log.find(index);
  Term term = it == state.log.end() ? state.snapshot_term : it->second.term;
  Submitted(group, ModelGroup::Saved{index, term, bytes});
  store_->SaveSnapshot(group, Index(index), term, Bytes::Copy(bytes), Completion());
}

void StoreHarness::Stage(GroupId group, Index index, Term term, std::vector<Entry> entries) {
  if (failed()) return;
  store_->Begin(group, index, term);
  uint64_t number = ++stages_;
  store_->Stage(group, std::move(entries), [this, number] {
    std::lock_guard<std::mutex> lock(mutex_);
    staged_ = number;
    wake_.notify_all();
  });
  AwaitStaged(number);
}

void StoreHarness::AwaitStaged(uint64_t number) {
  std::unique_lock<std::mutex> lock(mutex_);
  bool done = wake_.wait_for(lock, kWaitAtMost, [&] { return failed_ || staged_ == number; });
  TRIREME_CHECK(done) << "a part of a snapshot is not staged";
}

void StoreHarness::GiveRows(GroupId group, uint64_t upto, uint64_t at_once) {
  uint64_t& given = groups_.at(group).rows;
  while (given < upto && !failed()) {
    const uint64_t mark = std::min(upto, given + at_once);
    std::vector<raft::RowChange> changes;
    while (given < mark) {
      std::vector<raft::RowChange> more = RowChangesOf(++given);
      changes.insert(changes.end(), more.begin(), more.end());
    }
    store_->WriteRows(group, Index(mark), std::move(changes));
  }
}

void StoreHarness::StageRows(GroupId group, Index index, Term term, size_t piece) {
  if (failed()) return;
  store_->Begin(group, index, term);
  const Rows rows = RowsAsOf(index.value());
  for (auto it = rows.begin(); it != rows.end() && !failed();) {
    std::vector<raft::IndexRow> some;
    for (; it != rows.end() && some.size() < piece; ++it) some.push_back({it->first, it->second});
    uint64_t number = ++stages_;
    store_->StageRows(group, std::move(some), [this, number] {
      std::lock_guard<std::mutex> lock(mutex_);
      staged_ = number;
      wake_.notify_all();
    });
    AwaitStaged(number);
  }
}

absl::StatusOr<raft::RowPage> StoreHarness::Scan(GroupId group, const std::string& from, const std::string& to,
                                                 size_t page_bytes) {
  raft::RowPage all;
  for (bool more = true; more;) {
    // A store that fails answers no more.
    auto page = std::make_shared<std::promise<absl::StatusOr<raft::RowPage>>>();
    auto future = page->get_future();
    store_->ScanRows(group, all.rows.empty() ? from : raft::KeyBehind(all.rows.back().key), to, page_bytes,
                     [page](absl::StatusOr<raft::RowPage> got) { page->set_value(std::move(got)); });
    while (future.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
      if (failed()) return absl::AbortedError("the store has failed");
    }
    absl::StatusOr<raft::RowPage> got = future.get();
    if (!got.ok()) return got;
    more = got->more;
    if (more && got->rows.empty()) return absl::InternalError("a page without a row says that there are more");
    all.mark = got->mark;
    all.rows.insert(all.rows.end(), got->rows.begin(), got->rows.end());
  }
  return all;
}

std::string StoreHarness::CheckRows(GroupId id) {
  absl::StatusOr<raft::RowPage> found = Scan(id, "", "", 100);
  if (!found.ok()) return disk_->crashed() || failed() ? "" : found.status().ToString();
  const uint64_t want = groups_.at(id).rows;
  if (found->mark.value() != want) return absl::StrCat("written up to ", found->mark.value(), " instead of ", want);
  Rows rows;
  for (const raft::IndexRow& row : found->rows) rows[row.key] = row.value;
  return rows == RowsAsOf(want) ? "" : absl::StrCat(rows.size(), " rows are not those of the entries up to ", want);
}

std::string StoreHarness::AdoptRows(GroupId id, ModelGroup& group) {
  absl::StatusOr<raft::RowPage> found = Scan(id, "", "", 1000);
  if (!found.ok()) return disk_->crashed() || failed() ? "" : found.status().ToString();
  const uint64_t mark = found->mark.value();
  const uint64_t must = std::min(group.rows, group.durable.snapshot_index);
  if (mark < must) return absl::StrCat("written up to ", mark, ", which is before the snapshot at ", must);
  const bool has_some = group.rows > 0;
  group.rows = mark;
  std::string wrong = CheckRows(id);
  if (!wrong.empty() || !has_some) return wrong;
  group.rows = std::min(mark, group.durable.snapshot_index);
  GiveRows(id, group.durable.last(), 7);
  group.rows = std::max(group.rows, mark);
  return "";
}

void StoreHarness::Install(GroupId group, const ModelGroup::Installed& snapshot, size_t piece) {
  Index last;
  if (!failed()) last = store_->Begin(group, snapshot.snapshot.index, snapshot.snapshot.term);
  std::vector<Entry> rest;
  for (const Entry& e : snapshot.live) {
    // Some of what is there comes again.
    if (e.index + piece / 2 > last) rest.push_back(e);
  }
  for (size_t i = 0; i < rest.size(); i += piece) {
    auto end = rest.begin() + static_cast<ptrdiff_t>(std::min(i + piece, rest.size()));
    Stage(group, snapshot.snapshot.index, snapshot.snapshot.term, {rest.begin() + static_cast<ptrdiff_t>(i), end});
  }
  Await();
  if (failed()) return;
  ++submissions_;
  Submitted(group, snapshot);
  store_->Install(group, snapshot.hard_state, snapshot.snapshot, Bytes::Copy(snapshot.bytes), Completion());
  Await();
  if (!failed()) groups_.at(group).TakeInstalled();
}

void StoreHarness::Compact(GroupId group, uint64_t upto, std::vector<IndexRange> live) {
  if (failed()) return;
  ModelGroup& g = groups_[group];
  g.compacted = upto;
  g.live = live;
  store_->Compact(group, Index(upto), std::move(live));
}

absl::StatusOr<std::vector<Entry>> StoreHarness::Read(GroupId group, uint64_t first, uint64_t last, size_t max_bytes) {
  std::promise<absl::StatusOr<std::vector<Entry>>> promise;
  std::future<absl::StatusOr<std::vector<Entry>>> future = promise.get_future();
  store_->Read(group, Index(first), Index(last), max_bytes,
               [&](auto entries) { promise.set_value(std::move(entries)); });
  TRIREME_CHECK(future.wait_for(kWaitAtMost) == std::future_status::ready)
      << "the read of " << first << ".." << last << " of group " << group << " is not answered";
  return future.get();
}

std::string StoreHarness::CheckRead(GroupId id, uint64_t first, uint64_t last, size_t max_bytes) {
  const ModelGroup& group = groups_.at(id);
  const std::map<uint64_t, Entry>& log = group.submitted.log;
  absl::StatusOr<std::vector<Entry>> got = Read(id, first, last, max_bytes);
  if (disk_->crashed() && (!got.ok() || got->size() < last - first + 1)) return "";
  auto at = [&](uint64_t index) {
    return absl::StrCat("read of ", first, "..", last, " of group ", id.value(), ": ", index);
  };
  // As many as there must be at least.
  uint64_t must = 0;
  size_t bytes = 0;
  for (uint64_t i = first; i <= last && group.Alive(i) && log.count(i) > 0; ++i, ++must) {
    bytes += log.at(i).data.size();
    if (must > 0 && bytes > max_bytes) break;
  }
  if (must == 0) {
    if (!got.ok()) return absl::IsNotFound(got.status()) ? "" : got.status().ToString();
    if (!dead_may_live_ || log.count(first) == 0) return absl::StrCat(at(first), " is there");
  }
  if (!got.ok()) return absl::StrCat(at(first), ": ", got.status().ToString());
  if (got->size() < must) return absl::StrCat(at(first + got->size()), " is missing, ", must, " are expected");
  bytes = 0;
  for (size_t i = 0; i < got->size(); ++i) {
    auto it = log.find(first + i);
    if (it == log.end() || (*got)[i] != it->second) return absl::StrCat(at(first + i), " is wrong");
    bytes += it->second.data.size();
    if (!dead_may_live_ && i >= must) return absl::StrCat(at(first + i), " is too many");
  }
  if (first + got->size() > last + 1 || (got->size() > 1 && bytes > max_bytes)) return at(last) + " exceeds the limit";
  return "";
}

std::string StoreHarness::CheckAll() {
  for (auto& [id, group] : groups_) {
    if (!group.submitted.exists) continue;
    const std::map<uint64_t, Entry>& log = group.submitted.log;
    for (auto it = log.begin(); it != log.end();) {
      if (!group.Alive(it->first)) {
        ++it;
        continue;
      }
      uint64_t first = it->first;
      uint64_t last = first;
      for (; it != log.end() && group.Alive(it->first); ++it) last = it->first;
      for (uint64_t i = first; i <= last;) {
        std::string wrong = CheckRead(id, i, std::min(i + 9, last), size_t{64} << 20);
        if (!wrong.empty()) return wrong;
        i += 10;
      }
    }
    std::string wrong = CheckRead(id, group.submitted.last() + 1, group.submitted.last() + 1, 100);
    if (wrong.empty()) wrong = CheckRows(id);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace trireme::storage
