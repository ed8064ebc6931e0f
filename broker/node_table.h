// The cluster's nodes, as the transport checks them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "broker/cluster/metadata.h"
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

  void Set(const std::vector<NodeRecord>& nodes) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    nodes_.clear();
    for (const NodeRecord& node : nodes) nodes_[node.id] = raft::PeerRecord{node.address, node.directory_id};
  }

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<raft::NodeId, raft::PeerRecord> nodes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::broker
