#include "broker/api/publish_links.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/frames.h"
#include "broker/replica/sinks.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

QueueOutcome OutcomeOf(v1::Outcome outcome) {
  switch (outcome) {
    case v1::OUTCOME_OK:
      return QueueOutcome::kStored;
    case v1::OUTCOME_DUPLICATE:
      return QueueOutcome::kDuplicate;
    case v1::OUTCOME_FENCED:
      return QueueOutcome::kFenced;
    case v1::OUTCOME_REFUSED:
      return QueueOutcome::kRefused;
    default:
      return QueueOutcome::kUnknown;
  }
}

}  // namespace

// ---------------------------------------------------------------- one link

// What a replica here answers through comes on the queue's shard and is posted on; the rest is the stream's shard's.
class PublishLinks::Link final : public QueueLink, public std::enable_shared_from_this<PublishLinks::Link> {
 public:
  Link(std::shared_ptr<PublishLinks> links, const Wanted& wanted, std::weak_ptr<Owner> owner)
      : links_(links), api_(links->api_), producer_(links->producer_), wanted_(wanted), owner_(std::move(owner)) {}

  void Start() {
    api_->FindRoute({wanted_.queue->name, wanted_.queue->group}, wanted_.deadline,
                    [weak = weak_from_this()](absl::StatusOr<ShardApi::Route> route) {
                      auto self = weak.lock();
                      if (self != nullptr && !self->closed_) self->Found(route);
                    });
  }

  void Send(uint64_t number, raft::Bytes batch) override;
  void Close() override;

  // From the stream to another node.
  void OnBound(const v1::Bound& bound);
  void OnAnswer(const Answer& answer) {
    if (auto owner = TellOwner()) owner->OnAnswer(answer);
  }
  void Ended(End how, const std::string& reason) {
    auto owner = TellOwner();
    // The next look for the leader asks again.
    if (how == End::kBroken && upstream_ != nullptr) WrongLeader();
    Close();
    if (owner != nullptr) owner->OnEnd(how, reason);
  }
  uint32_t alias = 0;

 private:
  class Sink;

  // Null: it is not told any more.
  std::shared_ptr<Owner> TellOwner() const { return closed_ ? nullptr : owner_.lock(); }
  void Found(const absl::StatusOr<ShardApi::Route>& route);
  void BindHere();
  void BoundHere(const absl::StatusOr<QueueReplica::OpenedProducer>& opened);
  void BindThere(const v1::Leader& leader);
  void WrongLeader();

  const std::weak_ptr<PublishLinks> links_;
  ShardApi* const api_;
  const std::string producer_;
  const Wanted wanted_;
  const std::weak_ptr<Owner> owner_;
  bool closed_ = false;
  std::shared_ptr<Sink> sink_;  // to a replica here
  uint64_t epoch_ = 0;
  std::shared_ptr<Upstream> upstream_;  // to another node
};

// Any shard.
class PublishLinks::Link::Sink final : public PublishSink {
 public:
  Sink(std::weak_ptr<Link> link, raft::CompletionQueueShard* shard) : link_(std::move(link)), shard_(shard) {}

  void Confirmed(uint32_t, PublishOutcome outcome, size_t) override {
    // A producer with a name sends it again on the next link: a Cut follows.
    Answer answer{outcome.first_sequence, outcome.count, OutcomeOf(ToProto(outcome.kind)), std::move(outcome.reason)};
    const bool moved = outcome.kind == PublishOutcome::Kind::kMoved;
    OnLink([answer = std::move(answer), moved](Link& link) mutable {
      if (link.producer_.empty()) {
        answer.count = 1;
      } else if (moved) {
        return;
      }
      link.OnAnswer(answer);
    });
  }
  void Cut(uint32_t, CutReason, const std::string& text) override {
    OnLink([text](Link& link) { link.Ended(End::kBroken, text); });
  }

 private:
  // Never from within a call of the link's.
  template <typename Act>
  void OnLink(Act act) {
    shard_->Post([weak = link_, act = std::move(act)]() mutable {
      if (auto link = weak.lock()) act(*link);
    });
  }

  const std::weak_ptr<Link> link_;
  raft::CompletionQueueShard* const shard_;
};

// A stream to another node and the links over it.
class PublishLinks::Upstream {
 public:
  std::shared_ptr<raft::RawClientStream> stream;
  v1::Leader leader;
  bool closed = false;
  absl::flat_hash_map<uint32_t, std::weak_ptr<Link>> links;  // by alias
};

