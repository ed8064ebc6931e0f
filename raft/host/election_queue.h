// Groups without a leader that wait for their turn to elect one.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "raft/core/types.h"
#include "raft/host/shard.h"

namespace trireme::raft {

// By due time, and by number among equals. Not thread-safe.
class ElectionQueue {
 public:
  bool Contains(GroupId group) const { return due_.contains(group); }
  size_t size() const { return due_.size(); }
  // In place of what was said of it before.
  void Put(GroupId group, MonotonicTime due) {
    Remove(group);
    due_.emplace(group, due);
    order_.emplace(due, group);
  }
  void Remove(GroupId group) {
    auto found = due_.find(group);
    if (found == due_.end()) return;
    order_.erase({found->second, group});
    due_.erase(found);
  }
  // The next one that is due; nothing if none is.
  std::optional<GroupId> Pop(MonotonicTime now) {
    if (order_.empty() || order_.begin()->first > now) return std::nullopt;
    const GroupId group = order_.begin()->second;
    Remove(group);
    return group;
  }
  // Those that wait for longer are due at `latest`.
  void BringForward(MonotonicTime latest) {
    while (!order_.empty() && std::prev(order_.end())->first > latest) Put(std::prev(order_.end())->second, latest);
  }

 private:
  absl::flat_hash_map<GroupId, MonotonicTime> due_;
  absl::btree_set<std::pair<MonotonicTime, GroupId>> order_;
};

}  // namespace trireme::raft
