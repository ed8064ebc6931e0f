#include "broker/api/consume_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/checks.h"
#include "broker/api/errors.h"
#include "broker/api/frames.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

constexpr size_t kMaxSessionBytes = 64, kMaxConsumerBytes = 255;
constexpr uint32_t kMinTimeoutMs = 1'000, kMaxTimeoutMs = 3'600'000, kDefaultTimeoutMs = 30'000;
constexpr uint32_t kMaxOutstanding = 100'000, kDefaultOutstanding = 256;
// Whatever a client asks for: what one that does not read costs its leader.
constexpr uint64_t kDefaultOutstandingBytes = uint64_t{16} << 20, kMaxOutstandingBytes = uint64_t{256} << 20;
// What a client holds when it resumes: what is outstanding, and what it settled and has no receipt for.
constexpr uint32_t kMaxHeld = 5 * kMaxOutstanding;
// A client's frame, for kMaxHeld runs of some 30 bytes each; and above which it is looked at before it is parsed.
constexpr size_t kMaxRequestBytes = size_t{16} << 20, kLargeRequestBytes = size_t{256} << 10;
constexpr size_t kDefaultFrameBytes = size_t{4} << 20, kMinFrameBytes = kDefaultFrameBytes,
                 kMaxFrameBytes = size_t{64} << 20;
// A frame is closed once it has this much, so that the client can start on it while the next one is on its way.
constexpr size_t kFrameBytes = size_t{256} << 10;
// Beside a frame's batch bytes, for run headers.
constexpr size_t kFrameSlack = 4096;
// Bytes given to gRPC and not yet taken by the connection; what is beyond waits in deliveries_, bounded by the client's
// limits.
constexpr size_t kQueuedBytes = size_t{2} << 20;
constexpr size_t kMaxRunsPerFrame = 100'000;
constexpr std::chrono::seconds kPatience{30};
constexpr std::chrono::milliseconds kRetryAfter{10};

absl::Status CheckRun(const v1::HeldRun& run) {
  return CheckRange("run.count", run.count(), 1, queue::kMaxBatchMessages, "messages");
}

queue::Token TokenOf(const v1::HeldRun& run) {
  return {{queue::Position(run.first_position()), run.count()}, run.checkout_index()};
}

// Safety rule 4: a run is a token only with its group.
absl::Status CheckGroup(absl::string_view field, uint64_t group, int runs) {
  if (group != 0 || runs == 0) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "NO_GROUP"},
               absl::StrCat(field, " is 0, with ", runs, " runs; name the group_id of the Opened of their stream"));
}

uint64_t Granted(uint64_t bytes) {
  return std::min(bytes, kMaxOutstandingBytes);
}

absl::Status CheckOutstanding(uint32_t messages) {
  return CheckRange("max_outstanding_messages", messages, 0, kMaxOutstanding, "messages");
}

absl::Status CheckRuns(absl::string_view field, const google::protobuf::RepeatedPtrField<v1::HeldRun>& runs,
                       uint64_t most) {
  absl::Status good = CheckRange(field, static_cast<uint64_t>(runs.size()), 0, most, "in a frame");
  for (auto run = runs.begin(); good.ok() && run != runs.end(); ++run) good = CheckRun(*run);
  return good;
}

absl::Status CheckSize(const grpc::ByteBuffer& message) {
  absl::Status good = CheckFrameSize("a frame of Consume", message.Length(), kMaxRequestBytes);
  if (!good.ok() || message.Length() <= kLargeRequestBytes) return good;
  absl::StatusOr<raft::Bytes> bytes = raft::FromBuffer(message);
  if (!bytes.ok()) return bytes.status();
  return CheckRange("a frame's fields", CountFields(*bytes), 0, kMaxHeld + 100, "");
}

