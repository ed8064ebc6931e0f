#include "broker/cluster/metadata_view.h"

#include "absl/strings/match.h"

namespace trireme::broker {

void AddItems(const trireme::meta::v1::Command& command, const MetadataOutcome& outcome,
              std::vector<MetadataItem>* items) {
  const bool deletes = command.has_queue_deleted() || command.has_exchange_deleted() || command.has_binding_deleted();
  if (command.has_queue_created()) items->push_back({outcome.queue, true});
  if (command.has_exchange_created()) items->push_back({outcome.exchange, true});
  for (const QueuePtr& queue : outcome.queues) items->push_back({queue, true});
  for (const BindingPtr& binding : outcome.bindings) items->push_back({binding, !deletes});
  if (command.has_queue_deleted()) items->push_back({outcome.queue, false});
  if (command.has_exchange_deleted()) items->push_back({outcome.exchange, false});
}

std::vector<MetadataItem> ItemsOf(const MetadataState& state) {
  std::vector<MetadataItem> items;
  for (const auto& [name, queue] : state.queues()) items.push_back({queue, true});
  for (const auto& [name, exchange] : state.routing().exchanges()) items.push_back({exchange, true});
  for (const auto& [identity, binding] : state.routing().bindings()) items.push_back({binding, true});
  return items;
}

QueuePtr MetadataView::FindQueue(std::string_view name) const {
  auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

QueuePtr MetadataView::FindGroup(raft::GroupId group) const {
  auto found = by_group_.find(group);
  return found == by_group_.end() ? nullptr : found->second;
}

std::vector<QueuePtr> MetadataView::List(std::string_view prefix, std::string_view after, size_t limit) const {
  std::vector<QueuePtr> out;
  auto it = after >= prefix && !after.empty() ? by_name_.upper_bound(after) : by_name_.lower_bound(prefix);
  for (; it != by_name_.end() && out.size() < limit && absl::StartsWith(it->first, {prefix.data(), prefix.size()});
       ++it) {
    out.push_back(it->second);
  }
  return out;
}

std::string_view MetadataView::AddressOf(raft::NodeId node) const {
  for (const NodeRecord& record : *nodes_) {
    if (record.id == node) return record.address;
  }
  return {};
}

void MetadataView::Take(const MetadataChange& change) {
  if (change.whole) {
    by_name_.clear();
    by_group_.clear();
    changing_.clear();
  }
  if (!change.cluster_id.empty()) cluster_id_ = change.cluster_id;
  if (change.nodes != nullptr) nodes_ = change.nodes;
  for (const MetadataItem& item : change.items) {
    const auto* what = std::get_if<QueuePtr>(&item.what);
    if (what == nullptr) continue;  // of exchanges and bindings the follower keeps what it needs
    const QueuePtr& queue = *what;
    if (item.exists && queue->changing) {
      changing_.insert(queue->group);
    } else {
      changing_.erase(queue->group);
    }
    if (item.exists) {
      by_name_[queue->name] = queue;
      by_group_[queue->group] = queue;
    } else {
      by_group_.erase(queue->group);
      auto found = by_name_.find(queue->name);
      if (found != by_name_.end() && found->second->group == queue->group) by_name_.erase(found);
    }
  }
  index_ = change.index;
  if (follower_) follower_(change);
}

}  // namespace trireme::broker
