// Inboxes, and who gets what comes into them.
#include "client/requester.h"

#include "client/client.h"
#include "client/sync.h"
#include "gtest/gtest.h"
#include "tests/client/scripted_broker.h"

namespace trireme::client {
namespace {

using std::chrono::milliseconds;
using Consuming = ScriptedBroker::Consuming;
using Publishing = ScriptedBroker::Publishing;

constexpr milliseconds kLong{20'000};

void OpenedAs(Consuming& stream, const std::string& name, bool resumed = false) {
  v1::ConsumeResponse response;
  response.mutable_opened()->set_queue(name);
  response.mutable_opened()->set_resumed(resumed);
  response.mutable_opened()->set_group_id(9);
  stream.Send(response);
}

void Reply(Consuming& stream, uint64_t position, const std::string& correlation_id, const std::string& body) {
  v1::ConsumeResponse response;
  v1::Run* run = response.mutable_deliver()->add_runs();
  run->set_first_position(position);
  run->set_checkout_index(position);
  run->set_count(1);
  run->set_deliveries(1);
  v1::Message* message = run->mutable_batch()->add_messages();
  message->set_correlation_id(correlation_id);
  message->set_body(body);
  stream.Send(response);
}

class RequesterTest : public testing::Test {
 protected:
  void SetUp() override { client_ = *Client::Create({.servers = {broker_.address()}}); }
  std::unique_ptr<Requester> Ask(uint32_t max_in_flight = 100) {
    return *client_->CreateRequester({.queue = "q", .max_in_flight = max_in_flight});
  }
  // Takes requests as they come, until the client ends the stream.
  void TakeRequests() {
    broker_.OnPublish([this](Publishing& stream) {
      const uint32_t alias = stream.Begin();
      v1::PublishRequest request;
      while (stream.Read(request)) {
        v1::MessageBatch batch;
        batch.ParseFromString(request.append().batch());
        stream.Confirm(alias, request.append().first_sequence(), static_cast<uint32_t>(batch.messages_size()));
        MutexLock lock(&mutex_);
        for (const v1::Message& message : batch.messages()) requests_.push_back(message);
      }
      return grpc::Status::OK;
    });
  }
  bool HaveCome(size_t count) {
    return Eventually([&] {
      MutexLock lock(&mutex_);
      return requests_.size() >= count;
    });
  }
  v1::Message request(size_t i) {
    MutexLock lock(&mutex_);
    return requests_.at(i);
  }

  ScriptedBroker broker_;
  std::unique_ptr<Client> client_;
  Mutex mutex_;
  std::vector<v1::Message> requests_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(RequesterTest, AnInboxIsFoundAgainByItsName) {
  broker_.OnConsume([](Consuming& stream) {
    const v1::OpenConsume open = stream.ExpectOpen();
    EXPECT_TRUE(open.temporary());
    EXPECT_EQ(open.queue(), "");
    OpenedAs(stream, "$temp/1.2/3");
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the node that passed it on is gone");
  });
  Notification again;
  broker_.OnConsume([&](Consuming& stream) {
    const v1::OpenConsume open = stream.ExpectOpen();
    EXPECT_FALSE(open.temporary());
    EXPECT_EQ(open.queue(), "$temp/1.2/3");
    EXPECT_EQ(open.group_id(), 9u);
    OpenedAs(stream, "$temp/1.2/3", true);
    again.Notify();
    return stream.UntilClosed();
  });
  ConsumerOptions options;
  options.temporary = true;
  auto consumer = *client_->CreateConsumer(std::move(options));
  EXPECT_EQ(consumer->WaitOpen(kLong), absl::OkStatus());
  EXPECT_EQ(consumer->queue(), "$temp/1.2/3");
  again.Wait();
}

TEST_F(RequesterTest, ATemporaryQueueHasNoNameToBeginWith) {
  ConsumerOptions options;
  options.temporary = true;
  options.queue = "mine";
  EXPECT_EQ(client_->CreateConsumer(std::move(options)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RequesterTest, EachRequestGetsItsOwnReply) {
  TakeRequests();
  broker_.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    OpenedAs(stream, "$temp/1.2/3");
    EXPECT_TRUE(HaveCome(2));
    // One that is late, or another's; then the second one's before the first one's.
    Reply(stream, 65'536, "somebody else's", "x");
    for (size_t i : {1, 0}) {
      EXPECT_EQ(request(i).reply_to(), "$temp/1.2/3");
      EXPECT_GT(request(i).expires_at_ms(), 0);
      Reply(stream, (i + 2) * 65'536, request(i).correlation_id(), "re:" + request(i).body());
    }
    return stream.UntilClosed();
  });
  auto requester = Ask();
  Mutex mutex;
  std::string replies;
  size_t answered = 0;
  for (const char* body : {"a", "b"}) {
    v1::Message message;
    message.set_body(body);
    requester->Request(message, kLong, [&, asked = std::string(body)](absl::StatusOr<v1::Message> reply) {
      EXPECT_TRUE(reply.ok()) << reply.status();
      if (reply.ok()) {
        EXPECT_EQ(reply->body(), "re:" + asked);
      }
      MutexLock lock(&mutex);
      ++answered;
    });
  }
  EXPECT_TRUE(Eventually([&] {
    MutexLock lock(&mutex);
    return answered == 2;
  }));
}

TEST_F(RequesterTest, ALostInboxIsSaidAndReplaced) {
  TakeRequests();
  broker_.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    OpenedAs(stream, "$temp/1.2/3");
    EXPECT_TRUE(HaveCome(1));
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "its node was started again");
  });
  broker_.OnConsume([&](Consuming& stream) {
    EXPECT_TRUE(stream.ExpectOpen().temporary());
    OpenedAs(stream, "$temp/1.3/1");
    EXPECT_TRUE(HaveCome(2));
    EXPECT_EQ(request(1).reply_to(), "$temp/1.3/1");
    Reply(stream, 65'536, request(1).correlation_id(), "b");
    return stream.UntilClosed();
  });
  auto requester = Ask();
  const absl::Status lost = requester->RequestAndWait({}, kLong).status();
  EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable) << lost;
  absl::StatusOr<v1::Message> reply = requester->RequestAndWait({}, kLong);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->body(), "b");
}

TEST_F(RequesterTest, EndsWithoutAReply) {
  TakeRequests();
  broker_.OnConsume([&](Consuming& stream) {
    stream.ExpectOpen();
    OpenedAs(stream, "$temp/1.2/3");
    return stream.UntilClosed();
  });
  auto requester = Ask(/*max_in_flight=*/1);
  const absl::Status late = requester->RequestAndWait({}, milliseconds(300)).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
  v1::Message message;
  message.set_reply_to("elsewhere");
  EXPECT_EQ(requester->RequestAndWait(message).status().code(), absl::StatusCode::kInvalidArgument);
  Notification cancelled;
  requester->Request({}, kLong, [&](const absl::StatusOr<v1::Message>& reply) {
    EXPECT_EQ(reply.status().code(), absl::StatusCode::kCancelled) << reply.status();
    cancelled.Notify();
  });
  EXPECT_EQ(requester->RequestAndWait({}, kLong).status().code(), absl::StatusCode::kResourceExhausted);
  requester.reset();
  cancelled.Wait();
}

}  // namespace
}  // namespace trireme::client
