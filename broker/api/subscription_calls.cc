#include "broker/api/subscription_calls.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/dead_letter_calls.h"
#include "broker/api/errors.h"
#include "broker/cluster/names.h"
#include "broker/temporary/name.h"

namespace trireme::broker {
namespace {

constexpr size_t kMaxRoutingKeyBytes = 255;

queue::SubscriptionSettings FromProto(const v1::SubscriptionSettings& settings) {
  queue::SubscriptionSettings out;
  out.filter = settings.filter();
  out.retry_delay_ms = settings.retry_delay_ms();
  if (settings.retry_percent() != 0) out.retry_percent = settings.retry_percent();
  out.max_retry_delay_ms = settings.max_retry_delay_ms() != 0 ? settings.max_retry_delay_ms()
                                                              : std::max(out.max_retry_delay_ms, out.retry_delay_ms);
  out.delivery_limit = settings.delivery_limit();
  out.max_in_flight = settings.max_in_flight();
  out.dead_letter.queue = settings.dead_letter_queue();
  out.dead_letter.routing_key = settings.dead_letter_routing_key();
  out.single_active = settings.single_active();
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

template <typename Request>
absl::StatusOr<std::string> InspectWithSettings(QueueCall& call) {
  absl::StatusOr<Request> request = ParseRequest<Request>(call);
  if (!request.ok()) return request.status();
  const v1::SubscriptionSettings& settings = request->settings();
  if (settings.dead_letter_routing_key().size() > kMaxRoutingKeyBytes) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_ROUTING_KEY", .limit = "255 bytes"},
                 absl::StrCat("dead_letter_routing_key has ", settings.dead_letter_routing_key().size(),
                              " bytes; the limit is ", kMaxRoutingKeyBytes));
  }
  if (!settings.dead_letter_routing_key().empty() && settings.dead_letter_queue().empty()) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "NO_DEAD_LETTER_QUEUE"},
                 "dead_letter_routing_key is set and dead_letter_queue is not: name the queue, too");
  }
  return Inspect<Request>(call);
}

// Does `act` with the settings, once the queue of the dead letters is found, if there is to be one.
void WithSettings(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue,
                  const v1::SubscriptionSettings& wanted,
                  const std::function<void(QueueReplica&, queue::SubscriptionSettings)>& act) {
  queue::SubscriptionSettings settings = FromProto(wanted);
  if (settings.dead_letter.queue.empty()) return act(replica, std::move(settings));
  if (IsTemporary(queue->group)) {
    return Reply(call, Error(absl::StatusCode::kInvalidArgument, {.reason = "TEMPORARY_QUEUE", .name = queue->name},
                             "messages of a temporary queue go to no other queue; leave dead_letter_queue empty"));
  }
  const std::string target = settings.dead_letter.queue;
  FindDeadLetterTarget(call, queue, target,
                       [call, queue, settings = std::move(settings), act](absl::StatusOr<QueuePtr> found) mutable {
                         if (!found.ok()) return Respond(call, found.status());
                         settings.dead_letter.group = (*found)->group.value();
                         ShardApi* owner = call->api->of(queue->group);
                         RunOn(owner->shard(), [call, queue, owner, settings = std::move(settings), act]() mutable {
                           QueueReplica* here = owner->Replica(queue->group);
                           if (here == nullptr) return Reply(call, NotLeaderError(queue->name));
                           act(*here, std::move(settings));
                         });
                       });
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
  out.set_redriven(figures.redriven);
  out.set_expired(figures.expired);
  out.set_overflowed(figures.overflowed);
  out.set_leaving(figures.leaving);
  out.set_arrived(figures.arrived);
  out.set_trouble(figures.trouble);
  out.mutable_settings()->set_filter(figures.settings.filter);
  out.mutable_settings()->set_retry_delay_ms(figures.settings.retry_delay_ms);
  out.mutable_settings()->set_retry_percent(figures.settings.retry_percent);
  out.mutable_settings()->set_max_retry_delay_ms(figures.settings.max_retry_delay_ms);
  out.mutable_settings()->set_delivery_limit(figures.settings.delivery_limit);
  out.mutable_settings()->set_max_in_flight(figures.settings.max_in_flight);
  out.mutable_settings()->set_dead_letter_queue(figures.settings.dead_letter.queue);
  out.mutable_settings()->set_dead_letter_routing_key(figures.settings.dead_letter.routing_key);
  out.mutable_settings()->set_single_active(figures.settings.single_active);
  if (!figures.active_session.empty()) {
    out.mutable_active()->set_session(figures.active_session);
    out.mutable_active()->set_consumer(figures.active_consumer);
  }
  return out;
}

absl::StatusOr<std::string> InspectCreateSubscription(QueueCall& call) {
  return InspectWithSettings<v1::CreateSubscriptionRequest>(call);
}

void ActCreateSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  auto request = Reparse<v1::CreateSubscriptionRequest>(call);
  WithSettings(replica, call, queue, request.settings(),
               [call, request](QueueReplica& here, queue::SubscriptionSettings settings) {
                 here.CreateSubscription(request.name(), std::move(settings), FromProto(request.start()),
                                         [call](absl::StatusOr<SubscriptionMade> made) {
                                           if (!made.ok()) return Reply(call, made.status());
                                           v1::CreateSubscriptionResponse response;
                                           response.set_created(made->created);
                                           Reply(call, response);
                                         });
               });
}

absl::StatusOr<std::string> InspectChangeSubscription(QueueCall& call) {
  return InspectWithSettings<v1::ChangeSubscriptionRequest>(call);
}

void ActChangeSubscription(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  auto request = Reparse<v1::ChangeSubscriptionRequest>(call);
  WithSettings(replica, call, queue, request.settings(),
               [call, name = request.name()](QueueReplica& here, queue::SubscriptionSettings settings) {
                 here.ChangeSubscription(name, std::move(settings), [call](absl::StatusOr<SubscriptionMade> made) {
                   if (!made.ok()) return Reply(call, made.status());
                   Reply(call, v1::ChangeSubscriptionResponse());
                 });
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
