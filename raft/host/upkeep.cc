// What is done now and then: ticks, clocks, the disk's pace, the tail's budget.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "raft/core/check.h"
#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

constexpr std::chrono::milliseconds kSlowUpkeep{1000};
constexpr uint64_t kAskAgainEvery = 60;  // of these
// To a node within the time of a promise (an election timeout): some may be lost, and each costs a node that has
// nothing to do two wake-ups.
constexpr int kHeartbeatsPerPromise = 5;
// That pass at once where nothing is under way. No more than NodeLiveness allows what was under way to be late.
constexpr int kIdleTicks = 2;
// While a write takes longer than this the node stands for no election: its own vote would not be durable.
constexpr std::chrono::milliseconds kDiskPatience{1000};
// What is on its way to followers that keep up is not worth a look at, whatever the budget.
constexpr size_t kUnsentBytes = size_t{1} << 20;

}  // namespace

void HostCore::TickAfter(int ticks) {
  shard_->After(options_.tick * ticks, [this, ticks, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) Tick(ticks);
  });
}

void HostCore::Tick(int ticks) {
  const uint64_t now = ticks_ + static_cast<uint64_t>(ticks);
  // Where nothing is under way nothing is looked for at each tick, because each wake-up of an idle node costs; but soon
  // enough for what comes in meanwhile.
  const uint64_t to_heartbeat = TicksPerHeartbeat() - now % TicksPerHeartbeat();
  TickAfter(IsIdle() && to_heartbeat >= uint64_t{kIdleTicks} ? kIdleTicks : 1);
  while (ticks_ < now) TickNode();
  // Not once for each tick that there was nothing to do in: what woke since is not older for it.
  TickGroups();
}

bool HostCore::IsIdle() const {
  return active_.empty() && election_queue_.size() == 0 && contacts_.empty() && under_way_.empty() &&
         sends_.under_way() == 0 && receipts_.under_way() == 0;
}

uint64_t HostCore::TicksPerHeartbeat() const {
  return static_cast<uint64_t>(std::max(1, options_.election_ticks / kHeartbeatsPerPromise));
}

uint64_t HostCore::TicksPerSlowUpkeep() const {
  return static_cast<uint64_t>(std::max<int64_t>(1, kSlowUpkeep / options_.tick));
}

void HostCore::TickNode() {
  ++ticks_;
  last_synced_ = store_->last_synced();
  liveness_.Tick(shard_->Now());
  TakeNodeChanges();
  SendHeartbeats();
  CheckDisk();
  MakeContacts();
  HoldElections();
  sends_.Tick(shard_->Now());
  receipts_.Tick();
  const uint64_t slow = TicksPerSlowUpkeep();
  if (ticks_ % slow != 0) return;
  if (ticks_ / slow % kAskAgainEvery == 0) AskAgain();
  RepeatLastWords();
  RepeatStops();
  CheckClocks();
  trim_above_ = options_.tail_budget_bytes;
  if (tail_bytes_ > trim_above_) TrimTails();
}

void HostCore::TickGroups() {
  const uint64_t slow = TicksPerSlowUpkeep();
  // From the end, because those that are quiet leave.
  for (size_t i = active_.size(); i-- > 0;) {
    HostedGroup* group = active_[i];
    if (!group->live()) {
      Deactivate(group);
      continue;
    }
    // Spread over the ticks of an interval.
    if ((ticks_ + group->id().value()) % slow == 0 && CompactTo(*group) > group->compacted) {
      Compact(group);
    }
    TickGroup(group);
  }
}

void HostCore::SendHeartbeats() {
  const uint64_t every = TicksPerHeartbeat();
  for (const auto& [node, groups] : neighbours_) {
    if (ticks_ % every == 0) heartbeats_due_.insert(node);
    if (Alive(node)) alive_at_[node] = ticks_;
  }
  if (!heartbeats_due_.empty()) WantTurn();
}

