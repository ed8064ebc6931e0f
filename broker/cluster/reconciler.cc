#include "broker/cluster/reconciler.h"

#include <utility>

namespace trireme::broker {

Reconciler::Reconciler(raft::NodeId node, std::vector<raft::StoredGroup> stored) : node_(node) {
  for (raft::StoredGroup& group : stored) {
    raft::GroupId id = group.group;
    raft::ReplicaId replica = group.replica;
    local_.emplace(id, Local{replica, std::move(group), nullptr});
  }
}

// What is stored says who the members are, as far as it goes; who came since may lead.
raft::GroupSpec Reconciler::Start::Spec() const {
  raft::GroupSpec spec = queue->SpecOf(replica);
  if (stored.has_value()) spec.members = queue->Listed();
  return spec;
}

std::optional<Reconciler::Action> Reconciler::ReconcileQueue(const MetadataState& state, raft::GroupId group,
                                                             bool births) {
  QueuePtr queue = state.FindGroup(group);
  raft::ReplicaId wanted = queue == nullptr ? raft::ReplicaId() : queue->ReplicaOn(node_);
  auto found = local_.find(group);
  if (found == local_.end()) {
    if (wanted.value() == 0 || !births) return std::nullopt;
    local_.emplace(group, Local{wanted, std::nullopt, queue});
    return Start{std::move(queue), wanted, std::nullopt};
  }
  Local& local = found->second;
  // Safety rule 11: only what was given and is not listed any more. A replica that the state does not know yet (its log
  // is still being applied) stays.
  if (state.ReplicaRemoved(local.replica)) {
    Delete action{group, !local.stored.has_value()};
    local_.erase(found);
    return action;
  }
  // One that is to go is a member until the group's leader has said otherwise, and the others may need its vote.
  if (queue == nullptr || !queue->Lists(local.replica)) return std::nullopt;
  const QueuePtr told = std::exchange(local.told, queue);
  if (local.stored.has_value()) {
    return Start{std::move(queue), local.replica, std::exchange(local.stored, std::nullopt)};
  }
  if (told == queue || told->Listed() == queue->Listed()) return std::nullopt;
  return Inform{std::move(queue)};
}

std::vector<Reconciler::Action> Reconciler::Reconcile(const MetadataState& state, bool births) {
  std::vector<raft::GroupId> groups;
  for (const auto& [group, local] : local_) groups.push_back(group);
  for (const auto& [name, queue] : state.queues()) groups.push_back(queue->group);
  std::vector<Action> actions;
  for (raft::GroupId group : groups) {
    while (std::optional<Action> action = ReconcileQueue(state, group, births)) actions.push_back(*std::move(action));
  }
  return actions;
}

size_t Reconciler::unclaimed() const {
  size_t n = 0;
  for (const auto& [group, local] : local_) n += local.stored.has_value() ? 1 : 0;
  return n;
}

}  // namespace trireme::broker
