#include "broker/api/frames.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"
#include "raft/core/coding.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

constexpr uint32_t kVarint = 0, kFixed64 = 1, kCounted = 2, kFixed32 = 5;

// Copied together below this size, spliced above.
constexpr size_t kSpliceBytes = 1024;

// One field of an encoded message.
struct Field {
  uint32_t number = 0;
  uint64_t integer = 0;      // of a varint
  std::string_view counted;  // of a length-delimited one
  bool is_counted = false;
};

// The next field; number 0 when the rest does not parse.
Field NextField(raft::Reader& in) {
  uint64_t tag = in.Varint();
  Field f;
  switch (tag & 7) {
    case kVarint:
      f.integer = in.Varint();
      break;
    case kFixed64:
      in.Fixed64();
      break;
    case kCounted:
      f.counted = in.Counted();
      f.is_counted = true;
      break;
    case kFixed32:
      in.Fixed32();
      break;
    default:
      return {};
  }
  if (in.ok() && (tag >> 3) <= 0x1fffffff) f.number = static_cast<uint32_t>(tag >> 3);
  return f;
}

v1::Outcome OutcomeOf(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kStored:
      return v1::OUTCOME_OK;
    case Verdict::Kind::kDuplicate:
      return v1::OUTCOME_DUPLICATE;
    case Verdict::Kind::kFenced:
      return v1::OUTCOME_FENCED;
    case Verdict::Kind::kRefused:
      return v1::OUTCOME_REFUSED;
    case Verdict::Kind::kUnroutable:
      return v1::OUTCOME_UNROUTABLE;
    case Verdict::Kind::kUnknown:
      break;
  }
  return v1::OUTCOME_UNKNOWN;
}

v1::Outcome OutcomeOf(QueueOutcome outcome) {
  switch (outcome) {
    case QueueOutcome::kStored:
      return v1::OUTCOME_OK;
    case QueueOutcome::kDuplicate:
      return v1::OUTCOME_DUPLICATE;
    case QueueOutcome::kFenced:
      return v1::OUTCOME_FENCED;
    case QueueOutcome::kRefused:
    case QueueOutcome::kGone:
      return v1::OUTCOME_REFUSED;
    case QueueOutcome::kUnknown:
      break;
  }
  return v1::OUTCOME_UNKNOWN;
}

raft::Bytes Part(const raft::Bytes& whole, std::string_view part) {
  if (part.empty()) return {};
  return whole.Sub(static_cast<size_t>(part.data() - whole.data()), part.size());
}

absl::Status Malformed(absl::string_view what, const raft::Bytes& frame) {
  return absl::InvalidArgumentError(absl::StrCat("a ", what, " of ", frame.size(), " bytes does not parse"));
}

// Names of at most 255 bytes and a few numbers. One Bind is kept per alias.
constexpr size_t kMaxBindBytes = 4096;

}  // namespace

absl::Status CheckFrameSize(absl::string_view what, size_t bytes, size_t limit) {
  if (bytes <= limit) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument,
               {.reason = "FRAME_TOO_LARGE", .limit = absl::StrCat(limit, " bytes")},
               absl::StrCat("a frame of ", bytes, " bytes; ", what, " must have at most ", limit));
}

absl::StatusOr<PublishFrame> ParsePublishRequest(const raft::Bytes& frame) {
  raft::Reader in(frame.view());
  Field outer = NextField(in);
  if (outer.number == 0 || !outer.is_counted || !in.done()) return Malformed("PublishRequest", frame);
  if (outer.number == v1::PublishRequest::kAppendFieldNumber) {
    AppendFrame append;
    raft::Reader body(outer.counted);
    while (!body.empty()) {
      Field f = NextField(body);
      if (f.number == 0) return Malformed("Append", frame);
      if (f.number == v1::Append::kAliasFieldNumber) append.alias = static_cast<uint32_t>(f.integer);
      if (f.number == v1::Append::kFirstSequenceFieldNumber) append.first_sequence = f.integer;
      if (f.number == v1::Append::kBatchFieldNumber && f.is_counted) append.batch = Part(frame, f.counted);
    }
    return append;
  }
  if (absl::Status small = CheckFrameSize("Open or Bind", frame.size(), kMaxBindBytes); !small.ok()) return small;
  v1::PublishRequest request;
  if (!request.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) return Malformed("PublishRequest", frame);
  if (request.has_open()) return std::move(*request.mutable_open());
  if (request.has_bind()) return std::move(*request.mutable_bind());
  return absl::InvalidArgumentError("a PublishRequest holds none of open, bind, append");
}

grpc::ByteBuffer AppendRequest(uint32_t alias, uint64_t first_sequence, const raft::Bytes& batch) {
  raft::Writer fields;
  fields.Byte(v1::Append::kAliasFieldNumber << 3 | kVarint);
  fields.Varint(alias);
  fields.Byte(v1::Append::kFirstSequenceFieldNumber << 3 | kVarint);
  fields.Varint(first_sequence);
  fields.Byte(v1::Append::kBatchFieldNumber << 3 | kCounted);
  fields.Varint(batch.size());
  raft::Writer head;
  head.Byte(v1::PublishRequest::kAppendFieldNumber << 3 | kCounted);
  head.Varint(fields.size() + batch.size());
  head.Raw(fields.bytes());
  const grpc::Slice slices[] = {raft::TakeToSlice(head.Take()), raft::ToSlice(batch)};
  return {slices, 2};
}

