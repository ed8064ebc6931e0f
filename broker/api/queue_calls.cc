#include "broker/api/queue_calls.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/api/checks.h"
#include "broker/api/dead_letter_calls.h"
#include "broker/api/errors.h"
#include "broker/api/exchange_send.h"
#include "broker/api/frames.h"
#include "broker/api/limit_calls.h"
#include "broker/api/queue_info.h"
#include "broker/api/subscription_calls.h"
#include "broker/api/tokens.h"
#include "broker/cluster/names.h"
#include "raft/grpc/buffers.h"
#include "raft/grpc/raw_client.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {
namespace {

constexpr std::chrono::seconds kPatience{30};
// Receive may wait for its message for this long, beside what finding the leader takes.
constexpr std::chrono::milliseconds kNoWait{0}, kMaxWait{60'000};
constexpr std::chrono::milliseconds kMinLease{1'000}, kMaxLease{std::chrono::hours{12}};
constexpr std::chrono::milliseconds kDefaultLease{30'000};
// Kept of a call's time, so that the answer arrives within it.
constexpr std::chrono::milliseconds kAnswerTime{50};
constexpr uint32_t kMaxReceive = 1'000;
constexpr uint64_t kMaxTokens = 10'000;
constexpr std::chrono::milliseconds kRetryAfter{10};

// Until the client gives up; for those that wait, too.
std::chrono::milliseconds TimeLeft(const QueueCall& call) {
  const raft::MonotonicTime end = DeadlineOf(call.stream->deadline(), kPatience + kMaxWait);
  return std::chrono::duration_cast<std::chrono::milliseconds>(end - call.api->shard()->Now());
}

void Forward(const QueueCallPtr& call, const QueueAct& act, const std::string& queue, ShardApi::Route route);

void End(const QueueCall& call, const grpc::Status& status, grpc::ByteBuffer response) {
  if (call.answer != nullptr) return call.answer(status, std::move(response));
  if (!status.ok()) return call.stream->Finish(status);
  call.stream->Reply(std::move(response));
}

void DoHere(const QueueCallPtr& call, const QueueAct& act, const QueuePtr& queue) {
  ShardApi* owner = call->api->of(queue->group);
  RunOn(owner->shard(), [call, act, owner, queue] {
    QueueReplica* replica = owner->Replica(queue->group);
    if (replica != nullptr && replica->serving()) return act(*replica, call, queue);
    Reply(call, NotLeaderError(queue->name));
  });
}

void Dispatch(const QueueCallPtr& call, const QueueAct& act, const std::string& queue) {
  std::optional<queue::SessionId> consumer;
  if (call->takes.has_value()) consumer.emplace();
  call->api->FindRoute({queue, call->group, std::move(consumer), call->takes.value_or(kNoWait)}, call->deadline,
                       [call, act, queue](absl::StatusOr<ShardApi::Route> route) {
                         if (!route.ok()) return Respond(call, route.status());
                         if (route->here) return DoHere(call, act, route->queue);
                         Forward(call, act, queue, *std::move(route));
                       });
}

void Forward(const QueueCallPtr& call, const QueueAct& act, const std::string& queue, ShardApi::Route route) {
  if (call->forwarded) return Respond(call, NotLeaderError(queue));
  ShardApi* api = call->api;
  std::shared_ptr<grpc::Channel> channel = api->node()->channel(route.leader.address());
  // Without a connection the call would fail as if it might have been done there, while an election may be under way.
  if (const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
      state != GRPC_CHANNEL_READY && api->shard()->Now() < call->deadline) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) api->WrongLeader(route.queue, raft::NodeId(route.leader.node_id()));
    return api->shard()->After(kRetryAfter, [call, act, queue] { Dispatch(call, act, queue); });
  }
  raft::CallOptions options = api->ForwardOptions();
  options.timeout = std::max(TimeLeft(*call), std::chrono::milliseconds{1});
  auto forwarded = raft::RawUnaryCall::Start(
      api->shard(), std::move(channel), call->method.empty() ? call->stream->method() : call->method, options,
      call->request, [call, act, queue, route](grpc::Status status, grpc::ByteBuffer response) {
        ShardApi* here = call->api;
        if (status.error_code() == grpc::StatusCode::CANCELLED) {
          status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "the leader's node was lost; the outcome is unknown");
        }
        if (status.ok()) return End(*call, status, std::move(response));
        if (status.error_code() == grpc::StatusCode::UNAVAILABLE)
          here->WrongLeader(route.queue, raft::NodeId(route.leader.node_id()));
        // Only what certainly was not done is tried again, or what may be done twice.
        const bool again = ReasonOf(status) == kNotLeader ||
                           (call->repeatable && status.error_code() == grpc::StatusCode::UNAVAILABLE);
        if (!again || here->shard()->Now() >= call->deadline) return End(*call, status, {});
        here->shard()->After(kRetryAfter, [call, act, queue] { Dispatch(call, act, queue); });
      });
  api->forwards().Add(raft::NodeId(route.leader.node_id()), forwarded);
}

// ---------------------------------------------------------------- Send

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

// Collects the outcomes of one batch, which may come in parts, and answers the call with all of them.
class SendSink final : public PublishSink {
 public:
  SendSink(QueueCallPtr call, size_t bytes) : call_(std::move(call)), left_(bytes) {}

