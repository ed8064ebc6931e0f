#include "broker/api/temporary_calls.h"

#include "absl/strings/str_cat.h"
#include "broker/api/errors.h"
#include "broker/api/queue_info.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {

void CreateTemporary(const QueueCallPtr& call, const v1::CreateQueueRequest& request) {
  if (!request.name().empty()) {
    return Respond(call, Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_QUEUE_NAME", .name = request.name()},
                               absl::StrCat("a temporary queue is named by the broker; leave the name empty, not ",
                                            request.name())));
  }
  if (request.settings().replicas() > 1) {
    return Respond(call, Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_REPLICAS", .limit = "1"},
                               absl::StrCat("a temporary queue is in the memory of one node; it cannot have ",
                                            request.settings().replicas(), " replicas")));
  }
  absl::StatusOr<ShardApi::Route> made =
      call->api->MakeTemporary({.settings = request.settings().temporary(), .client = call->stream->peer()});
  if (!made.ok()) return Respond(call, made.status());
  v1::CreateQueueResponse response;
  *response.mutable_queue() = InfoOf(*call->api, *made->queue);
  response.mutable_queue()->set_leader_node_id(made->leader.node_id());
  response.set_created(true);
  Respond(call, response);
}

void DeleteTemporary(const QueueCallPtr& call, const v1::DeleteQueueRequest& request) {
  call->forwarded = call->stream->Metadata(kForwardedBy).has_value();
  call->request = raft::Serialize(request);
  StartQueueCall(
      call,
      [](QueueReplica&, const QueueCallPtr& done, const QueuePtr& queue) {
        done->api->of(queue->group)->temporary().RemoveSoon(queue->group);
        Reply(done, v1::DeleteQueueResponse());
      },
      request.name());
}

}  // namespace trireme::broker
