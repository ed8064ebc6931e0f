// What the host needs of the network. raft/grpc implements it; tests/simulation has one on a simulated network.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "raft/core/message.h"
#include "raft/core/types.h"
#include "raft/host/digest_check.h"
#include "raft/host/shard.h"
#include "raft/host/snapshot_message.h"

namespace trireme::raft {

struct GroupMessage {
  GroupId group;
  Message message;
};

// What two nodes' shards tell each other at every tick, whatever the number of groups (Safety rule 9); node_liveness.h
// has its meaning. Sequences are per pair and incarnation, from 1; 0 = none.
struct NodeHeartbeat {
  uint64_t sequence = 0;
  uint64_t peer_incarnation = 0;  // the addressee's, as the sender knows it
  uint64_t heard = 0;             // the addressee's last that was heard
  uint64_t promised = 0;          // the addressee's last that the sender's promise was made on, if it is in force
  uint64_t peer_synced = 0;       // the highest that the addressee has announced to be synced (Safety rule 12)
  bool peer_forgot = false;       // it came back with less than that once; its directory is not listened to any more
};

// All that one turn of a shard's loop has for one node, or got from one.
struct Frame {
  int64_t wall_ms = 0;  // the sender's wall clock
  uint64_t incarnation = 0;
  uint64_t last_synced = 0;  // of the sender's store
  bool disk_low = false;     // the sender's (HostOptions::disk_low)
  // The same as this process found it, before it wrote anything. Nothing: not said (an older version).
  std::optional<uint64_t> opened{};
  std::optional<NodeHeartbeat> heartbeat{};
  std::vector<GroupMessage> messages{};
  std::vector<SnapshotChunk> chunks{};
  std::vector<SnapshotAnswer> answers{};
  std::vector<StateDigest> digests{};
};

// One per shard, on the shard's thread. A group's shard is the same on every node, so shard n talks to shard n.
class Transport {
 public:
  virtual ~Transport() = default;

  // Queues a frame. Bounded in bytes per node; what does not fit is dropped (Raft sends again). Votes and heartbeats
  // take a stream of their own, so that a large append does not hold them up, and so do parts of snapshots, so that
  // they hold up nothing.
  virtual void Send(NodeId to, Frame frame) = 0;

  struct Receiver {
    absl::AnyInvocable<void(NodeId from, Frame frame)> frame;
    // A connection to the node was made, or is gone. Down is said once per loss.
    absl::AnyInvocable<void(NodeId)> up;
    absl::AnyInvocable<void(NodeId)> down;
  };
  virtual void SetReceiver(Receiver receiver) = 0;
};

}  // namespace trireme::raft
