#include "client/producer.h"

#include <atomic>
#include <map>
#include <thread>

#include "client/client.h"
#include "client/sync.h"
#include "gtest/gtest.h"
#include "tests/client/scripted_broker.h"

namespace trireme::client {
namespace {

using std::chrono::milliseconds;
using Publishing = ScriptedBroker::Publishing;

constexpr milliseconds kLong{10'000};

class ProducerTest : public testing::Test {
 protected:
  std::unique_ptr<Producer> Produce(std::vector<std::string> servers,
                                    std::function<void(ProducerOptions&)> change = {}) {
    ClientOptions client_options;
    client_options.servers = std::move(servers);
    client_ = *Client::Create(std::move(client_options));
    ProducerOptions options;
    options.queue = "q";
    options.name = "p";
    options.on_confirm = [this](Producer&, const Confirmation& c) {
      MutexLock lock(&mutex_);
      for (uint32_t i = 0; i < c.count; ++i) {
        EXPECT_TRUE(outcomes_.emplace(c.first_ticket + i, c.outcome).second) << "twice: " << c.first_ticket + i;
      }
      reason_ = std::string(c.reason);
    };
    if (change) change(options);
    return *client_->CreateProducer(std::move(options));
  }
  std::map<uint64_t, v1::Outcome> outcomes() {
    MutexLock lock(&mutex_);
    return outcomes_;
  }

  std::unique_ptr<Client> client_;
  Mutex mutex_;
  std::map<uint64_t, v1::Outcome> outcomes_;
  std::string reason_;
};

v1::Message Body(const std::string& body) {
  v1::Message message;
  message.set_body(body);
  return message;
}

TEST_F(ProducerTest, OpensBindsAndConfirms) {
  ScriptedBroker broker;
  broker.OnPublish([](Publishing& stream) {
    v1::OpenPublish open = stream.ExpectOpen();
    EXPECT_EQ(open.producer(), "p");
    EXPECT_EQ(open.epoch(), 0u);
    stream.Opened();
    v1::Bind bind = stream.ExpectBind();
    EXPECT_EQ(bind.queue(), "q");
    stream.Bound(bind.alias(), 3, 41);
    v1::Append append = stream.ExpectAppend();
    EXPECT_EQ(append.first_sequence(), 42u);
    v1::MessageBatch batch;
    EXPECT_TRUE(batch.ParseFromString(append.batch()));
    EXPECT_EQ(batch.messages(0).body(), "hello");
    EXPECT_EQ(batch.messages(0).key(), "k");
    stream.Confirm(append.alias(), 42, 1, v1::OUTCOME_OK, uint64_t{7} << 16);
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  EXPECT_EQ(*producer->WaitOpen(kLong), 41u);
  EXPECT_EQ(producer->server(), broker.address());
  v1::Message message = Body("hello");
  message.set_key("k");
  absl::StatusOr<Confirmation> confirmation = producer->PublishAndWait(message);
  ASSERT_TRUE(confirmation.ok()) << confirmation.status();
  EXPECT_EQ(confirmation->first_ticket, 1u);
  EXPECT_EQ(confirmation->first_position, uint64_t{7} << 16);
}

TEST_F(ProducerTest, GathersWhatComesWhileFramesAreUnderWay) {
  ScriptedBroker broker;
  Notification published;
  std::vector<int> sizes;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    published.Wait();
    uint64_t next = 1;
    while (next <= 1'000) {
      v1::Append append = stream.ExpectAppend();
      v1::MessageBatch batch;
      if (!batch.ParseFromString(append.batch()) || append.first_sequence() != next) {
        ADD_FAILURE() << "sequence " << append.first_sequence() << " instead of " << next;
        break;
      }
      for (const v1::Message& message : batch.messages()) EXPECT_EQ(message.body(), std::to_string(next++));
      sizes.push_back(batch.messages_size());
      stream.Confirm(alias, append.first_sequence(), static_cast<uint32_t>(batch.messages_size()));
    }
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  ASSERT_TRUE(producer->WaitOpen(kLong).ok());
  for (int i = 1; i <= 1'000; ++i) ASSERT_TRUE(producer->PublishBody(std::to_string(i)).ok());
  published.Notify();
  ASSERT_EQ(producer->Flush(kLong), absl::OkStatus());
  EXPECT_EQ(outcomes().size(), 1'000u);
  // The first few leave at once, the rest together.
  EXPECT_LE(sizes.size(), 20u);
}

// Others may go on publishing.
TEST_F(ProducerTest, AFlushWaitsForWhatWasPublishedBeforeItAndNoMore) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    for (int i = 0; i < 4; ++i) stream.ExpectAppend();
    // Out of their order; the fourth is never confirmed.
    for (uint64_t sequence : {3, 1, 2}) stream.Confirm(alias, sequence, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()}, [](ProducerOptions& options) { options.max_batch_messages = 1; });
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(producer->PublishBody("x").ok());
  std::thread later([&] {
    // Until the flush has begun.
    std::this_thread::sleep_for(milliseconds(500));
    EXPECT_TRUE(producer->PublishBody("y").ok());
  });
  EXPECT_EQ(producer->Flush(kLong), absl::OkStatus());
  later.join();
  EXPECT_EQ(producer->Flush(milliseconds(1)), absl::DeadlineExceededError("1 messages are not confirmed after 1 ms"));
}

TEST_F(ProducerTest, RespectsTheMessagesPerFrame) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    for (uint64_t next = 1; next <= 100; ++next) {
      v1::Append append = stream.ExpectAppend();
      EXPECT_EQ(append.first_sequence(), next);
      stream.Confirm(alias, next, 1);
    }
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()}, [](ProducerOptions& options) { options.max_batch_messages = 1; });
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(producer->PublishBody("x").ok());
  EXPECT_EQ(producer->Flush(kLong), absl::OkStatus());
}

TEST_F(ProducerTest, OfFramesThatLeaveTogetherNoneStaysBehind) {
  constexpr int kRounds = 40;
  const std::string large(20'000, 'x');  // more than leaves together
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    uint64_t next = 1;
    for (int round = 1; round <= kRounds; ++round) {
      // Nothing is confirmed, so nothing moves the client on, before all of a round are here.
      const uint64_t first = next;
      for (int i = 0; i < round; ++i, ++next) EXPECT_EQ(stream.ExpectAppend().first_sequence(), next);
      stream.Confirm(alias, first, static_cast<uint32_t>(next - first));
    }
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()}, [](ProducerOptions& options) { options.max_batch_messages = 1; });
  ASSERT_TRUE(producer->WaitOpen(kLong).ok());
  for (int round = 1; round <= kRounds; ++round) {
    for (int i = 0; i < round; ++i) ASSERT_TRUE(producer->PublishBody(i % 7 == 3 ? large : "x").ok());
    ASSERT_EQ(producer->Flush(kLong), absl::OkStatus()) << "round " << round;
  }
}

TEST_F(ProducerTest, LargeMessagesHaveFramesOfTheirOwn) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    for (uint64_t next = 1; next <= 3;) {
      v1::Append append = stream.ExpectAppend();
      v1::MessageBatch batch;
      EXPECT_TRUE(batch.ParseFromString(append.batch()));
      EXPECT_EQ(batch.messages_size(), 1);
      next += static_cast<uint64_t>(batch.messages_size());
      stream.Confirm(alias, append.first_sequence(), static_cast<uint32_t>(batch.messages_size()));
    }
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  ASSERT_TRUE(producer->WaitOpen(kLong).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(producer->PublishBody(std::string(300'000, 'x')).ok());
  EXPECT_EQ(producer->Flush(kLong), absl::OkStatus());
  absl::Status status = producer->PublishBody(std::string(1 << 20, 'x')).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("the limit is 1048576"), absl::string_view::npos) << status;
}

// Safety rule 6: what was sent on a connection that broke is sent again with the same sequences and bytes, and a
// confirm that says DUPLICATE is as good as OK.
TEST_F(ProducerTest, ResendsUnchangedAfterABreak) {
  ScriptedBroker broker;
  std::map<uint64_t, std::string> first;
  broker.OnPublish([&](Publishing& stream) {
    stream.Begin(5);
    for (int i = 0; i < 3; ++i) {
      v1::Append append = stream.ExpectAppend();
      first[append.first_sequence()] = append.batch();
    }
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  });
  broker.OnPublish([&](Publishing& stream) {
    v1::OpenPublish open = stream.ExpectOpen();
    EXPECT_EQ(open.producer(), "p");
    EXPECT_EQ(open.epoch(), 5u);
    stream.Opened();
    const uint32_t alias = stream.ExpectBind().alias();
    stream.Bound(alias, 5, 2);
    for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
      v1::Append append = stream.ExpectAppend();
      EXPECT_EQ(append.first_sequence(), sequence);
      EXPECT_EQ(append.batch(), first[sequence]);
      stream.Confirm(alias, sequence, 1, sequence <= 2 ? v1::OUTCOME_DUPLICATE : v1::OUTCOME_OK);
    }
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()}, [](ProducerOptions& options) { options.max_batch_messages = 1; });
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(producer->PublishBody(std::to_string(i)).ok());
  EXPECT_EQ(producer->Flush(kLong), absl::OkStatus());
  EXPECT_EQ(outcomes(), (std::map<uint64_t, v1::Outcome>{
                            {1, v1::OUTCOME_DUPLICATE}, {2, v1::OUTCOME_DUPLICATE}, {3, v1::OUTCOME_OK}}));
  EXPECT_EQ(producer->reconnects(), 1u);
}

TEST_F(ProducerTest, UnboundLeadsToTheLeaderNamed) {
  ScriptedBroker old_leader, new_leader;
  old_leader.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    EXPECT_EQ(stream.ExpectAppend().first_sequence(), 1u);
    stream.Unbound(alias, new_leader.address());
    return stream.UntilClosed();
  });
  new_leader.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    EXPECT_EQ(stream.ExpectAppend().first_sequence(), 1u);
    stream.Confirm(alias, 1, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({old_leader.address()});
  EXPECT_TRUE(producer->PublishAndWait(Body("x")).ok());
  EXPECT_EQ(producer->server(), new_leader.address());
  EXPECT_EQ(new_leader.resolves(), 0);
}

TEST_F(ProducerTest, AsksWhoLeadsBeforeItOpens) {
  ScriptedBroker follower, leader;
  follower.ResolveTo(leader.address());
  leader.OnPublish([&](Publishing& stream) {
    stream.Begin();
    return stream.UntilClosed();
  });
  auto producer = Produce({follower.address()});
  ASSERT_TRUE(producer->WaitOpen(kLong).ok());
  EXPECT_EQ(producer->server(), leader.address());
}

TEST_F(ProducerTest, AnExchangeIsBoundAtAnyNodeAndNumberedByTheClock) {
  ScriptedBroker broker;
  uint64_t first = 0;
  broker.OnPublish([&](Publishing& stream) {
    stream.ExpectOpen();
    stream.Opened();
    const v1::Bind bind = stream.ExpectBind();
    EXPECT_EQ(bind.exchange(), "x");
    EXPECT_TRUE(bind.mandatory());
    stream.Bound(bind.alias(), 0, 0);
    const v1::Append append = stream.ExpectAppend();
    first = append.first_sequence();
    stream.Confirm(append.alias(), first, 1, v1::OUTCOME_UNROUTABLE, 0, "no queue is bound for it");
    const v1::Append lost = stream.ExpectAppend();
    EXPECT_EQ(lost.first_sequence(), first + 1);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
  });
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin(0);
    const v1::Append again = stream.ExpectAppend();
    EXPECT_EQ(again.first_sequence(), first + 1) << "the same sequence as before";
    stream.Confirm(alias, first + 1, 1, v1::OUTCOME_OK, 0);
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()}, [](ProducerOptions& options) {
    options.queue.clear();
    options.exchange = "x";
    options.mandatory = true;
  });
  EXPECT_EQ(producer->PublishAndWait(Body("a")).status().code(), absl::StatusCode::kNotFound);
  const absl::StatusOr<Confirmation> stored = producer->PublishAndWait(Body("b"));
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->first_position, 0u);
  EXPECT_EQ(broker.resolves(), 0) << "no queue's leader is looked for";
  EXPECT_GT(first, uint64_t{1'600'000'000'000'000}) << "microseconds, above what a process before it may have used";
}

TEST_F(ProducerTest, AQueueOrAnExchangeButNotBoth) {
  client_ = *Client::Create({.servers = {"127.0.0.1:1"}});
  ProducerOptions both;
  both.queue = "q";
  both.exchange = "x";
  EXPECT_EQ(client_->CreateProducer(std::move(both)).status().code(), absl::StatusCode::kInvalidArgument);
  ProducerOptions mandatory;
  mandatory.queue = "q";
  mandatory.mandatory = true;
  EXPECT_EQ(client_->CreateProducer(std::move(mandatory)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ProducerTest, BoundElsewhereIsFollowed) {
  ScriptedBroker follower, leader;
  follower.ResolveTo("");
  follower.OnPublish([&](Publishing& stream) {
    stream.ExpectOpen();
    stream.Opened();
    stream.Bound(stream.ExpectBind().alias(), 1, 0, leader.address());
    return stream.UntilClosed();
  });
  leader.OnPublish([&](Publishing& stream) {
    stream.Begin();
    return stream.UntilClosed();
  });
  auto producer = Produce({follower.address()});
  ASSERT_TRUE(producer->WaitOpen(kLong).ok());
  EXPECT_EQ(producer->server(), leader.address());
}

TEST_F(ProducerTest, AnUnreachableLeaderIsReachedThroughAnotherNode) {
  ScriptedBroker follower;
  std::string leader;
  {
    ScriptedBroker other;
    leader = other.address();
  }
  follower.ResolveTo(leader);
  follower.OnPublish([&](Publishing& stream) {
    stream.ExpectOpen();
    stream.Opened();
    const uint32_t alias = stream.ExpectBind().alias();
    stream.Bound(alias, 1, 0, leader);
    stream.ExpectAppend();
    stream.Confirm(alias, 1, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({follower.address()});
  EXPECT_TRUE(producer->PublishAndWait(Body("x")).ok());
  EXPECT_EQ(producer->server(), follower.address());
}

TEST_F(ProducerTest, UnknownIsNeverReportedAsFailedNorStored) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(stream.ExpectAppend().first_sequence(), 1u);
      stream.Confirm(alias, 1, 1, v1::OUTCOME_UNKNOWN, 0, "below the window");
    }
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  absl::Status status = producer->PublishAndWait(Body("x")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_NE(status.message().find("below the window"), absl::string_view::npos) << status;
}

TEST_F(ProducerTest, WithoutSequencesABreakMakesUnknown) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    v1::OpenPublish open = stream.ExpectOpen();
    EXPECT_EQ(open.producer(), "");
    stream.Opened();
    stream.Bound(stream.ExpectBind().alias(), 0, 0);
    stream.ExpectAppend();
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  });
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    v1::Append append = stream.ExpectAppend();
    v1::MessageBatch batch;
    EXPECT_TRUE(batch.ParseFromString(append.batch()));
    EXPECT_EQ(batch.messages(0).body(), "second");
    stream.Confirm(alias, 1, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()}, [](ProducerOptions& options) {
    options.deduplicate = false;
    options.name = "";
  });
  ASSERT_TRUE(producer->PublishBody("first").ok());
  ASSERT_EQ(producer->Flush(kLong), absl::OkStatus());
  EXPECT_EQ(outcomes(), (std::map<uint64_t, v1::Outcome>{{1, v1::OUTCOME_UNKNOWN}}));
  EXPECT_TRUE(producer->PublishAndWait(Body("second")).ok());
}

TEST_F(ProducerTest, RefusedSaysWhyAndTheNextGoesOn) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    stream.ExpectAppend();
    stream.Confirm(alias, 1, 1, v1::OUTCOME_REFUSED, 0, "the disk is full");
    EXPECT_EQ(stream.ExpectAppend().first_sequence(), 2u);
    stream.Confirm(alias, 2, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  absl::Status status = producer->PublishAndWait(Body("x")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("the disk is full"), absl::string_view::npos) << status;
  EXPECT_TRUE(producer->PublishAndWait(Body("y")).ok());
}

TEST_F(ProducerTest, FencedIsForGood) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    stream.ExpectAppend();
    stream.Confirm(alias, 1, 1, v1::OUTCOME_FENCED, 0, "a higher epoch is open");
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  EXPECT_EQ(producer->PublishAndWait(Body("x")).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(producer->PublishAndWait(Body("y")).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(producer->closed().code(), absl::StatusCode::kAborted);
}

TEST_F(ProducerTest, AQueueThatIsNotThereIsSaid) {
  ScriptedBroker broker;
  broker.FailResolve({grpc::StatusCode::NOT_FOUND, "no queue q"});
  auto producer = Produce({broker.address()});
  EXPECT_EQ(producer->WaitOpen(kLong).status(), absl::NotFoundError("no queue q"));
  EXPECT_EQ(producer->PublishBody("x").status(), absl::NotFoundError("no queue q"));
}

TEST_F(ProducerTest, ARefusedBindIsSaid) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    stream.ExpectOpen();
    stream.Opened();
    v1::PublishResponse response;
    response.mutable_bound()->set_alias(stream.ExpectBind().alias());
    response.mutable_bound()->set_outcome(v1::OUTCOME_REFUSED);
    response.mutable_bound()->set_reason("not yours");
    stream.Send(response);
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  ASSERT_TRUE(producer->PublishBody("x").ok());
  EXPECT_EQ(producer->WaitOpen(kLong).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Eventually([&] { return outcomes().size() == 1; }));
  EXPECT_EQ(outcomes()[1], v1::OUTCOME_REFUSED);
}

TEST_F(ProducerTest, IsBoundedAndSaysSoWithoutWaiting) {
  ScriptedBroker broker;
  Notification go;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    go.Wait();
    for (uint64_t next = 1; next <= 11;) {
      v1::Append append = stream.ExpectAppend();
      v1::MessageBatch batch;
      EXPECT_TRUE(batch.ParseFromString(append.batch()));
      next += static_cast<uint64_t>(batch.messages_size());
      stream.Confirm(alias, append.first_sequence(), static_cast<uint32_t>(batch.messages_size()));
    }
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()}, [](ProducerOptions& options) { options.max_in_flight_messages = 10; });
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(producer->TryPublishBody("x").ok());
  EXPECT_EQ(producer->TryPublishBody("x").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(producer->in_flight(), 10u);
  go.Notify();
  // This one waits for room.
  EXPECT_TRUE(producer->PublishBody("x").ok());
  EXPECT_EQ(producer->Flush(kLong), absl::OkStatus());
  EXPECT_EQ(outcomes().size(), 11u);
}

