// One batch for an exchange, taken apart by the queues that its messages reach.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "raft/core/bytes.h"

namespace trireme::broker {

// Messages [offset, offset + count) of the batch that was split.
struct SlotRun {
  uint32_t offset = 0;
  uint32_t count = 0;

  friend bool operator==(const SlotRun&, const SlotRun&) = default;
};

// What goes to a queue as one batch: ascending runs, each of consecutive messages.
struct Piece {
  std::vector<SlotRun> runs;
  raft::Bytes batch;
};

struct Share {
  uint32_t queue = 0;  // its handle
  std::vector<Piece> pieces;
};

struct Split {
  // By queue, in the order in which they are first reached.
  std::vector<Share> shares;
  // Per message, how many queues it goes to. 0: it is unroutable.
  std::vector<uint32_t> targets;
};

// The queues of one encoded message, each once; good until the next call.
using RouteMessage = absl::FunctionRef<absl::Span<const uint32_t>(std::string_view message)>;

// `batch` is an encoded MessageBatch that queue::CheckBatch has found good. Within a queue messages keep their order.
//
// With `gather` a share is one piece: the records of its messages, copied together. Without, each run of consecutive
// messages is a piece of its own, which shares the batch's memory: that is for producers with sequences, because a log
// entry holds consecutive ones (queue::fact::Published).
Split SplitBatch(const raft::Bytes& batch, bool gather, RouteMessage route);

}  // namespace trireme::broker
