#include "broker/api/look_calls.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/checks.h"
#include "broker/api/errors.h"
#include "broker/api/frames.h"
#include "broker/replica/blocked_keys.h"
#include "broker/replica/looking.h"
#include "raft/grpc/buffers.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {
namespace {

constexpr uint32_t kMaxPage = 1'000;
constexpr size_t kMaxRequestBytes = 4'096;
constexpr uint32_t kDefaultBrowse = 100;
// Of which no queue has one.
constexpr queue::SubscriptionId kNone = std::numeric_limits<queue::SubscriptionId>::max();

v1::MessageState ToProto(MessageStand::State state) {
  switch (state) {
    case MessageStand::State::kWaiting:
      return v1::MESSAGE_STATE_WAITING;
    case MessageStand::State::kInFlight:
      return v1::MESSAGE_STATE_IN_FLIGHT;
    case MessageStand::State::kReturned:
      return v1::MESSAGE_STATE_RETURNED;
    case MessageStand::State::kScheduled:
      return v1::MESSAGE_STATE_SCHEDULED;
    case MessageStand::State::kUnscheduled:
      return v1::MESSAGE_STATE_UNSCHEDULED;
    case MessageStand::State::kSettled:
      break;
  }
  return v1::MESSAGE_STATE_SETTLED;
}

void ToProto(const HolderName& name, int64_t deadline_ms, v1::Holder* holder) {
  holder->set_consumer(name.consumer);
  holder->set_session(name.session);
  holder->set_deadline_ms(deadline_ms);
}

void ToProto(const MessageStand& stand, const HolderName& holder, const std::string& subscription,
             v1::MessageStand* out) {
  out->set_subscription(subscription);
  out->set_state(ToProto(stand.state));
  out->set_deliveries(stand.deliveries);
  out->set_due_at_ms(stand.due_ms);
  if (stand.state != MessageStand::State::kInFlight) return;
  out->set_checkout_index(stand.checkout_index);
  ToProto(holder, stand.deadline_ms, out->mutable_holder());
}

void ToProto(const raft::Bytes& encoded, v1::Message* message) {
  message->ParseFromArray(encoded.data(), static_cast<int>(encoded.size()));
}

// Errors of looking.h with what they are about.
absl::Status About(const QueuePtr& queue, const absl::Status& status) {
  if (!absl::IsOutOfRange(status) && !absl::IsNotFound(status)) return status;
  const char* reason = absl::IsOutOfRange(status) ? "NO_MESSAGE" : "NOT_THERE";
  return Error(status.code(), {.reason = reason, .name = queue->name},
               absl::StrCat("queue ", queue->name, ": ", std::string(status.message())));
}

// What every one of these requests has.
template <typename Request>
absl::StatusOr<std::string> InspectLook(QueueCall& call,
                                        const std::function<absl::Status(const Request&)>& check = nullptr) {
  Request request;
  absl::Status good = CheckFrameSize("this request", call.request.Length(), kMaxRequestBytes);
  if (good.ok()) good = raft::Parse(call.request, &request);
  if (good.ok()) good = SubscriptionName(request.subscription()).status();
  if (good.ok() && check != nullptr) good = check(request);
  if (!good.ok()) return good;
  call.repeatable = true;
  return request.name();
}

template <typename Request>
Request RequestOf(const QueueCallPtr& call) {
  Request request;
  raft::Parse(call->request, &request).IgnoreError();  // it parsed when it came
  return request;
}

// Whether there is one of that name shows with the linearizable read that follows.
template <typename Request>
queue::SubscriptionId SubscriptionOf(const QueueReplica& replica, const Request& request) {
  return replica.machine().FindSubscription(*SubscriptionName(request.subscription())).value_or(kNone);
}

template <typename Request>
absl::StatusOr<std::string> InspectPage(QueueCall& call) {
  return InspectLook<Request>(
      call, [](const Request& request) { return CheckRange("limit", request.limit(), 0, kMaxPage, "a page"); });
}

void ToProto(const BrowsedMessage& browsed, const std::string& subscription, v1::BrowsedMessage* out) {
  out->set_position(browsed.position.packed());
  out->set_published_at_ms(browsed.published_ms);
  ToProto(browsed.stand, browsed.holder, subscription, out->mutable_stand());
  ToProto(browsed.message, out->mutable_message());
}

void ActBrowseSchedule(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue,
                       const v1::BrowseQueueRequest& request, const BrowseWanted& wanted) {
  BrowseSchedule(replica,
                 {.from = {request.from_due_at_ms(), wanted.from},
                  .max_messages = wanted.max_messages,
                  .max_bytes = wanted.max_bytes,
                  .filter = wanted.filter},
                 [call, queue](absl::StatusOr<SchedulePage> page) {
                   if (!page.ok()) return Reply(call, About(queue, page.status()));
                   v1::BrowseQueueResponse response;
                   for (const BrowsedMessage& browsed : page->messages) ToProto(browsed, "", response.add_messages());
                   if (page->next) {
                     response.set_next_position(page->next->position.packed());
                     response.set_next_due_at_ms(page->next->due_ms);
                   }
                   response.set_at_index(page->at_index);
                   Reply(call, std::move(response));
                 });
}

absl::StatusOr<std::string> InspectCancel(QueueCall& call) {
  v1::CancelMessageRequest request;
  absl::Status good = CheckFrameSize("this request", call.request.Length(), kMaxRequestBytes);
  if (good.ok()) good = raft::Parse(call.request, &request);
  if (!good.ok()) return good;
  return request.name();
}

void ActCancel(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  const auto request = RequestOf<v1::CancelMessageRequest>(call);
  replica.CancelScheduled(queue::Position(request.position()), [call, queue](const absl::Status& status) {
    if (!status.ok()) return Reply(call, About(queue, status));
    Reply(call, v1::CancelMessageResponse());
  });
}

void ActBrowse(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  const auto request = RequestOf<v1::BrowseQueueRequest>(call);
  BrowseWanted wanted{.subscription = SubscriptionOf(replica, request),
                      .from = queue::Position(request.from_position()),
                      .max_messages = request.limit() == 0 ? kDefaultBrowse : request.limit()};
  if (!request.filter().empty()) {
    absl::StatusOr<filter::Filter> parsed = filter::Filter::Parse(request.filter());
    if (!parsed.ok()) {
      return Reply(call, Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_FILTER"},
                               absl::StrCat("the filter does not parse: ", parsed.status().message())));
    }
    wanted.filter = std::make_shared<const filter::Filter>(*std::move(parsed));
  }
  if (request.scheduled()) return ActBrowseSchedule(replica, call, queue, request, wanted);
  Browse(replica, wanted,
         [call, queue, name = *SubscriptionName(request.subscription())](absl::StatusOr<BrowsedPage> page) {
           if (!page.ok()) return Reply(call, About(queue, page.status()));
           v1::BrowseQueueResponse response;
           for (const BrowsedMessage& browsed : page->messages) ToProto(browsed, name, response.add_messages());
           response.set_next_position(page->next ? page->next->packed() : 0);
           response.set_at_index(page->at_index);
           Reply(call, std::move(response));
         });
}

