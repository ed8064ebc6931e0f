#include "client/wire.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace trireme::client {
namespace {

using google::protobuf::io::CodedOutputStream;

// Field number and wire type, as protobuf has it.
constexpr uint32_t Tag(uint32_t field, uint32_t wire_type) {
  return field << 3 | wire_type;
}
// Below this a copy is cheaper than a second slice.
constexpr size_t kCopyBelow = 1'024;

constexpr uint32_t kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5;

constexpr char kRecordTag = Tag(v1::MessageBatch::kMessagesFieldNumber, kLength);
constexpr char kBodyTag = Tag(v1::Message::kBodyFieldNumber, kLength);
constexpr uint32_t kDeliverTag = Tag(v1::ConsumeResponse::kDeliverFieldNumber, kLength);

size_t VarintBytes(uint64_t value) {
  return CodedOutputStream::VarintSize64(value);
}

void AppendVarint(uint64_t value, std::string& out) {
  char bytes[10];
  size_t n = 0;
  while (value >= 0x80) {
    bytes[n++] = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  bytes[n++] = static_cast<char>(value);
  out.append(bytes, n);
}

// Walks the fields of one message. After an error every further step fails, too.
class Walker {
 public:
  explicit Walker(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  // Goes to the next field; false at the end or on an error.
  bool Next() {
    if (at_ == end_ || failed_) return false;
    uint64_t tag;
    if (!Varint(tag)) return false;
    tag_ = static_cast<uint32_t>(tag);
    switch (tag_ & 7) {
      case kVarint:
        return Varint(number_);
      case kLength:
        return Varint(number_) && Take(number_);
      case kFixed64:
        return Take(8);
      case kFixed32:
        return Take(4);
      default:
        return Fail();
    }
  }
  uint32_t tag() const { return tag_; }
  uint64_t number() const { return number_; }
  std::string_view bytes() const { return bytes_; }
  bool failed() const { return failed_; }

 private:
  bool Fail() {
    failed_ = true;
    return false;
  }
  bool Varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && at_ != end_; shift += 7) {
      uint8_t byte = static_cast<uint8_t>(*at_++);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return Fail();
  }
  bool Take(uint64_t n) {
    if (n > static_cast<uint64_t>(end_ - at_)) return Fail();
    bytes_ = {at_, static_cast<size_t>(n)};
    at_ += n;
    return true;
  }

  const char* at_;
  const char* const end_;
  uint32_t tag_ = 0;
  uint64_t number_ = 0;
  std::string_view bytes_;
  bool failed_ = false;
};

// Of an encoded Message; where the field comes twice, the last one counts.
bool ReadBody(std::string_view record, std::string_view& body) {
  Walker fields(record);
  while (fields.Next()) {
    if (fields.tag() == static_cast<uint32_t>(kBodyTag)) body = fields.bytes();
  }
  return !fields.failed();
}

absl::Status ReadRun(const std::shared_ptr<const Frame>& frame, uint64_t group, std::string_view run_bytes,
                     Delivered& delivered) {
  v1::HeldRun run;
  uint32_t deliveries = 0;
  std::string_view batch;
  Walker fields(run_bytes);
  while (fields.Next()) {
    switch (fields.tag()) {
      case Tag(v1::Run::kFirstPositionFieldNumber, kVarint):
        run.set_first_position(fields.number());
        break;
      case Tag(v1::Run::kCheckoutIndexFieldNumber, kVarint):
        run.set_checkout_index(fields.number());
        break;
      case Tag(v1::Run::kCountFieldNumber, kVarint):
        run.set_count(static_cast<uint32_t>(fields.number()));
        break;
      case Tag(v1::Run::kDeliveriesFieldNumber, kVarint):
        deliveries = static_cast<uint32_t>(fields.number());
        break;
      case Tag(v1::Run::kBatchFieldNumber, kLength):
        batch = fields.bytes();
        break;
      default:
        break;
    }
  }
  if (fields.failed()) return absl::DataLossError("a run of a Deliver frame does not parse");
  uint32_t count = 0;
  Walker records(batch);
  while (records.Next()) {
    if (records.tag() != static_cast<uint32_t>(kRecordTag)) continue;
    std::string_view body;
    if (!ReadBody(records.bytes(), body)) {
      return absl::DataLossError(
          absl::StrCat("message ", count, " of the run at position ", run.first_position(), " does not parse"));
    }
    const DeliveryToken token{group, run.first_position() + count, run.checkout_index()};
    delivered.messages.emplace_back(frame, records.bytes(), body, token, deliveries);
    ++count;
  }
  if (records.failed() || count != run.count()) {
    return absl::DataLossError(absl::StrCat("the run at position ", run.first_position(), " says ", run.count(),
                                            " messages and holds ", count));
  }
  delivered.bytes += batch.size();
  if (count > 0) delivered.runs.push_back(std::move(run));
  return absl::OkStatus();
}

}  // namespace

size_t RecordBytes(size_t message_bytes) {
  return 1 + VarintBytes(message_bytes) + message_bytes;
}

size_t BodyMessageBytes(size_t body_bytes) {
  return body_bytes == 0 ? 0 : 1 + VarintBytes(body_bytes) + body_bytes;
}

void AppendRecord(const v1::Message& message, size_t message_bytes, std::string& batch) {
  batch.push_back(kRecordTag);
  AppendVarint(message_bytes, batch);
  size_t at = batch.size();
  batch.resize(at + message_bytes);
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(batch.data() + at));
}

