#include "broker/api/services.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/api/consume_stream.h"
#include "broker/api/errors.h"
#include "broker/api/link_carrier.h"
#include "broker/api/look_calls.h"
#include "broker/api/publish_stream.h"
#include "broker/api/queue_calls.h"
#include "broker/api/queue_info.h"
#include "broker/api/request_call.h"
#include "broker/api/temporary_calls.h"
#include "broker/cluster/names.h"
#include "broker/cluster/pages.h"
#include "broker/replica/moving.h"
#include "broker/routing/leaders.h"
#include "raft/grpc/buffers.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {
namespace {

constexpr std::chrono::seconds kAdminPatience{30};

// A unary call of Admin that wants the cluster rather than a queue's leader.
template <typename Request, typename Act>
void HandleAdmin(raft::RawService& service, const FindApi& apis, const std::string& method, Act act) {
  service.HandleUnary("/trireme.v1.Admin/" + method,
                      [apis, act](std::shared_ptr<raft::RawServerStream> stream, grpc::ByteBuffer bytes) {
                        auto call = std::make_shared<QueueCall>();
                        call->api = apis(stream->shard()->id());
                        call->deadline = DeadlineOf(stream->deadline(), kAdminPatience);
                        call->stream = std::move(stream);
                        Request request;
                        if (absl::Status parsed = raft::Parse(bytes, &request); !parsed.ok())
                          return Respond(call, parsed);
                        act(call, std::move(request));
                      });
}

void Created(const QueueCallPtr& call, CreatedQueue created) {
  InfosOf(call->api, {created.queue},
          [call, index = created.index, is_new = created.created](std::vector<v1::QueueInfo> infos) {
            v1::CreateQueueResponse response;
            response.mutable_queue()->Swap(&infos.front());
            response.set_metadata_index(index.value());
            response.set_created(is_new);
            Respond(call, response);
          });
}

// Safety rule 25, as far as it is for people: what this node's replica is at, without asking any other.
void DescribeReplica(const QueueCallPtr& call, const QueuePtr& queue) {
  ShardApi* owner = call->api->of(queue->group);
  RunOn(owner->shard(), [call, queue, owner] {
    v1::DescribeReplicaResponse response;
    QueueReplica* replica = owner->Replica(queue->group);
    if (replica != nullptr) {
      const ReplicaState state = replica->State();
      response.set_group_id(queue->group.value());
      response.set_node_id(call->api->node()->self().value());
      response.set_applied_index(state.applied_index);
      response.set_digest(state.digest);
      response.set_leading(replica->group()->leading());
      response.set_term(replica->group()->term().value());
    }
    RunOn(call->api->shard(), [call, queue, found = replica != nullptr, response] {
      if (found) return Respond(call, response);
      const v1::QueueInfo info = InfoOf(*call->api, *queue);
      Respond(call, Error(absl::StatusCode::kFailedPrecondition, {.reason = "NO_REPLICA", .name = queue->name},
                          absl::StrCat(
                              "this node has no replica of queue ", queue->name, "; ask one of ",
                              absl::StrJoin(info.replicas(), ", ", [](std::string* out, const v1::ReplicaPlace& place) {
                                absl::StrAppend(out, place.address());
                              }))));
    });
  });
}

}  // namespace

void Services::Register(raft::RawService& service) {
  for (raft::CompletionQueueShard* shard : node_->shards()) {
    shards_.push_back(std::make_unique<ShardApi>(node_, shard, this));
    made_.emplace_back();
  }
  FindApi apis = [this](raft::ShardId shard) { return At(shard); };
  service.Handle("/trireme.v1.Broker/Publish", [apis](raft::RawServerStream* stream) {
    return ClientStream::Open<PublishStream>(apis(stream->shard()->id()), stream);
  });
  service.Handle("/trireme.v1.Broker/Consume", [apis](raft::RawServerStream* stream) {
    return ClientStream::Open<ConsumeStream>(apis(stream->shard()->id()), stream);
  });
  RegisterQueueCalls(service, apis);
  RegisterLookCalls(service, apis);
  RegisterRequestCall(service, apis);
  RegisterAdmin(service);
}

