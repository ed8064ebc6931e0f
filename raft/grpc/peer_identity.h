// Who talks to whom: said in the metadata of every stream between nodes, and checked by both ends.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "raft/core/types.h"
#include "raft/grpc/frame.h"
#include "raft/grpc/raw_stream.h"

namespace trireme::raft {

// A node, as it presents itself.
struct NodeIdentity {
  std::string cluster_id;  // 16 bytes
  NodeId node;
  std::string directory_id;  // 16 bytes; of its data directory
  // Grows with every start of the process on that directory.
  uint64_t incarnation = 0;
  // A group's shard is its id modulo this number, so all nodes of a cluster must have the same.
  uint32_t shards = 1;
  // Made of chance at each start, so that two starts of one incarnation are told apart; 0 = not said (an older
  // version).
  uint64_t nonce = 0;
  // What of the owner's formats its program can read: a number that grows with the programs. One that does not say
  // has 1.
  uint32_t understands = 1;
};

// What this node knows of another.
struct PeerRecord {
  std::string address;  // host:port
  // Empty until the node has shown it; no stream with such a node is accepted (Safety rule 11).
  std::string directory_id;
};

// The cluster's nodes, as they are known now. Thread-safe; what it answers may change at any time (GrpcTransport::
// PeersChanged tells of it).
class PeerDirectory {
 public:
  virtual ~PeerDirectory() = default;
  virtual std::optional<PeerRecord> Find(NodeId node) const = 0;
};

// A stream's metadata, as the caller sends it.
struct Hello {
  NodeIdentity from;
  NodeId to;
  std::string to_directory_id;
  ShardId shard = 0;
  Lane lane = Lane::kControl;
};
CallMetadata EncodeHello(const Hello& hello);
// FAILED_PRECONDITION naming what is missing or unreadable. `get` gives a key's value, if it is there.
absl::StatusOr<Hello> DecodeHello(const std::function<std::optional<std::string>(const std::string& key)>& get);

// Whether the called node `self` may take a stream from this caller: one cluster, the right ends, the data directories
// that the cluster knows, the same number of shards. FAILED_PRECONDITION naming what was said and what was expected.
absl::Status CheckHello(const Hello& hello, const NodeIdentity& self, const PeerDirectory& directory);

// What the called answers with once it has accepted, and the caller's check of it.
CallMetadata EncodeWelcome(const NodeIdentity& self);
absl::Status CheckWelcome(const std::function<std::optional<std::string>(const std::string& key)>& get,
                          const Hello& hello);
// NodeIdentity::understands of the called, as it said in its welcome.
uint32_t UnderstoodBy(const std::function<std::optional<std::string>(const std::string& key)>& get);

}  // namespace trireme::raft