TEST_F(ProducerTest, AMessageThatCannotBeSentIsRefusedInTheEnd) {
  ScriptedBroker broker;
  broker.FailResolve({grpc::StatusCode::UNAVAILABLE, "no leader"});
  auto producer =
      Produce({broker.address()}, [](ProducerOptions& options) { options.delivery_timeout = milliseconds(100); });
  EXPECT_EQ(producer->PublishAndWait(Body("x")).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ProducerTest, AMessageThatIsNotConfirmedIsUnknownInTheEnd) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    stream.Begin();
    return stream.UntilClosed();
  });
  auto producer =
      Produce({broker.address()}, [](ProducerOptions& options) { options.delivery_timeout = milliseconds(200); });
  EXPECT_EQ(producer->PublishAndWait(Body("x")).status().code(), absl::StatusCode::kUnknown);
}

// A paused process keeps its connections; another node knows better.
TEST_F(ProducerTest, ASilentLeaderIsLeftWhenAnotherNodeKnowsANewOne) {
  ScriptedBroker silent, other;
  silent.OnPublish([&](Publishing& stream) {
    stream.Begin();
    stream.ExpectAppend();
    return stream.UntilClosed();
  });
  other.ResolveTo(silent.address());
  other.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    EXPECT_EQ(stream.ExpectAppend().first_sequence(), 1u);
    stream.Confirm(alias, 1, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({silent.address(), other.address()});
  ASSERT_TRUE(producer->WaitOpen(kLong).ok());
  other.ResolveTo(other.address());
  EXPECT_TRUE(producer->PublishAndWait(Body("x")).ok());
  EXPECT_EQ(producer->server(), other.address());
}

// A leader that is cut off from the others gives up, and does not know who leads; nor does it answer who asks. The
// other node hears of it a little later.
TEST_F(ProducerTest, ALeaderThatIsCutOffIsLeftAtOnce) {
  ScriptedBroker cut_off, other;
  Notification healed;
  cut_off.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    stream.ExpectAppend();
    cut_off.HoldResolve(&healed);
    stream.Unbound(alias, "");
    return stream.UntilClosed();
  });
  other.ResolveTo(cut_off.address());
  other.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    EXPECT_EQ(stream.ExpectAppend().first_sequence(), 1u);
    stream.Confirm(alias, 1, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({cut_off.address(), other.address()});
  ASSERT_TRUE(producer->WaitOpen(kLong).ok());
  other.FailResolve(grpc::Status(grpc::StatusCode::UNAVAILABLE, "an election is under way"));
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_GT(producer->Publish(Body("x")).value(), 0u);
  ASSERT_TRUE(Eventually([&] { return cut_off.resolves() > 1 && other.resolves() > 1; }));
  other.FailResolve(grpc::Status::OK);
  other.ResolveTo(other.address());
  EXPECT_TRUE(Eventually([&] { return outcomes().size() == 1; }));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, milliseconds(2'500))
      << "an unanswered question is not waited for";
  EXPECT_EQ(producer->server(), other.address());
  healed.Notify();
}

TEST_F(ProducerTest, DrainingLeadsElsewhere) {
  ScriptedBroker stopping, other;
  stopping.OnPublish([&](Publishing& stream) {
    stream.Begin();
    stream.ExpectAppend();
    stopping.ResolveTo(other.address());
    v1::PublishResponse response;
    response.mutable_draining();
    stream.Send(response);
    return stream.UntilClosed();
  });
  other.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    EXPECT_EQ(stream.ExpectAppend().first_sequence(), 1u);
    stream.Confirm(alias, 1, 1, v1::OUTCOME_DUPLICATE);
    return stream.UntilClosed();
  });
  auto producer = Produce({stopping.address(), other.address()});
  EXPECT_TRUE(producer->PublishAndWait(Body("x")).ok());
  EXPECT_EQ(producer->server(), other.address());
}

