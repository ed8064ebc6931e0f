#include "raft/grpc/transport.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "raft/core/check.h"

namespace trireme::raft {
namespace {

constexpr char kMethod[] = "/trireme.peer.v1.Peer/Raft";
// A connection that lasted as long was a good one: the next attempt comes at once.
constexpr std::chrono::seconds kGoodConnection{1};
// How often a node is looked for that the directory does not know yet.
constexpr std::chrono::milliseconds kLookAgain{200};

}  // namespace

grpc::ChannelArguments PeerChannelArguments() {
  grpc::ChannelArguments arguments;
  // Lanes and shards must not share a connection, which equal channels otherwise do.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, static_cast<int>(kFrameBytesMax));
  // A connection that swallows everything is given up, long after heartbeats were missed, so that a healed network is
  // not waited for: 2 s after something was sent (gRPC makes the timeout that of the socket, too), and 12 s after it was
  // idle. What has nothing to send wakes both ends for each ping.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 2000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Attempts are ours to make, with a new channel each.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  // Nodes call each other by the addresses that they advertise, not through a proxy.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

// One lane's stream to a peer. The transport outlives the shard's loop, and so this.
class GrpcTransport::LaneHandler final : public StreamHandler {
 public:
  LaneHandler(GrpcTransport* transport, NodeId node, Lane lane, uint64_t attempt)
      : transport_(transport), node_(node), lane_(lane), attempt_(attempt) {}

  void OnOpen() override { transport_->Opened(node_, lane_, attempt_); }
  void OnMessage(grpc::ByteBuffer) override {}  // the called says nothing
  void OnClosed(const grpc::Status& status) override { transport_->Ended(node_, attempt_, status); }

 private:
  GrpcTransport* const transport_;
  const NodeId node_;
  const Lane lane_;
  const uint64_t attempt_;
};

GrpcTransport::GrpcTransport(TransportOptions options, CompletionQueueShard* shard, const PeerDirectory* directory)
    : options_(std::move(options)), shard_(shard), directory_(directory), random_(options_.seed * 2 + 1) {
  TRIREME_CHECK(options_.credentials != nullptr) << "a transport without credentials";
}

GrpcTransport::~GrpcTransport() = default;

GrpcTransport::Peer& GrpcTransport::PeerOf(NodeId node) {
  std::unique_ptr<Peer>& peer = peers_[node];
  if (peer == nullptr) {
    peer = std::make_unique<Peer>();
    Dial(node, *peer);
  }
  return *peer;
}

void GrpcTransport::Connect(NodeId node) {
  if (node != options_.self.node) PeerOf(node);
}

void GrpcTransport::Send(NodeId to, Frame frame) {
  Peer& peer = PeerOf(to);
  LaneFrames split = SplitFrame(std::move(frame), options_.frame_bytes);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    for (const Frame& part : split.lanes[lane]) {
      if (peer.lanes[lane] == nullptr) {
        ++figures_.frames_dropped;
        continue;
      }
      grpc::ByteBuffer buffer = EncodeFrame(part);
      size_t bytes = buffer.Length();
      if (peer.lanes[lane]->Write(std::move(buffer))) {
        ++figures_.frames_sent;
        figures_.bytes_sent += bytes;
      } else {
        ++figures_.frames_dropped;
      }
    }
  }
}

bool GrpcTransport::Up(NodeId node) const {
  auto found = peers_.find(node);
  return found != peers_.end() && found->second->up;
}

void GrpcTransport::Received(NodeId from, Frame frame) {
  ++figures_.frames_received;
  if (receiver_.frame) receiver_.frame(from, std::move(frame));
}

void GrpcTransport::Refused(NodeId from, const absl::Status& why) {
  ++figures_.frames_refused;
  if (!refused_log_.Allow(shard_->Now())) return;
  spdlog::error("shard {}: dropped a frame from node {}: {} ({} like it before)", shard_->id(), from.value(),
                std::string(why.message()), refused_log_.TakeKeptBack());
}

void GrpcTransport::Seen(NodeId node) {
  Peer& peer = PeerOf(node);
  if (!peer.dialing) Dial(node, peer);
}

void GrpcTransport::PeersChanged() {
  std::vector<NodeId> nodes;
  for (const auto& [node, peer] : peers_) nodes.push_back(node);
  for (NodeId node : nodes) {
    Peer& peer = *peers_[node];
    std::optional<PeerRecord> now = directory_->Find(node);
    bool same = now.has_value() && now->address == peer.record.address && now->directory_id == peer.record.directory_id;
    if (peer.dialing && !same) {
      Drop(node, peer, "the cluster knows it under another address or data directory now");
    } else if (!peer.dialing && now.has_value()) {
      Dial(node, peer);
    }
  }
}

void GrpcTransport::Dial(NodeId node, Peer& peer) {
  if (shard_->stopping()) return;
  uint64_t attempt = ++peer.attempt;
  std::optional<PeerRecord> record = directory_->Find(node);
  if (!record.has_value() || record->directory_id.empty()) {
    shard_->After(kLookAgain, [this, node, attempt] {
      Peer& again = *peers_[node];
      if (again.attempt == attempt) Dial(node, again);
    });
    return;
  }
  peer.dialing = true;
  peer.record = *record;
  peer.hello = Hello{options_.self, node, record->directory_id, shard_->id(), Lane::kControl};
  ++figures_.connects;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    // A new channel for each attempt: a channel's own pauses between attempts are too long (100 ms and more).
    auto channel = grpc::CreateCustomChannel(record->address, options_.credentials, PeerChannelArguments());
    Hello hello = peer.hello;
    hello.lane = static_cast<Lane>(lane);
    CallOptions call;
    call.metadata = EncodeHello(hello);
    peer.open[lane] = false;
    peer.lanes[lane] =
        RawClientStream::Start(shard_, std::move(channel), kMethod, call,
                               std::make_unique<LaneHandler>(this, node, static_cast<Lane>(lane), attempt));
    const size_t limits[kLanes] = {options_.control_queue_bytes, options_.append_queue_bytes,
                                   options_.snapshot_queue_bytes};
    peer.lanes[lane]->set_queue_limit(limits[lane]);
  }
  shard_->After(options_.connect_timeout, [this, node, attempt] {
    Peer& late = *peers_[node];
    if (late.attempt == attempt && late.dialing && !late.up) {
      Drop(node, late, "no answer within " + std::to_string(options_.connect_timeout.count()) + " ms");
    }
  });
}