absl::StatusOr<AttachRequest> Validate(const v1::OpenConsume& open) {
  if (open.session().empty() || open.session().size() > kMaxSessionBytes) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_SESSION", .limit = "1 to 64 bytes"},
                 absl::StrCat("session has ", open.session().size(), " bytes; it must have 1 to 64"));
  }
  if (open.consumer().size() > kMaxConsumerBytes) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_CONSUMER", .limit = "255 bytes"},
                 absl::StrCat("consumer has ", open.consumer().size(), " bytes; the limit is 255"));
  }
  AttachRequest attach;
  attach.session = open.session();
  attach.consumer = open.consumer();
  attach.timeout_ms = open.session_timeout_ms() == 0 ? kDefaultTimeoutMs : open.session_timeout_ms();
  attach.max_messages = open.max_outstanding_messages() == 0 ? kDefaultOutstanding : open.max_outstanding_messages();
  attach.max_bytes =
      open.max_outstanding_bytes() == 0 ? kDefaultOutstandingBytes : Granted(open.max_outstanding_bytes());
  absl::StatusOr<std::string> subscription = SubscriptionName(open.subscription());
  absl::Status good = subscription.status();
  if (good.ok()) attach.subscription = *std::move(subscription);
  good.Update(CheckRange("session_timeout_ms", attach.timeout_ms, kMinTimeoutMs, kMaxTimeoutMs, "ms"));
  good.Update(CheckOutstanding(attach.max_messages));
  if (open.max_frame_bytes() != 0) {
    good.Update(CheckRange("max_frame_bytes", open.max_frame_bytes(), kMinFrameBytes, kMaxFrameBytes, "bytes"));
  }
  attach.held.group = raft::GroupId(open.group_id());
  good.Update(CheckGroup("group_id", open.group_id(), open.held_size()));
  good.Update(CheckRuns("held", open.held(), kMaxHeld));
  if (!good.ok()) return good;
  for (const v1::HeldRun& run : open.held()) attach.held.tokens.push_back(TokenOf(run));
  return attach;
}

}  // namespace

class ConsumeStream::Sink final : public ConsumerSink {
 public:
  explicit Sink(ConsumeStream* stream)
      : owner_(stream->api_->of(stream->queue_->group)),
        queue_(stream->queue_),
        shard_(stream->api_->shard()),
        stream_(Weak(stream)) {}

  void Attached(const Opened& opened) override {
    OnStream([opened](ConsumeStream& s) { s.Attached(opened); });
  }
  void Stands(bool standby) override {
    OnStream([standby](ConsumeStream& s) { s.Stands(standby); });
  }
  void Deliver(std::vector<DeliveredRun> runs) override {
    OnStream([runs = std::move(runs)](ConsumeStream& s) mutable { s.Deliver(std::move(runs)); });
  }
  void Receipt(uint64_t receipt, std::vector<queue::Token> lost) override {
    OnStream([receipt, lost = std::move(lost)](ConsumeStream& s) { s.Receipt(receipt, lost); });
  }
  void Cut(CutReason reason, const std::string& text) override {
    OnStream(
        [reason, text, leader = owner_->LeaderElsewhere(*queue_)](ConsumeStream& s) { s.Cut(reason, text, leader); });
  }

 private:
  template <typename Act>
  void OnStream(Act act) {
    RunOn(shard_, [weak = stream_, self = this, act = std::move(act)]() mutable {
      if (auto s = weak.lock(); s != nullptr && s->sink_.get() == self) act(*s);
    });
  }

  ShardApi* const owner_;
  const QueuePtr queue_;
  raft::CompletionQueueShard* const shard_;
  const std::weak_ptr<ConsumeStream> stream_;
};

class ConsumeStream::UpstreamHandler final : public raft::StreamHandler {
 public:
  explicit UpstreamHandler(std::weak_ptr<ConsumeStream> stream) : stream_(std::move(stream)) {}
  void OnMessage(grpc::ByteBuffer message) override {
    if (auto s = stream_.lock()) s->FromUpstream(std::move(message));
  }
  void OnClosed(const grpc::Status& status) override {
    if (auto s = stream_.lock()) s->UpstreamClosed(status);
  }

