// The completion-queue shard, and streams on it, over loopback.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "raft/grpc/buffers.h"
#include "raft/grpc/completion_queue_shard.h"
#include "raft/grpc/raw_client.h"
#include "raft/grpc/raw_server.h"

namespace trireme::raft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

grpc::ByteBuffer Buffer(const std::string& text) {
  return ToBuffer(Bytes::Copy(text));
}
std::string Text(const grpc::ByteBuffer& buffer) {
  return std::string(FromBuffer(buffer)->view());
}

// Runs `f` on the shard and waits for it.
template <typename F>
auto OnShard(CompletionQueueShard* shard, F f) -> decltype(f()) {
  std::promise<decltype(f())> promise;
  shard->Post([&] {
    if constexpr (std::is_void_v<decltype(f())>) {
      f();
      promise.set_value();
    } else {
      promise.set_value(f());
    }
  });
  return promise.get_future().get();
}

// Sends back what it gets, as many times as the method's name asks for.
class Echo final : public StreamHandler {
 public:
  explicit Echo(RawServerStream* stream) : stream_(stream) {}
  void OnMessage(grpc::ByteBuffer message) override { stream_->Write(std::move(message)); }
  void OnReadEnd() override { stream_->Finish(grpc::Status(grpc::StatusCode::OUT_OF_RANGE, "the end")); }
  void OnClosed(const grpc::Status&) override {}

 private:
  RawServerStream* stream_;
};

// Records what happens to a stream. The promise is kept at the end.
struct Record {
  std::vector<std::string> messages;
  bool opened = false;
  int written = 0;
  std::promise<grpc::Status> closed;
  std::function<void()> on_message = [] {};
};
class Recorder final : public StreamHandler {
 public:
  explicit Recorder(Record* record) : record_(record) {}
  void OnOpen() override { record_->opened = true; }
  void OnMessage(grpc::ByteBuffer message) override {
    record_->messages.push_back(Text(message));
    record_->on_message();
  }
  void OnWritten() override { ++record_->written; }
  void OnClosed(const grpc::Status& status) override { record_->closed.set_value(status); }

 private:
  Record* record_;
};

class RawStreamTest : public testing::Test {
 protected:
  void SetUp() override {
    service_.Handle("/test/Echo", [](RawServerStream* s) { return std::make_unique<Echo>(s); });
    service_.Handle("/test/Refuse", [](RawServerStream* s) {
      s->Finish(grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "not you"));
      return nullptr;
    });
    service_.Handle("/test/Sink", [this](RawServerStream* s) {
      s->SendInitialMetadata({{"hello-bin", std::string("\0\1", 2)}});
      s->PauseReading();
      auto record = std::make_unique<Recorder>(&server_record_);
      accepted_.set_value(std::static_pointer_cast<RawServerStream>(s->shared_from_this()));
      return record;
    });
    service_.HandleUnary("/test/Twice", [](std::shared_ptr<RawServerStream> call, grpc::ByteBuffer request) {
      call->Reply(Buffer(Text(request) + Text(request)));
    });
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    service_.Register(&builder);
    for (ShardId i = 0; i < 2; ++i) {
      shards_.push_back(std::make_unique<CompletionQueueShard>(i, builder.AddCompletionQueue()));
    }
    server_ = builder.BuildAndStart();
    for (auto& shard : shards_) {
      shard->Start();
      service_.Listen(shard.get());
    }
    client_.Start();
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port_), grpc::InsecureChannelCredentials());
  }
  void StopServer() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now() + milliseconds(50));
    for (auto& shard : shards_) shard->Stop();
    server_.reset();
  }
  void TearDown() override {
    StopServer();
    client_.Stop();
  }
  std::shared_ptr<RawClientStream> Start(const std::string& method, Record* record) {
    return OnShard(&client_, [&] {
      return RawClientStream::Start(&client_, channel_, method, {}, std::make_unique<Recorder>(record));
    });
  }

  int port_ = 0;
  RawService service_;
  std::vector<std::unique_ptr<CompletionQueueShard>> shards_;
  std::unique_ptr<grpc::Server> server_;
  CompletionQueueShard client_{9};
  std::shared_ptr<grpc::Channel> channel_;
  Record server_record_;
  std::promise<std::shared_ptr<RawServerStream>> accepted_;
};

