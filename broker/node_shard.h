// What a node has on one shard: the transport, the host and its groups, the leaders known there.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "broker/cluster/member_plan.h"
#include "broker/cluster/metadata_view.h"
#include "broker/node.h"
#include "broker/node_metrics.h"
#include "broker/peer_client.h"
#include "broker/routing/leaders.h"
#include "raft/grpc/completion_queue_shard.h"
#include "raft/grpc/transport.h"
#include "raft/host/host.h"

namespace trireme::broker {

// Made before the shard starts; from then on its thread's only, until the loop has ended.
class NodeShard {
 public:
  // `queue` is the server's.
  NodeShard(raft::ShardId id, std::unique_ptr<grpc::ServerCompletionQueue> queue, Channels* channels)
      : loop_(id, std::move(queue)), client_(&loop_, channels) {}

  // Any thread.
  raft::CompletionQueueShard* loop() { return &loop_; }
  PeerClient* client() { return &client_; }
  // Set on the shard's thread before `done` of BecomeMember is called; null before.
  raft::GrpcTransport* transport() { return transport_.get(); }

  raft::Host* host() { return host_.get(); }
  Leaders* leaders() { return leaders_.get(); }

  void BecomeMember(const raft::TransportOptions& transport, const raft::HostOptions& host, raft::LogStore* store,
                    raft::SnapshotStaging* staging, raft::IndexRows* rows, const raft::PeerDirectory* directory,
                    const MetadataView* view);

  absl::StatusOr<raft::Group*> Start(const raft::GroupSpec& spec, std::unique_ptr<raft::StateMachine> machine,
                                     std::optional<raft::StoredGroup> stored);
  void Remove(raft::GroupId group);
  // All groups here.
  void ForEach(absl::FunctionRef<void(raft::Group*)> visit) const;
  void Measure(NodeMetrics& metrics) const;
  // Of queues that are led here (member_plan.h).
  void KeepMembers(const MetadataView& view, const ReportMembers& report) const;

  // After the loop has ended: lets go of what uses the store.
  void Close();

 private:
  raft::CompletionQueueShard loop_;
  PeerClient client_;
  std::unique_ptr<raft::GrpcTransport> transport_;
  std::unique_ptr<raft::Host> host_;
  std::unique_ptr<Leaders> leaders_;
  absl::flat_hash_map<raft::GroupId, raft::Group*> groups_;
};

}  // namespace trireme::broker
