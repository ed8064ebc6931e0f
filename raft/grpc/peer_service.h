// Where other nodes' streams arrive: checks who calls, and hands frames to the shard that they are for.
#pragma once

#include <grpcpp/server_builder.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "raft/grpc/peer_identity.h"
#include "raft/grpc/raw_server.h"
#include "raft/grpc/transport.h"
#include "raft/host/peer_starts.h"
#include "raft/host/rate_limit.h"

namespace trireme::raft {

// What a server that other nodes call must be set to: frames' size, keepalive, a port of its own.
void ConfigurePeerServer(grpc::ServerBuilder* builder);

// Thread-safe. Outlives the server and the shards' stop, as the transports do that it was given.
class PeerService {
 public:
  // Adds Peer.Raft to the service. `directory` outlives it. Streams are refused with UNAVAILABLE until Open.
  PeerService(RawService* service, const PeerDirectory* directory);

  // This node is a member now. transports[i] is the one of shard i. Once.
  void Open(NodeIdentity self, std::vector<GrpcTransport*> transports);
  // Streams refused because of who called.
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  // What is to be remembered of the callers over this node's own restarts, and is put in again before Open.
  std::map<NodeId, SeenStarts> seen_starts() const;
  void Remember(NodeId node, SeenStarts seen);

 private:
  class Inbound;
  struct Membership {
    NodeIdentity self;
    std::vector<GrpcTransport*> transports;
  };

  std::unique_ptr<StreamHandler> Accept(RawServerStream* stream);
  absl::StatusOr<Hello> Check(const RawServerStream& stream, const Membership& membership);

  const PeerDirectory* const directory_;
  std::atomic<uint64_t> refused_{0};
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::shared_ptr<const Membership> membership_;
  PeerStarts starts_;
  RateLimit log_;
};

}  // namespace trireme::raft
