#include "broker/api/publish_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/checks.h"
#include "broker/api/errors.h"
#include "broker/api/publish_links.h"
#include "broker/cluster/names.h"
#include "broker/routing/leaders.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

// Unconfirmed bytes per alias. Large enough to keep a disk busy over a round trip, small against a group's cap.
constexpr size_t kWindowBytes = size_t{4} << 20;
// Unconfirmed bytes of all publish streams of a shard, above which they are not read.
constexpr size_t kShardBudgetBytes = size_t{256} << 20;
// Bytes waiting for a stream to another node, above which the client is not read.
constexpr size_t kUpstreamBytes = size_t{4} << 20;
// How long a Bind waits for its queue to have a leader.
constexpr std::chrono::seconds kBindPatience{30};
constexpr std::chrono::milliseconds kRetryAfter{10};

}  // namespace

// ---------------------------------------------------------------- the pieces around it

// What a replica answers one binding through. Any shard; outlives the stream if the replica still holds it.
class PublishStream::AliasSink final : public PublishSink {
 public:
  AliasSink(PublishStream* stream, QueuePtr queue, uint64_t generation)
      : owner_(stream->api_->of(queue->group)),
        queue_(std::move(queue)),
        shard_(stream->api_->shard()),
        stream_(Weak(stream)),
        generation_(generation) {}

  void Confirmed(uint32_t alias, PublishOutcome outcome, size_t bytes) override {
    OnStream([alias, generation = generation_, outcome = std::move(outcome), bytes](PublishStream& s) mutable {
      s.Confirmed(alias, generation, std::move(outcome), bytes);
    });
  }
  void Cut(uint32_t alias, CutReason, const std::string& text) override {
    OnStream([alias, generation = generation_, text, leader = owner_->LeaderElsewhere(*queue_)](PublishStream& s) {
      s.Cut(alias, generation, text, leader);
    });
  }

 private:
  template <typename Act>
  void OnStream(Act act) {
    RunOn(shard_, [weak = stream_, act = std::move(act)]() mutable {
      if (auto s = weak.lock()) act(*s);
    });
  }

  ShardApi* const owner_;
  const QueuePtr queue_;
  raft::CompletionQueueShard* const shard_;
  const std::weak_ptr<PublishStream> stream_;
  const uint64_t generation_;
};

// The stream to another node.
class PublishStream::Upstream {
 public:
  std::shared_ptr<raft::RawClientStream> stream;
  uint64_t node = 0;
  bool closed = false;
};

class PublishStream::UpstreamHandler final : public raft::StreamHandler {
 public:
  UpstreamHandler(std::weak_ptr<PublishStream> stream, std::shared_ptr<Upstream> upstream)
      : stream_(std::move(stream)), upstream_(std::move(upstream)) {}
  void OnMessage(grpc::ByteBuffer message) override {
    if (auto s = stream_.lock()) s->FromUpstream(upstream_.get(), std::move(message));
  }
  void OnWritten() override {
    if (auto s = stream_.lock()) s->UpdateReading();
  }
  void OnClosed(const grpc::Status& status) override {
    upstream_->closed = true;
    if (auto s = stream_.lock()) s->UpstreamClosed(upstream_.get(), status);
    upstream_->stream.reset();
  }

 private:
  std::weak_ptr<PublishStream> stream_;
  std::shared_ptr<Upstream> upstream_;
};

// ---------------------------------------------------------------- life

PublishStream::PublishStream(ShardApi* api, raft::RawServerStream* call) : ClientStream(api, call) {}

PublishStream::~PublishStream() = default;

void PublishStream::OnClosed(bool) {
  for (auto& [alias, binding] : aliases_) Release(binding);
  aliases_.clear();
  for (auto& [node, upstream] : upstreams_) {
    if (upstream->stream != nullptr) upstream->stream->Cancel();
  }
  upstreams_.clear();
}

void PublishStream::OnReadEnd() {
  // The client sends no more. What is under way is still answered.
  ending_ = true;
  FlushConfirms();
  if (unconfirmed_ == 0 && !closed()) {
    bool waiting = false;
    for (const auto& [alias, binding] : aliases_)
      waiting |= binding.state == Alias::State::kThere && !binding.upstream->closed;
    if (!waiting) {
      End(absl::OkStatus());
    } else {
      for (auto& [node, upstream] : upstreams_) {
        if (upstream->stream != nullptr) upstream->stream->WritesDone();
      }
    }
  }
}

