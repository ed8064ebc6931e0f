// Frames on the wire: peer.proto's RaftFrame, written and read by hand so that entries' bytes are passed on and not
// copied.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "raft/host/transport.h"

namespace trireme::raft {

// Larger frames are refused. An entry is at most 256 KiB, or one message, so what SplitFrame makes stays far below.
inline constexpr size_t kFrameBytesMax = size_t{16} << 20;

// A message's size on the wire, roughly and never less than its entries' bytes.
size_t WireSize(const GroupMessage& message);

// The header, then the entries' bytes, one behind the other: large ones shared, small ones copied together.
grpc::ByteBuffer EncodeFrame(const Frame& frame);

// The entries' bytes share the buffer's memory. INVALID_ARGUMENT for anything that EncodeFrame would not have written,
// but unknown fields are passed over. Never fails otherwise, whatever the bytes.
absl::StatusOr<Frame> DecodeFrame(const grpc::ByteBuffer& buffer);

// Three kinds of traffic, each with a stream of its own, so that a large append holds up no vote and no heartbeat, and a
// snapshot holds up nothing.
enum class Lane : uint8_t { kControl = 0, kAppend = 1, kSnapshot = 2 };
inline constexpr size_t kLanes = 3;

// Appends, empty ones too, keep their order among themselves: one that overtakes another looks like a gap to a
// follower.
Lane LaneOf(const Message& message);

struct LaneFrames {
  std::vector<Frame> lanes[kLanes];
};
// Parts a frame by lane, and into frames of at most about `bytes_max` (at least one message each).
LaneFrames SplitFrame(Frame frame, size_t bytes_max);

}  // namespace trireme::raft