void ActExplain(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  const auto request = RequestOf<v1::ExplainMessageRequest>(call);
  const queue::Position position(request.position());
  Explain(
      replica, SubscriptionOf(replica, request), position,
      [call, queue, position, name = *SubscriptionName(request.subscription())](absl::StatusOr<Explanation> explained) {
        if (!explained.ok()) return Reply(call, About(queue, explained.status()));
        v1::ExplainMessageResponse response;
        response.set_position(position.packed());
        response.set_group_id(queue->group.value());
        response.set_at_index(explained->at_index);
        ToProto(explained->stand, explained->holder, name, response.mutable_stand());
        response.set_in_log(explained->message.has_value());
        response.set_term(explained->term);
        response.set_published_at_ms(explained->published_ms);
        response.set_producer(explained->producer);
        response.set_epoch(explained->epoch);
        response.set_sequence(explained->sequence);
        response.set_batch_messages(explained->batch_messages);
        if (explained->message) ToProto(*explained->message, response.mutable_message());
        Reply(call, std::move(response));
      });
}

void ActLeases(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  const auto request = RequestOf<v1::ListLeasesRequest>(call);
  ListLeases(replica, SubscriptionOf(replica, request), queue::Position(request.from_position()),
             request.limit() == 0 ? kMaxPage : request.limit(), [call, queue](absl::StatusOr<LeasesPage> page) {
               if (!page.ok()) return Reply(call, About(queue, page.status()));
               v1::ListLeasesResponse response;
               for (const Lease& lease : page->leases) {
                 v1::Lease* out = response.add_leases();
                 out->set_first_position(lease.slots.first.packed());
                 out->set_count(lease.slots.count);
                 out->set_deliveries(lease.run.deliveries);
                 out->set_checkout_index(lease.run.checkout_index);
                 ToProto(lease.holder, lease.run.deadline_ms, out->mutable_holder());
                 out->set_since_ms(lease.since_ms);
               }
               response.set_next_position(page->next ? page->next->packed() : 0);
               response.set_at_index(page->at_index);
               response.set_queue_time_ms(page->queue_time_ms);
               Reply(call, std::move(response));
             });
}

absl::Status CheckRelease(const v1::ReleaseLeasesRequest& request) {
  switch (request.what_case()) {
    case v1::ReleaseLeasesRequest::kSession:
      return CheckRange("session", request.session().size(), 1, 64, "bytes");
    case v1::ReleaseLeasesRequest::kPositions: {
      const queue::Position first(request.positions().first_position());
      return CheckRange("positions.count", request.positions().count(), 1, queue::kMaxBatchMessages - first.slot(),
                        "messages of one log entry");
    }
    case v1::ReleaseLeasesRequest::WHAT_NOT_SET:
      break;
  }
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "NOTHING_NAMED"},
               "neither a session nor positions are named; say whose or which leases are to be released");
}