  void Confirmed(uint32_t, PublishOutcome outcome, size_t bytes) override {
    if (call_ == nullptr) return;
    if (outcome.kind == PublishOutcome::Kind::kMoved && response_.confirms().empty()) {
      return Done(Error(outcome.code, {.reason = kNotLeader}, outcome.reason));
    }
    if (outcome.kind == PublishOutcome::Kind::kRefused && response_.confirms().empty()) {
      const std::string limit = outcome.refusal.limit == 0 ? "" : absl::StrCat(outcome.refusal.limit);
      return Done(Error(outcome.code, {.reason = NameOf(outcome.refusal.by), .limit = limit}, outcome.reason));
    }
    v1::Confirm* confirm = response_.add_confirms();
    confirm->set_first_sequence(outcome.first_sequence);
    confirm->set_count(outcome.count);
    confirm->set_first_position(outcome.first.packed());
    confirm->set_reason(outcome.reason);
    confirm->set_outcome(ToProto(outcome.kind));
    confirm->set_refused_by(ToProto(outcome.refusal.by));
    confirm->set_limit(outcome.refusal.limit);
    left_ -= std::min(left_, bytes);
    if (left_ == 0) Done(response_);
  }
  void Cut(uint32_t, CutReason, const std::string& text) override {
    Done(Error(absl::StatusCode::kUnavailable, {.reason = "OUTCOME_UNKNOWN"},
               absl::StrCat(text, "; the outcome is unknown: send it again with the same producer and sequence")));
  }

 private:
  template <typename Response>
  void Done(Response response) {
    if (call_ != nullptr) Reply(std::exchange(call_, nullptr), std::move(response));
  }

  QueueCallPtr call_;
  size_t left_;
  v1::SendResponse response_;
};

absl::StatusOr<std::string> InspectSend(QueueCall& call) {
  absl::StatusOr<raft::Bytes> bytes = raft::FromBuffer(call.request);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<SendFrame> send = ParseSendRequest(*bytes);
  if (!send.ok()) return send.status();
  if (send->batch.empty()) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "EMPTY_BATCH", .limit = "1 message"},
                 "the batch has no messages; it must have at least 1");
  }
  if (absl::Status named = CheckProducer(send->producer); !named.ok()) return named;
  if (!send->producer.empty() && send->first_sequence == 0) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_SEQUENCE", .limit = "1"},
                 "first_sequence is 0; sequences start at 1");
  }
  call.repeatable = !send->producer.empty();
  call.to_exchange = send->exchange.has_value();
  return send->queue;
}

// What a call is told whose producer could not be opened.
PublishOutcome::Kind KindOfRefusedOpen(const absl::Status& status) {
  if (FactsOf(status).reason == kNotLeader) return PublishOutcome::Kind::kMoved;
  switch (status.code()) {
    case absl::StatusCode::kAborted:
      return PublishOutcome::Kind::kFenced;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kResourceExhausted:
      return PublishOutcome::Kind::kRefused;
    default:
      return PublishOutcome::Kind::kUnknown;
  }
}

