// One broker process: a data directory, shards, the store, the cluster, the services.
#pragma once

#include <prometheus/metric_family.h>

#include <functional>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/cluster/cluster.h"
#include "broker/ops/config.h"
#include "broker/ops/disk_monitor.h"
#include "raft/host/host.h"
#include "raft/host/state_machine.h"

namespace grpc {
class Channel;
}  // namespace grpc
namespace prometheus {
class Registry;
}
namespace trireme::raft {
class CompletionQueueShard;
class RawService;
}  // namespace trireme::raft

namespace trireme::broker {

class Leaders;
struct LackingNode;

// What the services may use of their node; lives as long as they do.
class NodeContext {
 public:
  virtual ~NodeContext() = default;

  // ---- any thread
  virtual const Config& config() const = 0;
  virtual const std::vector<raft::CompletionQueueShard*>& shards() const = 0;
  virtual raft::CompletionQueueShard* shard_of(raft::GroupId group) const = 0;
  virtual Cluster& cluster() = 0;
  // To another node (or this one), shared by all that talk to it.
  virtual std::shared_ptr<grpc::Channel> channel(const std::string& address) = 0;
  virtual const DiskMonitor& disk() const = 0;
  virtual prometheus::Registry& metrics() = 0;
  // 0 until this node is a member.
  virtual raft::NodeId self() const = 0;
  // Which of these nodes are not known to understand that version of the facts in queues' logs (Safety rule 3).
  virtual std::vector<LackingNode> lacking(const std::vector<raft::NodeId>& nodes, uint32_t version) const = 0;
  // Of this process: grows with every start on its data directory. Known once self() is.
  virtual uint64_t incarnation() const = 0;

  // ---- on that shard's thread
  // Null until this node is a member.
  virtual raft::Host* host(raft::ShardId shard) = 0;
  virtual Leaders* leaders(raft::ShardId shard) = 0;
  // Whether that shard is connected with another node, as Raft's messages are.
  virtual bool Hears(raft::ShardId shard, raft::NodeId node) const = 0;
};

// The public services and the queues' state machines; broker/api implements it.
class ApiServices {
 public:
  virtual ~ApiServices() = default;

  // Before the server is built: adds the handlers of its methods. The service outlives this object.
  virtual void Register(raft::RawService& service) = 0;
  // The server and the shards run.
  virtual void Start() = 0;

  // On the queue's shard: the machine for a replica that is about to start here; then its handle, good until
  // ReplicaStopping (called before the host removes it, or stops).
  virtual std::unique_ptr<raft::StateMachine> MakeReplica(QueuePtr queue, const raft::GroupSpec& spec) = 0;
  virtual void ReplicaStarted(QueuePtr queue, raft::Group* group) = 0;
  virtual void ReplicaStopping(raft::GroupId group) = 0;

  // On that shard's thread: another node died or is cut off from here. What was passed on to it ends.
  virtual void NodeLost(raft::ShardId shard, raft::NodeId node) = 0;

  // On that shard's thread, and answered there: the figures of the queues that are led on it. The families are the
  // same, in the same order, on every shard.
  virtual void QueueMetrics(raft::ShardId shard,
                            absl::AnyInvocable<void(std::vector<prometheus::MetricFamily>)> done) = 0;

  // The node is about to stop: tells streams to go elsewhere and refuses new ones. Any thread.
  virtual void Drain() = 0;
  // The server has been shut down and its streams are over; the shards still run. Any thread.
  virtual void Stop() = 0;
};
using ApiFactory = std::function<std::unique_ptr<ApiServices>(NodeContext* node)>;

class Node {
 public:
  // Starts all of it and returns once the server listens. Errors: the data directory's (DataDirectory::Open), a damaged
  // store, an address in use.
  static absl::StatusOr<std::unique_ptr<Node>> Start(const Config& config, const ApiFactory& api);
  virtual ~Node() = default;

  // Until a signal, or until the node cannot go on; then stops cleanly. OK after a signal.
  virtual absl::Status Run() = 0;
};

}  // namespace trireme::broker
