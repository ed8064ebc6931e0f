#include "broker/api/send_answer.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "broker/api/frames.h"
#include "broker/ops/error.h"

namespace trireme::broker {
namespace {

const char* NameOf(Refusal::By by) {
  switch (by) {
    case Refusal::By::kNothing:
      break;
    case Refusal::By::kQueueMessages:
      return "QUEUE_MESSAGES";
    case Refusal::By::kQueueBytes:
      return "QUEUE_BYTES";
    case Refusal::By::kMessageSize:
      return "MESSAGE_SIZE";
    case Refusal::By::kKeyMissing:
      return "KEY_MISSING";
  }
  return "REFUSED";
}

}  // namespace

std::optional<absl::StatusOr<v1::SendResponse>> SendAnswer::Add(const PublishOutcome& outcome) {
  if (outcome.count >= messages_) {
    if (outcome.kind == PublishOutcome::Kind::kMoved)
      return Error(outcome.code, {.reason = kNotLeader}, outcome.reason);
    if (outcome.kind == PublishOutcome::Kind::kRefused) {
      const std::string limit = outcome.refusal.limit == 0 ? "" : absl::StrCat(outcome.refusal.limit);
      return Error(outcome.code, {.reason = NameOf(outcome.refusal.by), .limit = limit}, outcome.reason);
    }
  }
  v1::Confirm* confirm = response_.add_confirms();
  confirm->set_first_sequence(outcome.first_sequence);
  confirm->set_count(outcome.count);
  confirm->set_first_position(outcome.first.packed());
  confirm->set_reason(outcome.reason);
  confirm->set_outcome(ToProto(outcome.kind));
  confirm->set_refused_by(ToProto(outcome.refusal.by));
  confirm->set_limit(outcome.refusal.limit);
  left_ -= std::min(left_, outcome.count);
  if (left_ > 0) return std::nullopt;
  return response_;
}

}  // namespace trireme::broker
