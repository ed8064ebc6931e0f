#include "broker/peer_client.h"

#include <utility>

#include "broker/api/errors.h"
#include "raft/grpc/buffers.h"
#include "raft/grpc/raw_client.h"

namespace trireme::broker {
namespace {

namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;

}  // namespace

template <typename Response>
void PeerClient::Call(const std::string& address, const char* method, const google::protobuf::MessageLite& request,
                      Timeout timeout, bool wait, Answer<Response> done) {
  raft::CallOptions options;
  options.timeout = timeout;
  options.wait_for_ready = wait;
  raft::RawUnaryCall::Start(
      shard_, channels_->Get(address), method, options, raft::Serialize(request),
      [shard = shard_, done = std::move(done)](const grpc::Status& status, grpc::ByteBuffer bytes) mutable {
        // What waits for this may be gone by the time the loop is run dry.
        if (shard->stopping()) return;
        if (!status.ok()) return done(FromGrpc(status));
        Response response;
        absl::Status parsed = raft::Parse(bytes, &response);
        if (!parsed.ok()) return done(absl::InternalError("the answer does not parse"));
        done(std::move(response));
      });
}

void PeerClient::Pledge(const std::string& address, const peer::PledgeRequest& request, Timeout timeout,
                        Answer<peer::PledgeResponse> done) {
  Call(address, "/trireme.peer.v1.Peer/Pledge", request, timeout, /*wait=*/true, std::move(done));
}

void PeerClient::Join(const std::string& address, const peer::JoinRequest& request, Timeout timeout,
                      Answer<peer::JoinResponse> done) {
  Call(address, "/trireme.peer.v1.Peer/Join", request, timeout, /*wait=*/false, std::move(done));
}

void PeerClient::Init(const std::string& address, const v1::InitRequest& request, Timeout timeout,
                      Answer<v1::InitResponse> done) {
  Call(address, "/trireme.v1.Cluster/Init", request, timeout, /*wait=*/false, std::move(done));
}

void PeerClient::Barrier(const std::string& address, const peer::BarrierRequest& request, Timeout timeout,
                         Answer<peer::BarrierResponse> done) {
  Call(address, "/trireme.peer.v1.Peer/Barrier", request, timeout, /*wait=*/false, std::move(done));
}

void PeerClient::CreateQueue(const std::string& address, const peer::CreateQueueRequest& request, Timeout timeout,
                             Answer<v1::CreateQueueResponse> done) {
  Call(address, "/trireme.peer.v1.Peer/CreateQueue", request, timeout, /*wait=*/false, std::move(done));
}

void PeerClient::DeleteQueue(const std::string& address, const peer::DeleteQueueRequest& request, Timeout timeout,
                             Answer<v1::DeleteQueueResponse> done) {
  Call(address, "/trireme.peer.v1.Peer/DeleteQueue", request, timeout, /*wait=*/false, std::move(done));
}

void PeerClient::ChangeMembers(const std::string& address, const peer::MembersChange& change, Timeout timeout,
                               Answer<peer::MembersChangeDone> done) {
  Call(address, "/trireme.peer.v1.Peer/ChangeMembers", change, timeout, /*wait=*/false, std::move(done));
}

void PeerClient::ChangeRouting(const std::string& address, const peer::RoutingChange& change, Timeout timeout,
                               Answer<peer::RoutingChanged> done) {
  Call(address, "/trireme.peer.v1.Peer/ChangeRouting", change, timeout, /*wait=*/false, std::move(done));
}

void PeerClient::Resolve(const std::string& address, const std::string& queue, std::chrono::milliseconds timeout,
                         LeaderAsker::Done done) {
  v1::ResolveRequest request;
  request.set_queue(queue);
  Call<v1::ResolveResponse>(address, "/trireme.v1.Broker/Resolve", request, timeout, /*wait=*/false,
                            [done = std::move(done)](absl::StatusOr<v1::ResolveResponse> response) mutable {
                              if (!response.ok()) return done(response.status());
                              done(response->leader());
                            });
}

}  // namespace trireme::broker
