// Which groups are ticked, and what wakes those that are not (Safety rules 9 and 10).
//
// Every group that takes part is one of: active, so ticked; quiet, by its core's word, and then its leader's node has
// our promise or it leads; in the election queue, without a leader; in contacts_, leading, with something to tell.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "raft/core/check.h"
#include "raft/core/quorum.h"
#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

using Event = NodeLiveness::Event;
using std::chrono::milliseconds;

// Whoever is not the preferred candidate lets those before it have so long, each.
constexpr milliseconds kNextCandidate{1500};
// A lost election is repeated after this, then after twice as long, up to the last.
constexpr milliseconds kElectAgain{500};
constexpr int kElectAgainDoublings = 4;
// An orphan whose quorum is not there is looked at so often, if nothing brings it forward.
constexpr milliseconds kNoQuorum{5000};
// One that has had no quorum for so long sends those who ask elsewhere; before, they wait.
constexpr milliseconds kCutOffPatience{1000};
// Elections of groups that nobody waits for, under way at a time.
constexpr size_t kElectionsAtOnce = 64;
// Groups, per tick, that tell a node who leads them.
constexpr size_t kContactsPerTick = 250;
// A group whose leader is waited for campaigns so many times, a few ticks apart, beside its own timeouts.
constexpr int kWantedCampaigns = 3;

}  // namespace

// ---- active or not

void HostCore::Wake(HostedGroup* group) {
  group->replica.Wake();
  election_queue_.Remove(group->id());
  if (group->active != HostedGroup::kInactive) return;
  group->active = active_.size();
  active_.push_back(group);
}

void HostCore::Deactivate(HostedGroup* group) {
  if (group->active == HostedGroup::kInactive) return;
  active_.back()->active = group->active;
  std::swap(active_[group->active], active_.back());
  active_.pop_back();
  group->active = HostedGroup::kInactive;
}

void HostCore::MaybeRest(HostedGroup* group) {
  if (!group->replica.quiet() || group->dirty || group->saving || group->campaigns_left > 0) return;
  if (CompactTo(*group) > group->compacted) Compact(group);
  group->replica.TrimTail(group->replica.applied_index());
  CountTail(group);
  Deactivate(group);
  if (group->replica.role() != Role::kLeader) return;
  for (const Member& member : group->membership().members) {
    if (member.node == options_.node || !Alive(member.node)) continue;
    if (group->replica.MatchOf(member.replica) < group->replica.last_index()) incomplete_.insert(group->id());
  }
}

// Safety rule 10: it gave no answer for so long that it is taken to be missing, or halted; but it may have been cut
// off.
void HostCore::AskAgain() {
  for (GroupId id : std::exchange(incomplete_, {})) {
    HostedGroup* group = Find(id);
    if (group == nullptr || !group->live() || group->replica.role() != Role::kLeader) continue;
    for (const Member& member : group->membership().members) {
      if (member.node != options_.node && Alive(member.node)) group->replica.PeerFound(member.replica);
    }
    if (!group->replica.quiet()) Wake(group);
  }
}

// ---- what is known of the other nodes

bool HostCore::QuorumAlive(const HostedGroup& group) const {
  return HasQuorum(group, [this](NodeId node) { return Alive(node); });
}

bool HostCore::CutOff(const HostedGroup& group) const {
  return !HasQuorum(group, [this](NodeId node) {
    auto found = alive_at_.find(node);
    const uint64_t last = found == alive_at_.end() ? 0 : found->second;
    return node == options_.node || (ticks_ - last) * options_.tick < kCutOffPatience;
  });
}

bool HostCore::DiskLow(const HostedGroup& group) const {
  return !HasQuorum(group,
                    [this](NodeId node) { return node == options_.node ? !DiskLow() : !low_nodes_.contains(node); });
}

bool HostCore::HasQuorum(const HostedGroup& group, absl::FunctionRef<bool(NodeId)> is_alive) {
  for (Half half : {Half::kOld, Half::kNew}) {
    size_t voters = 0, alive = 0;
    for (const Member& member : group.membership().members) {
      if (!CountsIn(member.standing, half)) continue;
      ++voters;
      alive += is_alive(member.node) ? 1 : 0;
    }
    if (alive < QuorumSize(voters)) return false;
  }
  return true;
}

