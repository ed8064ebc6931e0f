#include "raft/grpc/peer_service.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/core/check.h"

namespace trireme::raft {
namespace {

constexpr char kMethod[] = "/trireme.peer.v1.Peer/Raft";
// Bytes of frames that may be on their way from the shard that took a stream to the one that it is for.
constexpr size_t kHandedOverBytes = size_t{4} << 20;

}  // namespace

void ConfigurePeerServer(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(kFrameBytesMax));
  // Peers ping every 10 s, see PeerChannelArguments; a server that does not expect it ends their connections.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  // And looks itself for callers that are gone without a word, but only while there are calls: between them many
  // clients (those in Python, for one) read nothing, would answer no ping, and find their next call on a closed connection.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  // Two nodes on one port would each get some of the other's calls.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

// One stream of another node's frames, on whichever shard took it.
class PeerService::Inbound final : public StreamHandler {
 public:
  Inbound(RawServerStream* stream, const Hello& hello, GrpcTransport* transport)
      : stream_(stream), from_(hello.from.node), incarnation_(hello.from.incarnation), transport_(transport) {}

  void OnMessage(grpc::ByteBuffer buffer) override {
    size_t bytes = buffer.Length();
    absl::StatusOr<Frame> frame = DecodeFrame(buffer);
    if (frame.ok() && frame->incarnation != incarnation_) {
      frame = absl::InvalidArgumentError(
          absl::StrCat("it is of incarnation ", frame->incarnation, ", its stream of incarnation ", incarnation_));
    }
    if (!frame.ok()) {
      if (transport_->shard() == stream_->shard()) return transport_->Refused(from_, frame.status());
      return transport_->shard()->Post(
          [transport = transport_, from = from_, why = frame.status()] { transport->Refused(from, why); });
    }
    if (transport_->shard() == stream_->shard()) {
      transport_->Received(from_, *std::move(frame));
      return;
    }
    // The stream, and this with it, is not touched by the other shard: it posts back how far it has come.
    *handed_over_ += bytes;
    if (*handed_over_ > kHandedOverBytes) stream_->PauseReading();
    transport_->shard()->Post([transport = transport_, from = from_, moved = *std::move(frame), bytes,
                               stream = stream_->shared_from_this(), handed_over = handed_over_]() mutable {
      transport->Received(from, std::move(moved));
      CompletionQueueShard* back = stream->shard();
      back->Post([stream = std::move(stream), handed_over = std::move(handed_over), bytes] {
        *handed_over -= bytes;
        if (*handed_over <= kHandedOverBytes / 2 && stream->reading_paused()) stream->ResumeReading();
      });
    });
  }
  void OnReadEnd() override { stream_->Finish(grpc::Status::OK); }
  void OnClosed(const grpc::Status&) override {}

 private:
  RawServerStream* const stream_;
  const NodeId from_;
  const uint64_t incarnation_;
  GrpcTransport* const transport_;
  // On the stream's shard; may be asked for after this is gone.
  const std::shared_ptr<size_t> handed_over_ = std::make_shared<size_t>(0);
};

PeerService::PeerService(RawService* service, const PeerDirectory* directory) : directory_(directory) {
  service->Handle(kMethod, [this](RawServerStream* stream) { return Accept(stream); });
}

void PeerService::Open(NodeIdentity self, std::vector<GrpcTransport*> transports) {
  TRIREME_CHECK(transports.size() == self.shards) << transports.size() << " transports, " << self.shards << " shards";
  std::lock_guard lock(mutex_);
  TRIREME_CHECK(membership_ == nullptr) << "opened twice";
  membership_ = std::make_shared<const Membership>(Membership{std::move(self), std::move(transports)});
}

absl::StatusOr<Hello> PeerService::Check(const RawServerStream& stream, const Membership& membership) {
  absl::StatusOr<Hello> hello = DecodeHello([&](const std::string& key) { return stream.Metadata(key); });
  if (!hello.ok()) return hello;
  absl::Status status = CheckHello(*hello, membership.self, *directory_);
  if (!status.ok()) return status;
  std::lock_guard lock(mutex_);
  status = starts_.Check(hello->from.node, hello->from.directory_id, {hello->from.incarnation, hello->from.nonce});
  if (!status.ok()) return status;
  return hello;
}

std::map<NodeId, SeenStarts> PeerService::seen_starts() const {
  std::lock_guard lock(mutex_);
  return starts_.seen();
}

void PeerService::Remember(NodeId node, SeenStarts seen) {
  std::lock_guard lock(mutex_);
  starts_.Remember(node, std::move(seen));
}

std::unique_ptr<StreamHandler> PeerService::Accept(RawServerStream* stream) {
  std::shared_ptr<const Membership> membership;
  {
    std::lock_guard lock(mutex_);
    membership = membership_;
  }
  if (membership == nullptr) {
    stream->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "this node is not a member of a cluster yet"));
    return nullptr;
  }
  absl::StatusOr<Hello> hello = Check(*stream, *membership);
  if (!hello.ok()) {
    std::string why(hello.status().message());
    ++refused_;
    {
      std::lock_guard lock(mutex_);
      if (log_.Allow(stream->shard()->Now())) {
        spdlog::warn("refused a node's stream from {}: {} ({} others were refused before)", stream->peer(), why,
                     log_.TakeKeptBack());
      }
    }
    stream->Finish(grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, why));
    return nullptr;
  }
  stream->SendInitialMetadata(EncodeWelcome(membership->self));
  GrpcTransport* transport = membership->transports[hello->shard];
  transport->shard()->Post([transport, node = hello->from.node] { transport->Seen(node); });
  return std::make_unique<Inbound>(stream, *hello, transport);
}

}  // namespace trireme::raft
