#include "client/producer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/producer_impl.h"
#include "client/sync.h"

namespace trireme::client {

Producer::Producer(std::shared_ptr<ProducerImpl> impl) : impl_(std::move(impl)) {}

Producer::~Producer() {
  // Held until the end, so that the client's thread is never the one to end itself.
  std::shared_ptr<Core> core = impl_->Close();
}

absl::StatusOr<uint64_t> Producer::WaitOpen(std::chrono::milliseconds timeout) {
  return impl_->WaitOpen(timeout);
}

absl::StatusOr<uint64_t> Producer::Publish(const v1::Message& message, Callback done) {
  return impl_->Publish(message, std::move(done), true);
}
absl::StatusOr<uint64_t> Producer::PublishBody(std::string_view body) {
  return impl_->PublishBody(body, true);
}

absl::StatusOr<uint64_t> Producer::TryPublish(const v1::Message& message, Callback done) {
  return impl_->Publish(message, std::move(done), false);
}
absl::StatusOr<uint64_t> Producer::TryPublishBody(std::string_view body) {
  return impl_->PublishBody(body, false);
}

absl::StatusOr<Confirmation> Producer::PublishAndWait(const v1::Message& message) {
  Confirmation result;
  std::string reason;
  Notification resolved;
  absl::StatusOr<uint64_t> ticket = impl_->Publish(
      message,
      [&](const Confirmation& confirmation) {
        result = confirmation;
        reason = std::string(confirmation.reason);
        resolved.Notify();
      },
      true);
  if (!ticket.ok()) return ticket.status();
  resolved.Wait();
  result.reason = {};
  switch (result.outcome) {
    case v1::OUTCOME_OK:
    case v1::OUTCOME_DUPLICATE:
      return result;
    case v1::OUTCOME_REFUSED:
      return absl::FailedPreconditionError(absl::StrCat("the message was refused: ", reason));
    case v1::OUTCOME_FENCED:
      return absl::AbortedError(absl::StrCat("the producer is fenced: ", reason));
    case v1::OUTCOME_UNROUTABLE:
      return absl::NotFoundError(absl::StrCat("the message is unroutable: ", reason));
    default:
      return absl::UnknownError(absl::StrCat("whether the message is stored is unknown: ", reason));
  }
}

absl::Status Producer::Flush(std::chrono::milliseconds timeout) {
  return impl_->Flush(timeout);
}
absl::Status Producer::closed() const {
  return impl_->closed();
}
uint64_t Producer::in_flight() const {
  return impl_->in_flight();
}
uint64_t Producer::reconnects() const {
  return impl_->connector().reconnects();
}
std::string Producer::server() const {
  return impl_->connector().server();
}

}  // namespace trireme::client