bool HostCore::FollowsOn(const HostedGroup& group, NodeId node) const {
  return group.replica.role() != Role::kLeader && group.replica.leader() != ReplicaId() &&
         group.NodeOf(group.replica.leader()) == node;
}

void HostCore::TakeNodeChanges() {
  for (const NodeLiveness::Change& change : liveness_.TakeChanges()) NodeChanged(change.node, change.event);
}

void HostCore::NodeChanged(NodeId node, Event event) {
  if (event == Event::kForgot) {
    // Safety rule 12.
    return spdlog::error(
        "shard {}: node {} came back with incarnation {}, but without what it had announced to be on its disk: it was "
        "restored from an older copy, or its disk lost writes. Its votes and acknowledgements do not count here. Take "
        "it out of the cluster, and let it join with an empty data directory",
        shard_->id(), node.value(), liveness_.incarnation(node));
  }
  spdlog::debug("shard {}: node {}: {}", shard_->id(), node.value(), NodeLiveness::Name(event));
  const MonotonicTime soon = shard_->Now() + options_.tick;
  // One that lives again may lead, or complete a quorum.
  if (event == Event::kGets) election_queue_.BringForward(shard_->Now() + options_.tick * options_.election_ticks);
  for (auto& [id, group] : groups_) {
    const ReplicaId member = group->ReplicaOn(node);
    if (member == ReplicaId() || !group->live()) continue;
    if (group->replica.role() == Role::kLeader) {
      LeaderHears(group.get(), member, event);
    } else if (event == Event::kGivesLost && FollowsOn(*group, node)) {
      if (group->active != HostedGroup::kInactive || group->spec().prompt) {
        Wake(group.get());
        group->replica.PeerLost(member);
      } else if (!election_queue_.Contains(id)) {
        group->elections_lost = 0;
        Orphan(group.get(), soon);
      }
    } else if (event == Event::kGives && FollowsOn(*group, node) && group->Gives(member)) {
      group->replica.PeerFound(member);
    }
    if (group->replica.HasOutput()) MarkDirty(group.get());
  }
  if (event == Event::kGivesLost && options_.lost) options_.lost(node);
}

// Of a member of a group that is led here.
void HostCore::LeaderHears(HostedGroup* group, ReplicaId member, Event event) {
  const bool was_quiet = group->active == HostedGroup::kInactive;
  switch (event) {
    case Event::kGets:
      group->replica.PeerFound(member);
      break;
    case Event::kRestarted:
      group->replica.PeerRestarted(member);
      break;
    case Event::kGetsLost:
      group->replica.PeerLost(member);
      // Safety rule 9: without a quorum's support it steps down. An active one does so at its tick.
      if (was_quiet && !QuorumAlive(*group)) {
        group->replica.StepDown();
        Orphan(group, shard_->Now() + kNoQuorum);
      }
      return;
    default:
      return;
  }
  if (was_quiet && !group->replica.quiet() && !group->contact_due) {
    group->contact_due = true;
    contacts_.push_back(group->id());
  }
}

void HostCore::MakeContacts() {
  for (size_t i = 0; i < kContactsPerTick && !contacts_.empty(); ++i) {
    HostedGroup* group = Find(contacts_.front());
    contacts_.pop_front();
    if (group == nullptr) continue;
    group->contact_due = false;
    if (group->live() && !group->replica.quiet()) Wake(group);
  }
}

// ---- electing leaders

void HostCore::Orphan(HostedGroup* group, MonotonicTime due) {
  EndElection(group);
  // By its core's own timers, whatever waits in the queue.
  if (group->spec().prompt) return Wake(group);
  Deactivate(group);
  election_queue_.Put(group->id(), due);
}

void HostCore::EndElection(HostedGroup* group) {
  if (!std::exchange(group->electing, false)) return;
  --elections_under_way_;
}