v1::Outcome ToProto(PublishOutcome::Kind kind) {
  switch (kind) {
    case PublishOutcome::Kind::kOk:
      return v1::OUTCOME_OK;
    case PublishOutcome::Kind::kDuplicate:
      return v1::OUTCOME_DUPLICATE;
    case PublishOutcome::Kind::kFenced:
      return v1::OUTCOME_FENCED;
    case PublishOutcome::Kind::kRefused:
    case PublishOutcome::Kind::kMoved:
      return v1::OUTCOME_REFUSED;
    case PublishOutcome::Kind::kUnknown:
      break;
  }
  return v1::OUTCOME_UNKNOWN;
}

v1::RefusedBy ToProto(Refusal::By by) {
  switch (by) {
    case Refusal::By::kNothing:
      break;
    case Refusal::By::kQueueMessages:
      return v1::REFUSED_BY_QUEUE_MESSAGES;
    case Refusal::By::kQueueBytes:
      return v1::REFUSED_BY_QUEUE_BYTES;
    case Refusal::By::kMessageSize:
      return v1::REFUSED_BY_MESSAGE_SIZE;
    case Refusal::By::kKeyMissing:
      return v1::REFUSED_BY_KEY_MISSING;
  }
  return v1::REFUSED_BY_UNSPECIFIED;
}

void ToProto(const Verdict& verdict, uint64_t first_sequence, v1::Confirm* confirm) {
  confirm->set_first_sequence(first_sequence + verdict.messages.offset);
  confirm->set_count(verdict.messages.count);
  confirm->set_outcome(OutcomeOf(verdict.kind));
  confirm->set_reason(verdict.reason);
  for (const Verdict::Part& part : verdict.parts) {
    v1::QueueOutcome* queue = confirm->add_queues();
    queue->set_queue(part.queue);
    queue->set_outcome(OutcomeOf(part.outcome));
    queue->set_reason(part.reason);
  }
}

FrameKind PeekFrame(const raft::Bytes& frame) {
  raft::Reader in(frame.view());
  Field outer = NextField(in);
  if (!outer.is_counted) return {};
  FrameKind kind{outer.number, 0};
  // In every frame that names an alias it is field 1.
  raft::Reader body(outer.counted);
  while (!body.empty()) {
    Field f = NextField(body);
    if (f.number == 0) break;
    if (f.number == 1 && !f.is_counted) {
      kind.alias = static_cast<uint32_t>(f.integer);
      break;
    }
  }
  return kind;
}

size_t CountFields(const raft::Bytes& frame) {
  raft::Reader in(frame.view());
  size_t count = 0;
  for (raft::Reader body(NextField(in).counted); !body.empty() && NextField(body).number != 0;) ++count;
  return count;
}

absl::StatusOr<SendFrame> ParseSendRequest(const raft::Bytes& request) {
  SendFrame send;
  raft::Reader in(request.view());
  while (!in.empty()) {
    Field f = NextField(in);
    if (f.number == 0) return Malformed("SendRequest", request);
    switch (f.number) {
      case v1::SendRequest::kQueueFieldNumber:
        send.queue = f.counted;
        send.exchange.reset();
        break;
      case v1::SendRequest::kExchangeFieldNumber:
        send.exchange = f.counted;
        break;
      case v1::SendRequest::kMandatoryFieldNumber:
        send.mandatory = f.integer != 0;
        break;
      case v1::SendRequest::kMetadataIndexFieldNumber:
        send.metadata_index = f.integer;
        break;
      case v1::SendRequest::kProducerFieldNumber:
        send.producer = f.counted;
        break;
      case v1::SendRequest::kEpochFieldNumber:
        send.epoch = f.integer;
        break;
      case v1::SendRequest::kFirstSequenceFieldNumber:
        send.first_sequence = f.integer;
        break;
      case v1::SendRequest::kBatchFieldNumber:
        if (f.is_counted) send.batch = Part(request, f.counted);
        break;
      default:
        break;
    }
  }
  return send;
}

void DeliverBuilder::Add(uint64_t first_position, uint64_t checkout_index, uint32_t count, uint32_t deliveries,
                         const raft::Bytes& batch) {
  raft::Writer fields;
  fields.Byte(v1::Run::kFirstPositionFieldNumber << 3 | kVarint);
  fields.Varint(first_position);
  fields.Byte(v1::Run::kCheckoutIndexFieldNumber << 3 | kVarint);
  fields.Varint(checkout_index);
  fields.Byte(v1::Run::kCountFieldNumber << 3 | kVarint);
  fields.Varint(count);
  fields.Byte(v1::Run::kDeliveriesFieldNumber << 3 | kVarint);
  fields.Varint(deliveries);
  fields.Byte(v1::Run::kBatchFieldNumber << 3 | kCounted);
  fields.Varint(batch.size());

  raft::Writer head;
  head.Byte(v1::Deliver::kRunsFieldNumber << 3 | kCounted);
  head.Varint(fields.size() + batch.size());

  small_ += head.bytes();
  small_ += fields.bytes();
  size_ += head.size() + fields.size() + batch.size();
  if (batch.size() < kSpliceBytes) {
    small_.append(batch.view());
  } else {
    FlushSmall();
    slices_.push_back(raft::ToSlice(batch));
  }
}

void DeliverBuilder::FlushSmall() {
  if (small_.empty()) return;
  slices_.emplace_back(small_);
  small_.clear();
}

grpc::ByteBuffer DeliverBuilder::Take() {
  FlushSmall();
  raft::Writer outer;
  outer.Byte(v1::ConsumeResponse::kDeliverFieldNumber << 3 | kCounted);
  outer.Varint(size_);
  std::vector<grpc::Slice> all;
  all.reserve(slices_.size() + 1);
  all.emplace_back(outer.bytes());
  for (grpc::Slice& s : slices_) all.push_back(std::move(s));
  slices_.clear();
  size_ = 0;
  return grpc::ByteBuffer(all.data(), all.size());
}

}  // namespace trireme::broker
