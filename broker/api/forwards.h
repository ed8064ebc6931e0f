// The calls and streams of a shard that went on to another node.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "raft/core/types.h"

namespace trireme::broker {

// So that they end once their node is lost, by its missing heartbeats: the connection alone, to a node that stands
// still or is cut off, takes seconds to notice. Keeps none alive. Not thread-safe.
class Forwards {
 public:
  // `call` has Cancel(), which makes it end soon.
  template <typename Call>
  void Add(raft::NodeId to, const std::shared_ptr<Call>& call) {
    Node& node = nodes_[to];
    if (node.calls.size() >= node.prune_at) {
      std::erase_if(node.calls, [](const Forward& forward) { return forward.alive.expired(); });
      node.prune_at = std::max(kPruneAt, 2 * node.calls.size());
    }
    node.calls.push_back({call, [weak = std::weak_ptr<Call>(call)] {
                            if (auto strong = weak.lock()) strong->Cancel();
                          }});
  }
  void Lost(raft::NodeId node) {
    auto found = nodes_.extract(node);
    if (found.empty()) return;
    for (Forward& forward : found.mapped().calls) forward.cancel();
  }
  // Those that are kept, some of which may have ended.
  size_t size() const {
    size_t size = 0;
    for (const auto& [id, node] : nodes_) size += node.calls.size();
    return size;
  }

 private:
  static constexpr size_t kPruneAt = 64;

  struct Forward {
    std::weak_ptr<void> alive;
    absl::AnyInvocable<void()> cancel;
  };
  struct Node {
    std::vector<Forward> calls;
    size_t prune_at = kPruneAt;
  };
  absl::flat_hash_map<raft::NodeId, Node> nodes_;
};

}  // namespace trireme::broker