void Services::RegisterAdmin(raft::RawService& service) {
  FindApi apis = [this](raft::ShardId shard) { return At(shard); };

  service.HandleUnary(
      "/trireme.v1.Broker/Resolve", [apis](std::shared_ptr<raft::RawServerStream> stream, grpc::ByteBuffer bytes) {
        auto call = std::make_shared<QueueCall>();
        call->api = apis(stream->shard()->id());
        call->deadline = DeadlineOf(stream->deadline(), kAdminPatience);
        call->stream = std::move(stream);
        v1::ResolveRequest request;
        if (absl::Status parsed = raft::Parse(bytes, &request); !parsed.ok()) return Respond(call, parsed);
        call->api->FindRoute({request.queue(), {}}, call->deadline, [call](absl::StatusOr<ShardApi::Route> route) {
          if (!route.ok()) return Respond(call, route.status());
          v1::ResolveResponse response;
          *response.mutable_leader() = route->leader;
          Respond(call, response);
        });
      });

  HandleAdmin<v1::CreateQueueRequest>(
      service, apis, "CreateQueue", [](const QueueCallPtr& call, v1::CreateQueueRequest request) {
        if (request.settings().has_temporary()) return CreateTemporary(call, request);
        if (absl::Status named = ValidateQueueName(request.name()); !named.ok()) return Respond(call, named);
        call->api->node()->cluster().CreateQueue(std::move(request), Asked{call->api->shard(), call->deadline},
                                                 [call](absl::StatusOr<CreatedQueue> created) {
                                                   if (!created.ok()) return Respond(call, created.status());
                                                   Created(call, *std::move(created));
                                                 });
      });

  HandleAdmin<v1::DeleteQueueRequest>(
      service, apis, "DeleteQueue", [](const QueueCallPtr& call, v1::DeleteQueueRequest request) {
        if (IsTemporary(request.name())) return DeleteTemporary(call, request);
        if (absl::Status named = ValidateQueueName(request.name()); !named.ok()) return Respond(call, named);
        call->api->node()->cluster().DeleteQueue(request.name(), Asked{call->api->shard(), call->deadline},
                                                 [call](absl::StatusOr<raft::Index> index) {
                                                   if (!index.ok()) return Respond(call, index.status());
                                                   v1::DeleteQueueResponse response;
                                                   response.set_metadata_index(index->value());
                                                   Respond(call, response);
                                                 });
      });

  HandleAdmin<v1::DescribeReplicaRequest>(
      service, apis, "DescribeReplica", [](const QueueCallPtr& call, const v1::DescribeReplicaRequest& request) {
        if (absl::Status named = ValidateQueueName(request.name()); !named.ok()) return Respond(call, named);
        Cluster& cluster = call->api->node()->cluster();
        if (QueuePtr known = cluster.view(call->api->shard()->id()).FindQueue(request.name())) {
          return DescribeReplica(call, known);
        }
        cluster.Lookup(request.name(), Asked{call->api->shard(), call->deadline},
                       [call](absl::StatusOr<QueuePtr> queue) {
                         if (!queue.ok()) return Respond(call, queue.status());
                         DescribeReplica(call, *queue);
                       });
      });

  HandleAdmin<v1::ListQueuesRequest>(
      service, apis, "ListQueues", [](const QueueCallPtr& call, v1::ListQueuesRequest request) {
        const MetadataView& view = call->api->node()->cluster().view(call->api->shard()->id());
        if (!view.born()) {
          return Respond(call,
                         Error(absl::StatusCode::kUnavailable, {.reason = "NO_CLUSTER"},
                               "this node waits for its cluster; say `trireme cluster init` to one of its nodes"));
        }
        absl::StatusOr<size_t> limit = PageSize(request.limit());
        if (!limit.ok()) return Respond(call, limit.status());
        // A view lags behind the metadata group, most of all after a start.
        call->api->node()->cluster().Refresh(
            Asked{call->api->shard(), call->deadline},
            [call, request, limit = *limit](absl::StatusOr<raft::Index> index) {
              if (!index.ok()) return Respond(call, index.status());
              const MetadataView& current = call->api->node()->cluster().view(call->api->shard()->id());
              std::vector<QueuePtr> queues = current.List(request.prefix(), request.after(), limit + 1);
              const bool more = queues.size() > limit;
              queues.resize(std::min(queues.size(), limit));
              InfosOf(call->api, std::move(queues), [call, more](std::vector<v1::QueueInfo> infos) {
                v1::ListQueuesResponse response;
                response.set_more(more);
                for (v1::QueueInfo& info : infos) response.add_queues()->Swap(&info);
                Respond(call, response);
              });
            });
      });
}

std::unique_ptr<raft::StateMachine> Services::MakeReplica(QueuePtr queue, const raft::GroupSpec& spec) {
  raft::CompletionQueueShard* shard = node_->shard_of(spec.group);
  ReplicaLimits limits;
  limits.max_message_bytes = node_->config().max_message_bytes;
  limits.lacking = [node = node_](const std::vector<raft::NodeId>& nodes, uint32_t version) {
    return node->lacking(nodes, version);
  };
  limits.low_disk = [disk = &node_->disk()] { return disk->low(); };
  limits.make_carrier = [api = At(shard->id())] { return std::make_unique<LinkCarrier>(api); };
  // Safety rule 20: a queue does not forget another one that publishes to it while that one lives.
  limits.dispatch.keeps_producer = [node = node_, shard = shard->id()](std::string_view producer) {
    const raft::GroupId source(MoverGroup(producer));
    const MetadataView& view = node->cluster().view(shard);
    return source.value() != 0 && (!view.born() || view.FindGroup(source) != nullptr);
  };
  auto replica = std::make_unique<QueueReplica>(shard, limits, queue->name);
  made_[shard->id()][spec.group] = replica.get();
  return replica;
}

void Services::ReplicaStarted(QueuePtr queue, raft::Group* group) {
  raft::ShardId shard = node_->shard_of(queue->group)->id();
  auto made = made_[shard].extract(queue->group);
  QueueReplica* replica = made.mapped();
  At(shard)->AddReplica(queue->group, replica);
  replica->Start(group);
}

void Services::ReplicaStopping(raft::GroupId group) {
  raft::ShardId shard = node_->shard_of(group)->id();
  made_[shard].erase(group);
  if (QueueReplica* replica = At(shard)->Replica(group)) {
    At(shard)->RemoveReplica(group);
    replica->Stop(node_->cluster().view(shard).FindGroup(group) == nullptr ? CutReason::kQueueDeleted
                                                                           : CutReason::kNotLeader);
  }
}

void Services::Stop() {
  // While what their clients are answered by still runs.
  for (auto& api : shards_) {
    api->shard()->Post([api = api.get()] { api->temporary().Clear(); });
  }
}

void Services::Drain() {
  for (auto& api : shards_) {
    api->shard()->Post([api = api.get()] { api->Drain(); });
  }
}

}  // namespace trireme::broker
