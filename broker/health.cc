#include "broker/health.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.pb.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

grpc::ByteBuffer Encode(HealthCheckResponse::ServingStatus status) {
  HealthCheckResponse response;
  response.set_status(status);
  return raft::Serialize(response);
}

grpc::Status BadRequest() {
  return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not a HealthCheckRequest");
}

}  // namespace

// Shared by all shards.
class Health::State {
 public:
  explicit State(std::vector<std::string> services) : services_(services.begin(), services.end()) {
    services_.insert("");
  }

  bool Knows(const std::string& service) const { return services_.contains(service); }
  HealthCheckResponse::ServingStatus Now() const {
    absl::MutexLock lock(&mutex_);
    return serving_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  }
  void Add(const std::shared_ptr<Watcher>& watcher) {
    absl::MutexLock lock(&mutex_);
    watchers_.insert(watcher);
  }
  void Remove(const std::shared_ptr<Watcher>& watcher) {
    absl::MutexLock lock(&mutex_);
    watchers_.erase(watcher);
  }
  // Gives those who have to be told.
  std::vector<std::shared_ptr<Watcher>> Set(bool serving) {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(serving_, serving) == serving) return {};
    return {watchers_.begin(), watchers_.end()};
  }

 private:
  absl::flat_hash_set<std::string> services_;  // constant after construction
  mutable absl::Mutex mutex_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = true;
  absl::flat_hash_set<std::shared_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);
};

// One Watch call, on its shard; held elsewhere only to come back to it.
class Health::Watcher final : public std::enable_shared_from_this<Watcher> {
 public:
  Watcher(std::shared_ptr<State> state, raft::RawServerStream* stream)
      : state_(std::move(state)), shard_(stream->shard()), stream_(stream) {}

  class Handler final : public raft::StreamHandler {
   public:
    explicit Handler(std::shared_ptr<Watcher> watcher) : watcher_(std::move(watcher)) {}
    void OnMessage(grpc::ByteBuffer message) override { watcher_->Begin(message); }
    void OnReadEnd() override {}  // the client has asked, and now listens
    void OnClosed(const grpc::Status&) override { watcher_->End(); }

   private:
    const std::shared_ptr<Watcher> watcher_;
  };

  // From any thread.
  void Look() {
    shard_->Post([self = shared_from_this()] { self->Tell(); });
  }

 private:
  void Begin(const grpc::ByteBuffer& message) {
    HealthCheckRequest request;
    if (begun_ || !raft::Parse(message, &request).ok()) return stream_->Finish(BadRequest());
    begun_ = true;
    if (!state_->Knows(request.service())) {
      stream_->Write(Encode(HealthCheckResponse::SERVICE_UNKNOWN));
      return;
    }
    state_->Add(shared_from_this());
    Tell();
  }
  void Tell() {
    if (stream_ == nullptr) return;
    const HealthCheckResponse::ServingStatus now = state_->Now();
    if (std::exchange(told_, now) == now) return;
    if (!stream_->Write(Encode(now))) stream_->Cancel();
  }
  void End() {
    state_->Remove(shared_from_this());
    stream_ = nullptr;
  }

  const std::shared_ptr<State> state_;
  raft::CompletionQueueShard* const shard_;
  raft::RawServerStream* stream_;  // null once it is over
  bool begun_ = false;
  HealthCheckResponse::ServingStatus told_ = HealthCheckResponse::UNKNOWN;
};

Health::Health(std::vector<std::string> services) : state_(std::make_shared<State>(std::move(services))) {}

void Health::Register(raft::RawService& service) {
  service.HandleUnary("/grpc.health.v1.Health/Check", [state = state_](std::shared_ptr<raft::RawServerStream> call,
                                                                       grpc::ByteBuffer bytes) {
    HealthCheckRequest request;
    if (!raft::Parse(bytes, &request).ok()) return call->Finish(BadRequest());
    if (!state->Knows(request.service())) {
      return call->Finish(grpc::Status(grpc::StatusCode::NOT_FOUND, "no service '" + request.service() + "'"));
    }
    call->Reply(Encode(state->Now()));
  });
  service.Handle("/grpc.health.v1.Health/Watch", [state = state_](raft::RawServerStream* stream) {
    return std::make_unique<Watcher::Handler>(std::make_shared<Watcher>(state, stream));
  });
}

void Health::SetServing(bool serving) {
  for (const std::shared_ptr<Watcher>& watcher : state_->Set(serving)) watcher->Look();
}

}  // namespace trireme::broker
