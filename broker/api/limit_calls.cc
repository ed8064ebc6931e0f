#include "broker/api/limit_calls.h"

#include "broker/api/errors.h"
#include "broker/temporary/name.h"

namespace trireme::broker {

v1::QueueLimits ToProto(const queue::QueueSettings& settings) {
  v1::QueueLimits out;
  out.set_max_messages(settings.max_messages);
  out.set_max_bytes(settings.max_bytes);
  out.set_max_message_bytes(settings.max_message_bytes);
  out.set_ttl_ms(settings.ttl_ms);
  switch (settings.overflow) {
    case queue::Overflow::kReject:
      break;
    case queue::Overflow::kDropOldest:
      out.set_overflow(v1::OVERFLOW_DROP_OLDEST);
      break;
    case queue::Overflow::kDeadLetter:
      out.set_overflow(v1::OVERFLOW_DEAD_LETTER);
      break;
  }
  return out;
}

namespace {

queue::Overflow FromProto(v1::Overflow overflow) {
  switch (overflow) {
    case v1::OVERFLOW_DROP_OLDEST:
      return queue::Overflow::kDropOldest;
    case v1::OVERFLOW_DEAD_LETTER:
      return queue::Overflow::kDeadLetter;
    default:
      return queue::Overflow::kReject;
  }
}

}  // namespace

absl::StatusOr<std::string> InspectChangeQueue(QueueCall& call) {
  absl::StatusOr<v1::ChangeQueueRequest> request = ParseRequest<v1::ChangeQueueRequest>(call);
  if (!request.ok()) return request.status();
  if (!v1::Overflow_IsValid(request->limits().overflow())) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "OUT_OF_RANGE", .name = "overflow"},
                 "overflow is none of REJECT, DROP_OLDEST and DEAD_LETTER");
  }
  call.repeatable = true;
  return request->name();
}

void ActChangeQueue(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  if (IsTemporary(queue->group)) {
    return Reply(call, Error(absl::StatusCode::kInvalidArgument, {.reason = "TEMPORARY_QUEUE", .name = queue->name},
                             "a temporary queue has the limits that it was made with; make another one"));
  }
  const auto limits = Reparse<v1::ChangeQueueRequest>(call).limits();
  replica.ChangeQueue({.max_messages = limits.max_messages(),
                       .max_bytes = limits.max_bytes(),
                       .max_message_bytes = limits.max_message_bytes(),
                       .ttl_ms = limits.ttl_ms(),
                       .overflow = FromProto(limits.overflow())},
                      [call](const absl::Status& status) {
                        if (!status.ok()) return Reply(call, status);
                        Reply(call, v1::ChangeQueueResponse());
                      });
}

}  // namespace trireme::broker