TEST_F(ProducerTest, ClosingReportsWhatIsLeft) {
  ScriptedBroker broker;
  Notification got;
  broker.OnPublish([&](Publishing& stream) {
    stream.Begin();
    stream.ExpectAppend();
    got.Notify();
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  ASSERT_TRUE(producer->PublishBody("x").ok());
  got.Wait();
  producer.reset();
  EXPECT_EQ(outcomes(), (std::map<uint64_t, v1::Outcome>{{1, v1::OUTCOME_UNKNOWN}}));
}

TEST_F(ProducerTest, MayOutliveItsClient) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    stream.ExpectAppend();
    stream.Confirm(alias, 1, 1);
    return stream.UntilClosed();
  });
  auto producer = Produce({broker.address()});
  client_.reset();
  EXPECT_TRUE(producer->PublishAndWait(Body("x")).ok());
}

TEST_F(ProducerTest, CallbacksMayPublish) {
  ScriptedBroker broker;
  broker.OnPublish([&](Publishing& stream) {
    const uint32_t alias = stream.Begin();
    for (uint64_t next = 1; next <= 100; ++next) {
      EXPECT_EQ(stream.ExpectAppend().first_sequence(), next);
      stream.Confirm(alias, next, 1);
    }
    return stream.UntilClosed();
  });
  Notification done;
  auto producer = Produce({broker.address()}, [&](ProducerOptions& options) {
    options.max_in_flight_messages = 1;
    options.on_confirm = [&](Producer& p, const Confirmation& c) {
      EXPECT_TRUE(c.stored());
      if (c.first_ticket == 100) return done.Notify();
      EXPECT_TRUE(p.TryPublishBody("x").ok());
    };
  });
  ASSERT_TRUE(producer->PublishBody("x").ok());
  EXPECT_TRUE(done.WaitFor(std::chrono::seconds(10)));
}

}  // namespace
}  // namespace trireme::client
