// The transport of one shard: a stream per other node and lane, kept up as long as this node runs.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "raft/grpc/completion_queue_shard.h"
#include "raft/grpc/frame.h"
#include "raft/grpc/peer_identity.h"
#include "raft/grpc/raw_client.h"
#include "raft/host/rate_limit.h"
#include "raft/host/transport.h"

namespace trireme::raft {

struct TransportOptions {
  NodeIdentity self;
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  // What may wait per node and lane; more is dropped.
  size_t control_queue_bytes = size_t{8} << 20;
  size_t append_queue_bytes = size_t{64} << 20;
  size_t snapshot_queue_bytes = size_t{32} << 20;
  // A frame is cut above this, so that one group's appends do not hold up the others' for long.
  size_t frame_bytes = size_t{2} << 20;
  // After a lost connection: the first new attempt, and the longest pause that repeated ones double to. Each is
  // shortened by up to half at random.
  std::chrono::milliseconds retry_first{20};
  std::chrono::milliseconds retry_last{1000};
  std::chrono::milliseconds connect_timeout{1000};
  uint64_t seed = 1;
  // Told what another node's program understands (NodeIdentity), whenever it is connected to. On the shard's thread.
  std::function<void(NodeId, uint32_t)> understood = {};
};

// Channel arguments for calls between nodes: a connection of its own, frames' size, keepalive.
grpc::ChannelArguments PeerChannelArguments();

// On its shard's thread only, unless said otherwise. Nodes are dialed when something is first sent to them, and from
// then on whenever they are not connected. Destroyed after the shard has stopped.
class GrpcTransport final : public Transport {
 public:
  // `shard` and `directory` outlive it.
  GrpcTransport(TransportOptions options, CompletionQueueShard* shard, const PeerDirectory* directory);
  ~GrpcTransport() override;

  void Send(NodeId to, Frame frame) override;
  void SetReceiver(Receiver receiver) override { receiver_ = std::move(receiver); }

  // The directory has changed: streams to nodes that are now elsewhere, or someone else, are ended and dialed anew.
  void PeersChanged();
  // Whether all lanes to the node are open. (The node's own streams to us are not looked at.)
  bool Up(NodeId node) const;
  // Dials nodes that nothing was sent to yet, so that Up means something.
  void Connect(NodeId node);

  struct Figures {
    uint64_t frames_sent = 0, frames_received = 0, bytes_sent = 0, frames_dropped = 0, frames_refused = 0, connects = 0,
             failures = 0;
  };
  const Figures& figures() const { return figures_; }

  // ---- for PeerService
  // Any thread.
  CompletionQueueShard* shard() const { return shard_; }
  void Received(NodeId from, Frame frame);
  // One that cannot be right came: damaged, or of another start of the node than the stream. It is dropped; Raft sends
  // again.
  void Refused(NodeId from, const absl::Status& why);
  // The node has opened a stream to us, so it is there.
  void Seen(NodeId node);

 private:
  class LaneHandler;
  struct Peer {
    std::shared_ptr<RawClientStream> lanes[kLanes];
    bool open[kLanes] = {};
    bool up = false;
    PeerRecord record;  // what the present attempt goes by
    Hello hello;
    // Grows with every attempt; what is left of earlier ones is ignored by it.
    uint64_t attempt = 0;
    bool dialing = false;  // an attempt is under way or up; else a retry is set
    MonotonicTime up_since;
    std::chrono::milliseconds pause{0};  // before the next attempt; 0: start with retry_first
    RateLimit log;
  };

  Peer& PeerOf(NodeId node);
  void Dial(NodeId node, Peer& peer);
  // Dials after the peer's pause.
  void DialLater(NodeId node, Peer& peer);
  void Opened(NodeId node, Lane lane, uint64_t attempt);
  void Ended(NodeId node, uint64_t attempt, const grpc::Status& status);
  // Ends the present attempt, says that the peer is down if it was up, and tries again.
  void Drop(NodeId node, Peer& peer, const std::string& why);
  std::chrono::milliseconds NextPause(Peer& peer);

  const TransportOptions options_;
  CompletionQueueShard* const shard_;
  const PeerDirectory* const directory_;
  Receiver receiver_;
  // unique_ptr: a peer stays where it is while others are added.
  absl::flat_hash_map<NodeId, std::unique_ptr<Peer>> peers_;
  uint64_t random_;
  Figures figures_;
  RateLimit refused_log_;
};

}  // namespace trireme::raft
