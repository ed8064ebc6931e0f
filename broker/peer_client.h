// The cluster's calls to other nodes, over gRPC.
#pragma once

#include <chrono>
#include <string>

#include "broker/channels.h"
#include "broker/cluster/peer_caller.h"
#include "broker/routing/leaders.h"
#include "raft/grpc/completion_queue_shard.h"

namespace trireme::broker {

// On its shard's thread only. Answers are called there, and dropped once the shard stops.
class PeerClient final : public PeerCaller, public LeaderAsker {
 public:
  // Both outlive it.
  PeerClient(raft::CompletionQueueShard* shard, Channels* channels) : shard_(shard), channels_(channels) {}

  void Pledge(const std::string& address, const trireme::peer::v1::PledgeRequest& request, Timeout timeout,
              Answer<trireme::peer::v1::PledgeResponse> done) override;
  void Join(const std::string& address, const trireme::peer::v1::JoinRequest& request, Timeout timeout,
            Answer<trireme::peer::v1::JoinResponse> done) override;
  void Init(const std::string& address, const trireme::v1::InitRequest& request, Timeout timeout,
            Answer<trireme::v1::InitResponse> done) override;
  void Barrier(const std::string& address, const trireme::peer::v1::BarrierRequest& request, Timeout timeout,
               Answer<trireme::peer::v1::BarrierResponse> done) override;
  void CreateQueue(const std::string& address, const trireme::peer::v1::CreateQueueRequest& request, Timeout timeout,
                   Answer<trireme::v1::CreateQueueResponse> done) override;
  void DeleteQueue(const std::string& address, const trireme::peer::v1::DeleteQueueRequest& request, Timeout timeout,
                   Answer<trireme::v1::DeleteQueueResponse> done) override;
  void ChangeMembers(const std::string& address, const trireme::peer::v1::MembersChange& change, Timeout timeout,
                     Answer<trireme::peer::v1::MembersChangeDone> done) override;
  void ChangeRouting(const std::string& address, const trireme::peer::v1::RoutingChange& change, Timeout timeout,
                     Answer<trireme::peer::v1::RoutingChanged> done) override;
  void Resolve(const std::string& address, const std::string& queue, std::chrono::milliseconds timeout,
               LeaderAsker::Done done) override;

 private:
  // `wait`: for a connection, as long as the timeout lasts.
  template <typename Response>
  void Call(const std::string& address, const char* method, const google::protobuf::MessageLite& request,
            Timeout timeout, bool wait, Answer<Response> done);

  raft::CompletionQueueShard* const shard_;
  Channels* const channels_;
};

}  // namespace trireme::broker
