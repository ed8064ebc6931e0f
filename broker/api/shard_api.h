// What the services of one shard share: its replicas, and the way to a queue's leader.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/api/forwards.h"
#include "broker/cluster/metadata_view.h"
#include "broker/node.h"
#include "broker/replica/queue_replica.h"
#include "broker/routing/exchanges.h"
#include "broker/temporary/temporary_queues.h"
#include "raft/grpc/completion_queue_shard.h"
#include "raft/grpc/raw_client.h"
#include "trireme/v1/broker.pb.h"

namespace trireme::broker {

class ServiceShards;

// Runs `task` on `shard`: now if this is its thread, and else later.
template <typename Task>
void RunOn(raft::CompletionQueueShard* shard, Task task) {
  if (shard->OnThisThread()) {
    task();
  } else {
    shard->Post(std::move(task));
  }
}

// Metadata that a node adds when it forwards: such a request is not forwarded again. Its value is the node's id.
inline constexpr char kForwardedBy[] = "trireme-forwarded-by";

// A stream that wants to hear that the node drains.
class Drainable {
 public:
  virtual ~Drainable() = default;
  virtual void Drain() = 0;
};

// On its shard's thread only, but for what says otherwise.
class ShardApi {
 public:
  // Before the cluster starts.
  ShardApi(NodeContext* node, raft::CompletionQueueShard* shard, ServiceShards* all);

  NodeContext* node() const { return node_; }                   // any thread
  raft::CompletionQueueShard* shard() const { return shard_; }  // any thread
  // The services of the shard that owns a group. Any thread.
  ShardApi* of(raft::GroupId group) const;

  // ---- for groups of this shard
  void AddReplica(raft::GroupId group, QueueReplica* replica) { replicas_[group] = replica; }
  void RemoveReplica(raft::GroupId group) { replicas_.erase(group); }
  // Null if this node has none.
  QueueReplica* Replica(raft::GroupId group) const {
    auto it = replicas_.find(group);
    return it == replicas_.end() ? nullptr : it->second;
  }

  // Those that this node has a replica of, but for temporary queues, of which there are as many as clients like.
  std::vector<raft::GroupId> Groups() const {
    std::vector<raft::GroupId> groups;
    for (const auto& [group, replica] : replicas_) {
      if (!IsTemporary(group)) groups.push_back(group);
    }
    return groups;
  }

  // ---- for calls and streams of this shard; answers come on it

  struct Route {
    QueuePtr queue;
    trireme::v1::Leader leader;
    bool here = false;  // this node leads, and its state is current
  };
  using RouteDone = absl::AnyInvocable<void(absl::StatusOr<Route>)>;
  // A queue as its client knows it: the highest group of that name that it has seen, 0 = none. This node's metadata are
  // brought up to date before an older one is believed to be it (Safety rule 21).
  struct Wanted {
    std::string queue;
    raft::GroupId group;
    // Who wants messages of it: a session, or (empty) a Receive, for so long at most. For a temporary queue.
    std::optional<queue::SessionId> consumer = std::nullopt;
    std::chrono::milliseconds stay{0};
  };
  // Finds the queue's leader; waits out elections until the deadline. NOT_FOUND is final (Safety rule 21). A temporary
  // queue has none: it is where its name says, or gone.
  void FindRoute(const Wanted& wanted, raft::MonotonicTime deadline, RouteDone done);
  // On the thread of a group of this shard: who leads its queue now, if that is another node and known.
  trireme::v1::Leader LeaderElsewhere(const QueueInfo& queue) const;
  // The node named did not lead after all, or could not be reached.
  void WrongLeader(const QueuePtr& queue, raft::NodeId node);

  // Of a call that goes on to another node.
  raft::CallOptions ForwardOptions() const;
  Forwards& forwards() { return forwards_; }
  Exchanges& exchanges() { return exchanges_; }

  TemporaryQueues& temporary() { return temporary_; }
  // A temporary queue of this shard. UNAVAILABLE: this node waits for its cluster.
  absl::StatusOr<Route> MakeTemporary(TemporaryQueues::Wish wish);

  void AddStream(Drainable* stream) { streams_.insert(stream); }
  void RemoveStream(Drainable* stream) { streams_.erase(stream); }
  void Drain();
  bool draining() const { return draining_; }

  // Bytes of published batches that streams of this shard have under way; publishing streams pause reading above the
  // limit.
  size_t publish_bytes = 0;

 private:
  void LookUp(const std::string& queue, raft::MonotonicTime deadline, RouteDone done);
  void FindLeader(QueuePtr queue, raft::MonotonicTime deadline, RouteDone done);
  void FindTemporary(const Wanted& wanted, raft::MonotonicTime deadline, RouteDone done);
  void FindTemporaryHere(const Wanted& wanted, const TemporaryName& name, RouteDone done);
  void FindTemporaryThere(const std::string& queue, const TemporaryName& name, raft::MonotonicTime deadline,
                          RouteDone done);
  TemporaryQueues::Place Place() const;
  trireme::v1::Leader Here(raft::GroupId group) const;

  NodeContext* const node_;
  raft::CompletionQueueShard* const shard_;
  ServiceShards* const all_;
  absl::flat_hash_map<raft::GroupId, QueueReplica*> replicas_;
  absl::flat_hash_set<Drainable*> streams_;
  Forwards forwards_;
  Exchanges exchanges_;
  bool draining_ = false;
  TemporaryQueues temporary_;  // after replicas_, from which it takes its own
};

// Finds the services of a shard.
class ServiceShards {
 public:
  virtual ~ServiceShards() = default;
  virtual ShardApi* At(raft::ShardId shard) = 0;
};

// How long a call may take: its own deadline, at most `most` from now.
raft::MonotonicTime DeadlineOf(std::chrono::system_clock::time_point deadline, std::chrono::milliseconds most);

}  // namespace trireme::broker
