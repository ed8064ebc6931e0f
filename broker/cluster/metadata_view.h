// A shard's own copy of the metadata, so that the message path looks names up without a lock or a hop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "broker/cluster/metadata.h"

namespace trireme::broker {

// One thing that the metadata names, and whether it exists from there on.
struct MetadataItem {
  std::variant<QueuePtr, ExchangePtr, BindingPtr> what;
  bool exists = false;
};

// What one batch of applied entries changed. Immutable; shared by the shards.
struct MetadataChange {
  raft::Index index;  // applied up to here
  // The first change after a start carries everything, and replaces what the view held.
  bool whole = false;
  std::string cluster_id;                                // empty: as before
  std::shared_ptr<const std::vector<NodeRecord>> nodes;  // null: as before
  // In the order of the log. A binding comes after both its ends and goes before either; an alternate may come later
  // than who has it.
  std::vector<MetadataItem> items;
};

// What a command that was applied (kDone) changed of queues, exchanges and bindings.
void AddItems(const trireme::meta::v1::Command& command, const MetadataOutcome& outcome,
              std::vector<MetadataItem>* items);
// All that there is.
std::vector<MetadataItem> ItemsOf(const MetadataState& state);

// On its shard's thread only. Lags behind the metadata group by a post; Cluster::Lookup is for when that matters.
class MetadataView {
 public:
  // Null: not known here (yet). Say "no such queue" only after Cluster::Lookup said so (Safety rule 21).
  QueuePtr FindQueue(std::string_view name) const;
  QueuePtr FindGroup(raft::GroupId group) const;
  // Queues by name, in order, that start with `prefix` and come after `after`.
  std::vector<QueuePtr> List(std::string_view prefix, std::string_view after, size_t limit) const;

  // Whether this node is a member of a cluster whose birth it has applied.
  bool born() const { return !cluster_id_.empty(); }
  const std::string& cluster_id() const { return cluster_id_; }
  const std::vector<NodeRecord>& nodes() const { return *nodes_; }
  // Empty for an unknown node.
  std::string_view AddressOf(raft::NodeId node) const;
  raft::Index index() const { return index_; }
  size_t queues() const { return by_name_.size(); }
  // Queues whose groups' members are not known to be those that they should be.
  const absl::btree_set<raft::GroupId>& changing() const { return changing_; }

  void Take(const MetadataChange& change);
  // Told of each change right after it was taken in.
  void Follow(std::function<void(const MetadataChange&)> follower) { follower_ = std::move(follower); }

 private:
  QueuesByName by_name_;
  absl::flat_hash_map<raft::GroupId, QueuePtr> by_group_;
  absl::btree_set<raft::GroupId> changing_;
  std::string cluster_id_;
  std::shared_ptr<const std::vector<NodeRecord>> nodes_ = std::make_shared<std::vector<NodeRecord>>();
  raft::Index index_;
  std::function<void(const MetadataChange&)> follower_;
};

}  // namespace trireme::broker