void ActSend(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr&) {
  // The parse was good before; the batch shares the request's memory.
  SendFrame send = *ParseSendRequest(*raft::FromBuffer(call->request));
  auto sink = std::make_shared<SendSink>(call, send.batch.size());
  QueueReplica::Publication publication{.sink = sink,
                                        .alias = 0,
                                        .producer = send.producer,
                                        .epoch = send.epoch,
                                        .first_sequence = send.first_sequence,
                                        .batch = send.batch,
                                        .windowed = false};
  if (send.producer.empty()) return replica.Publish(std::move(publication));
  // A call opens its producer as it goes: with the epoch that it names, or, with 0, the one in force.
  replica.JoinProducer(
      send.producer, send.epoch, send.first_sequence,
      [&replica, publication = std::move(publication)](absl::StatusOr<QueueReplica::OpenedProducer> opened) mutable {
        if (!opened.ok()) {
          PublishOutcome outcome{.kind = KindOfRefusedOpen(opened.status()),
                                 .first_sequence = publication.first_sequence,
                                 .count = MessagesIn(publication.batch),
                                 .first = {},
                                 .reason = std::string(opened.status().message()),
                                 .code = opened.status().code()};
          return publication.sink->Confirmed(0, std::move(outcome), publication.batch.size());
        }
        publication.epoch = opened->epoch;
        replica.Publish(std::move(publication));
      });
}

// ---------------------------------------------------------------- Receive, Settle, Extend

absl::Status CheckLease(uint32_t lease_ms) {
  return CheckRange("lease_ms", std::chrono::milliseconds{lease_ms}, kMinLease, kMaxLease);
}

absl::StatusOr<std::string> InspectReceive(QueueCall& call) {
  absl::StatusOr<v1::ReceiveRequest> request = ParseRequest<v1::ReceiveRequest>(call);
  if (!request.ok()) return request.status();
  absl::Status good = SubscriptionName(request->subscription()).status();
  good.Update(CheckRange("max_messages", request->max_messages(), 0, kMaxReceive, "messages"));
  good.Update(CheckRange("wait_ms", std::chrono::milliseconds{request->wait_ms()}, kNoWait, kMaxWait));
  if (request->lease_ms() != 0) good.Update(CheckLease(request->lease_ms()));
  if (!good.ok()) return good;
  call.takes = std::chrono::milliseconds{request->wait_ms()};
  return request->queue();
}

v1::ReceiveResponse ReceivedOf(raft::GroupId group, const Received& given) {
  v1::ReceiveResponse response;
  for (const DeliveredRun& run : given.runs) {
    v1::MessageBatch batch;
    batch.ParseFromArray(run.batch.data(), static_cast<int>(run.batch.size()));
    uint32_t slot = 0;
    for (v1::Message& message : *batch.mutable_messages()) {
      queue::Position position = run.slots.first + slot++;
      v1::ReceivedMessage* received = response.add_messages();
      received->set_token(EncodeToken({group, given.subscription, {{position, 1}, run.checkout_index}}));
      received->set_position(position.packed());
      received->set_deliveries(run.deliveries);
      received->mutable_message()->Swap(&message);
    }
  }
  return response;
}

// Nobody waits for these any more, and nobody has seen them.
void HandBack(const QueueCallPtr& call, const QueuePtr& queue, const Received& given) {
  std::vector<queue::Token> tokens;
  for (const DeliveredRun& run : given.runs) tokens.push_back({run.slots, run.checkout_index});
  ShardApi* owner = call->api->of(queue->group);
  RunOn(owner->shard(), [owner, queue, subscription = given.subscription, tokens = std::move(tokens)]() mutable {
    if (QueueReplica* replica = owner->Replica(queue->group)) replica->TakeBack(subscription, std::move(tokens));
  });
}

