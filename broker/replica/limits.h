// The limits of queues' replicas.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "broker/queue/dispatcher.h"
#include "broker/replica/carrier.h"
#include "broker/replica/settling.h"
#include "raft/core/bytes.h"
#include "raft/core/types.h"

namespace trireme::broker {

// A node whose program may not read all that a log is to hold.
struct LackingNode {
  raft::NodeId node;
  uint32_t understands = 0;  // 0: not known, for it was not heard of since this node started
};

// The limits that every replica of a node shares.
struct ReplicaLimits {
  size_t max_message_bytes = 3'670'016;
  // Bytes of published batches that wait for the group to take them; beyond it publishing is refused. Streams' windows
  // keep it from being reached.
  size_t max_waiting_bytes = size_t{64} << 20;
  // Entries read ahead of the dispatcher and kept for delivery, per group.
  size_t read_ahead_bytes = size_t{4} << 20;
  // Producers that a queue knows; more are refused. Idle ones above Dispatcher::Limits::max_producers are forgotten,
  // but not as fast as new ones can come.
  size_t max_producers = 100'000;
  // Of the leader's dispatcher.
  queue::Dispatcher::Limits dispatch;
  // How long a settlement may wait for company.
  std::chrono::milliseconds settle_delay{5};
  Settling::Limits settling;
  // Subscriptions of one queue.
  size_t max_subscriptions = 1'000;
  // Which of these nodes are not known to understand that version of the facts (Safety rule 3); null = all do.
  std::function<std::vector<LackingNode>(const std::vector<raft::NodeId>&, uint32_t version)> lacking;
  // The way of messages into other queues; null: they stay.
  std::function<std::unique_ptr<Carrier>()> make_carrier;
  // Whether the node is low on disk: publishing is refused then, settling is not (Safety rule 19). Null = never.
  std::function<bool()> low_disk;
  // Whether the group has index rows, in which messages for later lie. Without, those are refused.
  bool keeps_rows = true;
  // Asked before a batch is taken; an error refuses it. Null = nothing is refused by it.
  std::function<absl::Status(const raft::Bytes& batch)> admits;
};

}  // namespace trireme::broker