class PublishLinks::UpstreamHandler final : public raft::StreamHandler {
 public:
  explicit UpstreamHandler(std::shared_ptr<Upstream> upstream) : upstream_(std::move(upstream)) {}

  void OnMessage(grpc::ByteBuffer message) override {
    v1::PublishResponse response;
    if (!raft::Parse(message, &response).ok()) return upstream_->stream->Cancel();
    switch (response.frame_case()) {
      case v1::PublishResponse::kBound:
        if (auto link = LinkOf(response.bound().alias())) link->OnBound(response.bound());
        break;
      case v1::PublishResponse::kConfirms:
        for (const v1::Confirm& confirm : response.confirms().confirms()) {
          auto link = LinkOf(confirm.alias());
          if (link == nullptr) continue;
          link->OnAnswer({confirm.first_sequence(), confirm.count(), OutcomeOf(confirm.outcome()), confirm.reason()});
        }
        break;
      case v1::PublishResponse::kUnbound:
        if (auto link = LinkOf(response.unbound().alias())) {
          link->Ended(QueueLink::End::kBroken, response.unbound().reason());
        }
        break;
      default:
        break;
    }
  }
  void OnClosed(const grpc::Status& status) override {
    upstream_->closed = true;
    upstream_->stream.reset();
    for (auto& [alias, weak] : std::exchange(upstream_->links, {})) {
      if (auto link = weak.lock()) {
        link->Ended(QueueLink::End::kBroken, absl::StrCat("the way to the leader broke: ", status.error_message()));
      }
    }
  }

 private:
  std::shared_ptr<Link> LinkOf(uint32_t alias) const {
    auto found = upstream_->links.find(alias);
    return found == upstream_->links.end() ? nullptr : found->second.lock();
  }

  const std::shared_ptr<Upstream> upstream_;
};

void PublishLinks::Link::Found(const absl::StatusOr<ShardApi::Route>& route) {
  // Safety rule 21: one of that name and another group is another queue.
  if (absl::IsNotFound(route.status()) || (route.ok() && route->queue->group != wanted_.queue->group)) {
    return Ended(End::kGone, "the queue was deleted");
  }
  if (!route.ok()) return Ended(End::kBroken, std::string(route.status().message()));
  if (route->here) return BindHere();
  BindThere(route->leader);
}

void PublishLinks::Link::BindHere() {
  sink_ = std::make_shared<Sink>(weak_from_this(), api_->shard());
  if (producer_.empty()) return BoundHere(QueueReplica::OpenedProducer{});
  ShardApi* owner = api_->of(wanted_.queue->group);
  RunOn(owner->shard(), [weak = weak_from_this(), here = api_->shard(), owner, wanted = wanted_, producer = producer_] {
    auto answer = [weak, here](absl::StatusOr<QueueReplica::OpenedProducer> opened) {
      RunOn(here, [weak, opened = std::move(opened)] {
        if (auto self = weak.lock(); self != nullptr && !self->closed_) self->BoundHere(opened);
      });
    };
    QueueReplica* replica = owner->Replica(wanted.queue->group);
    if (replica == nullptr) return answer(absl::UnavailableError("this node's replica has stopped"));
    // Whatever its first sequence here is: there are holes before it.
    if (wanted.join) return replica->JoinProducer(producer, wanted.epoch, /*first_sequence=*/1, std::move(answer));
    replica->OpenProducer(producer, wanted.epoch, std::move(answer));
  });
}

void PublishLinks::Link::BoundHere(const absl::StatusOr<QueueReplica::OpenedProducer>& opened) {
  const std::string reason(opened.status().message());
  switch (opened.status().code()) {
    case absl::StatusCode::kOk:
      epoch_ = opened->epoch;
      if (auto owner = TellOwner()) owner->OnBound(epoch_);
      return;
    case absl::StatusCode::kAborted:
      return Ended(End::kFenced, reason);
    case absl::StatusCode::kUnavailable:
      return Ended(End::kBroken, reason);
    default:
      return Ended(End::kRefused, reason);
  }
}

