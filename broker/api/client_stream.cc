#include "broker/api/client_stream.h"

#include <utility>

#include "broker/api/errors.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {

class ClientStream::Handler final : public raft::StreamHandler {
 public:
  explicit Handler(std::shared_ptr<ClientStream> stream) : stream_(std::move(stream)) {}
  void OnMessage(grpc::ByteBuffer message) override { stream_->OnMessage(std::move(message)); }
  void OnReadEnd() override { stream_->OnReadEnd(); }
  void OnWritten() override { stream_->OnWritten(); }
  void OnClosed(const grpc::Status& status) override { stream_->Close(status.ok()); }

 private:
  const std::shared_ptr<ClientStream> stream_;
};

bool ClientStream::Refuse(ShardApi* api, raft::RawServerStream* call) {
  if (!api->draining()) return false;
  call->Finish(
      ToGrpc(Error(absl::StatusCode::kUnavailable, {.reason = "DRAINING"}, "this node is stopping; use another one")));
  return true;
}

std::unique_ptr<raft::StreamHandler> ClientStream::Handle(std::shared_ptr<ClientStream> stream) {
  return std::make_unique<Handler>(std::move(stream));
}

ClientStream::ClientStream(ShardApi* api, raft::RawServerStream* call)
    : api_(api),
      call_(std::static_pointer_cast<raft::RawServerStream>(call->shared_from_this())),
      forwarded_(call->Metadata(kForwardedBy).has_value()) {
  api_->AddStream(this);
}

void ClientStream::Close(bool in_order) {
  api_->RemoveStream(this);
  call_.reset();
  OnClosed(in_order);
}

bool ClientStream::Send(const google::protobuf::MessageLite& response) {
  return call_ != nullptr && call_->Write(raft::Serialize(response));
}

void ClientStream::End(const absl::Status& status) {
  if (call_ != nullptr) call_->Finish(ToGrpc(status));
}

std::shared_ptr<raft::RawClientStream> ClientStream::OpenUpstream(const trireme::v1::Leader& leader,
                                                                  std::unique_ptr<raft::StreamHandler> handler) {
  auto upstream = raft::RawClientStream::Start(api_->shard(), api_->node()->channel(leader.address()), call_->method(),
                                               api_->ForwardOptions(), std::move(handler));
  api_->forwards().Add(raft::NodeId(leader.node_id()), upstream);
  return upstream;
}

}  // namespace trireme::broker
