// The cluster's nodes, as the transport checks them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "broker/cluster/metadata.h"
#include "broker/replica/limits.h"
#include "raft/grpc/peer_identity.h"

namespace trireme::broker {

// Thread-safe.
class NodeTable final : public raft::PeerDirectory {
 public:
  std::optional<raft::PeerRecord> Find(raft::NodeId node) const override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    auto found = nodes_.find(node);
    if (found == nodes_.end()) return std::nullopt;
    return found->second;
  }

  // What a node's program understands of the facts in queues' logs, as it said when it was last connected to.
  void Understands(raft::NodeId node, uint32_t version) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    understood_[node] = version;
  }
  // Those of these nodes that are not known to understand `version`: one that was not heard of since this one started
  // may be an old one.
  std::vector<LackingNode> Lacking(const std::vector<raft::NodeId>& nodes, uint32_t version) const
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    std::vector<LackingNode> lacking;
    for (raft::NodeId node : nodes) {
      auto found = understood_.find(node);
      const uint32_t understands = found == understood_.end() ? 0 : found->second;
      if (understands < version) lacking.push_back({node, understands});
    }
    return lacking;
  }

  void Set(const std::vector<NodeRecord>& nodes) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    nodes_.clear();
    for (const NodeRecord& node : nodes) nodes_[node.id] = raft::PeerRecord{node.address, node.directory_id};
  }

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<raft::NodeId, raft::PeerRecord> nodes_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<raft::NodeId, uint32_t> understood_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::broker