 private:
  std::weak_ptr<ConsumeStream> stream_;
};

// ---------------------------------------------------------------- life

ConsumeStream::ConsumeStream(ShardApi* api, raft::RawServerStream* call) : ClientStream(api, call) {
  call->set_queue_limit(kMaxFrameBytes + kQueuedBytes);
}

ConsumeStream::~ConsumeStream() = default;

template <typename Act>
void ConsumeStream::OnReplica(Act act) {
  ShardApi* owner = api_->of(queue_->group);
  RunOn(owner->shard(), [owner, group = queue_->group, sink = sink_, act = std::move(act)]() mutable {
    if (QueueReplica* replica = owner->Replica(group)) {
      act(*replica, sink);
    } else {
      sink->Cut(CutReason::kQueueDeleted, "the queue was deleted");
    }
  });
}

QueueReplica::Stream ConsumeStream::Named() const {
  return {attach_.session, sink_.get(), attach_.subscription};
}

void ConsumeStream::Leave(bool graceful) {
  if (state_ == State::kHere) {
    OnReplica([stream = Named(), graceful](QueueReplica& replica, const std::shared_ptr<Sink>&) {
      replica.Detach(stream, graceful);
    });
  }
  if (upstream_ != nullptr) {
    if (graceful) {
      upstream_->WritesDone();
    } else {
      upstream_->Cancel();
    }
  }
  state_ = State::kOver;
}

void ConsumeStream::OnClosed(bool in_order) {
  const bool farewell = half_closed_ && in_order;
  if (state_ != State::kOver) Leave(farewell);
  if (upstream_ != nullptr && !farewell) upstream_->Cancel();
  sink_.reset();
  upstream_.reset();
  deliveries_.clear();
}

void ConsumeStream::OnWritten() {
  if (closed()) return;
  if (upstream_ != nullptr && upstream_->reading_paused() && call().queued_bytes() <= kQueuedBytes) {
    upstream_->ResumeReading();
  }
  if (!deliveries_.empty()) FlushDeliveries();
}

// Half-closing is how a consumer says that its session is over. A call that is cancelled and a connection that breaks
// end the reading, too, and must not end the session (Safety rule 5): which of them it was shows when the call is over.
void ConsumeStream::OnReadEnd() {
  if (closed() || state_ == State::kOver) return;
  half_closed_ = true;
  End(absl::OkStatus());
}

void ConsumeStream::Drain() {
  v1::ConsumeResponse response;
  response.mutable_draining();
  Send(response);
}

void ConsumeStream::Fail(const absl::Status& status) {
  if (closed()) return;
  if (state_ != State::kOver) Leave(false);
  End(status);
}

// Ends a stream that is silent for the session's timeout, and keeps the client from thinking that of us.
void ConsumeStream::Watch() {
  if (state_ != State::kHere || closed()) return;
  const std::chrono::milliseconds timeout{attach_.timeout_ms};
  if (api_->shard()->Now() - heard_ > timeout) {
    return Fail(Error(absl::StatusCode::kDeadlineExceeded,
                      {.reason = "SILENT", .limit = absl::StrCat(attach_.timeout_ms, " ms")},
                      absl::StrCat("nothing was heard from this consumer for its session timeout of ",
                                   attach_.timeout_ms, " ms; send Flow as a keep-alive")));
  }
  v1::ConsumeResponse response;
  response.mutable_keep_alive();
  Send(response);
  api_->shard()->After(timeout / 3, [weak = Weak(this)] {
    if (auto self = weak.lock()) self->Watch();
  });
}

// ---------------------------------------------------------------- from the client

