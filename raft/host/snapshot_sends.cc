#include "raft/host/snapshot_sends.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <tuple>

#include "raft/core/check.h"
#include "raft/core/checksum.h"

namespace trireme::raft {
namespace {

// A read that fails may find its entry dead; one that is alive and cannot be read so often is not to be had.
constexpr int kFailedReadsMax = 3;
// Unused room in the budget is kept for so many ticks.
constexpr int64_t kBurstTicks = 2;
constexpr int kResendsApartMax = 16;
constexpr int kPausesApartMax = 64;

}  // namespace

void SnapshotSends::Start(const std::shared_ptr<HostedGroup>& group, ReplicaId follower) {
  const Key key{group->id(), follower};
  if (sends_.contains(key)) return;
  Snapshot& snapshot = sends_[key];
  snapshot.serial = ++serial_;
  snapshot.group = group;
  catching_up_.erase(key);
  Begin(key, snapshot);
}

bool SnapshotSends::Reachable(const Key& key, const HostedGroup& group) const {
  return alive_(group.NodeOf(key.second));
}

void SnapshotSends::Begin(const Key& key, Snapshot& snapshot) {
  std::shared_ptr<HostedGroup> group = snapshot.group.lock();
  if (group == nullptr || group->replica.role() != Role::kLeader) return;  // Drop follows
  auto pause = pauses_.find(key);
  if (pause != pauses_.end() && ticks_ < pause->second.until_tick) return;
  const Index index = group->replica.applied_index();
  // It must not claim what this replica may still lose; its disk is about to catch up.
  if (begun_ >= options_.at_once || group->replica.persisted_index() < index) return;
  ++begun_;
  snapshot.begun = true;
  const Term term = group->replica.TermAt(index);
  TRIREME_CHECK(term > Term()) << "group " << key.first << " does not know the term of " << index;
  snapshot.header = group->replica.SnapshotMessage(key.second, {index, term, group->replica.MembershipAsOf(index)});
  snapshot.state = group->machine->Snapshot();
  snapshot.checksum = Crc32c(snapshot.state.view());
  LookAtLive(*group, snapshot);
  spdlog::info("group {}: sends replica {} a snapshot as of {}", key.first.value(), key.second.value(), index.value());
  GoOn(key, snapshot.serial);
}

void SnapshotSends::LookAtLive(const HostedGroup& group, Snapshot& snapshot) {
  StateMachine::Liveness liveness = group.machine->Live();
  const Index last = snapshot.header.log_index;
  snapshot.live.clear();
  for (IndexRange range : liveness.live) {
    range.last = std::min({range.last, liveness.floor, last});
    if (!range.empty()) snapshot.live.push_back(range);
  }
  if (liveness.floor < last) snapshot.live.push_back({liveness.floor + 1, last});
}

void SnapshotSends::GoOn(const Key& key, uint64_t serial) {
  for (;;) {
    auto found = sends_.find(key);
    if (found == sends_.end() || found->second.serial != serial) return;
    Snapshot& snapshot = found->second;
    if (!snapshot.begun || snapshot.reading || snapshot.flying || budget_ < 0) return;
    if (Gather(key, snapshot)) continue;
    if (!snapshot.chunk.entries.empty() || !GatherRows(key, snapshot)) break;
  }
  SendChunk(key, sends_.at(key));
}

bool SnapshotSends::Gather(const Key& key, Snapshot& snapshot) {
  const std::vector<Entry>& gathered = snapshot.chunk.entries;
  const Index from = (gathered.empty() ? snapshot.at.entry : gathered.back().index) + 1;
  auto range = std::lower_bound(snapshot.live.begin(), snapshot.live.end(), from,
                                [](const IndexRange& a, Index index) { return a.last < index; });
  if (range == snapshot.live.end() || snapshot.full || snapshot.gathered >= options_.chunk_bytes) return false;
  std::shared_ptr<HostedGroup> group = snapshot.group.lock();
  // Drop follows.
  snapshot.reading = true;
  if (group == nullptr) return true;
  // What is in memory is answered at once, and then GoOn's loop goes on, not another one within it.
  snapshot.asking = true;
  const uint64_t serial = snapshot.serial;
  group->ReadEntries(std::max(range->first, from), range->last, options_.chunk_bytes - snapshot.gathered,
                     [this, key, serial](absl::StatusOr<std::vector<Entry>> entries) {
                       EntriesRead(key, serial, std::move(entries));
                     });
  auto found = sends_.find(key);
  if (found != sends_.end() && found->second.serial == serial) found->second.asking = false;
  return true;
}

void SnapshotSends::EntriesRead(const Key& key, uint64_t serial, absl::StatusOr<std::vector<Entry>> entries) {
  auto found = sends_.find(key);
  if (found == sends_.end() || found->second.serial != serial) return;
  Snapshot& snapshot = found->second;
  snapshot.reading = false;
  std::shared_ptr<HostedGroup> group = snapshot.group.lock();
  if (group == nullptr) return;
  if (!entries.ok() || entries->empty()) {
    // What is not there any more has died since.
    LookAtLive(*group, snapshot);
    if (!ReadFailed(key, snapshot, group.get(), entries.status())) return;
  } else {
    snapshot.failed_reads = 0;
    if (!snapshot.chunk.entries.empty() && snapshot.gathered + entries->front().data.size() > options_.chunk_bytes) {
      // The first one is read however large it is. A frame has room for one such, not for others beside it.
      snapshot.full = true;
      entries->clear();
    }
    for (const Entry& entry : *entries) snapshot.gathered += entry.data.size() + sizeof(Entry);
    std::move(entries->begin(), entries->end(), std::back_inserter(snapshot.chunk.entries));
  }
  if (!snapshot.asking) GoOn(key, serial);
}

bool SnapshotSends::GatherRows(const Key& key, Snapshot& snapshot) {
  // None can come behind what was sent of the state.
  if (snapshot.rows_read || snapshot.at.state_bytes > 0) return false;
  std::shared_ptr<HostedGroup> group = snapshot.group.lock();
  // Drop follows.
  snapshot.reading = true;
  if (group == nullptr) return true;
  snapshot.asking = true;
  const uint64_t serial = snapshot.serial;
  group->ScanRows(KeyBehind(snapshot.at.row), "", options_.chunk_bytes,
                  [this, key, serial](absl::StatusOr<RowPage> page) { RowsRead(key, serial, std::move(page)); });
  auto found = sends_.find(key);
  if (found != sends_.end() && found->second.serial == serial) found->second.asking = false;
  return true;
}

void SnapshotSends::RowsRead(const Key& key, uint64_t serial, absl::StatusOr<RowPage> page) {
  auto found = sends_.find(key);
  if (found == sends_.end() || found->second.serial != serial) return;
  Snapshot& snapshot = found->second;
  snapshot.reading = false;
  std::shared_ptr<HostedGroup> group = snapshot.group.lock();
  if (group == nullptr) return;
  if (!page.ok()) {
    if (!ReadFailed(key, snapshot, group.get(), page.status())) return;
  } else {
    snapshot.failed_reads = 0;
    snapshot.rows_read = true;
    if (!page->rows.empty()) {
      snapshot.chunk.rows = EncodeRows(page->rows);
      snapshot.chunk.rows_checksum = Crc32c(snapshot.chunk.rows.view());
      snapshot.gathered = snapshot.chunk.rows.size();
      snapshot.behind_rows = {page->rows.back().key, snapshot.at.rows + page->rows.size()};
    }
  }
  if (!snapshot.asking) GoOn(key, serial);
}

bool SnapshotSends::ReadFailed(const Key& key, Snapshot& snapshot, HostedGroup* group, const absl::Status& status) {
  if (++snapshot.failed_reads <= kFailedReadsMax) return true;
  if (log_.Allow(now_)) {
    spdlog::error("group {}: a snapshot for replica {} stops: what is behind entry {}, row {}, cannot be read: {}",
                  key.first.value(), key.second.value(), snapshot.at.entry.value(), snapshot.at.rows,
                  status.ToString());
  }
  Finish(key, false);
  if (absl::IsDataLoss(status)) damaged_(group);
  return false;
}

// Sends it, for the first time or again.
void SnapshotSends::SendChunk(const Key& key, Snapshot& snapshot) {
  std::shared_ptr<HostedGroup> group = snapshot.group.lock();
  if (group == nullptr) return;
  const bool again = std::exchange(snapshot.flying, true);
  if (!again) {
    SnapshotChunk& chunk = snapshot.chunk;
    if (chunk.entries.empty() && chunk.rows.empty()) {
      const size_t size = std::min<size_t>(options_.chunk_bytes, snapshot.state.size() - snapshot.at.state_bytes);
      chunk.state = snapshot.state.Sub(snapshot.at.state_bytes, size);
      chunk.last = snapshot.at.state_bytes + size == snapshot.state.size();
      chunk.state_checksum = chunk.last ? snapshot.checksum : 0;
      snapshot.gathered = size;
    }
    chunk.group = key.first;
    chunk.header = snapshot.header;
    chunk.at = snapshot.at;
  }
  snapshot.chunk.number = ++number_;
  if (!again) {
    snapshot.first_number = number_;
    snapshot.resend_ticks = options_.resend_ticks;
    snapshot.stuck_ticks = 0;
  }
  snapshot.silent_ticks = 0;
  served_ = key;
  budget_ -= static_cast<int64_t>(snapshot.gathered);
  bytes_sent_ += snapshot.gathered;
  send_(group->NodeOf(key.second), snapshot.chunk);
}

SnapshotPosition SnapshotSends::Behind(const Snapshot& snapshot) {
  const SnapshotChunk& chunk = snapshot.chunk;
  SnapshotPosition behind = chunk.at;
  if (!chunk.entries.empty()) behind.entry = chunk.entries.back().index;
  if (!chunk.rows.empty()) std::tie(behind.row, behind.rows) = snapshot.behind_rows;
  behind.entries += chunk.entries.size();
  behind.state_bytes += chunk.state.size();
  return behind;
}

void SnapshotSends::Answered(const SnapshotAnswer& answer) {
  auto found = sends_.find({answer.group, answer.from});
  if (found == sends_.end()) return;
  Snapshot& snapshot = found->second;
  // Of any sending of this chunk: on a slow link the answer to the first one comes after the second has left.
  if (!snapshot.flying || answer.number < snapshot.first_number || answer.number > snapshot.chunk.number ||
      answer.index != snapshot.header.log_index || answer.to != snapshot.header.from) {
    return;
  }
  if (answer.result != SnapshotAnswer::Result::kMore) {
    return Finish(found->first, answer.result == SnapshotAnswer::Result::kArrived);
  }
  if (answer.at.entry > snapshot.header.log_index || answer.at.state_bytes > snapshot.state.size()) return;
  if (answer.at == snapshot.at) return;  // it could not place the chunk, and gets it again
  // Elsewhere: it has begun anew. In the same place with another count: not what was sent.
  const SnapshotPosition behind = Behind(snapshot);
  if (answer.at.entry == behind.entry && answer.at.entries != behind.entries) return;
  if (answer.at.row == behind.row && answer.at.rows != behind.rows) return;
  snapshot.at = answer.at;
  snapshot.chunk = {};
  snapshot.gathered = 0;
  snapshot.full = snapshot.rows_read = snapshot.flying = false;
  GoOn(found->first, snapshot.serial);
}

void SnapshotSends::Tick(MonotonicTime now) {
  now_ = now;
  const auto per_tick = static_cast<int64_t>(options_.bytes_per_tick);
  budget_ = std::min(budget_ + per_tick, per_tick * kBurstTicks);
  ++ticks_;
  // Finishing one takes it out of the map. Whoever spent the budget last comes last.
  std::vector<Key> keys;
  keys.reserve(sends_.size());
  const Key served = served_;
  for (auto it = sends_.upper_bound(served); it != sends_.end(); ++it) keys.push_back(it->first);
  for (auto it = sends_.begin(); it != sends_.upper_bound(served); ++it) keys.push_back(it->first);
  for (const Key& key : keys) {
    auto found = sends_.find(key);
    if (found == sends_.end()) continue;
    Snapshot& snapshot = found->second;
    std::shared_ptr<HostedGroup> group = snapshot.group.lock();
    if (group != nullptr && !Reachable(key, *group)) {
      const bool some_arrived = snapshot.at != SnapshotPosition();
      const int patience = some_arrived ? options_.away_ticks_begun : options_.away_ticks;
      if (++snapshot.away_ticks >= patience) Finish(key, false);
      continue;
    }
    snapshot.away_ticks = 0;
    if (!snapshot.begun) {
      Begin(key, snapshot);
    } else if (!snapshot.flying) {
      GoOn(key, snapshot.serial);
    } else if (++snapshot.stuck_ticks >= options_.patience_ticks) {
      Finish(key, false);
    } else if (++snapshot.silent_ticks >= snapshot.resend_ticks && budget_ >= 0) {
      snapshot.resend_ticks = std::min(snapshot.resend_ticks * 2, options_.resend_ticks * kResendsApartMax);
      SendChunk(key, snapshot);
    }
  }
  KeepLogs();
}

// The log behind a snapshot that has arrived is kept while the replica installs it and follows, but for one that does
// not move.
void SnapshotSends::KeepLogs() {
  for (auto it = catching_up_.begin(); it != catching_up_.end();) {
    auto& [key, replica] = *it;
    std::shared_ptr<HostedGroup> group = replica.group.lock();
    std::optional<Index> match = group == nullptr ? std::nullopt : group->replica.MatchOf(key.second);
    if (match.has_value() && *match > replica.has) {
      replica.has = *match;
      replica.stuck_ticks = 0;
    }
    if (!match.has_value() || *match >= group->snapshot_index || ++replica.stuck_ticks >= options_.patience_ticks) {
      it = catching_up_.erase(it);
    } else {
      ++it;
    }
  }
}

void SnapshotSends::Finish(Key key, bool arrived) {
  auto found = sends_.find(key);
  std::shared_ptr<HostedGroup> group = found->second.group.lock();
  const Index index = found->second.header.log_index;
  if (found->second.begun) --begun_;
  sends_.erase(found);
  if (group == nullptr) return;
  if (arrived) {
    pauses_.erase(key);
    catching_up_[key] = {group, index};
  } else {
    Pause& pause = pauses_[key];
    pause.ticks = std::min(std::max(pause.ticks * 2, options_.pause_ticks), options_.pause_ticks * kPausesApartMax);
    pause.until_tick = ticks_ + static_cast<uint64_t>(pause.ticks);
  }
  spdlog::info("group {}: the snapshot for replica {} as of {} {}", key.first.value(), key.second.value(),
               index.value(), arrived ? "has arrived" : "was given up");
  group->replica.SnapshotSent(key.second, index, arrived);
  changed_(group.get());
}

void SnapshotSends::Drop(GroupId group) {
  auto it = sends_.lower_bound({group, ReplicaId()});
  while (it != sends_.end() && it->first.first == group) {
    if (it->second.begun) --begun_;
    it = sends_.erase(it);
  }
  std::erase_if(catching_up_, [group](const auto& item) { return item.first.first == group; });
  std::erase_if(pauses_, [group](const auto& item) { return item.first.first == group; });
}

std::optional<Index> SnapshotSends::NeededAbove(GroupId group) const {
  std::optional<Index> lowest;
  const auto take = [&](Index index) { lowest = std::min(lowest.value_or(index), index); };
  for (auto it = sends_.lower_bound({group, ReplicaId()}); it != sends_.end() && it->first.first == group; ++it) {
    if (it->second.begun) take(it->second.header.log_index - 1);
  }
  for (auto it = catching_up_.lower_bound({group, ReplicaId()}); it != catching_up_.end() && it->first.first == group;
       ++it) {
    // One less: what is deleted cannot tell the term that the next entry is joined to.
    take(it->second.has - 1);
  }
  return lowest;
}

}  // namespace trireme::raft