void GrpcTransport::Opened(NodeId node, Lane lane, uint64_t attempt) {
  Peer& peer = *peers_[node];
  if (peer.attempt != attempt || !peer.dialing) return;
  auto index = static_cast<size_t>(lane);
  const RawClientStream& stream = *peer.lanes[index];
  absl::Status welcome = CheckWelcome([&](const std::string& key) { return stream.Metadata(key); }, peer.hello);
  // A refused call opens, too, without any metadata; its end says why.
  if (!welcome.ok()) return;
  if (options_.understood) {
    options_.understood(node, UnderstoodBy([&](const std::string& key) { return stream.Metadata(key); }));
  }
  peer.open[index] = true;
  if (!std::all_of(std::begin(peer.open), std::end(peer.open), [](bool open) { return open; })) return;
  peer.up = true;
  peer.up_since = shard_->Now();
  spdlog::info("shard {}: connected to node {} at {}", shard_->id(), node.value(), peer.record.address);
  if (receiver_.up) receiver_.up(node);
}

void GrpcTransport::Ended(NodeId node, uint64_t attempt, const grpc::Status& status) {
  Peer& peer = *peers_[node];
  if (peer.attempt != attempt || !peer.dialing) return;
  Drop(node, peer, status.ok() ? "the node ended the stream" : status.error_message());
}

void GrpcTransport::Drop(NodeId node, Peer& peer, const std::string& why) {
  bool was_up = std::exchange(peer.up, false);
  peer.dialing = false;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    peer.open[lane] = false;
    if (auto stream = std::exchange(peer.lanes[lane], nullptr)) stream->Cancel();
  }
  if (shard_->stopping()) return;
  if (was_up) {
    spdlog::warn("shard {}: lost node {} at {}: {}", shard_->id(), node.value(), peer.record.address, why);
  } else {
    ++figures_.failures;
    if (peer.log.Allow(shard_->Now())) {
      spdlog::warn("shard {}: cannot connect to node {} at {}: {} ({} like it before)", shard_->id(), node.value(),
                   peer.record.address, why, peer.log.TakeKeptBack());
    }
  }
  if (was_up && shard_->Now() - peer.up_since >= kGoodConnection) peer.pause = std::chrono::milliseconds(0);
  DialLater(node, peer);
  if (was_up && receiver_.down) receiver_.down(node);
}

void GrpcTransport::DialLater(NodeId node, Peer& peer) {
  shard_->After(NextPause(peer), [this, node, attempt = peer.attempt] {
    Peer& again = *peers_[node];
    if (again.attempt == attempt && !again.dialing) Dial(node, again);
  });
}

std::chrono::milliseconds GrpcTransport::NextPause(Peer& peer) {
  peer.pause = peer.pause.count() == 0 ? options_.retry_first : std::min(peer.pause * 2, options_.retry_last);
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  auto half = static_cast<uint64_t>(peer.pause.count()) / 2;
  return peer.pause - std::chrono::milliseconds(half == 0 ? 0 : (random_ >> 33) % half);
}

}  // namespace trireme::raft