void ConsumeStream::OnMessage(grpc::ByteBuffer message) {
  if (state_ == State::kOver) return;
  heard_ = api_->shard()->Now();
  if (absl::Status good = CheckSize(message); !good.ok()) return Fail(good);
  if (state_ == State::kThere) return PassOn(std::move(message));
  v1::ConsumeRequest request;
  if (absl::Status parsed = raft::Parse(message, &request); !parsed.ok()) return Fail(parsed);
  switch (request.frame_case()) {
    case v1::ConsumeRequest::kOpen:
      if (state_ != State::kNew) return Fail(absl::InvalidArgumentError("Open was sent twice on one Consume stream"));
      open_frame_ = std::move(message);
      return OnOpen(request.open());
    case v1::ConsumeRequest::kFlow:
    case v1::ConsumeRequest::kSettle:
      break;
    case v1::ConsumeRequest::FRAME_NOT_SET:
      return Fail(absl::InvalidArgumentError("a ConsumeRequest holds none of open, flow, settle"));
  }
  if (state_ == State::kNew)
    return Fail(absl::InvalidArgumentError("the first frame of a Consume stream must be Open"));
  // Nothing was delivered yet, so there is nothing to settle; limits that change before the attach are rare, and
  // refused.
  if (state_ == State::kFinding) return;
  if (request.has_flow()) return OnFlow(request.flow());
  OnSettle(request.settle());
}

void ConsumeStream::OnOpen(const v1::OpenConsume& open) {
  absl::StatusOr<AttachRequest> attach = Validate(open);
  if (!attach.ok()) return Fail(attach.status());
  attach_ = *std::move(attach);
  if (open.temporary() && !open.queue().empty()) {
    return Fail(Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_QUEUE_NAME", .name = open.queue()},
                      absl::StrCat("a temporary queue is named by the broker; open with an empty queue, not ",
                                   open.queue(), ", or without temporary")));
  }
  queue_name_ = open.queue();
  client_frame_bytes_ = open.max_frame_bytes() == 0 ? kDefaultFrameBytes : open.max_frame_bytes();
  state_ = State::kFinding;
  deadline_ = api_->shard()->Now() + kPatience;
  if (open.temporary()) return MakeTemporary();
  FindLeader();
}

void ConsumeStream::MakeTemporary() {
  absl::StatusOr<ShardApi::Route> made = api_->MakeTemporary({.client = call().peer(), .session = attach_.session});
  if (!made.ok()) return Fail(made.status());
  queue_name_ = made->queue->name;
  AttachHere(*std::move(made));
}

void ConsumeStream::FindLeader() {
  api_->FindRoute({queue_name_, attach_.held.group, attach_.session}, deadline_,
                  [weak = Weak(this)](absl::StatusOr<ShardApi::Route> route) {
                    auto self = weak.lock();
                    if (self == nullptr || self->state_ != State::kFinding || self->closed()) return;
                    if (!route.ok()) return self->Fail(route.status());
                    if (route->here) return self->AttachHere(*std::move(route));
                    self->AttachThere(*std::move(route));
                  });
}

void ConsumeStream::AttachHere(ShardApi::Route route) {
  queue_ = std::move(route.queue);
  leader_ = std::move(route.leader);
  state_ = State::kHere;
  sink_ = std::make_shared<Sink>(this);
  OnReplica(
      [attach = attach_](QueueReplica& replica, const std::shared_ptr<Sink>& sink) { replica.Attach(attach, sink); });
}

void ConsumeStream::OnFlow(const v1::Flow& flow) {
  if (absl::Status good = CheckOutstanding(flow.max_outstanding_messages()); !good.ok()) return Fail(good);
  OnReplica(
      [stream = Named(), messages = flow.max_outstanding_messages(), bytes = Granted(flow.max_outstanding_bytes())](
          QueueReplica& replica, const std::shared_ptr<Sink>&) { replica.Flow(stream, messages, bytes); });
}

