// The calls of Broker and Admin that want a queue's leader: done here, or passed on to it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "broker/api/frames.h"
#include "broker/api/shard_api.h"
#include "raft/grpc/buffers.h"
#include "raft/grpc/raw_server.h"

namespace trireme::broker {

// One call that has arrived; held until it is answered. On its shard's thread.
struct QueueCall {
  ShardApi* api;
  std::shared_ptr<raft::RawServerStream> stream;
  grpc::ByteBuffer request;
  raft::MonotonicTime deadline;
  // By another node: it is not passed on again.
  bool forwarded = false;
  // Doing it twice is as good as once, so that it may be passed on again when what became of it is unknown.
  bool repeatable = false;
  // Does the call anew, at whoever leads by now; null if nobody has to lead for it.
  std::function<void(const std::shared_ptr<QueueCall>&)> again = nullptr;
  // A Send to an exchange, for which no queue's leader is wanted.
  bool to_exchange = false;
  // The highest group that its tokens name.
  raft::GroupId group;
  // It takes messages, and waits for them for so long.
  std::optional<std::chrono::milliseconds> takes = std::nullopt;
  // Of a call that this node makes for itself, while it serves `stream`: its own method, and who gets the answer.
  std::string method = "";
  std::function<void(const grpc::Status& status, grpc::ByteBuffer response)> answer = nullptr;
};
using QueueCallPtr = std::shared_ptr<QueueCall>;

void Respond(const QueueCallPtr& call, const google::protobuf::MessageLite& response);
// One that was not done because another node leads (kNotLeader) is done again while there is time, unless another node
// forwarded it, which does so itself.
void Respond(const QueueCallPtr& call, const absl::Status& status);

// Of a request that is not a Send: the most tokens, with room.
inline constexpr size_t kMaxCallBytes = size_t{2} << 20;

// Answers on the call's own shard, from wherever.
template <typename Response>
void Reply(const QueueCallPtr& call, Response response) {
  RunOn(call->api->shard(), [call, response = std::move(response)] { Respond(call, response); });
}

// What a call does at the leader, on the queue's shard; it answers through Reply, once, from any shard.
using QueueAct = std::function<void(QueueReplica& replica, const QueueCallPtr& call, const QueuePtr& queue)>;
// Gets the queue's name out of a request, and refuses what can be refused without the queue. May say that the call is
// repeatable, and which group it wants.
using QueueInspect = std::function<absl::StatusOr<std::string>(QueueCall& call)>;

template <typename Request>
absl::StatusOr<Request> ParseRequest(const QueueCall& call) {
  const absl::Status small = CheckFrameSize("this request", call.request.Length(), kMaxCallBytes);
  if (!small.ok()) return small;
  Request request;
  if (absl::Status parsed = raft::Parse(call.request, &request); !parsed.ok()) return parsed;
  return request;
}
// One that parsed when it came.
template <typename Request>
Request Reparse(const QueueCallPtr& call) {
  Request request;
  raft::Parse(call->request, &request).IgnoreError();
  return request;
}

// Handlers for RawService::HandleUnary; `apis` finds the services of the shard that took the call.
using FindApi = std::function<ShardApi*(raft::ShardId)>;
void HandleQueueCall(raft::RawService& service, const FindApi& apis, std::string method, QueueInspect inspect,
                     QueueAct act);
// Does a call that has been looked at, at the queue's leader.
void StartQueueCall(const QueueCallPtr& call, const QueueAct& act, const std::string& queue);
// A call with a SendRequest.
void StartSend(const QueueCallPtr& call);
void RegisterQueueCalls(raft::RawService& service, const FindApi& apis);

}  // namespace trireme::broker
