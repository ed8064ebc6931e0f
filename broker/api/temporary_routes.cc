// Where a temporary queue is: its name says so (Safety rule 24).
#include <grpcpp/channel.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/errors.h"
#include "broker/api/shard_api.h"

namespace trireme::broker {
namespace {

// For a connection to its node: a queue that is only in memory there is as good as gone while nobody reaches it. Longer
// than a channel's pause between two tries.
constexpr std::chrono::milliseconds kReachPatience{2'000};
constexpr std::chrono::milliseconds kLookAgain{5};

absl::Status NoCluster() {
  return Error(absl::StatusCode::kUnavailable, {.reason = "NO_CLUSTER"},
               "this node waits for its cluster; say `trireme cluster init` to one of its nodes");
}

// Calls `done` with whether there is a connection. `node` is not waited for when Raft has lost it, too.
void Reach(const ShardApi* api, raft::NodeId node, std::shared_ptr<grpc::Channel> channel, raft::MonotonicTime deadline,
           absl::AnyInvocable<void(bool)> done) {
  raft::CompletionQueueShard* shard = api->shard();
  const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
  if (state == GRPC_CHANNEL_READY) return done(true);
  const bool lost = state == GRPC_CHANNEL_TRANSIENT_FAILURE && !api->node()->Hears(shard->id(), node);
  if (lost || shard->Now() >= deadline) return done(false);
  shard->After(kLookAgain, [api, node, channel = std::move(channel), deadline, done = std::move(done)]() mutable {
    Reach(api, node, std::move(channel), deadline, std::move(done));
  });
}

}  // namespace

v1::Leader ShardApi::Here(raft::GroupId group) const {
  v1::Leader here;
  here.set_node_id(node_->self().value());
  here.set_address(node_->config().advertise);
  here.set_group_id(group.value());
  here.set_term(1);
  return here;
}

TemporaryQueues::Place ShardApi::Place() const {
  return {node_->self(), node_->incarnation(), node_->shards().size()};
}

absl::StatusOr<ShardApi::Route> ShardApi::MakeTemporary(TemporaryQueues::Wish wish) {
  if (node_->self().value() == 0) return NoCluster();
  absl::StatusOr<QueuePtr> made = temporary_.Create(Place(), std::move(wish));
  if (!made.ok()) return made.status();
  return Route{*made, Here((*made)->group), true};
}

void ShardApi::FindTemporary(const Wanted& wanted, raft::MonotonicTime deadline, RouteDone done) {
  const std::optional<TemporaryName> name = ParseTemporaryName(wanted.queue);
  if (!name.has_value()) return done(BadTemporaryName(wanted.queue));
  if (node_->self().value() == 0) return done(NoCluster());
  if (name->node == node_->self()) return FindTemporaryHere(wanted, *name, std::move(done));
  Cluster& cluster = node_->cluster();
  if (!cluster.view(shard_->id()).AddressOf(name->node).empty()) {
    return FindTemporaryThere(wanted.queue, *name, deadline, std::move(done));
  }
  // Safety rule 21: it may have joined a moment ago.
  cluster.Refresh(Asked{shard_, deadline}, [this, queue = wanted.queue, name = *name, deadline,
                                            done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
    if (!index.ok()) return done(index.status());
    FindTemporaryThere(queue, name, deadline, std::move(done));
  });
}

void ShardApi::FindTemporaryHere(const Wanted& wanted, const TemporaryName& name, RouteDone done) {
  ShardApi* owner = of(GroupOf(name));
  RunOn(owner->shard_, [this, owner, wanted, name, done = std::move(done)]() mutable {
    absl::StatusOr<Route> route;
    absl::StatusOr<QueuePtr> queue = owner->temporary_.Find(Place(), name);
    absl::Status may = queue.status();
    if (may.ok() && wanted.consumer) may = owner->temporary_.Admit((*queue)->group, *wanted.consumer);
    if (may.ok()) {
      if (wanted.stay.count() > 0) owner->temporary_.Use((*queue)->group, wanted.stay);
      route = Route{*std::move(queue), Here(GroupOf(name)), true};
    } else {
      route = std::move(may);
    }
    RunOn(shard_, [done = std::move(done), route = std::move(route)]() mutable { done(std::move(route)); });
  });
}

void ShardApi::FindTemporaryThere(const std::string& queue, const TemporaryName& name, raft::MonotonicTime deadline,
                                  RouteDone done) {
  const std::string address(node_->cluster().view(shard_->id()).AddressOf(name.node));
  if (address.empty()) {
    return done(TemporaryQueueGone(queue, absl::StrCat("this cluster has no node ", name.node.value())));
  }
  // What forwards asks by this, and does not look into it: whether it is there is the other node's to say.
  auto info = std::make_shared<QueueInfo>();
  info->name = queue;
  info->group = GroupOf(name);
  Route route{std::move(info), {}, false};
  route.leader.set_node_id(name.node.value());
  route.leader.set_address(address);
  route.leader.set_group_id(GroupOf(name).value());
  Reach(this, name.node, node_->channel(address), std::min(deadline, shard_->Now() + kReachPatience),
        [queue, route = std::move(route), done = std::move(done)](bool reached) mutable {
          if (reached) return done(std::move(route));
          done(TemporaryQueueGone(queue, absl::StrCat("node ", route.leader.node_id(), " at ", route.leader.address(),
                                                      ", in whose memory it is or was, cannot be reached")));
        });
}

}  // namespace trireme::broker
