// Messages whose time is over, on three simulated nodes: they leave, whether a consumer is there or not, whoever leads.
#include <gmock/gmock.h>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ExpiryTest : public QueueTest {
 protected:
  void SetTtl(uint64_t ttl_ms) {
    std::optional<absl::Status> set;
    w_.Serving()->ChangeQueue({.ttl_ms = ttl_ms}, [&](absl::Status status) { set = std::move(status); });
    ASSERT_TRUE(w_.world.RunUntil([&] { return set.has_value(); }));
    ASSERT_TRUE(set->ok()) << *set;
  }
  void SetDefault(queue::SubscriptionSettings settings) {
    bool done = false;
    w_.Serving()->ChangeSubscription("default", std::move(settings), [&](const auto& made) { done = made.ok(); });
    ASSERT_TRUE(w_.world.RunUntil([&] { return done; }));
  }
  // One message, which expires at that time.
  void PublishUntil(const std::string& body, int64_t expires_at_ms) {
    raft::Writer message, batch;
    message.Byte(1 << 3 | 2);
    message.Counted(body);
    message.Byte(5 << 3);
    message.Varint(static_cast<uint64_t>(expires_at_ms));
    batch.Byte(1 << 3 | 2);
    batch.Counted(message.bytes());
    auto sink = std::make_shared<NotingPublishSink>();
    w_.Serving()->Publish({sink, 7, "", 0, 1, raft::Bytes::Take(batch.Take())});
    ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 1; }));
    ASSERT_EQ(sink->outcomes[0].kind, PublishOutcome::Kind::kOk);
  }
  int64_t Now() {
    PublishEach({"clock"});
    return Describe().queue_time_ms;
  }
  // Once what was decided is applied.
  SubscriptionFigures Default() {
    w_.world.Run(milliseconds(100));
    return Describe().subscriptions[0];
  }
  std::vector<std::string> Taken(milliseconds wait = milliseconds(0)) {
    std::vector<std::string> all;
    for (const DeliveredRun& run : Receive(100, wait, milliseconds(600'000))) {
      for (std::string& body : BodiesOf(run.batch)) all.push_back(std::move(body));
    }
    return all;
  }
};

// Safety rule 8.
TEST_F(ExpiryTest, AQueuesTimeToLiveNeedsNoConsumer) {
  SetTtl(5'000);
  PublishEach({"a", "b"});
  w_.world.Run(milliseconds(3'000));
  PublishEach({"c"});
  EXPECT_EQ(Default().waiting, 3u);
  w_.world.Run(milliseconds(2'500));
  EXPECT_EQ(Default().expired, 2u);
  EXPECT_EQ(Default().waiting, 1u);
  w_.world.Run(milliseconds(3'000));
  EXPECT_EQ(Default().expired, 3u);
  EXPECT_EQ(Default().waiting, 0u);
  EXPECT_THAT(Taken(), IsEmpty());
}

TEST_F(ExpiryTest, TheNextLeaderGoesOn) {
  SetTtl(20'000);
  PublishEach({"a", "b"});
  auto held = Receive(1, milliseconds(0), milliseconds(600'000));
  w_.world.Run(milliseconds(8'000));
  FailOver();
  EXPECT_EQ(Default().expired, 0u);
  w_.world.Run(milliseconds(14'000));
  // What a consumer holds is its own.
  EXPECT_EQ(Default().expired, 1u);
  EXPECT_EQ(Default().in_flight, 1u);
  std::vector<queue::Token> tokens = {TokenOf(held[0])};
  bool done = false;
  w_.Serving()->SettleTokens(0, queue::Disposition::kRequeue, tokens, [&](const auto&) { done = true; });
  ASSERT_TRUE(w_.world.RunUntil([&] { return done; }));
  EXPECT_THAT(Taken(), IsEmpty());
  EXPECT_EQ(Default().expired, 2u);
}

TEST_F(ExpiryTest, WhatStaysAwayExpiresThere) {
  SetTtl(5'000);
  PublishEach({"a", "b"});
  auto held = Receive(2, milliseconds(0), milliseconds(600'000));
  std::vector<queue::Token> tokens = {TokenOf(held[0]), TokenOf(held[1])};
  bool done = false;
  w_.Serving()->SettleTokens(
      0, queue::Disposition::kRequeue, tokens, [&](const auto&) { done = true; }, /*delay_ms=*/60'000);
  ASSERT_TRUE(w_.world.RunUntil([&] { return done; }));
  EXPECT_EQ(Default().waiting, 2u);
  FailOver();
  w_.world.Run(milliseconds(6'000));
  EXPECT_EQ(Default().expired, 2u);
  EXPECT_EQ(Default().waiting, 0u);
}

TEST_F(ExpiryTest, AMessagesOwnTimeCountsAtTheHeadAndWhenItIsReached) {
  const int64_t now = Now();
  EXPECT_THAT(Taken(), ElementsAre("clock"));
  PublishUntil("first", now + 5'000);
  PublishEach({"lives"});
  PublishUntil("behind", now + 5'000);
  PublishUntil("later", now + 60'000);
  w_.world.Run(milliseconds(6'000));
  EXPECT_EQ(Default().expired, 1u);
  EXPECT_EQ(Default().waiting, 3u);
  EXPECT_THAT(Taken(), ElementsAre("lives"));
  EXPECT_THAT(Taken(), ElementsAre("later"));
  EXPECT_EQ(Default().expired, 2u);
  // One that waits for them gets what lives, and what expired is not an end.
  PublishUntil("gone", now);
  EXPECT_THAT(Taken(milliseconds(500)), IsEmpty());
  EXPECT_EQ(Default().expired, 3u);
  EXPECT_EQ(Default().waiting, 0u);
}

TEST_F(ExpiryTest, TheyAreDeadLetters) {
  SetTtl(5'000);
  SetDefault({.dead_letter = {.group = 77, .queue = "dead"}});
  PublishEach({"a", "b", "c"});
  auto consumer = Attach("s", {}, 1);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  w_.world.Run(milliseconds(6'000));
  EXPECT_EQ(Default().expired, 2u);
  EXPECT_EQ(Default().leaving, 2u);
  EXPECT_EQ(consumer->messages(), 1u);
  const auto& runs = w_.Serving()->machine().subscription(0).departures.runs();
  EXPECT_EQ(runs.begin()->second.reason, queue::DeadReason::kExpired);
  EXPECT_EQ(runs.begin()->second.target, 77u);
}

TEST_F(ExpiryTest, ALongerTimeToLiveKeepsWhatWaits) {
  SetTtl(5'000);
  PublishEach({"a"});
  w_.world.Run(milliseconds(3'000));
  SetTtl(60'000);
  w_.world.Run(milliseconds(6'000));
  EXPECT_EQ(Default().expired, 0u);
  SetTtl(1'000);
  w_.world.Run(milliseconds(500));
  EXPECT_EQ(Default().expired, 1u);
}

}  // namespace
}  // namespace trireme::broker::testing