void PublishStream::Drain() {
  v1::PublishResponse response;
  response.mutable_draining();
  Answer(response);
}

void PublishStream::Answer(const v1::PublishResponse& response) {
  // Confirms are bounded by what was read; a client that does not read its confirms is not served for ever.
  if (!closed() && !Send(response)) {
    End(Error(absl::StatusCode::kResourceExhausted, {.reason = "SLOW_READER", .limit = "16 MiB"},
              "the client does not read its confirms; more than 16 MiB of them wait"));
  }
}

PublishStream::Alias* PublishStream::Find(uint32_t alias, uint64_t generation) {
  auto it = aliases_.find(alias);
  return it == aliases_.end() || it->second.generation != generation ? nullptr : &it->second;
}

// ---------------------------------------------------------------- from the client

void PublishStream::OnMessage(grpc::ByteBuffer message) {
  absl::StatusOr<raft::Bytes> bytes = raft::FromBuffer(message);
  if (!bytes.ok()) return End(bytes.status());
  absl::StatusOr<PublishFrame> frame = ParsePublishRequest(*bytes);
  if (!frame.ok()) return End(frame.status());
  if (auto* append = std::get_if<AppendFrame>(&*frame)) return OnAppend(std::move(*append), *bytes);
  if (auto* open = std::get_if<v1::OpenPublish>(&*frame)) return OnOpen(std::move(*open), *std::move(bytes));
  OnBind(std::move(std::get<v1::Bind>(*frame)), *std::move(bytes));
}

void PublishStream::OnOpen(v1::OpenPublish open, raft::Bytes frame) {
  if (opened_) return End(absl::InvalidArgumentError("Open was sent twice on one Publish stream"));
  if (absl::Status named = CheckProducer(open.producer(), forwarded()); !named.ok()) return End(named);
  opened_ = true;
  open_ = std::move(open);
  open_frame_ = std::move(frame);
  v1::PublishResponse response;
  response.mutable_opened()->set_window_bytes(kWindowBytes);
  response.mutable_opened()->set_max_message_bytes(api_->node()->config().max_message_bytes);
  Answer(response);
}

void PublishStream::OnBind(v1::Bind bind, raft::Bytes frame) {
  if (!opened_) return End(absl::InvalidArgumentError("the first frame of a Publish stream must be Open, not Bind"));
  if (bind.alias() >= kMaxAliases) {
    return End(Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_ALIAS", .limit = "65535"},
                     absl::StrCat("alias ", bind.alias(), " is above the limit of ", kMaxAliases - 1)));
  }
  const uint32_t number = bind.alias();
  Alias& alias = aliases_[number];
  // What was confirmed to the older binding leaves before the new one's Bound.
  FlushConfirms();
  rebound_ |= alias.generation > 0;
  Release(alias);
  alias.state = Alias::State::kBinding;
  ++alias.generation;
  alias.name = bind.has_exchange() ? bind.exchange() : bind.queue();
  alias.bind = std::move(bind);
  alias.bind_frame = std::move(frame);
  alias.deadline = api_->shard()->Now() + kBindPatience;
  if (alias.bind.has_exchange()) return BindExchange(number);
  FindLeaderOf(number);
}

void PublishStream::OnAppend(AppendFrame append, const raft::Bytes& frame) {
  auto it = aliases_.find(append.alias);
  if (it == aliases_.end()) {
    return End(absl::InvalidArgumentError(
        absl::StrCat("an Append names alias ", append.alias, ", which no Bind on this stream has named")));
  }
  Alias& alias = it->second;
  switch (alias.state) {
    case Alias::State::kUnbound:
      if (!alias.refused.empty()) return RefuseAppend(append, alias.refused);
      return;  // it crossed our Unbound, which has said that it is unknown
    case Alias::State::kBinding:
      return RefuseAppend(append, "sent before its Bound had come");
    case Alias::State::kThere:
      if (alias.upstream->stream == nullptr || !alias.upstream->stream->Write(raft::ToBuffer(frame))) {
        return Unbind(append.alias, "the way to the leader is broken", {});
      }
      return UpdateReading();
    case Alias::State::kExchange:
      return AppendToExchange(alias, std::move(append));
    case Alias::State::kHere:
      break;
  }
  Account(alias, append.batch.size(), 0);
  QueueReplica::Publication publication{
      .sink = alias.sink,
      .alias = append.alias,
      .producer = open_.producer(),
      .epoch = alias.epoch,
      .first_sequence = open_.producer().empty() ? ++alias.frames : append.first_sequence,
      .batch = std::move(append.batch),
      .windowed = true};
  ShardApi* owner = api_->of(alias.queue->group);
  RunOn(owner->shard(), [owner, group = alias.queue->group, publication = std::move(publication)]() mutable {
    if (QueueReplica* replica = owner->Replica(group)) {
      replica->Publish(std::move(publication));
    } else {
      publication.sink->Cut(publication.alias, CutReason::kQueueDeleted, "the queue was deleted");
    }
  });
  UpdateReading();
}

