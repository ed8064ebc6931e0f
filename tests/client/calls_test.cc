#include <atomic>

#include "client/client.h"
#include "client/error.h"
#include "client/sync.h"
#include "google/rpc/error.pb.h"
#include "gtest/gtest.h"
#include "tests/client/scripted_broker.h"

namespace trireme::client {
namespace {

using std::chrono::milliseconds;

std::unique_ptr<Client> Connect(std::vector<std::string> servers, milliseconds timeout = milliseconds(10'000)) {
  ClientOptions options;
  options.servers = std::move(servers);
  options.call_timeout = timeout;
  return *Client::Create(std::move(options));
}

TEST(CallsTest, AreTriedAgainWhileTheOutcomeIsUnknown) {
  ScriptedBroker broker;
  std::atomic<int> tries{0};
  broker.on_describe = [&](const v1::DescribeQueueRequest& request, v1::DescribeQueueResponse* response) {
    if (++tries < 3) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "not yet");
    response->mutable_queue()->set_name(request.name());
    return grpc::Status::OK;
  };
  auto client = Connect({broker.address()});
  absl::StatusOr<v1::DescribeQueueResponse> response = client->DescribeQueue("q");
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->queue().name(), "q");
  EXPECT_EQ(tries, 3);
}

TEST(CallsTest, AnotherNodeIsAskedWhenOneIsGone) {
  ScriptedBroker broker;
  broker.on_describe = [&](const v1::DescribeQueueRequest&, v1::DescribeQueueResponse*) { return grpc::Status::OK; };
  std::string gone;
  {
    ScriptedBroker other;
    gone = other.address();
  }
  auto client = Connect({gone, broker.address()});
  EXPECT_EQ(client->DescribeQueue("q").status(), absl::OkStatus());
}

TEST(CallsTest, AnErrorIsNotTriedAgain) {
  ScriptedBroker broker;
  std::atomic<int> tries{0};
  broker.on_describe = [&](const v1::DescribeQueueRequest&, v1::DescribeQueueResponse*) {
    ++tries;
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no queue q");
  };
  auto client = Connect({broker.address()});
  absl::StatusOr<v1::DescribeQueueResponse> response = client->DescribeQueue("q");
  EXPECT_EQ(response.status(), absl::NotFoundError("no queue q"));
  EXPECT_EQ(tries, 1);
}

TEST(CallsTest, ADeadlineSaysWhatTheLastNodeSaid) {
  ScriptedBroker broker;
  broker.on_describe = [&](const v1::DescribeQueueRequest&, v1::DescribeQueueResponse*) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the dog ate it");
  };
  auto client = Connect({broker.address()}, milliseconds(200));
  absl::Status status = client->DescribeQueue("q").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(status.message().find("the dog ate it"), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find(absl::string_view(broker.address())), absl::string_view::npos) << status;
}

TEST(CallsTest, ADeadlineQuotesTheBrokerThatGaveAReason) {
  ScriptedBroker broker;
  std::atomic<int> tries{0};
  Notification over;
  broker.on_describe = [&](const v1::DescribeQueueRequest&, v1::DescribeQueueResponse*) {
    if (++tries == 1) {
      google::rpc::ErrorInfo info;
      info.set_domain("trireme");
      info.set_reason("NO_CLUSTER");
      google::rpc::Status details;
      details.add_details()->PackFrom(info);
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "waits for its cluster", details.SerializeAsString());
    }
    over.Wait();  // so that the next try ends by the client's clock, which knows no reason
    return grpc::Status::OK;
  };
  auto client = Connect({broker.address()}, milliseconds(500));
  const absl::Status status = client->DescribeQueue("q").status();
  over.Notify();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(status.message().find("waits for its cluster"), absl::string_view::npos) << status;
  EXPECT_EQ(FactsOf(status).reason, "NO_CLUSTER");
}

TEST(CallsTest, ADeletionThatWasDoneByALostTryIsDone) {
  ScriptedBroker broker;
  std::atomic<int> tries{0};
  broker.on_delete = [&](const v1::DeleteQueueRequest&, v1::DeleteQueueResponse*) {
    if (++tries == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the answer was lost");
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such queue");
  };
  auto client = Connect({broker.address()});
  EXPECT_EQ(client->DeleteQueue("q").status(), absl::OkStatus());
  EXPECT_EQ(client->DeleteQueue("q").status().code(), absl::StatusCode::kNotFound);
}

TEST(CallsTest, SendWithoutSequenceIsNotTriedAgain) {
  ScriptedBroker broker;
  std::atomic<int> tries{0};
  broker.on_send = [&](const v1::SendRequest&, v1::SendResponse*) {
    if (++tries == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost");
    return grpc::Status::OK;
  };
  auto client = Connect({broker.address()});
  v1::SendRequest request;
  request.set_queue("q");
  EXPECT_EQ(client->Send(request).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(tries, 1);
  tries = 0;
  request.set_producer("p");
  request.set_first_sequence(1);
  EXPECT_EQ(client->Send(request).status(), absl::OkStatus());
  EXPECT_EQ(tries, 2);
}

TEST(CallsTest, CallbacksAreCalledWhenTheClientGoesAway) {
  std::string gone;
  {
    ScriptedBroker other;
    gone = other.address();
  }
  std::atomic<int> called{0};
  {
    auto client = Connect({gone});
    for (int i = 0; i < 10; ++i) {
      client->DescribeQueue(v1::DescribeQueueRequest(), [&](absl::StatusOr<v1::DescribeQueueResponse> response) {
        EXPECT_EQ(response.status().code(), absl::StatusCode::kCancelled);
        ++called;
      });
    }
  }
  EXPECT_EQ(called, 10);
}

}  // namespace
}  // namespace trireme::client
