// Between our bytes and gRPC's, without copying what is large.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "raft/core/bytes.h"

namespace google::protobuf {
class MessageLite;
}

namespace trireme::raft {

// Shares `bytes`, or copies what is so small that sharing costs more.
grpc::Slice ToSlice(const Bytes& bytes);
// A copy.
grpc::Slice CopyToSlice(std::string_view bytes);
// Takes the string's memory over.
grpc::Slice TakeToSlice(std::string bytes);
// Shares the slice's memory.
Bytes FromSlice(const grpc::Slice& slice);

grpc::ByteBuffer ToBuffer(const Bytes& bytes);
// The whole buffer in one piece: shared if it is in one slice, and else copied once. An error if the buffer was not
// valid (a corrupt compressed message).
absl::StatusOr<Bytes> FromBuffer(const grpc::ByteBuffer& buffer);

// Protobuf at the edges.
grpc::ByteBuffer Serialize(const google::protobuf::MessageLite& message);
// INVALID_ARGUMENT if the bytes are not such a message.
absl::Status Parse(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite* message);

}  // namespace trireme::raft
