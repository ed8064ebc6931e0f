// gRPC's health service as its clients see it, over an in-process channel.
#include "broker/health.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <future>

#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.pb.h"
#include "raft/grpc/buffers.h"
#include "raft/grpc/raw_client.h"

namespace trireme::broker {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using testing::ElementsAre;

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";

grpc::ByteBuffer Ask(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return raft::Serialize(request);
}

HealthCheckResponse::ServingStatus StatusIn(const grpc::ByteBuffer& bytes) {
  HealthCheckResponse response;
  EXPECT_TRUE(raft::Parse(bytes, &response).ok());
  return response.status();
}

// What a watcher was told.
struct Told {
  absl::Mutex mutex;
  std::vector<HealthCheckResponse::ServingStatus> statuses ABSL_GUARDED_BY(mutex);

  std::vector<HealthCheckResponse::ServingStatus> Await(size_t count) {
    absl::MutexLock lock(&mutex);
    auto enough = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return statuses.size() >= count; };
    mutex.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20));
    return statuses;
  }
};

class Listener final : public raft::StreamHandler {
 public:
  explicit Listener(Told* told) : told_(told) {}
  void OnMessage(grpc::ByteBuffer message) override {
    absl::MutexLock lock(&told_->mutex);
    told_->statuses.push_back(StatusIn(message));
  }
  void OnClosed(const grpc::Status&) override {}

 private:
  Told* const told_;
};

class HealthTest : public testing::Test {
 protected:
  void SetUp() override {
    health_.Register(service_);
    grpc::ServerBuilder builder;
    service_.Register(&builder);
    shard_ = std::make_unique<raft::CompletionQueueShard>(0, builder.AddCompletionQueue());
    server_ = builder.BuildAndStart();
    shard_->Start();
    service_.Listen(shard_.get());
    client_.Start();
    channel_ = server_->InProcessChannel({});
  }
  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    shard_->Stop();
    client_.Stop();
    server_.reset();
  }

  // The call's status, and what a node says that it is.
  std::pair<grpc::Status, HealthCheckResponse::ServingStatus> Check(grpc::ByteBuffer request) {
    std::promise<std::pair<grpc::Status, HealthCheckResponse::ServingStatus>> answer;
    client_.Post([&] {
      raft::RawUnaryCall::Start(&client_, channel_, kCheck, {}, std::move(request),
                                [&](const grpc::Status& status, grpc::ByteBuffer bytes) {
                                  answer.set_value({status, StatusIn(bytes)});
                                });
    });
    return answer.get_future().get();
  }
  void Watch(const std::string& service, Told* told) {
    client_.Post([this, service, told] {
      raft::RawClientStream::Start(&client_, channel_, kWatch, {}, std::make_unique<Listener>(told))
          ->Write(Ask(service));
    });
  }

  Health health_{{"trireme.v1.Broker"}};
  raft::RawService service_;
  std::unique_ptr<raft::CompletionQueueShard> shard_;
  raft::CompletionQueueShard client_{1};
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(HealthTest, CheckSaysWhetherTheNodeServes) {
  for (const char* service : {"", "trireme.v1.Broker"}) {
    auto [status, serving] = Check(Ask(service));
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(serving, HealthCheckResponse::SERVING);
  }
  health_.SetServing(false);
  EXPECT_EQ(Check(Ask("")).second, HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Check(Ask("another")).first.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Check(raft::ToBuffer(raft::Bytes::Copy("\xff"))).first.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(HealthTest, WatchTellsEveryChangeOnce) {
  Told node, broker, unknown;
  Watch("", &node);
  Watch("trireme.v1.Broker", &broker);
  Watch("another", &unknown);
  EXPECT_THAT(node.Await(1), ElementsAre(HealthCheckResponse::SERVING));
  EXPECT_THAT(broker.Await(1), ElementsAre(HealthCheckResponse::SERVING));
  health_.SetServing(true);
  health_.SetServing(false);
  EXPECT_THAT(node.Await(2), ElementsAre(HealthCheckResponse::SERVING, HealthCheckResponse::NOT_SERVING));
  EXPECT_THAT(broker.Await(2), ElementsAre(HealthCheckResponse::SERVING, HealthCheckResponse::NOT_SERVING));
  EXPECT_THAT(unknown.Await(1), ElementsAre(HealthCheckResponse::SERVICE_UNKNOWN));
}

}  // namespace
}  // namespace trireme::broker
