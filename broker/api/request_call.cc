#include "broker/api/request_call.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/api/checks.h"
#include "broker/api/errors.h"
#include "broker/api/frames.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

constexpr std::chrono::milliseconds kMinTimeout{1}, kMaxTimeout{60'000}, kDefaultTimeout{30'000};
// Of the reply: it is answered at once, or nobody wants it any more.
constexpr std::chrono::milliseconds kLease{60'000};
// Beside the message.
constexpr size_t kRequestSlack = 4096;
// Nobody else is to take a reply.
constexpr char kSession[] = "$request";

// One call. The reply's address is a temporary queue for it alone: whatever arrives there is its own, whatever its
// correlation id says, and what is late finds no queue.
class Request : public std::enable_shared_from_this<Request> {
 public:
  explicit Request(QueueCallPtr call) : call_(std::move(call)) {}

  void Start(v1::RequestRequest request);

 private:
  void Publish(v1::RequestRequest request);
  void Published(const grpc::Status& status, const grpc::ByteBuffer& response);
  void Arrived(const absl::StatusOr<Received>& given);
  absl::Status NoReply() const;

  template <typename Response>
  void Done(const Response& response) {
    if (std::exchange(done_, true)) return;
    Respond(call_, response);
    call_->api->temporary().RemoveSoon(address_);
  }

  const QueueCallPtr call_;
  raft::GroupId address_;
  std::chrono::milliseconds timeout_{};
  bool stored_ = false;
  bool done_ = false;
};

void Request::Start(v1::RequestRequest request) {
  const auto bad = [this](absl::string_view reason, absl::string_view why) {
    Respond(call_, Error(absl::StatusCode::kInvalidArgument, {.reason = reason}, why));
  };
  if (request.target_case() == v1::RequestRequest::TARGET_NOT_SET) {
    return bad("NO_TARGET", "the request names neither a queue nor an exchange");
  }
  if (!request.message().reply_to().empty()) {
    return bad("BAD_REPLY_TO",
               "the message has a reply_to, which is this call's to set; to have the reply elsewhere, use Send");
  }
  timeout_ = request.timeout_ms() == 0 ? kDefaultTimeout : std::chrono::milliseconds{request.timeout_ms()};
  if (absl::Status good = CheckRange("timeout_ms", timeout_, kMinTimeout, kMaxTimeout); !good.ok()) {
    return Respond(call_, good);
  }
  ShardApi* api = call_->api;
  call_->deadline = std::min(DeadlineOf(call_->stream->deadline(), 2 * kMaxTimeout), api->shard()->Now() + timeout_);
  timeout_ = std::chrono::duration_cast<std::chrono::milliseconds>(call_->deadline - api->shard()->Now());
  absl::StatusOr<ShardApi::Route> address =
      api->MakeTemporary({.client = call_->stream->peer(), .session = kSession, .abandoned = [stream = call_->stream] {
                            return stream->closed();
                          }});
  if (!address.ok()) return Respond(call_, address.status());
  address_ = address->queue->group;
  api->Replica(address_)->Receive(
      queue::kDefaultSubscription, 1, timeout_, kLease,
      [self = shared_from_this()](const absl::StatusOr<Received>& given) { self->Arrived(given); });
  request.mutable_message()->set_reply_to(address->queue->name);
  if (request.message().expires_at_ms() == 0) {
    request.mutable_message()->set_expires_at_ms(api->shard()->WallMs() + timeout_.count());
  }
  Publish(std::move(request));
}

void Request::Publish(v1::RequestRequest request) {
  v1::SendRequest send;
  if (request.has_exchange()) {
    send.set_exchange(request.exchange());
    send.set_mandatory(true);
  } else {
    send.set_queue(request.queue());
  }
  send.mutable_batch()->add_messages()->Swap(request.mutable_message());
  auto call = std::make_shared<QueueCall>();
  call->api = call_->api;
  call->stream = call_->stream;
  call->deadline = call_->deadline;
  call->request = raft::Serialize(send);
  call->method = "/trireme.v1.Broker/Send";
  call->answer = [self = shared_from_this()](const grpc::Status& status, const grpc::ByteBuffer& response) {
    self->Published(status, response);
  };
  StartSend(call);
}

void Request::Published(const grpc::Status& status, const grpc::ByteBuffer& response) {
  if (!status.ok()) {
    const std::string reason = ReasonOf(status);
    const bool never = reason == "NO_CLUSTER" || reason == "STALE_ROUTING";
    switch (status.error_code()) {
      case grpc::StatusCode::UNAVAILABLE:
      case grpc::StatusCode::CANCELLED:
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        // It may have been stored, and then be replied to.
        if (!never) return;
        [[fallthrough]];
      default:
        return Done(FromGrpc(status));
    }
  }
  v1::SendResponse sent;
  if (absl::Status parsed = raft::Parse(response, &sent); !parsed.ok()) return Done(parsed);
  for (const v1::Confirm& confirm : sent.confirms()) {
    switch (confirm.outcome()) {
      case v1::OUTCOME_UNROUTABLE:
        return Done(Error(absl::StatusCode::kNotFound, {.reason = "UNROUTABLE"},
                          "the exchange leads the request to no queue; nobody got it"));
      case v1::OUTCOME_REFUSED:
      case v1::OUTCOME_FENCED:
        return Done(Error(absl::StatusCode::kFailedPrecondition, {.reason = "REFUSED"},
                          absl::StrCat("the request was not stored: ", confirm.reason())));
      default:
        stored_ |= confirm.outcome() == v1::OUTCOME_OK;
    }
  }
}

absl::Status Request::NoReply() const {
  return Error(absl::StatusCode::kDeadlineExceeded,
               {.reason = "NO_REPLY", .limit = absl::StrCat(timeout_.count(), " ms")},
               absl::StrCat("no reply came within ", timeout_.count(), " ms; the request was ",
                            stored_ ? "stored, and may still be handled" : "perhaps not stored"));
}

void Request::Arrived(const absl::StatusOr<Received>& given) {
  if (!given.ok()) {
    return Done(
        Error(absl::StatusCode::kUnavailable, {.reason = "OUTCOME_UNKNOWN"},
              "this node stops, and the reply's address with it; whether the request was handled is not known"));
  }
  if (given->runs.empty()) return Done(NoReply());
  v1::MessageBatch batch;
  const raft::Bytes& bytes = given->runs.front().batch;
  v1::RequestResponse response;
  if (batch.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) && !batch.messages().empty()) {
    response.mutable_reply()->Swap(batch.mutable_messages(0));
  }
  Done(response);
}

}  // namespace

void RegisterRequestCall(raft::RawService& service, const FindApi& apis) {
  service.HandleUnary("/trireme.v1.Broker/Request",
                      [apis](std::shared_ptr<raft::RawServerStream> stream, grpc::ByteBuffer bytes) {
                        auto call = std::make_shared<QueueCall>();
                        call->api = apis(stream->shard()->id());
                        call->stream = std::move(stream);
                        v1::RequestRequest request;
                        const size_t limit = call->api->node()->config().max_message_bytes + kRequestSlack;
                        absl::Status good = CheckFrameSize("a Request", bytes.Length(), limit);
                        if (good.ok()) good = raft::Parse(bytes, &request);
                        if (!good.ok()) return Respond(call, good);
                        std::make_shared<Request>(call)->Start(std::move(request));
                      });
}

}  // namespace trireme::broker