void ConsumeStream::OnSettle(const v1::SettleRuns& settle) {
  absl::Status good = CheckDisposition(settle.disposition());
  good.Update(CheckDelay(settle.delay_ms()));
  good.Update(CheckGroup("settle.group_id", settle.group_id(), settle.runs_size()));
  // Nobody holds more, and all of them go into one entry of the log, which must fit a frame between nodes.
  good.Update(CheckRuns("settle.runs", settle.runs(), kMaxOutstanding));
  if (!good.ok()) return Fail(good);
  GroupTokens settled{raft::GroupId(settle.group_id())};
  settled.tokens.reserve(static_cast<size_t>(settle.runs_size()));
  for (const v1::HeldRun& run : settle.runs()) settled.tokens.push_back(TokenOf(run));
  OnReplica([stream = Named(), disposition = static_cast<queue::Disposition>(settle.disposition()),
             settled = std::move(settled), receipt = settle.receipt(),
             delay_ms = settle.has_delay_ms() ? int64_t{settle.delay_ms()} : Settling::kAsSet](
                QueueReplica& replica, const std::shared_ptr<Sink>&) mutable {
    replica.Settle(stream, disposition, std::move(settled), receipt, delay_ms);
  });
}

// ---------------------------------------------------------------- to another node

void ConsumeStream::AttachThere(ShardApi::Route route) {
  if (forwarded()) {
    v1::ConsumeResponse response;
    *response.mutable_redirect()->mutable_leader() = route.leader;
    response.mutable_redirect()->set_reason("the leader is elsewhere");
    Send(response);
    return Fail(NotLeaderError(queue_name_));
  }
  queue_ = std::move(route.queue);
  leader_ = std::move(route.leader);
  state_ = State::kThere;
  upstream_opened_ = false;
  upstream_ = OpenUpstream(leader_, std::make_unique<UpstreamHandler>(Weak(this)));
  PassOn(open_frame_);
}

void ConsumeStream::PassOn(grpc::ByteBuffer message) {
  if (upstream_ == nullptr || !upstream_->Write(std::move(message))) {
    Fail(Error(absl::StatusCode::kUnavailable, {.reason = "FORWARDING", .name = queue_name_},
               "the way to the queue's leader is blocked; open the stream again"));
  }
}

void ConsumeStream::FromUpstream(grpc::ByteBuffer message) {
  if (closed()) return;
  upstream_opened_ = true;
  if (!call().Write(std::move(message))) return call().Cancel();
  if (call().queued_bytes() > kQueuedBytes && upstream_ != nullptr) upstream_->PauseReading();
}

void ConsumeStream::UpstreamClosed(const grpc::Status& status) {
  upstream_.reset();
  if (closed()) return;
  if (state_ == State::kOver) return call().Finish(status);
  // Cancelled: its node was lost.
  if (!status.ok() && status.error_code() != grpc::StatusCode::UNAVAILABLE &&
      status.error_code() != grpc::StatusCode::CANCELLED) {
    state_ = State::kOver;
    return call().Finish(status);
  }
  api_->WrongLeader(queue_, raft::NodeId(leader_.node_id()));
  if (!upstream_opened_ && api_->shard()->Now() < deadline_) {
    // Nothing has begun there: look for the leader again.
    state_ = State::kFinding;
    api_->shard()->After(kRetryAfter, [weak = Weak(this)] {
      auto self = weak.lock();
      if (self != nullptr && !self->closed() && self->state_ == State::kFinding) self->FindLeader();
    });
    return;
  }
  state_ = State::kOver;
  v1::ConsumeResponse response;
  response.mutable_redirect()->set_reason("the way to the queue's leader broke");
  Send(response);
  End(NotLeaderError(queue_name_));
}

// ---------------------------------------------------------------- from the replica

void ConsumeStream::Attached(const ConsumerSink::Opened& by) {
  attach_.timeout_ms = by.timeout_ms;
  v1::ConsumeResponse response;
  v1::OpenedConsume* opened = response.mutable_opened();
  opened->set_resumed(by.resumed);
  opened->set_session_epoch(by.epoch);
  *opened->mutable_leader() = leader_;
  opened->set_session_timeout_ms(by.timeout_ms);
  opened->set_standby(by.standby);
  opened->set_group_id(queue_->group.value());
  opened->set_queue(queue_name_);
  Send(response);
  heard_ = api_->shard()->Now();
  Watch();
}

