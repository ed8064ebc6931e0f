#include "broker/api/limit_calls.h"

#include "broker/api/errors.h"
#include "broker/temporary/name.h"

namespace trireme::broker {

v1::QueueLimits ToProto(const queue::QueueSettings& settings) {
  v1::QueueLimits out;
  out.set_max_messages(settings.max_messages);
  out.set_max_bytes(settings.max_bytes);
  out.set_max_message_bytes(settings.max_message_bytes);
  return out;
}

absl::StatusOr<std::string> InspectChangeQueue(QueueCall& call) {
  absl::StatusOr<v1::ChangeQueueRequest> request = ParseRequest<v1::ChangeQueueRequest>(call);
  if (!request.ok()) return request.status();
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
                       .max_message_bytes = limits.max_message_bytes()},
                      [call](const absl::Status& status) {
                        if (!status.ok()) return Reply(call, status);
                        Reply(call, v1::ChangeQueueResponse());
                      });
}

}  // namespace trireme::broker