TEST_F(RawStreamTest, EchoesInOrderAndEndsWithTheServersStatus) {
  Record record;
  auto stream = Start("/test/Echo", &record);
  std::string large(300'000, 'x');
  OnShard(&client_, [&] {
    EXPECT_TRUE(stream->Write(Buffer("a")));
    EXPECT_TRUE(stream->Write(Buffer(large)));
    EXPECT_TRUE(stream->Write(Buffer("")));
    EXPECT_EQ(stream->queued_bytes(), 300'001u);
    stream->WritesDone();
    EXPECT_FALSE(stream->Write(Buffer("late")));
  });
  grpc::Status status = record.closed.get_future().get();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(status.error_message(), "the end");
  EXPECT_THAT(record.messages, ElementsAre("a", large, ""));
  EXPECT_EQ(record.written, 3);
  OnShard(&client_, [&] {
    EXPECT_TRUE(stream->closed());
    EXPECT_EQ(stream->queued_bytes(), 0u);
    stream->Cancel();
    stream->ResumeReading();
  });
}

TEST_F(RawStreamTest, RefusalAndUnknownMethodReachTheCaller) {
  Record refused, unknown;
  auto a = Start("/test/Refuse", &refused);
  auto b = Start("/test/None", &unknown);
  EXPECT_EQ(refused.closed.get_future().get().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(unknown.closed.get_future().get().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(RawStreamTest, UnaryCall) {
  std::promise<std::pair<grpc::Status, std::string>> done;
  OnShard(&client_, [&] {
    RawUnaryCall::Start(&client_, channel_, "/test/Twice", {}, Buffer("ab"),
                        [&](const grpc::Status& status, grpc::ByteBuffer response) {
                          done.set_value({status, Text(response)});
                        });
  });
  auto [status, text] = done.get_future().get();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(text, "abab");
}

// A paused reader holds the writer back, whose queue is bounded; and both notice the other's end while paused.
TEST_F(RawStreamTest, BackPressureAndTheQueuesBound) {
  Record record;
  auto stream = Start("/test/Sink", &record);
  auto server_stream = accepted_.get_future().get();
  std::string block(1 << 20, 'x');
  size_t taken = OnShard(&client_, [&] {
    stream->set_queue_limit(size_t{3} << 20);
    size_t n = 0;
    while (stream->Write(Buffer(block))) ++n;
    return n;
  });
  EXPECT_EQ(taken, 3u);
  EXPECT_TRUE(server_record_.messages.empty());
  OnShard(server_stream->shard(), [&] { server_stream->ResumeReading(); });
  // All that was taken arrives.
  std::promise<void> all;
  OnShard(server_stream->shard(), [&] {
    auto look = [&] {
      if (server_record_.messages.size() == taken) all.set_value();
    };
    server_record_.on_message = look;
    look();
  });
  all.get_future().wait();
  OnShard(server_stream->shard(), [&] { server_stream->PauseReading(); });
  OnShard(&client_, [&] {
    EXPECT_TRUE(record.opened);
    EXPECT_EQ(stream->Metadata("hello-bin"), std::string("\0\1", 2));
    EXPECT_EQ(stream->Metadata("other"), std::nullopt);
    stream->Cancel();
  });
  EXPECT_EQ(record.closed.get_future().get().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(server_record_.closed.get_future().get().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(RawStreamTest, TheServersEndIsNoticedWhilePaused) {
  Record record;
  auto stream = Start("/test/Echo", &record);
  std::promise<void> got;
  OnShard(&client_, [&] {
    record.on_message = [&] {
      stream->PauseReading();
      got.set_value();
    };
    stream->Write(Buffer("x"));
  });
  got.get_future().wait();
  StopServer();
  EXPECT_FALSE(record.closed.get_future().get().ok());
}

TEST_F(RawStreamTest, StoppingEndsWhatIsUnderWay) {
  Record record;
  auto stream = Start("/test/Echo", &record);
  client_.Stop();
  EXPECT_EQ(record.closed.get_future().get().error_code(), grpc::StatusCode::CANCELLED);
  client_.Post([] { ADD_FAILURE() << "ran after the stop"; });
}

// A leader reckons its queue's time from both (Safety rule 7); were one of them older than the other by what the turn
// has lasted, leases would end early after a failover.
TEST(CompletionQueueShardTest, BothClocksAreOfTheStartOfTheTurn) {
  CompletionQueueShard shard(0);
  shard.Start();
  const auto wall_now = [] {
    return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
  const bool same = OnShard(&shard, [&] {
    const MonotonicTime now = shard.Now();
    const int64_t wall_ms = shard.WallMs();
    for (const int64_t until = wall_now() + 3; wall_now() < until;) {
    }
    return shard.Now() == now && shard.WallMs() == wall_ms;
  });
  EXPECT_TRUE(same);
  shard.Stop();
}

TEST(CompletionQueueShardTest, OrderOfATurn) {
  CompletionQueueShard shard(3);
  std::vector<std::string> log;
  std::promise<void> done;
  // Posted before the start, so all in one turn.
  shard.Post([&] {
    EXPECT_TRUE(shard.OnThisThread());
    EXPECT_EQ(CompletionQueueShard::Current(), &shard);
    log.push_back("a");
    shard.AtTurnEnd([&] {
      log.push_back("end");
      shard.AtTurnEnd([&] { log.push_back("end of end"); });
    });
    shard.After(milliseconds(2), [&] {
      log.push_back("later");
      done.set_value();
    });
    shard.After(milliseconds(1), [&] { log.push_back("soon"); });
    shard.Post([&] { log.push_back("c"); });
  });
  shard.Post([&] { log.push_back("b"); });
  shard.Start();
  done.get_future().wait();
  shard.Stop();
  std::vector<std::string> first(log.begin(), log.begin() + 2);
  EXPECT_THAT(first, ElementsAre("a", "b"));
  auto at = [&](const char* what) { return std::find(log.begin(), log.end(), what) - log.begin(); };
  EXPECT_EQ(log.size(), 7u);
  EXPECT_EQ(at("end") + 1, at("end of end"));
  EXPECT_LT(at("b"), at("end"));
  EXPECT_LT(at("soon"), at("later"));
}

TEST(CompletionQueueShardTest, PostsFromManyThreadsAllRunInTheirOrder) {
  CompletionQueueShard shard(0);
  shard.Start();
  constexpr int kThreads = 4, kPosts = 20'000;
  std::vector<int> last(kThreads, -1);
  int ran = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        shard.Post([&, t, i] {
          ++ran;
          EXPECT_EQ(std::exchange(last[t], i), i - 1);
        });
      }
    });
  }
  for (auto& thread : threads) thread.join();
  OnShard(&shard, [] {});
  shard.Stop();
  EXPECT_EQ(ran, kThreads * kPosts);
}

TEST(CompletionQueueShardTest, NeverStarted) {
  CompletionQueueShard shard(0);
  shard.Post([] { ADD_FAILURE() << "ran without a loop"; });
}

TEST(BuffersTest, SharedNotCopied) {
  Bytes bytes = Bytes::Take(std::string(1000, 'b'));
  grpc::Slice slice = ToSlice(bytes);
  EXPECT_EQ(reinterpret_cast<const char*>(slice.begin()), bytes.data());
  Bytes back = FromSlice(slice);
  EXPECT_EQ(back.data(), bytes.data());
  Bytes small = FromSlice(ToSlice(Bytes::Copy("short")));
  EXPECT_EQ(small.view(), "short");
  EXPECT_TRUE(FromBuffer(grpc::ByteBuffer())->empty());
  // In two slices: joined.
  grpc::Slice two[2] = {ToSlice(bytes), CopyToSlice("tail")};
  EXPECT_EQ(FromBuffer(grpc::ByteBuffer(two, 2))->view(), std::string(1000, 'b') + "tail");
}

}  // namespace
}  // namespace trireme::raft