void AppendBodyRecord(std::string_view body, std::string& batch) {
  batch.push_back(kRecordTag);
  AppendVarint(BodyMessageBytes(body.size()), batch);
  if (body.empty()) return;
  batch.push_back(kBodyTag);
  AppendVarint(body.size(), batch);
  batch.append(body);
}

grpc::ByteBuffer AppendFrame(uint32_t alias, uint64_t first_sequence, const grpc::Slice& batch) {
  // Zeros are left out, as proto3 does.
  std::string fields;
  if (alias != 0) {
    fields.push_back(static_cast<char>(Tag(v1::Append::kAliasFieldNumber, kVarint)));
    AppendVarint(alias, fields);
  }
  if (first_sequence != 0) {
    fields.push_back(static_cast<char>(Tag(v1::Append::kFirstSequenceFieldNumber, kVarint)));
    AppendVarint(first_sequence, fields);
  }
  fields.push_back(static_cast<char>(Tag(v1::Append::kBatchFieldNumber, kLength)));
  AppendVarint(batch.size(), fields);
  std::string head;
  head.push_back(static_cast<char>(Tag(v1::PublishRequest::kAppendFieldNumber, kLength)));
  AppendVarint(fields.size() + batch.size(), head);
  head += fields;
  if (batch.size() < kCopyBelow) {
    head.append(reinterpret_cast<const char*>(batch.begin()), batch.size());
    const grpc::Slice slice(head);
    return grpc::ByteBuffer(&slice, 1);
  }
  const grpc::Slice slices[] = {grpc::Slice(head), batch};
  return grpc::ByteBuffer(slices, 2);
}

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message) {
  grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

bool Decode(grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message) {
  grpc::ProtoBufferReader reader(&buffer);
  return reader.status().ok() && message.ParseFromZeroCopyStream(&reader);
}

Frame::Frame(const grpc::ByteBuffer& buffer) {
  if (buffer.TrySingleSlice(&slice_).ok()) return;
  // Fails only for a buffer without content: then the frame is empty.
  if (!buffer.DumpToSingleSlice(&slice_).ok()) slice_ = grpc::Slice();
}

bool IsDeliver(std::string_view frame) {
  Walker fields(frame);
  return fields.Next() && fields.tag() == kDeliverTag;
}

absl::Status ReadDeliver(const std::shared_ptr<const Frame>& frame, uint64_t group, Delivered& delivered) {
  Walker frames(frame->bytes());
  if (!frames.Next() || frames.tag() != kDeliverTag) return absl::DataLossError("a Deliver frame does not parse");
  Walker runs(frames.bytes());
  while (runs.Next()) {
    if (runs.tag() != Tag(v1::Deliver::kRunsFieldNumber, kLength)) continue;
    if (absl::Status status = ReadRun(frame, group, runs.bytes(), delivered); !status.ok()) return status;
  }
  if (runs.failed()) return absl::DataLossError("a Deliver frame does not parse");
  return absl::OkStatus();
}

absl::StatusOr<v1::Message> Delivery::Decode() const {
  v1::Message message;
  if (!message.ParseFromArray(record_.data(), static_cast<int>(record_.size()))) {
    return absl::DataLossError(absl::StrCat("the message at position ", position() >> 16, ":", position() & 0xffff,
                                            " does not parse as trireme.v1.Message"));
  }
  return message;
}

}  // namespace trireme::client
