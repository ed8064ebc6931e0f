#include "broker/api/shard_api.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "broker/api/errors.h"
#include "broker/cluster/names.h"
#include "broker/routing/leaders.h"

namespace trireme::broker {

namespace {
// A leader that was elected but has not applied an entry of its own term yet is asked again after this.
constexpr std::chrono::milliseconds kNotYetServing{2};

// One for all shards.
prometheus::Counter& Unroutable(NodeContext* node) {
  return prometheus::BuildCounter()
      .Name("trireme_unroutable_messages_total")
      .Help("Messages published to exchanges through this node that reached no queue.")
      .Register(node->metrics())
      .Add({});
}

prometheus::Gauge& TemporaryGauge(NodeContext* node, raft::ShardId shard) {
  return prometheus::BuildGauge()
      .Name("trireme_temporary_queues")
      .Help("Temporary queues in this node's memory, those that await a reply included.")
      .Register(node->metrics())
      .Add({{"shard", absl::StrCat(shard)}});
}

// The node's, shared out to its shards.
TemporaryQueues::Limits LimitsOf(NodeContext* node) {
  TemporaryQueues::Limits limits;
  const size_t shards = std::max<size_t>(1, node->shards().size());
  limits.queues /= shards;
  limits.queues_per_client = std::min(limits.queues_per_client, limits.queues);
  limits.bytes /= shards;
  limits.max_message_bytes = node->config().max_message_bytes;
  return limits;
}
}  // namespace

ShardApi::ShardApi(NodeContext* node, raft::CompletionQueueShard* shard, ServiceShards* all)
    : node_(node),
      shard_(shard),
      all_(all),
      exchanges_(
          shard,
          [node, shard](raft::MonotonicTime deadline, Exchanges::Done done) {
            node->cluster().Refresh(
                Asked{shard, deadline},
                [done = std::move(done)](absl::StatusOr<raft::Index> index) mutable { done(index.status()); });
          },
          [&counter = Unroutable(node)](uint64_t messages) { counter.Increment(static_cast<double>(messages)); }),
      temporary_(shard, LimitsOf(node),
                 {.added =
                      [this, &gauge = TemporaryGauge(node, shard->id())](raft::GroupId group, QueueReplica* replica) {
                        AddReplica(group, replica);
                        gauge.Increment();
                      },
                  .removed =
                      [this, &gauge = TemporaryGauge(node, shard->id())](raft::GroupId group) {
                        RemoveReplica(group);
                        gauge.Decrement();
                      }}) {
  node->cluster().Follow(shard->id(), [this](const MetadataChange& change) { exchanges_.router().Take(change); });
}

ShardApi* ShardApi::of(raft::GroupId group) const {
  return all_->At(node_->shard_of(group)->id());
}

void ShardApi::FindRoute(const Wanted& wanted, raft::MonotonicTime deadline, RouteDone done) {
  if (IsTemporary(wanted.queue)) return FindTemporary(wanted, deadline, std::move(done));
  if (absl::Status named = ValidateQueueName(wanted.queue); !named.ok()) return done(named);
  Cluster& cluster = node_->cluster();
  QueuePtr known = cluster.view(shard_->id()).FindQueue(wanted.queue);
  // Ids of groups grow.
  if (known == nullptr || known->group >= wanted.group) return LookUp(wanted.queue, deadline, std::move(done));
  cluster.Refresh(Asked{shard_, deadline}, [this, queue = wanted.queue, deadline,
                                            done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
    if (!index.ok()) return done(index.status());
    LookUp(queue, deadline, std::move(done));
  });
}

void ShardApi::LookUp(const std::string& queue, raft::MonotonicTime deadline, RouteDone done) {
  Cluster& cluster = node_->cluster();
  if (QueuePtr known = cluster.view(shard_->id()).FindQueue(queue))
    return FindLeader(std::move(known), deadline, std::move(done));
  cluster.Lookup(queue, Asked{shard_, deadline},
                 [this, deadline, done = std::move(done)](absl::StatusOr<QueuePtr> found) mutable {
                   if (!found.ok()) return done(found.status());
                   FindLeader(*std::move(found), deadline, std::move(done));
                 });
}

void ShardApi::FindLeader(QueuePtr queue, raft::MonotonicTime deadline, RouteDone done) {
  ShardApi* owner = of(queue->group);
  RunOn(owner->shard_, [this, owner, queue, deadline, done = std::move(done)]() mutable {
    auto answer = [this, done = std::move(done)](absl::StatusOr<Route> route) mutable {
      RunOn(shard_, [done = std::move(done), route = std::move(route)]() mutable { done(std::move(route)); });
    };
    Leaders* leaders = node_->leaders(owner->shard_->id());
    if (leaders == nullptr) {
      return answer(Error(absl::StatusCode::kUnavailable, {.reason = "NO_CLUSTER"},
                          "this node waits for its cluster; say `trireme cluster init` to one of its nodes"));
    }
    leaders->Find(
        queue, deadline,
        [this, owner, queue, deadline, answer = std::move(answer)](absl::StatusOr<v1::Leader> leader) mutable {
          if (!leader.ok()) return answer(leader.status());
          Route route{queue, *leader, false};
          if (leader->node_id() == node_->self().value()) {
            QueueReplica* replica = owner->Replica(queue->group);
            route.here = replica != nullptr && replica->serving();
            if (!route.here) {
              if (owner->shard_->Now() >= deadline) return answer(NotLeaderError(queue->name));
              // Ask again: it may start to serve, or another leader may be elected.
              owner->shard_->After(kNotYetServing, [owner, queue, deadline, answer = std::move(answer)]() mutable {
                owner->FindLeader(queue, deadline, std::move(answer));
              });
              return;
            }
          }
          answer(std::move(route));
        });
  });
}

v1::Leader ShardApi::LeaderElsewhere(const QueueInfo& queue) const {
  const Leaders* leaders = node_->leaders(shard_->id());
  if (leaders == nullptr) return {};
  v1::Leader leader = leaders->Known(queue);
  return leader.node_id() == node_->self().value() ? v1::Leader() : leader;
}

void ShardApi::WrongLeader(const QueuePtr& queue, raft::NodeId node) {
  ShardApi* owner = of(queue->group);
  RunOn(owner->shard_, [owner, group = queue->group, node] {
    if (Leaders* leaders = owner->node_->leaders(owner->shard_->id())) leaders->Wrong(group, node);
  });
}

raft::CallOptions ShardApi::ForwardOptions() const {
  raft::CallOptions options;
  options.metadata = {{kForwardedBy, absl::StrCat(node_->self().value())}};
  return options;
}

void ShardApi::Drain() {
  draining_ = true;
  for (Drainable* stream : std::vector<Drainable*>(streams_.begin(), streams_.end())) stream->Drain();
}

raft::MonotonicTime DeadlineOf(std::chrono::system_clock::time_point deadline, std::chrono::milliseconds most) {
  // The client's own clock knows no reason: it is to hear ours before.
  constexpr std::chrono::milliseconds kAnswerBefore{100};
  auto left = deadline == std::chrono::system_clock::time_point::max()
                  ? most
                  : std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::system_clock::now());
  left -= std::min(kAnswerBefore, left / 10);
  return std::chrono::steady_clock::now() + std::clamp(left, std::chrono::milliseconds{0}, most);
}

}  // namespace trireme::broker
