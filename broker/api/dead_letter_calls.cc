#include "broker/api/dead_letter_calls.h"

#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/api/errors.h"
#include "raft/grpc/raw_client.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {
namespace {

// Queues that can be reached from a target by way of dead letters.
constexpr size_t kMaxQueues = 64;
constexpr std::chrono::milliseconds kAskAgain{20};

// Asks the leader of each queue on the way where its dead letters go. On the call's shard.
class Walk : public std::enable_shared_from_this<Walk> {
 public:
  Walk(QueueCallPtr call, QueuePtr source, QueuePtr target, QueueFound done)
      : call_(std::move(call)), source_(std::move(source)), target_(std::move(target)), done_(std::move(done)) {}

  void Start() {
    if (absl::Status reached = Reach(target_->name, ""); !reached.ok()) return done_(reached);
    Next();
  }

 private:
  // A queue to ask, if it is a new one.
  absl::Status Reach(const std::string& queue, const std::string& from) {
    if (!came_from_.emplace(queue, from).second) return absl::OkStatus();
    if (queue == source_->name) return Cycle();
    if (came_from_.size() > kMaxQueues) {
      return Error(absl::StatusCode::kFailedPrecondition,
                   {.reason = "DEAD_LETTER_CHAIN", .name = target_->name, .limit = absl::StrCat(kMaxQueues)},
                   absl::StrCat("dead letters could go on from queue '", target_->name, "' to more than ", kMaxQueues,
                                " queues"));
    }
    to_ask_.push_back(queue);
    return absl::OkStatus();
  }
  void Next() {
    if (to_ask_.empty()) return done_(target_);
    Ask(to_ask_.front());
  }
  void Ask(const std::string& queue) {
    call_->api->FindRoute({queue, {}}, call_->deadline,
                          [self = shared_from_this(), queue](const absl::StatusOr<ShardApi::Route>& route) {
                            // Deleted since: from there nothing comes.
                            if (absl::IsNotFound(route.status())) return self->Answered({});
                            if (!route.ok()) return self->done_(route.status());
                            self->AskLeader(queue, *route);
                          });
  }
  void AskLeader(const std::string& queue, const ShardApi::Route& route) {
    v1::DescribeQueueRequest request;
    request.set_name(queue);
    raft::CallOptions options = call_->api->ForwardOptions();
    options.timeout = std::chrono::seconds{5};
    raft::RawUnaryCall::Start(
        call_->api->shard(), call_->api->node()->channel(route.leader.address()), "/trireme.v1.Admin/DescribeQueue",
        options, raft::Serialize(request),
        [self = shared_from_this(), queue, route](const grpc::Status& status, const grpc::ByteBuffer& bytes) {
          v1::DescribeQueueResponse response;
          if (status.ok() && raft::Parse(bytes, &response).ok()) return self->Answered(response);
          ShardApi* api = self->call_->api;
          if (api->shard()->Now() >= self->call_->deadline) {
            return self->done_(absl::UnavailableError(
                absl::StrCat("queue '", queue, "' did not say where its dead letters go: ", status.error_message())));
          }
          api->WrongLeader(route.queue, raft::NodeId(route.leader.node_id()));
          api->shard()->After(kAskAgain, [self, queue] { self->Ask(queue); });
        });
  }
  void Answered(const v1::DescribeQueueResponse& response) {
    const std::string queue = to_ask_.front();
    to_ask_.pop_front();
    for (const v1::SubscriptionFigures& s : response.figures().subscriptions()) {
      const std::string& next = s.settings().dead_letter_queue();
      if (next.empty()) continue;
      if (absl::Status reached = Reach(next, queue); !reached.ok()) return done_(reached);
    }
    Next();
  }
  absl::Status Cycle() const {
    std::string way;
    for (std::string queue = source_->name; !queue.empty(); queue = came_from_.at(queue)) {
      way = absl::StrCat(queue, way.empty() ? "" : " -> ", way);
      if (queue == target_->name) break;
    }
    return Error(absl::StatusCode::kFailedPrecondition, {.reason = "DEAD_LETTER_CYCLE", .name = target_->name},
                 absl::StrCat("dead letters of queue '", source_->name, "' would come back to it: ", source_->name,
                              " -> ", way));
  }

  const QueueCallPtr call_;
  const QueuePtr source_, target_;
  QueueFound done_;
  std::map<std::string, std::string> came_from_;  // the queues reached, and from which one
  std::deque<std::string> to_ask_;
};

}  // namespace

void FindQueue(const QueueCallPtr& call, const std::string& name, QueueFound done) {
  RunOn(call->api->shard(), [call, name, done = std::move(done)]() mutable {
    ShardApi* api = call->api;
    if (QueuePtr known = api->node()->cluster().view(api->shard()->id()).FindQueue(name)) return done(std::move(known));
    api->node()->cluster().Lookup(name, Asked{api->shard(), call->deadline}, std::move(done));
  });
}

void FindDeadLetterTarget(const QueueCallPtr& call, const QueuePtr& source, const std::string& target,
                          QueueFound done) {
  FindQueue(call, target, [call, source, done = std::move(done)](absl::StatusOr<QueuePtr> found) mutable {
    if (!found.ok()) return done(found.status());
    std::make_shared<Walk>(call, source, *found, std::move(done))->Start();
  });
}

}  // namespace trireme::broker