void PublishStream::RefuseAppend(const AppendFrame& append, const std::string& reason) {
  // Without a producer's name it is not counted, so that the first frame that is taken is number 1 wherever it is
  // taken.
  Confirm(append.alias, {.kind = PublishOutcome::Kind::kRefused,
                         .first_sequence = open_.producer().empty() ? 0 : append.first_sequence,
                         .count = MessagesIn(append.batch),
                         .first = {},
                         .reason = reason});
}

// ---------------------------------------------------------------- binding

void PublishStream::FindLeaderOf(uint32_t alias) {
  Alias& binding = aliases_[alias];
  api_->FindRoute({binding.name, raft::GroupId(binding.bind.group_id())}, binding.deadline,
                  [weak = Weak(this), alias, generation = binding.generation](absl::StatusOr<ShardApi::Route> route) {
                    auto self = weak.lock();
                    if (self == nullptr || self->closed() || self->Find(alias, generation) == nullptr) return;
                    if (!route.ok()) return self->Bound(alias, route.status());
                    // Safety rule 21: one of that name and another group is another queue.
                    const uint64_t wanted = self->aliases_[alias].bind.group_id();
                    if (wanted != 0 && route->queue->group.value() != wanted) {
                      return self->Bound(alias, absl::NotFoundError("the queue was deleted, and made again"));
                    }
                    if (route->here) return self->BindHere(alias, *std::move(route));
                    self->BindThere(alias, *route);
                  });
}

void PublishStream::BindHere(uint32_t alias, ShardApi::Route route) {
  Alias& binding = aliases_[alias];
  binding.queue = route.queue;
  binding.leader = route.leader;
  binding.sink = std::make_shared<AliasSink>(this, route.queue, binding.generation);
  if (open_.producer().empty()) return Bound(alias, QueueReplica::OpenedProducer{});
  ShardApi* owner = api_->of(route.queue->group);
  RunOn(owner->shard(), [weak = Weak(this), shard = api_->shard(), owner, group = route.queue->group, alias,
                         generation = binding.generation, producer = open_.producer(), join = binding.bind.join(),
                         epoch = binding.bind.epoch() != 0 ? binding.bind.epoch() : open_.epoch()] {
    auto answer = [weak, shard, alias, generation](absl::StatusOr<QueueReplica::OpenedProducer> opened) {
      RunOn(shard, [weak, alias, generation, opened = std::move(opened)] {
        auto self = weak.lock();
        if (self != nullptr && self->Find(alias, generation) != nullptr) self->Bound(alias, opened);
      });
    };
    QueueReplica* replica = owner->Replica(group);
    if (replica == nullptr) return answer(NotLeaderError(""));
    // Whatever its first sequence here is: those of an exchange's producer have holes in each queue.
    if (join) return replica->JoinProducer(producer, epoch, /*first_sequence=*/1, std::move(answer));
    replica->OpenProducer(producer, epoch, std::move(answer));
  });
}