void ConsumeStream::Stands(bool standby) {
  v1::ConsumeResponse response;
  response.mutable_standing()->set_standby(standby);
  Send(response);
}

void ConsumeStream::Deliver(std::vector<DeliveredRun> runs) {
  for (DeliveredRun& run : runs) deliveries_.push_back(std::move(run));
  if (flush_due_) return;
  flush_due_ = true;
  api_->shard()->AtTurnEnd([weak = Weak(this)] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->flush_due_ = false;
    self->FlushDeliveries();
  });
}

void ConsumeStream::FlushDeliveries() {
  while (!closed() && !deliveries_.empty() && call().queued_bytes() < kQueuedBytes) {
    DeliverBuilder frame;
    for (size_t n = 0; !deliveries_.empty() && n < kMaxRunsPerFrame; ++n) {
      const DeliveredRun& run = deliveries_.front();
      if (run.batch.size() + kFrameSlack > client_frame_bytes_) {
        return Fail(Error(
            absl::StatusCode::kResourceExhausted,
            {.reason = "FRAME_TOO_LARGE", .name = queue_name_, .limit = absl::StrCat(client_frame_bytes_, " bytes")},
            absl::StrCat("the message at position ", run.slots.first.packed(), " needs a frame of ",
                         run.batch.size() + kFrameSlack, " bytes, above this client's limit of ", client_frame_bytes_,
                         "; open with a larger max_frame_bytes")));
      }
      if (!frame.empty() && frame.size() + run.batch.size() > kFrameBytes) break;
      frame.Add(run.slots.first.packed(), run.checkout_index, run.slots.count, run.deliveries, run.batch);
      deliveries_.pop_front();
    }
    if (!call().Write(frame.Take())) return;  // the stream is ending; the session's leases stay with the replica
  }
}

void ConsumeStream::Receipt(uint64_t receipt, const std::vector<queue::Token>& lost) {
  v1::ConsumeResponse response;
  response.mutable_receipt()->set_receipt(receipt);
  for (const queue::Token& token : lost) {
    v1::HeldRun* run = response.mutable_receipt()->add_lease_lost();
    run->set_first_position(token.slots.first.packed());
    run->set_count(token.slots.count);
    run->set_checkout_index(token.checkout_index);
  }
  Send(response);
}

void ConsumeStream::Cut(CutReason reason, const std::string& text, const v1::Leader& leader) {
  if (closed()) return;
  state_ = State::kOver;
  sink_.reset();
  deliveries_.clear();
  switch (reason) {
    case CutReason::kNotLeader:
    case CutReason::kGroupHalted: {
      v1::ConsumeResponse response;
      response.mutable_redirect()->set_reason(text);
      *response.mutable_redirect()->mutable_leader() = leader;
      Send(response);
      return End(NotLeaderError(queue_name_));
    }
    case CutReason::kQueueDeleted:
      return End(Error(absl::StatusCode::kNotFound, {.reason = "QUEUE_NOT_FOUND", .name = queue_name_}, text));
    case CutReason::kSubscriptionGone:
      return End(Error(absl::StatusCode::kNotFound, {.reason = "NO_SUBSCRIPTION", .name = attach_.subscription}, text));
    case CutReason::kOldNodes:
      return End(Error(absl::StatusCode::kFailedPrecondition, {.reason = "OLD_NODES", .name = queue_name_}, text));
    case CutReason::kOverloaded:
      return End(
          Error(absl::StatusCode::kResourceExhausted, {.reason = "SETTLEMENTS_WAIT", .name = queue_name_}, text));
    case CutReason::kFenced:
      return End(Error(absl::StatusCode::kAborted, {.reason = "SESSION_FENCED", .name = queue_name_}, text));
  }
}

}  // namespace trireme::broker