void ActReceive(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  auto request = Reparse<v1::ReceiveRequest>(call);
  auto lease = request.lease_ms() == 0 ? kDefaultLease : std::chrono::milliseconds{request.lease_ms()};
  // What came after the call's own deadline would be leased to nobody.
  const auto wait = std::min(std::chrono::milliseconds{request.wait_ms()}, TimeLeft(*call) - kAnswerTime);
  replica.Receive(*SubscriptionName(request.subscription()), std::max(1u, request.max_messages()),
                  std::max(wait, kNoWait), lease, [call, queue](absl::StatusOr<Received> given) {
                    if (!given.ok()) return Reply(call, given.status());
                    RunOn(call->api->shard(), [call, queue, given = *std::move(given)] {
                      if (call->stream->closed()) return HandBack(call, queue, given);
                      Respond(call, ReceivedOf(queue->group, given));
                    });
                  });
}

// Tokens of one request, in its order.
template <typename Request>
absl::StatusOr<std::vector<OpaqueToken>> Tokens(const Request& request) {
  absl::Status good = CheckRange("tokens", static_cast<uint64_t>(request.tokens_size()), 0, kMaxTokens, "tokens");
  if (!good.ok()) return good;
  std::vector<OpaqueToken> tokens;
  for (const std::string& bytes : request.tokens()) {
    absl::StatusOr<OpaqueToken> token = DecodeToken(bytes);
    if (!token.ok()) return token.status();
    tokens.push_back(*token);
  }
  return tokens;
}

// The queue whose tokens these are.
template <typename Request>
absl::StatusOr<std::string> InspectTokens(const Request& request, QueueCall& call) {
  absl::StatusOr<std::vector<OpaqueToken>> tokens = Tokens(request);
  if (!tokens.ok()) return tokens.status();
  for (const OpaqueToken& token : *tokens) call.group = std::max(call.group, token.group);
  return request.queue();
}

// The outcomes of one request's tokens, which may be of several subscriptions.
struct TokensAsked {
  QueueCallPtr call;
  std::vector<bool> current;  // by place in the request
  size_t waiting = 0;         // answers
  absl::Status failed;
};

// A token of another queue (or of a deleted one of the same name) is not current: group ids are never reused.
template <typename Request, typename Response, typename Start>
void ActTokens(const QueueCallPtr& call, const QueuePtr& queue, const Start& start) {
  auto request = Reparse<Request>(call);
  std::vector<OpaqueToken> all = *Tokens(request);
  struct Ours {
    std::vector<queue::Token> tokens;
    std::vector<size_t> places;
  };
  std::map<queue::SubscriptionId, Ours> ours;
  for (size_t place = 0; place < all.size(); ++place) {
    if (all[place].group != queue->group) continue;
    ours[all[place].subscription].tokens.push_back(all[place].token);
    ours[all[place].subscription].places.push_back(place);
  }
  auto asked = std::make_shared<TokensAsked>();
  asked->call = call;
  asked->current.resize(all.size());
  asked->waiting = ours.size() + 1;
  auto answer = [asked] {
    if (--asked->waiting > 0) return;
    if (!asked->failed.ok()) return Reply(asked->call, asked->failed);
    Response response;
    for (bool current : asked->current) response.add_outcomes(current ? v1::OUTCOME_OK : v1::OUTCOME_LEASE_LOST);
    Reply(asked->call, response);
  };
  for (auto& [subscription, some] : ours) {
    start(request, subscription, std::move(some.tokens),
          [asked, answer, places = std::move(some.places)](absl::StatusOr<std::vector<bool>> current) {
            asked->failed.Update(current.status());
            for (size_t i = 0; current.ok() && i < places.size(); ++i) asked->current[places[i]] = (*current)[i];
            answer();
          });
  }
  answer();
}

absl::StatusOr<std::string> InspectSettle(QueueCall& call) {
  absl::StatusOr<v1::SettleRequest> request = ParseRequest<v1::SettleRequest>(call);
  if (!request.ok()) return request.status();
  if (absl::Status good = CheckDisposition(request->disposition()); !good.ok()) return good;
  if (absl::Status good = CheckDelay(request->delay_ms()); !good.ok()) return good;
  return InspectTokens(*request, call);
}