void PublishStream::Bound(uint32_t alias, const absl::StatusOr<QueueReplica::OpenedProducer>& opened) {
  Alias& binding = aliases_[alias];
  if (SaysCutOff(opened.status())) return Unbind(alias, std::string(opened.status().message()), {});
  if (!opened.ok() && opened.status().code() == absl::StatusCode::kUnavailable &&
      api_->shard()->Now() < binding.deadline) {
    // Leadership moved between the look-up and the answer, or nobody leads yet.
    api_->shard()->After(kRetryAfter, [weak = Weak(this), alias, generation = binding.generation] {
      auto self = weak.lock();
      if (self != nullptr && !self->closed() && self->Find(alias, generation) != nullptr) self->FindLeaderOf(alias);
    });
    return;
  }
  v1::PublishResponse response;
  v1::Bound* bound = response.mutable_bound();
  bound->set_alias(alias);
  if (opened.ok()) {
    binding.state = Alias::State::kHere;
    binding.epoch = opened->epoch;
    binding.frames = 0;
    bound->set_outcome(v1::OUTCOME_OK);
    bound->set_epoch(opened->epoch);
    bound->set_last_sequence(opened->last_sequence);
    *bound->mutable_leader() = binding.leader;
  } else {
    Release(binding);
    binding.refused = absl::StrCat("its Bind was refused: ", opened.status().message());
    bound->set_outcome(opened.status().code() == absl::StatusCode::kAborted ? v1::OUTCOME_FENCED : v1::OUTCOME_REFUSED);
    bound->set_reason(std::string(opened.status().message()));
  }
  Answer(response);
}

void PublishStream::BindThere(uint32_t alias, const ShardApi::Route& route) {
  Alias& binding = aliases_[alias];
  binding.queue = route.queue;
  binding.leader = route.leader;
  if (forwarded()) return Unbind(alias, "the leader is elsewhere", route.leader);
  std::shared_ptr<Upstream>& upstream = upstreams_[route.leader.node_id()];
  if (upstream == nullptr || upstream->stream == nullptr) {
    upstream = std::make_shared<Upstream>();
    upstream->node = route.leader.node_id();
    upstream->stream = OpenUpstream(route.leader, std::make_unique<UpstreamHandler>(Weak(this), upstream));
    upstream->stream->Write(raft::ToBuffer(open_frame_));
  }
  binding.upstream = upstream;
  upstream->stream->Write(raft::ToBuffer(binding.bind_frame));
}

void PublishStream::FromUpstream(Upstream* upstream, grpc::ByteBuffer message) {
  absl::StatusOr<raft::Bytes> frame = raft::FromBuffer(message);
  if (!frame.ok() || closed()) return;
  FrameKind kind = PeekFrame(*frame);
  if (kind.field == v1::PublishResponse::kOpenedFieldNumber || kind.field == v1::PublishResponse::kDrainingFieldNumber)
    return;
  if (kind.field == v1::PublishResponse::kConfirmsFieldNumber) {
    if (rebound_) return PassConfirms(upstream, *frame);
    if (!call().Write(std::move(message))) call().Cancel();
    return;
  }
  auto it = aliases_.find(kind.alias);
  if (it == aliases_.end() || it->second.upstream.get() != upstream) return;  // of an older binding
  Alias& binding = it->second;
  if (kind.field == v1::PublishResponse::kUnboundFieldNumber) {
    if (binding.state != Alias::State::kBinding) {
      v1::PublishResponse response;
      response.ParseFromArray(frame->data(), static_cast<int>(frame->size()));
      return Unbind(kind.alias, response.unbound().reason(), response.unbound().leader());
    }
    // It did not lead after all: look again.
    binding.upstream.reset();
    api_->WrongLeader(binding.queue, raft::NodeId(upstream->node));
    return Bound(kind.alias, NotLeaderError(binding.name));
  }
  if (kind.field == v1::PublishResponse::kBoundFieldNumber) {
    binding.state = Alias::State::kThere;
    if (!call().Write(std::move(message))) call().Cancel();
  }
}

// The leader of an alias's older binding does not know that it was bound again, if another node leads the new one: what
// it still confirms must not be taken for the new one's. Before the new one's Bound it is.
void PublishStream::PassConfirms(const Upstream* upstream, const raft::Bytes& frame) {
  v1::PublishResponse all, current;
  if (!all.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) return;
  for (v1::Confirm& confirm : *all.mutable_confirms()->mutable_confirms()) {
    auto it = aliases_.find(confirm.alias());
    if (it == aliases_.end()) continue;
    const Alias& binding = it->second;
    const bool of_this = binding.state == Alias::State::kThere && binding.upstream.get() == upstream;
    if (of_this || binding.state == Alias::State::kBinding) {
      *current.mutable_confirms()->add_confirms() = std::move(confirm);
    }
  }
  if (!current.confirms().confirms().empty()) Answer(current);
}

