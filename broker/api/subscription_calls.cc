#include "broker/api/subscription_calls.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/errors.h"
#include "broker/cluster/names.h"

namespace trireme::broker {
namespace {

queue::SubscriptionSettings FromProto(const v1::SubscriptionSettings& settings) {
  queue::SubscriptionSettings out;
  out.filter = settings.filter();
  out.retry_delay_ms = settings.retry_delay_ms();
  if (settings.retry_percent() != 0) out.retry_percent = settings.retry_percent();
  out.max_retry_delay_ms = settings.max_retry_delay_ms() != 0 ? settings.max_retry_delay_ms()
                                                              : std::max(out.max_retry_delay_ms, out.retry_delay_ms);
  out.delivery_limit = settings.delivery_limit();
  return out;
}

SubscriptionStart FromProto(const v1::SubscriptionStart& start) {
  using At = SubscriptionStart::At;
  switch (start.at_case()) {
    case v1::SubscriptionStart::kFirst:
      return {.at = At::kFirst};
    case v1::SubscriptionStart::kPosition:
      return {.at = At::kPosition, .position = queue::Position(start.position())};
    case v1::SubscriptionStart::kTimeMs:
      return {.at = At::kTime, .time_ms = start.time_ms()};
    case v1::SubscriptionStart::kEnd:
    case v1::SubscriptionStart::AT_NOT_SET:
      break;
  }
  return {.at = At::kEnd};
}

// All of them name a queue and a subscription, and may be done twice.
template <typename Request>
absl::StatusOr<std::string> Inspect(QueueCall& call) {
  absl::StatusOr<Request> request = ParseRequest<Request>(call);
  if (!request.ok()) return request.status();
  if (absl::Status named = ValidateSubscriptionName(request->name()); !named.ok()) return named;
  call.repeatable = true;
  return request->queue();
}

}  // namespace

v1::SubscriptionFigures ToProto(const SubscriptionFigures& figures) {
  v1::SubscriptionFigures out;
  out.set_name(figures.name);
  out.set_waiting(figures.waiting);
  out.set_in_flight(figures.in_flight);
  out.set_consumers(figures.consumers);
  out.set_acknowledged(figures.acknowledged);
  out.set_rejected(figures.rejected);
  out.set_skipped(figures.skipped);
  out.set_full(figures.capped);
  out.set_dead(figures.dead);
  out.mutable_settings()->set_filter(figures.settings.filter);
  out.mutable_settings()->set_retry_delay_ms(figures.settings.retry_delay_ms);
  out.mutable_settings()->set_retry_percent(figures.settings.retry_percent);
  out.mutable_settings()->set_max_retry_delay_ms(figures.settings.max_retry_delay_ms);
  out.mutable_settings()->set_delivery_limit(figures.settings.delivery_limit);
  return out;
}

absl::StatusOr<std::string> InspectCreateSubscription(QueueCall& call) {
  return Inspect<v1::CreateSubscriptionRequest>(call);
}

void ActCreateSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr&) {
  auto request = Reparse<v1::CreateSubscriptionRequest>(call);
  replica.CreateSubscription(request.name(), FromProto(request.settings()), FromProto(request.start()),
                             [call](absl::StatusOr<SubscriptionMade> made) {
                               if (!made.ok()) return Reply(call, made.status());
                               v1::CreateSubscriptionResponse response;
                               response.set_created(made->created);
                               Reply(call, response);
                             });
}

absl::StatusOr<std::string> InspectChangeSubscription(QueueCall& call) {
  return Inspect<v1::ChangeSubscriptionRequest>(call);
}

void ActChangeSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr&) {
  auto request = Reparse<v1::ChangeSubscriptionRequest>(call);
  replica.ChangeSubscription(request.name(), FromProto(request.settings()),
                             [call](absl::StatusOr<SubscriptionMade> made) {
                               if (!made.ok()) return Reply(call, made.status());
                               Reply(call, v1::ChangeSubscriptionResponse());
                             });
}

absl::StatusOr<std::string> InspectDeleteSubscription(QueueCall& call) {
  return Inspect<v1::DeleteSubscriptionRequest>(call);
}

void ActDeleteSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr&) {
  auto request = Reparse<v1::DeleteSubscriptionRequest>(call);
  replica.DeleteSubscription(request.name(), [call](absl::StatusOr<SubscriptionMade> made) {
    if (!made.ok()) return Reply(call, made.status());
    Reply(call, v1::DeleteSubscriptionResponse());
  });
}

}  // namespace trireme::broker