void ActRelease(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  const auto request = RequestOf<v1::ReleaseLeasesRequest>(call);
  const ReleaseWanted wanted{
      .subscription = SubscriptionOf(replica, request),
      .session = request.session(),
      .slots = {queue::Position(request.positions().first_position()), request.positions().count()}};
  Release(replica, wanted, [call, queue](absl::StatusOr<uint64_t> released) {
    if (!released.ok()) return Reply(call, About(queue, released.status()));
    v1::ReleaseLeasesResponse response;
    response.set_released(*released);
    Reply(call, std::move(response));
  });
}

void ActBlockedKeys(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  const auto request = RequestOf<v1::ListBlockedKeysRequest>(call);
  ListBlockedKeys(replica, SubscriptionOf(replica, request), queue::Position(request.from_position()),
                  request.limit() == 0 ? kDefaultBrowse : request.limit(),
                  [call, queue](absl::StatusOr<BlockedKeysPage> page) {
                    if (!page.ok()) return Reply(call, About(queue, page.status()));
                    v1::ListBlockedKeysResponse response;
                    for (const BlockedKey& key : page->keys) {
                      v1::BlockedKey* out = response.add_keys();
                      out->set_key(key.key);
                      out->set_position(key.by.packed());
                      out->set_state(ToProto(key.stand.state));
                      out->set_deliveries(key.stand.deliveries);
                      if (key.stand.state == MessageStand::State::kInFlight)
                        ToProto(key.holder, key.stand.deadline_ms, out->mutable_holder());
                      out->set_since_ms(key.since_ms);
                      out->set_due_ms(key.due_ms);
                      out->set_waiting(key.waiting);
                    }
                    response.set_next_position(page->next ? page->next->packed() : 0);
                    response.set_at_index(page->at_index);
                    response.set_queue_time_ms(page->queue_time_ms);
                    response.set_blocked(page->blocked);
                    response.set_full(page->full);
                    Reply(call, std::move(response));
                  });
}

absl::Status CheckUnblock(const v1::UnblockKeyRequest& request) {
  if (request.what_case() == v1::UnblockKeyRequest::WHAT_NOT_SET ||
      (request.what_case() == v1::UnblockKeyRequest::kKey && request.key().empty())) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "NOTHING_NAMED"},
                 "neither a key nor a position is named; say which key is to be freed");
  }
  return CheckRange("how", static_cast<uint64_t>(request.how()), v1::UNBLOCK_RELEASE, v1::UNBLOCK_DROP,
                    "of trireme.v1.Unblock");
}

void ActUnblock(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  const auto request = RequestOf<v1::UnblockKeyRequest>(call);
  using How = QueueReplica::UnblockHow;
  const UnblockWanted wanted{.subscription = SubscriptionOf(replica, request),
                             .key = request.key(),
                             .position = queue::Position(request.position()),
                             .how = request.how() == v1::UNBLOCK_RELEASE       ? How::kRelease
                                    : request.how() == v1::UNBLOCK_DEAD_LETTER ? How::kDeadLetter
                                                                               : How::kDrop};
  UnblockKey(replica, wanted, [call, queue](absl::StatusOr<uint64_t> unblocked) {
    if (!unblocked.ok()) return Reply(call, About(queue, unblocked.status()));
    v1::UnblockKeyResponse response;
    response.set_unblocked(*unblocked);
    Reply(call, std::move(response));
  });
}

}  // namespace

void RegisterLookCalls(raft::RawService& service, const FindApi& apis) {
  HandleQueueCall(service, apis, "/trireme.v1.Admin/BrowseQueue", InspectPage<v1::BrowseQueueRequest>, ActBrowse);
  HandleQueueCall(
      service, apis, "/trireme.v1.Admin/ExplainMessage",
      [](QueueCall& call) { return InspectLook<v1::ExplainMessageRequest>(call); }, ActExplain);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/CancelMessage", InspectCancel, ActCancel);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/ListLeases", InspectPage<v1::ListLeasesRequest>, ActLeases);
  HandleQueueCall(
      service, apis, "/trireme.v1.Admin/ReleaseLeases",
      [](QueueCall& call) { return InspectLook<v1::ReleaseLeasesRequest>(call, CheckRelease); }, ActRelease);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/ListBlockedKeys", InspectPage<v1::ListBlockedKeysRequest>,
                  ActBlockedKeys);
  HandleQueueCall(
      service, apis, "/trireme.v1.Admin/UnblockKey",
      [](QueueCall& call) {
        absl::StatusOr<std::string> queue = InspectLook<v1::UnblockKeyRequest>(call, CheckUnblock);
        // By its key a second try could meet another message.
        call.repeatable = false;
        return queue;
      },
      ActUnblock);
}

}  // namespace trireme::broker