void PublishStream::UpstreamClosed(Upstream* upstream, const grpc::Status& status) {
  if (closed()) return;
  auto it = upstreams_.find(upstream->node);
  if (it != upstreams_.end() && it->second.get() == upstream) upstreams_.erase(it);
  for (auto& [alias, binding] : aliases_) {
    if (binding.upstream.get() != upstream) continue;
    api_->WrongLeader(binding.queue, raft::NodeId(upstream->node));
    if (binding.state == Alias::State::kBinding) {
      binding.upstream.reset();
      Bound(alias, NotLeaderError(binding.name));
    } else {
      Unbind(alias, absl::StrCat("the way to the leader broke: ", status.error_message()), {});
    }
  }
  if (ending_) OnReadEnd();
  UpdateReading();
}

void PublishStream::Unbind(uint32_t alias, const std::string& reason, const v1::Leader& leader) {
  FlushConfirms();  // what was answered before stays in order before it
  Alias& binding = aliases_[alias];
  Release(binding);
  v1::PublishResponse response;
  response.mutable_unbound()->set_alias(alias);
  response.mutable_unbound()->set_reason(reason);
  *response.mutable_unbound()->mutable_leader() = leader;
  Answer(response);
  // It may have been all that a client which sends no more was waiting for; and its bytes all that held back reading.
  if (ending_ && !closed()) OnReadEnd();
  UpdateReading();
}

void PublishStream::Release(Alias& binding) {
  if (binding.sink != nullptr) {
    ShardApi* owner = api_->of(binding.queue->group);
    RunOn(owner->shard(), [owner, group = binding.queue->group, sink = binding.sink] {
      if (QueueReplica* replica = owner->Replica(group)) replica->Forget(sink.get());
    });
  }
  Account(binding, 0, binding.unconfirmed);
  binding.sink.reset();
  binding.upstream.reset();
  binding.publisher.reset();
  binding.state = Alias::State::kUnbound;
  binding.refused.clear();
  ++binding.generation;
}

// ---------------------------------------------------------------- exchanges

void PublishStream::BindExchange(uint32_t alias) {
  // Safety rule 21: a client that has made a binding and binds then publishes by it, wherever it was made.
  api_->exchanges().Renew([weak = Weak(this), alias, generation = aliases_[alias].generation](absl::Status renewed) {
    auto self = weak.lock();
    Alias* binding = self == nullptr || self->closed() ? nullptr : self->Find(alias, generation);
    if (binding == nullptr) return;
    if (renewed.ok()) return self->ExchangeBound(alias, *binding);
    self->Unbind(alias, absl::StrCat("this node cannot route now: ", renewed.message(), "; publish through another"),
                 {});
  });
}

void PublishStream::ExchangeBound(uint32_t alias, Alias& binding) {
  const ExchangeRouter& router = api_->exchanges().router();
  if (!router.Has(binding.name)) return Bound(alias, NoSuchExchange(binding.name));
  absl::StatusOr<std::string> producer = ProducerAtExchange(router.IdOf(binding.name), open_.producer());
  if (!producer.ok()) return Bound(alias, producer.status());
  ExchangePublisher::Options options{.exchange = binding.name, .mandatory = binding.bind.mandatory()};
  options.limits.max_message_bytes = api_->node()->config().max_message_bytes;
  options.feed.sequences = !producer->empty();
  binding.publisher = std::make_shared<ExchangePublisher>(
      api_->shard(), &api_->exchanges(), std::make_shared<PublishLinks>(api_, *producer), std::move(options),
      [weak = Weak(this), alias, generation = binding.generation](const absl::Status& failed) {
        auto self = weak.lock();
        if (self == nullptr || self->closed() || self->Find(alias, generation) == nullptr) return;
        self->Unbind(alias, std::string(failed.message()), {});
      });
  binding.state = Alias::State::kExchange;
  binding.frames = 0;
  v1::PublishResponse response;
  v1::Bound* bound = response.mutable_bound();
  bound->set_alias(alias);
  bound->set_outcome(v1::OUTCOME_OK);
  bound->set_window_messages(ExchangePublisher::kMaxAhead);
  Answer(response);
}

void PublishStream::AppendToExchange(Alias& binding, AppendFrame append) {
  Account(binding, append.batch.size(), 0);
  const bool named = !open_.producer().empty();
  if (!named) append.first_sequence = ++binding.frames;
  raft::Bytes batch = append.batch;
  // Answering may let go of the alias.
  const std::shared_ptr<ExchangePublisher> publisher = binding.publisher;
  publisher->Publish(
      named ? append.first_sequence : 0, std::move(batch),
      [weak = Weak(this), generation = binding.generation, append = std::move(append)](std::vector<Verdict> verdicts) {
        if (auto self = weak.lock()) self->Answered(append, generation, std::move(verdicts));
      });
  UpdateReading();
}