// What is led here and waits for the disk is handed over by its core (Replica::Impl::LeaveToFasterDisk).
void HostCore::CheckDisk() {
  const uint64_t oldest = under_way_.empty() ? 0 : under_way_.front().number;
  stalled_ticks_ = oldest != 0 && oldest == oldest_write_ ? stalled_ticks_ + 1 : 0;
  oldest_write_ = oldest;
  const bool was = std::exchange(disk_stalled_, stalled_ticks_ * options_.tick >= kDiskPatience);
  if (was != disk_stalled_) {
    if (disk_stalled_) {
      spdlog::error("shard {}: the disk has not completed a write for {} ms; what waits for it is led by other nodes",
                    shard_->id(), kDiskPatience.count());
    } else {
      spdlog::warn("shard {}: the disk completes writes again", shard_->id());
    }
  }
}

// A group that was halted while it led cannot see whether its last words were heard; this node lives on.
void HostCore::RepeatLastWords() {
  std::erase_if(halted_leaders_, [this](GroupId id) { return Find(id) == nullptr; });
  for (GroupId id : halted_leaders_) {
    const HostedGroup& group = *Find(id);
    for (const Member& member : group.membership().members) {
      if (member.node == options_.node) continue;
      Queue(group, {.type = MessageType::kResign,
                    .from = group.replica.id(),
                    .to = member.replica,
                    .term = group.replica.term()});
    }
  }
}

void HostCore::CheckClocks() {
  // Within reach of every single one is within reach of any median.
  if (clock_.FurthestMs(shard_->WallMs(), shard_->Now()) <= QuorumClock::kTolerance.count()) return;
  for (auto& [id, group] : groups_) {
    if (!group->live() || group->replica.role() != Role::kLeader || ClockAllows(group.get())) continue;
    group->replica.StepDown();
    // Nobody else may hear of it.
    Wake(group.get());
    MarkDirty(group.get());
  }
}

bool HostCore::ClockAllows(HostedGroup* group) {
  std::vector<NodeId> nodes;
  for (const Member& member : group->membership().members) nodes.push_back(member.node);
  std::optional<int64_t> offset = WallOffsetMs(nodes);
  // Safety rule 7. While no quorum was heard of, nothing can be said; and nothing can be committed, either.
  if (!offset.has_value() || std::abs(*offset) <= QuorumClock::kTolerance.count()) return true;
  if (clock_log_.Allow(shard_->Now())) {
    spdlog::error(
        "group {}: this node does not lead: its clock is off the median of its quorum's by {} ms, more than "
        "{} ms ({} groups before)",
        group->id().value(), *offset, QuorumClock::kTolerance.count(), clock_log_.TakeKeptBack());
  }
  return false;
}

void HostCore::CountTail(HostedGroup* group) {
  size_t bytes = group->replica.tail_bytes();
  tail_bytes_ += bytes;
  tail_bytes_ -= std::exchange(group->tail_bytes, bytes);
}

void HostCore::TrimTails() {
  TrimLongestTails(options_.tail_budget_bytes / 4 * 3, false);
  // A peer that is slow must not cost this node its memory: what it has not been sent it gets from the disk.
  if (tail_bytes_ > 2 * options_.tail_budget_bytes + kUnsentBytes) {
    TrimLongestTails(options_.tail_budget_bytes + kUnsentBytes, true);
  }
  // What must be held is held, and is not looked for again at every turn.
  trim_above_ = std::max(options_.tail_budget_bytes, tail_bytes_ + options_.tail_budget_bytes / 16);
}

// The longest give first, from their oldest end.
void HostCore::TrimLongestTails(size_t target, bool even_unsent) {
  std::vector<HostedGroup*> longest;
  for (auto& [id, group] : groups_) {
    if (group->tail_bytes > 0) longest.push_back(group.get());
  }
  std::stable_sort(longest.begin(), longest.end(),
                   [](const HostedGroup* a, const HostedGroup* b) { return a->tail_bytes > b->tail_bytes; });
  for (HostedGroup* group : longest) {
    if (tail_bytes_ <= target) break;
    Replica& replica = group->replica;
    size_t to_free = tail_bytes_ - target;
    Index last = std::min(replica.applied_index(), replica.persisted_index());
    Index upto = replica.TrimTail(Index()) - 1;
    for (size_t freed = 0; freed < to_free && upto < last;) {
      const Entry* entry = replica.TailEntry(upto + 1);
      if (entry == nullptr) break;
      freed += entry->data.size() + 1;
      ++upto;
    }
    replica.TrimTail(upto, even_unsent);
    CountTail(group);
  }
}

}  // namespace trireme::raft
