// What the host needs of the network. raft/grpc implements it; tests/simulation has one on a simulated network.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "raft/core/message.h"
#include "raft/core/types.h"
#include "raft/host/shard.h"

namespace trireme::raft {

struct GroupMessage {
  GroupId group;
  Message message;
};

// All that one turn of a shard's loop has for one node, or got from one.
struct Frame {
  int64_t wall_ms = 0;  // the sender's wall clock
  std::vector<GroupMessage> messages;
};

// One per shard, on the shard's thread. A group's shard is the same on every node, so shard n talks to shard n.
class Transport {
 public:
  virtual ~Transport() = default;

  // Queues a frame. Bounded in bytes per node; what does not fit is dropped (Raft sends again). Votes and heartbeats
  // take a stream of their own, so that a large append does not hold them up.
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