void HostCore::LostElection(HostedGroup* group) {
  const auto pause = kElectAgain * (1 << std::min(group->elections_lost, kElectAgainDoublings));
  ++group->elections_lost;
  // Not all that were lost together are repeated together.
  Orphan(group, shard_->Now() + pause + pause * static_cast<int>(group->id().value() % 16) / 16);
}

// The one that is to go first goes first; should it fail, the others follow one by one.
size_t HostCore::CandidatesBefore(const HostedGroup& group) const {
  size_t before = 0;
  const std::vector<Member>& members = group.membership().members;
  const bool last_first = LastMemberFirst(group.id());
  for (size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[last_first ? members.size() - 1 - i : i];
    if (member.replica == group.replica.id()) break;
    // The leader that was lost may be back already, and without a memory of it.
    if (!Votes(member.standing) || member.replica == group.replica.leader()) continue;
    if (member.replica == group.resigned) continue;
    before += Alive(member.node) ? 1 : 0;
  }
  return before;
}

void HostCore::HoldElections() {
  const MonotonicTime now = shard_->Now();
  if (disk_stalled_) return;
  while (elections_under_way_ < kElectionsAtOnce) {
    std::optional<GroupId> due = election_queue_.Pop(now);
    if (!due.has_value()) return;
    HostedGroup* group = Find(*due);
    if (group == nullptr || !group->live()) continue;
    const Replica& replica = group->replica;
    if (replica.role() == Role::kLeader || SupportsLeader(*group)) {
      group->waited_turn = false;
      if (!replica.quiet()) Wake(group);
      continue;
    }
    if (!QuorumAlive(*group)) {
      election_queue_.Put(group->id(), now + kNoQuorum);
      continue;
    }
    const size_t before = CandidatesBefore(*group);
    if (before > 0 && !std::exchange(group->waited_turn, true)) {
      election_queue_.Put(group->id(), now + kNextCandidate * static_cast<int>(before));
      continue;
    }
    Wake(group);
    group->electing = true;
    group->electing_since = ticks_;
    ++elections_under_way_;
    group->replica.Campaign();
    MarkDirty(group);
  }
}

void HostCore::WantLeader(HostedGroup* group) {
  if (!group->live() || group->leading() || group->leader_node() != NodeId()) return;
  group->wanted_until = ticks_ + 2 * static_cast<uint64_t>(options_.election_ticks);
  if (group->active != HostedGroup::kInactive && !group->electing) return;
  EndElection(group);
  Wake(group);
  // In turn, a few ticks apart.
  group->campaigns_left = kWantedCampaigns;
  group->ticks_to_campaign = 1 + kTicksBetweenCampaigns * static_cast<int>(CandidatesBefore(*group));
  if (group->ticks_to_campaign > 1) return;
  group->ticks_to_campaign = kTicksBetweenCampaigns;
  group->replica.Campaign();
  MarkDirty(group);
}

void HostCore::TickGroup(HostedGroup* group) {
  TellClock(group);
  group->replica.Tick();
  if (group->campaigns_left > 0 && --group->ticks_to_campaign <= 0) {
    --group->campaigns_left;
    group->ticks_to_campaign = kTicksBetweenCampaigns;
    if (group->replica.role() != Role::kLeader && !SupportsLeader(*group)) group->replica.Campaign();
  }
  if (group->replica.HasOutput()) MarkDirty(group);
  if (group->replica.quiet()) return MaybeRest(group);
  if (group->replica.role() == Role::kLeader || group->replica.leader() != ReplicaId()) return;
  // Nobody leads. What nobody waits for goes on in its turn.
  if (group->electing && ticks_ - group->electing_since > 2 * static_cast<uint64_t>(options_.election_ticks)) {
    return LostElection(group);
  }
  const bool wanted = group->campaigns_left > 0 || group->wanted_until > ticks_ || group->spec().prompt;
  if (!wanted && !group->electing && !QuorumAlive(*group)) Orphan(group, shard_->Now() + kNoQuorum);
}

}  // namespace trireme::raft