void ActSettle(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  ActTokens<v1::SettleRequest, v1::SettleResponse>(
      call, queue,
      [&](const v1::SettleRequest& request, queue::SubscriptionId subscription, std::vector<queue::Token> tokens,
          auto done) {
        replica.SettleTokens(subscription, static_cast<queue::Disposition>(request.disposition()), std::move(tokens),
                             std::move(done), request.has_delay_ms() ? int64_t{request.delay_ms()} : Settling::kAsSet);
      });
}

absl::StatusOr<std::string> InspectExtend(QueueCall& call) {
  absl::StatusOr<v1::ExtendRequest> request = ParseRequest<v1::ExtendRequest>(call);
  if (!request.ok()) return request.status();
  if (absl::Status good = CheckLease(request->lease_ms()); !good.ok()) return good;
  return InspectTokens(*request, call);
}

void ActExtend(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  ActTokens<v1::ExtendRequest, v1::ExtendResponse>(
      call, queue,
      [&](const v1::ExtendRequest& request, queue::SubscriptionId subscription, std::vector<queue::Token> tokens,
          auto done) {
        replica.ExtendTokens(subscription, std::chrono::milliseconds{request.lease_ms()}, std::move(tokens),
                             std::move(done));
      });
}

// ---------------------------------------------------------------- RedriveMessages

absl::StatusOr<std::string> InspectRedrive(QueueCall& call) {
  absl::StatusOr<v1::RedriveMessagesRequest> request = ParseRequest<v1::RedriveMessagesRequest>(call);
  if (!request.ok()) return request.status();
  if (absl::Status named = ValidateQueueName(request->target()); !named.ok()) return named;
  if (request->target() == request->queue()) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "SAME_QUEUE", .name = request->queue()},
                 absl::StrCat("the target is queue '", request->queue(), "' itself; requeue the messages instead"));
  }
  return InspectTokens(*request, call);
}

void ActRedrive(QueueReplica&, const QueueCallPtr& call, const QueuePtr& queue) {
  if (IsTemporary(queue->group)) {
    return Reply(call, Error(absl::StatusCode::kInvalidArgument, {.reason = "TEMPORARY_QUEUE", .name = queue->name},
                             "messages of a temporary queue go to no other queue, and are not redriven"));
  }
  FindQueue(call, Reparse<v1::RedriveMessagesRequest>(call).target(), [call, queue](absl::StatusOr<QueuePtr> target) {
    if (!target.ok()) return Respond(call, target.status());
    ShardApi* owner = call->api->of(queue->group);
    RunOn(owner->shard(), [call, queue, owner, to = (*target)->group] {
      QueueReplica* replica = owner->Replica(queue->group);
      if (replica == nullptr) return Reply(call, NotLeaderError(queue->name));
      ActTokens<v1::RedriveMessagesRequest, v1::RedriveMessagesResponse>(
          call, queue,
          [&](const v1::RedriveMessagesRequest&, queue::SubscriptionId subscription, std::vector<queue::Token> tokens,
              auto done) { replica->RedriveTokens(subscription, to, std::move(tokens), std::move(done)); });
    });
  });
}

// ---------------------------------------------------------------- Describe, Purge

template <typename Request>
absl::StatusOr<std::string> InspectName(QueueCall& call) {
  absl::StatusOr<Request> request = ParseRequest<Request>(call);
  if (!request.ok()) return request.status();
  call.repeatable = true;
  return request->name();
}

void ActDescribe(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue) {
  replica.Describe([call, queue](absl::StatusOr<QueueFigures> figures) {
    if (!figures.ok()) return Reply(call, figures.status());
    v1::DescribeQueueResponse response;
    v1::QueueFigures* out = response.mutable_figures();
    out->set_at_index(figures->at_index);
    out->set_published(figures->published);
    out->set_queue_time_ms(figures->queue_time_ms);
    out->set_producers(figures->producers);
    *out->mutable_limits() = ToProto(figures->settings);
    out->set_held_messages(figures->held.value_or(queue::Amount()).messages);
    out->set_held_bytes(figures->held.value_or(queue::Amount()).bytes);
    out->set_refused(figures->refused);
    v1::ScheduleFigures* schedule = out->mutable_schedule();
    schedule->set_messages(figures->scheduled);
    schedule->set_bytes(figures->scheduled_bytes);
    schedule->set_next_due_at_ms(figures->next_due_ms);
    schedule->set_trouble(figures->schedule_trouble);
    for (const SubscriptionFigures& s : figures->subscriptions) *out->add_subscriptions() = ToProto(s);
    RunOn(call->api->shard(), [call, queue, response = std::move(response)]() mutable {
      *response.mutable_queue() = InfoOf(*call->api, *queue);
      response.mutable_queue()->set_leader_node_id(call->api->node()->self().value());
      Respond(call, response);
    });
  });
}

