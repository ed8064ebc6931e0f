// The frames of the message path, read and written by hand: a batch's bytes pass through as they are.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/replica/sinks.h"
#include "broker/routing/distribution.h"
#include "raft/core/bytes.h"
#include "trireme/v1/broker.pb.h"

namespace trireme::broker {

// INVALID_ARGUMENT above the limit: what holds no messages is looked at as a whole, so it must not cost more than it
// may.
absl::Status CheckFrameSize(absl::string_view what, size_t bytes, size_t limit);

struct AppendFrame {
  uint32_t alias = 0;
  uint64_t first_sequence = 0;
  // Shares the frame's memory.
  raft::Bytes batch;
};

using PublishFrame = std::variant<v1::OpenPublish, v1::Bind, AppendFrame>;

// Of Bind.alias: they are below it.
inline constexpr uint32_t kMaxAliases = 65'536;

// INVALID_ARGUMENT when it does not parse or holds no frame.
absl::StatusOr<PublishFrame> ParsePublishRequest(const raft::Bytes& frame);

// A PublishRequest with an Append, around a batch that is not copied.
grpc::ByteBuffer AppendRequest(uint32_t alias, uint64_t first_sequence, const raft::Bytes& batch);

v1::Outcome ToProto(PublishOutcome::Kind kind);
v1::RefusedBy ToProto(Refusal::By by);
// What became of messages that were published to an exchange; `first_sequence` is their batch's.
void ToProto(const Verdict& verdict, uint64_t first_sequence, v1::Confirm* confirm);

// Which kind of frame a PublishRequest or PublishResponse holds (its oneof's field number), and the alias in it if it
// has one. 0 = not to be told. For forwarding, where the rest is none of our business.
struct FrameKind {
  uint32_t field = 0;
  uint32_t alias = 0;
};
FrameKind PeekFrame(const raft::Bytes& frame);

// How many fields the message in a frame's first field has, of itself: what parsing it would make objects of.
size_t CountFields(const raft::Bytes& frame);

// A SendRequest whose batch shares the request's memory.
struct SendFrame {
  std::string queue;
  // The target, if it is an exchange.
  std::optional<std::string> exchange;
  std::string producer;
  uint64_t epoch = 0;
  uint64_t first_sequence = 0;
  raft::Bytes batch;
  bool mandatory = false;
  uint64_t metadata_index = 0;
};
absl::StatusOr<SendFrame> ParseSendRequest(const raft::Bytes& request);

// Assembles ConsumeResponse{deliver}: run headers are written, batches are spliced in (small ones are copied together).
class DeliverBuilder {
 public:
  // `batch` is the encoded batch of exactly these slots.
  void Add(uint64_t first_position, uint64_t checkout_index, uint32_t count, uint32_t deliveries,
           const raft::Bytes& batch);
  bool empty() const { return size_ == 0; }
  // Bytes so far; the frame will be at most 12 bytes longer.
  size_t size() const { return size_; }
  // The frame; the builder is empty afterwards.
  grpc::ByteBuffer Take();

 private:
  void FlushSmall();

  std::vector<grpc::Slice> slices_;
  std::string small_;
  size_t size_ = 0;
};

}  // namespace trireme::broker