void PublishStream::Answered(const AppendFrame& append, uint64_t generation, std::vector<Verdict> verdicts) {
  Alias* binding = Find(append.alias, generation);
  if (closed() || binding == nullptr) return;
  Account(*binding, 0, append.batch.size());
  // Frames are counted, so this is one.
  if (open_.producer().empty()) verdicts = {OneVerdict(verdicts)};
  for (const Verdict& verdict : verdicts) {
    v1::Confirm* confirm = confirms_.mutable_confirms()->add_confirms();
    confirm->set_alias(append.alias);
    ToProto(verdict, append.first_sequence, confirm);
    if (open_.producer().empty()) confirm->set_count(1);
  }
  FlushSoon();
}

// ---------------------------------------------------------------- from a replica

void PublishStream::Confirmed(uint32_t alias, uint64_t generation, PublishOutcome outcome, size_t bytes) {
  Alias* binding = Find(alias, generation);
  if (closed() || binding == nullptr) return;
  Account(*binding, 0, bytes);
  // One with sequences sends it again as it is, once it has heard of the Cut that follows; one without would not know
  // that it may.
  if (outcome.kind == PublishOutcome::Kind::kMoved && !open_.producer().empty()) return;
  Confirm(alias, std::move(outcome));
}

void PublishStream::Cut(uint32_t alias, uint64_t generation, const std::string& text, const v1::Leader& leader) {
  if (closed() || Find(alias, generation) == nullptr) return;
  Unbind(alias, text, leader);
}

void PublishStream::Confirm(uint32_t alias, PublishOutcome outcome) {
  v1::Confirm* confirm = confirms_.mutable_confirms()->add_confirms();
  confirm->set_alias(alias);
  confirm->set_first_sequence(outcome.first_sequence);
  // Without a producer's name it is frames that are counted, and this is one: a count of messages would confirm frames
  // that are still under way.
  confirm->set_count(open_.producer().empty() ? 1 : outcome.count);
  confirm->set_outcome(ToProto(outcome.kind));
  confirm->set_first_position(outcome.first.packed());
  if (!outcome.reason.empty()) confirm->set_reason(std::move(outcome.reason));
  confirm->set_refused_by(ToProto(outcome.refusal.by));
  confirm->set_limit(outcome.refusal.limit);
  FlushSoon();
}

void PublishStream::FlushSoon() {
  if (flush_due_) return;
  flush_due_ = true;
  api_->shard()->AtTurnEnd([weak = Weak(this)] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->flush_due_ = false;
    self->FlushConfirms();
    self->UpdateReading();
    if (self->ending_ && !self->closed()) self->OnReadEnd();
  });
}

void PublishStream::FlushConfirms() {
  if (closed() || confirms_.confirms().confirms().empty()) return;
  Answer(confirms_);
  confirms_.mutable_confirms()->clear_confirms();
}

// ---------------------------------------------------------------- back-pressure

void PublishStream::Account(Alias& alias, size_t add, size_t take) {
  const bool was_over = alias.unconfirmed > kWindowBytes;
  alias.unconfirmed += add;
  unconfirmed_ += add;
  api_->publish_bytes += add;
  take = std::min(take, alias.unconfirmed);
  alias.unconfirmed -= take;
  unconfirmed_ -= take;
  api_->publish_bytes -= take;
  const bool is_over = alias.unconfirmed > kWindowBytes;
  aliases_over_ += static_cast<size_t>(is_over) - static_cast<size_t>(was_over);
}

void PublishStream::UpdateReading() {
  if (closed()) return;
  bool pause = aliases_over_ > 0 || (api_->publish_bytes > kShardBudgetBytes && unconfirmed_ > 0);
  for (const auto& [node, upstream] : upstreams_) {
    pause |= upstream->stream != nullptr && upstream->stream->queued_bytes() > kUpstreamBytes;
  }
  if (pause == call().reading_paused()) return;
  if (pause) {
    call().PauseReading();
  } else {
    call().ResumeReading();
  }
}

}  // namespace trireme::broker