void ActPurge(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr&) {
  replica.Purge([call](absl::StatusOr<uint64_t> purged) {
    if (!purged.ok()) return Reply(call, purged.status());
    v1::PurgeQueueResponse response;
    response.set_purged(*purged);
    Reply(call, response);
  });
}

}  // namespace

void Respond(const QueueCallPtr& call, const google::protobuf::MessageLite& response) {
  End(*call, grpc::Status::OK, raft::Serialize(response));
}

void Respond(const QueueCallPtr& call, const absl::Status& status) {
  const bool again = call->again != nullptr && !call->forwarded && FactsOf(status).reason == kNotLeader &&
                     call->api->shard()->Now() < call->deadline;
  if (again) return call->api->shard()->After(kRetryAfter, [call] { call->again(call); });
  End(*call, ToGrpc(status), {});
}

void StartQueueCall(const QueueCallPtr& call, const QueueAct& act, const std::string& queue) {
  call->again = [act, queue](const QueueCallPtr& again) { Dispatch(again, act, queue); };
  call->again(call);
}

void StartSend(const QueueCallPtr& call) {
  absl::StatusOr<std::string> queue = InspectSend(*call);
  if (!queue.ok()) return Respond(call, queue.status());
  if (call->to_exchange) return SendToExchange(call);
  StartQueueCall(call, ActSend, *queue);
}

void HandleQueueCall(raft::RawService& service, const FindApi& apis, std::string method, QueueInspect inspect,
                     QueueAct act) {
  service.HandleUnary(std::move(method), [apis, inspect = std::move(inspect), act = std::move(act)](
                                             std::shared_ptr<raft::RawServerStream> stream, grpc::ByteBuffer request) {
    auto call = std::make_shared<QueueCall>();
    call->api = apis(stream->shard()->id());
    call->deadline = DeadlineOf(stream->deadline(), kPatience);
    call->forwarded = stream->Metadata(kForwardedBy).has_value();
    call->stream = std::move(stream);
    call->request = std::move(request);
    absl::StatusOr<std::string> queue = inspect(*call);
    if (!queue.ok()) return Respond(call, queue.status());
    if (call->to_exchange) return SendToExchange(call);
    StartQueueCall(call, act, *queue);
  });
}

void RegisterQueueCalls(raft::RawService& service, const FindApi& apis) {
  HandleQueueCall(service, apis, "/trireme.v1.Broker/Send", InspectSend, ActSend);
  HandleQueueCall(service, apis, "/trireme.v1.Broker/Receive", InspectReceive, ActReceive);
  HandleQueueCall(service, apis, "/trireme.v1.Broker/Settle", InspectSettle, ActSettle);
  HandleQueueCall(service, apis, "/trireme.v1.Broker/Extend", InspectExtend, ActExtend);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/RedriveMessages", InspectRedrive, ActRedrive);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/DescribeQueue", InspectName<v1::DescribeQueueRequest>, ActDescribe);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/PurgeQueue", InspectName<v1::PurgeQueueRequest>, ActPurge);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/ChangeQueue", InspectChangeQueue, ActChangeQueue);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/CreateSubscription", InspectCreateSubscription,
                  ActCreateSubscription);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/ChangeSubscription", InspectChangeSubscription,
                  ActChangeSubscription);
  HandleQueueCall(service, apis, "/trireme.v1.Admin/DeleteSubscription", InspectDeleteSubscription,
                  ActDeleteSubscription);
}

}  // namespace trireme::broker
