#include "raft/grpc/buffers.h"

#include <google/protobuf/message_lite.h>
#include <grpc/slice.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <memory>
#include <utility>

namespace trireme::raft {
namespace {

// Below this a copy is cheaper than a count of references and a call to let go.
constexpr size_t kCopyBelow = 256;

}  // namespace

grpc::Slice ToSlice(const Bytes& bytes) {
  if (bytes.size() < kCopyBelow) return CopyToSlice(bytes.view());
  auto* owner = new Bytes(bytes);
  // gRPC does not write to a slice's memory.
  return grpc::Slice(
      const_cast<char*>(bytes.data()), bytes.size(), [](void* p) { delete static_cast<Bytes*>(p); }, owner);
}

grpc::Slice CopyToSlice(std::string_view bytes) {
  return grpc::Slice(bytes.data(), bytes.size());
}

grpc::Slice TakeToSlice(std::string bytes) {
  if (bytes.size() < kCopyBelow) return CopyToSlice(bytes);
  auto* owner = new std::string(std::move(bytes));
  return grpc::Slice(
      owner->data(), owner->size(), [](void* p) { delete static_cast<std::string*>(p); }, owner);
}

Bytes FromSlice(const grpc::Slice& slice) {
  if (slice.size() == 0) return {};
  // A short slice holds its bytes within itself, so the address is taken from the copy that is kept.
  auto owner = std::make_shared<const grpc::Slice>(slice);
  const char* data = reinterpret_cast<const char*>(owner->begin());
  size_t size = owner->size();
  return Bytes(std::move(owner), data, size);
}

grpc::ByteBuffer ToBuffer(const Bytes& bytes) {
  grpc::Slice slice = ToSlice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

absl::StatusOr<Bytes> FromBuffer(const grpc::ByteBuffer& buffer) {
  if (buffer.Length() == 0) return Bytes();
  grpc::Slice slice;
  if (buffer.TrySingleSlice(&slice).ok() || buffer.DumpToSingleSlice(&slice).ok()) return FromSlice(slice);
  return absl::InvalidArgumentError("the message's bytes cannot be read");
}

grpc::ByteBuffer Serialize(const google::protobuf::MessageLite& message) {
  grpc_slice raw = grpc_slice_malloc(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(GRPC_SLICE_START_PTR(raw));
  grpc::Slice slice(raw, grpc::Slice::STEAL_REF);
  return grpc::ByteBuffer(&slice, 1);
}

absl::Status Parse(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite* message) {
  message->Clear();
  if (!buffer.Valid() || buffer.Length() == 0) return absl::OkStatus();  // no bytes are a message of defaults
  grpc::ByteBuffer copy = buffer;                                        // shares the slices
  grpc::ProtoBufferReader reader(&copy);
  if (!message->ParseFromZeroCopyStream(&reader) || !reader.status().ok()) {
    return absl::InvalidArgumentError("the bytes are not a " + message->GetTypeName());
  }
  return absl::OkStatus();
}

}  // namespace trireme::raft
