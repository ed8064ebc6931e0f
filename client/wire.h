// Frames of the message path, written and read by hand, so that a message's bytes are encoded once and copied little.
// The encoding is protobuf's, as proto/trireme/v1 defines it.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "client/delivery.h"
#include "trireme/v1/broker.pb.h"
#include "trireme/v1/message.pb.h"

namespace trireme::client {

// What a record of a MessageBatch takes: the message with its tag and length. `message_bytes`: its encoded size.
size_t RecordBytes(size_t message_bytes);
// The encoded size of a message that has only a body.
size_t BodyMessageBytes(size_t body_bytes);

// Appends a record to an encoded batch. `message_bytes` is message.ByteSizeLong().
void AppendRecord(const v1::Message& message, size_t message_bytes, std::string& batch);
void AppendBodyRecord(std::string_view body, std::string& batch);

// A PublishRequest with an Append, around a batch that is already encoded and is not copied.
grpc::ByteBuffer AppendFrame(uint32_t alias, uint64_t first_sequence, const grpc::Slice& batch);

// Any other frame.
grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message);
// False: the bytes do not parse.
bool Decode(grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message);

// The bytes of a frame in one piece. Copied only where gRPC received them in several.
class Frame {
 public:
  explicit Frame(const grpc::ByteBuffer& buffer);
  std::string_view bytes() const { return {reinterpret_cast<const char*>(slice_.begin()), slice_.size()}; }

 private:
  grpc::Slice slice_;
};

// What a Deliver frame holds: the runs, and their messages in the same order.
struct Delivered {
  std::vector<v1::HeldRun> runs;
  std::vector<Delivery> messages;
  // The bytes of the batches.
  uint64_t bytes = 0;
};

// Whether a ConsumeResponse is a Deliver.
bool IsDeliver(std::string_view frame);
// Reads one that came on a stream of `group`; the deliveries share `frame`. DATA_LOSS: it does not parse, or a run's
// count is not that of its records.
absl::Status ReadDeliver(const std::shared_ptr<const Frame>& frame, uint64_t group, Delivered& delivered);

}  // namespace trireme::client
