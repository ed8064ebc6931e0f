// The public services Broker and Admin, and the queues' replicas behind them.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "broker/api/queue_metrics.h"
#include "broker/api/shard_api.h"
#include "broker/node.h"
#include "raft/grpc/raw_server.h"

namespace trireme::broker {

class Services final : public ApiServices, public ServiceShards {
 public:
  // For Node::Start.
  static std::unique_ptr<ApiServices> Make(NodeContext* node) {
    return std::unique_ptr<ApiServices>(new Services(node));
  }

  void Register(raft::RawService& service) override;
  void Start() override {}
  std::unique_ptr<raft::StateMachine> MakeReplica(QueuePtr queue, const raft::GroupSpec& spec) override;
  void ReplicaStarted(QueuePtr queue, raft::Group* group) override;
  void ReplicaStopping(raft::GroupId group) override;
  void NodeLost(raft::ShardId shard, raft::NodeId node) override { At(shard)->forwards().Lost(node); }
  void QueueMetrics(raft::ShardId shard, QueueMetricsDone done) override {
    GatherQueueMetrics(At(shard), std::move(done));
  }
  void Drain() override;
  void Stop() override;

 private:
  explicit Services(NodeContext* node) : node_(node) {}

  ShardApi* At(raft::ShardId shard) override { return shards_[shard].get(); }
  void RegisterAdmin(raft::RawService& service);

  NodeContext* const node_;
  std::vector<std::unique_ptr<ShardApi>> shards_;
  // Replicas between MakeReplica and ReplicaStarted, on their shards' threads: the host owns the machine, this is how
  // it is found.
  std::vector<absl::flat_hash_map<raft::GroupId, QueueReplica*>> made_;
};

}  // namespace trireme::broker