void PublishLinks::Link::BindThere(const v1::Leader& leader) {
  auto links = links_.lock();
  if (links == nullptr) return;
  upstream_ = links->UpstreamTo(leader);
  alias = links->FreeAlias(*upstream_);
  upstream_->links[alias] = weak_from_this();
  v1::PublishRequest request;
  v1::Bind* bind = request.mutable_bind();
  bind->set_alias(alias);
  bind->set_queue(wanted_.queue->name);
  bind->set_group_id(wanted_.queue->group.value());
  bind->set_epoch(wanted_.epoch);
  bind->set_join(wanted_.join);
  if (!upstream_->stream->Write(raft::Serialize(request))) upstream_->stream->Cancel();
}

void PublishLinks::Link::WrongLeader() {
  api_->WrongLeader(wanted_.queue, raft::NodeId(upstream_->leader.node_id()));
}

void PublishLinks::Link::OnBound(const v1::Bound& bound) {
  switch (bound.outcome()) {
    case v1::OUTCOME_OK:
      epoch_ = bound.epoch();
      if (auto owner = TellOwner()) owner->OnBound(epoch_);
      return;
    case v1::OUTCOME_FENCED:
      return Ended(End::kFenced, bound.reason());
    case v1::OUTCOME_REFUSED:
      return Ended(End::kRefused, bound.reason());
    default:
      return Ended(End::kBroken, bound.reason());
  }
}

void PublishLinks::Link::Send(uint64_t number, raft::Bytes batch) {
  if (closed_) return;
  if (upstream_ != nullptr) {
    // More waits than may, or it is ending: OnClosed follows.
    if (!upstream_->closed && !upstream_->stream->Write(AppendRequest(alias, number, batch))) {
      upstream_->stream->Cancel();
    }
    return;
  }
  ShardApi* owner = api_->of(wanted_.queue->group);
  RunOn(owner->shard(), [owner, group = wanted_.queue->group,
                         publication = QueueReplica::Publication{.sink = sink_,
                                                                 .alias = 0,
                                                                 .producer = producer_,
                                                                 .epoch = epoch_,
                                                                 .first_sequence = number,
                                                                 .batch = std::move(batch),
                                                                 .windowed = !wanted_.join}]() mutable {
    if (QueueReplica* replica = owner->Replica(group)) return replica->Publish(std::move(publication));
    publication.sink->Cut(0, CutReason::kQueueDeleted, "this node's replica has stopped");
  });
}

void PublishLinks::Link::Close() {
  if (std::exchange(closed_, true)) return;
  if (sink_ != nullptr) {
    ShardApi* owner = api_->of(wanted_.queue->group);
    RunOn(owner->shard(), [owner, group = wanted_.queue->group, sink = std::move(sink_)] {
      if (QueueReplica* replica = owner->Replica(group)) replica->Forget(sink.get());
    });
  }
  if (upstream_ != nullptr) {
    upstream_->links.erase(alias);
    upstream_.reset();
  }
}

// ---------------------------------------------------------------- all of them

PublishLinks::~PublishLinks() {
  for (auto& [node, upstream] : upstreams_) {
    if (upstream->stream != nullptr) upstream->stream->Cancel();
  }
}

std::shared_ptr<QueueLink> PublishLinks::Open(const Wanted& wanted, std::weak_ptr<QueueLink::Owner> owner) {
  auto link = std::make_shared<Link>(shared_from_this(), wanted, std::move(owner));
  // The answer may be at hand.
  api_->shard()->Post([link] { link->Start(); });
  return link;
}

std::shared_ptr<PublishLinks::Upstream> PublishLinks::UpstreamTo(const v1::Leader& leader) {
  std::shared_ptr<Upstream>& upstream = upstreams_[leader.node_id()];
  if (upstream != nullptr && !upstream->closed) return upstream;
  upstream = std::make_shared<Upstream>();
  upstream->leader = leader;
  upstream->stream =
      raft::RawClientStream::Start(api_->shard(), api_->node()->channel(leader.address()), "/trireme.v1.Broker/Publish",
                                   api_->ForwardOptions(), std::make_unique<UpstreamHandler>(upstream));
  api_->forwards().Add(raft::NodeId(leader.node_id()), upstream->stream);
  v1::PublishRequest request;
  request.mutable_open()->set_producer(producer_);
  upstream->stream->Write(raft::Serialize(request));
  return upstream;
}

uint32_t PublishLinks::FreeAlias(const Upstream& upstream) {
  do {
    last_alias_ = last_alias_ % (kMaxAliases - 1) + 1;
  } while (upstream.links.contains(last_alias_));
  return last_alias_;
}

}  // namespace trireme::broker
