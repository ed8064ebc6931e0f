#include "broker/cluster_service.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "broker/api/errors.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;

// For a call whose client set no deadline, or a very late one.
constexpr std::chrono::seconds kPatience{30};

raft::MonotonicTime DeadlineOf(const raft::RawServerStream& call) {
  auto now = std::chrono::system_clock::now();
  auto left =
      std::clamp<std::chrono::system_clock::duration>(call.deadline() - now, std::chrono::milliseconds(1), kPatience);
  return call.shard()->Now() + std::chrono::duration_cast<raft::MonotonicTime::duration>(left);
}

template <typename Request, typename Response>
void Handle(raft::RawService& service, Cluster* cluster, const std::string& method,
            void (Cluster::*act)(Request, Asked, Answer<Response>)) {
  service.HandleUnary(method, [cluster, act](std::shared_ptr<raft::RawServerStream> call, grpc::ByteBuffer bytes) {
    Request request;
    if (absl::Status bad = raft::Parse(bytes, &request); !bad.ok()) return call->Finish(ToGrpc(bad));
    Asked asked{call->shard(), DeadlineOf(*call)};
    (cluster->*act)(std::move(request), asked, [call](absl::StatusOr<Response> response) {
      if (response.ok()) return call->Reply(raft::Serialize(*response));
      call->Finish(ToGrpc(response.status()));
    });
  });
}

}  // namespace

void RegisterClusterServices(raft::RawService& service, Cluster* cluster) {
  Handle<v1::InitRequest, v1::InitResponse>(service, cluster, "/trireme.v1.Cluster/Init", &Cluster::Init);
  Handle<v1::StatusRequest, v1::StatusResponse>(service, cluster, "/trireme.v1.Cluster/Status", &Cluster::Status);
  Handle<peer::PledgeRequest, peer::PledgeResponse>(service, cluster, "/trireme.peer.v1.Peer/Pledge", &Cluster::Pledge);
  Handle<peer::JoinRequest, peer::JoinResponse>(service, cluster, "/trireme.peer.v1.Peer/Join", &Cluster::Join);
  Handle<peer::BarrierRequest, peer::BarrierResponse>(service, cluster, "/trireme.peer.v1.Peer/Barrier",
                                                      &Cluster::Barrier);
  Handle<peer::CreateQueueRequest, v1::CreateQueueResponse>(service, cluster, "/trireme.peer.v1.Peer/CreateQueue",
                                                            &Cluster::CreateHere);
  Handle<peer::DeleteQueueRequest, v1::DeleteQueueResponse>(service, cluster, "/trireme.peer.v1.Peer/DeleteQueue",
                                                            &Cluster::DeleteHere);
  Handle<peer::RoutingChange, peer::RoutingChanged>(service, cluster, "/trireme.peer.v1.Peer/ChangeRouting",
                                                    &Cluster::ChangeRoutingHere);
  Handle<peer::MembersChange, peer::MembersChangeDone>(service, cluster, "/trireme.peer.v1.Peer/ChangeMembers",
                                                       &Cluster::ChangeMembersHere);
  Handle<v1::ReplaceNodeRequest, v1::ReplaceNodeResponse>(service, cluster, "/trireme.v1.Cluster/ReplaceNode",
                                                          &Cluster::ReplaceNode);
  Handle<v1::ReplaceReplicaRequest, v1::ReplaceReplicaResponse>(service, cluster, "/trireme.v1.Cluster/ReplaceReplica",
                                                                &Cluster::ReplaceReplica);
  const std::string admin = "/trireme.v1.Admin/";
  Handle<v1::CreateExchangeRequest, v1::CreateExchangeResponse>(service, cluster, admin + "CreateExchange",
                                                                &Cluster::CreateExchange);
  Handle<v1::DeleteExchangeRequest, v1::DeleteExchangeResponse>(service, cluster, admin + "DeleteExchange",
                                                                &Cluster::DeleteExchange);
  Handle<v1::DescribeExchangeRequest, v1::DescribeExchangeResponse>(service, cluster, admin + "DescribeExchange",
                                                                    &Cluster::DescribeExchange);
  Handle<v1::ListExchangesRequest, v1::ListExchangesResponse>(service, cluster, admin + "ListExchanges",
                                                              &Cluster::ListExchanges);
  Handle<v1::CreateBindingRequest, v1::CreateBindingResponse>(service, cluster, admin + "CreateBinding",
                                                              &Cluster::CreateBinding);
  Handle<v1::DeleteBindingRequest, v1::DeleteBindingResponse>(service, cluster, admin + "DeleteBinding",
                                                              &Cluster::DeleteBinding);
  Handle<v1::ListBindingsRequest, v1::ListBindingsResponse>(service, cluster, admin + "ListBindings",
                                                            &Cluster::ListBindings);
}

}  // namespace trireme::broker
