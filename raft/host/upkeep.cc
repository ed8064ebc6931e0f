// What is done now and then: ticks, clocks, snapshots, compaction, the tail's budget.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "raft/core/check.h"
#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

constexpr std::chrono::milliseconds kSlowUpkeep{1000};
constexpr int kTicksBetweenCampaigns = 2;

}  // namespace

void HostCore::Tick() {
  shard_->After(options_.tick, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) Tick();
  });
  ++ticks_;
  const auto slow = static_cast<uint64_t>(std::max<int64_t>(1, kSlowUpkeep / options_.tick));
  for (auto& [id, group] : groups_) {
    if (!group->live()) continue;
    group->replica.Tick();
    if (group->campaigns_left > 0 && --group->ticks_to_campaign <= 0) {
      --group->campaigns_left;
      group->ticks_to_campaign = kTicksBetweenCampaigns;
      if (group->replica.role() != Role::kLeader && group->replica.leader() == ReplicaId()) group->replica.Campaign();
    }
    if (group->replica.HasOutput()) MarkDirty(group.get());
    // Spread over the ticks of an interval.
    if ((ticks_ + id.value()) % slow == 0 &&
        std::min(group->snapshot_index, group->replica.all_match()) > group->compacted) {
      Compact(group.get());
    }
  }
  if (ticks_ % slow != 0) return;
  CheckClocks();
  trim_above_ = options_.tail_budget_bytes;
  if (tail_bytes_ > trim_above_) TrimTails();
}

void HostCore::CheckClocks() {
  for (auto& [id, group] : groups_) {
    if (!group->live() || group->replica.role() != Role::kLeader || ClockAllows(group.get())) continue;
    group->replica.StepDown();
    MarkDirty(group.get());
  }
}

bool HostCore::ClockAllows(HostedGroup* group) {
  std::vector<NodeId> nodes;
  for (const Member& member : group->spec().members) nodes.push_back(member.node);
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

void HostCore::MaybeSnapshot(const GroupPtr& group) {
  if (group->saving) return;
  if (group->applied_bytes < options_.snapshot_bytes && group->applied_entries < options_.snapshot_entries) return;
  Index index = group->replica.applied_index();
  // A snapshot must not claim what this replica may still lose.
  if (index <= group->snapshot_index || group->replica.persisted_index() < index) return;
  Term term = group->replica.TermAt(index);
  TRIREME_CHECK(term > Term()) << "group " << group->id() << " does not know the term of " << index;
  group->saving = true;
  group->applied_bytes = 0;
  group->applied_entries = 0;
  store_->SaveSnapshot(group->id(), index, term, group->machine->Snapshot(),
                       OnShard(group, [this, index](HostedGroup* saved) {
                         saved->saving = false;
                         saved->snapshot_index = index;
                         if (!saved->live()) return;
                         saved->replica.SnapshotSaved(index);
                         Compact(saved);
                         MarkDirty(saved);
                       }));
}

// An entry may go once it is settled, covered by a durable snapshot of ours, and held by every replica. What the
// machine says now is right for entries below a snapshot of earlier, too: what has settled them since is committed, so
// whoever reads bodies (a leader, after all that was committed before its term) has applied it.
void HostCore::Compact(HostedGroup* group) {
  Index upto = std::min(group->snapshot_index, group->replica.all_match());
  if (upto == Index()) return;
  StateMachine::Liveness liveness = group->machine->Live();
  std::vector<IndexRange> live;
  for (IndexRange range : liveness.live) {
    range.last = std::min({range.last, upto, liveness.floor});
    if (!range.empty()) live.push_back(range);
  }
  if (liveness.floor < upto) live.push_back({liveness.floor + 1, upto});
  group->compacted = upto;
  store_->Compact(group->id(), upto, std::move(live));
}

void HostCore::CountTail(HostedGroup* group) {
  size_t bytes = group->replica.tail_bytes();
  tail_bytes_ += bytes;
  tail_bytes_ -= std::exchange(group->tail_bytes, bytes);
}

// The longest tails give first, from their oldest end.
void HostCore::TrimTails() {
  const size_t target = options_.tail_budget_bytes / 4 * 3;
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
    replica.TrimTail(upto);
    CountTail(group);
  }
  // What must be held is held, and is not looked for again at every turn.
  trim_above_ = std::max(options_.tail_budget_bytes, tail_bytes_ + options_.tail_budget_bytes / 16);
}

}  // namespace trireme::raft
