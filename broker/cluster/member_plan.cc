#include "broker/cluster/member_plan.h"

#include <algorithm>

#include "broker/ops/log.h"

namespace trireme::broker {
namespace {

// Of one shard; groups whose members are being changed at a time, so that snapshots do not flood the disks.
constexpr size_t kStepsAtOnce = 256;

bool Has(const std::vector<raft::Member>& members, raft::ReplicaId replica) {
  return std::any_of(members.begin(), members.end(), [&](const raft::Member& m) { return m.replica == replica; });
}

}  // namespace

std::optional<std::vector<raft::Member>> PlanMembers(const raft::Membership& now, bool committed,
                                                     const std::vector<raft::Member>& wanted) {
  if (now.members.empty() || !committed || now.joint()) return std::nullopt;
  std::vector<raft::Member> target = now.members;
  for (const raft::Member& comes : wanted) {
    if (Has(now.members, comes.replica)) continue;
    auto in_its_place = std::find_if(now.members.begin(), now.members.end(), [&](const raft::Member& member) {
      return member.node == comes.node && !Has(wanted, member.replica);
    });
    if (in_its_place != now.members.end()) {
      std::erase_if(target, [&](const raft::Member& member) { return member.replica == in_its_place->replica; });
      return target;
    }
    target.push_back({comes.replica, comes.node, raft::Standing::kLearner});
  }
  if (target.size() != now.members.size()) return target;
  target = wanted;
  for (raft::Member& member : target) member.standing = raft::Standing::kVoter;
  if (target == now.members) return std::nullopt;
  return target;
}

std::vector<raft::Member> MembersToReport(const raft::Membership& now, const std::vector<raft::Member>& wanted) {
  std::vector<raft::Member> there = now.members;
  std::erase_if(there, [&](const raft::Member& member) {
    return member.standing == raft::Standing::kLearner && Has(wanted, member.replica);
  });
  return there;
}

bool KnowsAll(const QueueInfo& queue, const raft::Membership& now) {
  return std::all_of(now.members.begin(), now.members.end(),
                     [&](const raft::Member& member) { return queue.Lists(member.replica); });
}

void KeepMembers(const MetadataView& view, const FindGroup& find, const ReportMembers& report) {
  size_t steps = 0;
  for (raft::GroupId id : view.changing()) {
    QueuePtr queue = view.FindGroup(id);
    raft::Group* group = queue == nullptr ? nullptr : find(id);
    if (group == nullptr || !group->leading()) continue;
    if (++steps > kStepsAtOnce) return;
    const raft::Membership& now = group->membership();
    if (!group->membership_committed() || now.joint() || !KnowsAll(*queue, now)) continue;
    const bool gone = std::any_of(queue->leaving.begin(), queue->leaving.end(),
                                  [&](const raft::Member& member) { return now.Find(member.replica) == nullptr; });
    const auto target = PlanMembers(now, true, queue->replicas);
    if (gone || !target.has_value()) report(id, MembersToReport(now, queue->replicas));
    if (!target.has_value()) continue;
    const std::optional<raft::MembershipError> error = group->ProposeMembers(*target);
    if (error == raft::MembershipError::kNotSound) {
      Log(LogLevel::kError, "the replicas that a queue should have are not possible as members", "queue", queue->name,
          "group", id.value());
    }
  }
}

}  // namespace trireme::broker
