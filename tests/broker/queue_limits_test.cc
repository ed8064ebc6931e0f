// A queue's limits, on three simulated nodes: exact, whoever leads.
#include <gmock/gmock.h>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = PublishOutcome::Kind;
using By = Refusal::By;

class QueueLimitsTest : public QueueTest {
 protected:
  absl::Status Set(const queue::QueueSettings& settings) {
    std::optional<absl::Status> set;
    w_.Serving()->ChangeQueue(settings, [&](absl::Status status) { set = std::move(status); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return set.has_value(); }));
    return set.value_or(absl::InternalError("no answer"));
  }
  absl::Status SetSubscription(const std::string& name, queue::SubscriptionSettings settings) {
    std::optional<absl::Status> set;
    w_.Serving()->ChangeSubscription(name, std::move(settings),
                                     [&](absl::StatusOr<SubscriptionMade> made) { set = made.status(); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return set.has_value(); }));
    return set.value_or(absl::InternalError("no answer"));
  }
  // What became of a batch, once all of it is answered.
  std::vector<PublishOutcome> Batch(const std::string& producer, uint64_t epoch, uint64_t first,
                                    const std::vector<std::string>& bodies) {
    auto sink = std::make_shared<NotingPublishSink>();
    Publish(sink, producer, epoch, first, bodies);
    auto answered = [&] {
      uint64_t messages = 0;
      for (const PublishOutcome& outcome : sink->outcomes) messages += outcome.count;
      return messages == bodies.size();
    };
    EXPECT_TRUE(w_.world.RunUntil(answered));
    return sink->outcomes;
  }
  void Settle(const std::vector<DeliveredRun>& runs, queue::Disposition how, queue::SubscriptionId subscription = 0) {
    std::vector<queue::Token> tokens;
    for (const DeliveredRun& run : runs) tokens.push_back(TokenOf(run));
    bool done = false;
    w_.Serving()->SettleTokens(subscription, how, tokens, [&](const auto&) { done = true; });
    EXPECT_TRUE(w_.world.RunUntil([&] { return done; }));
  }
  uint64_t Held() { return Describe().held.value_or(queue::Amount{777, 777}).messages; }
};

std::vector<std::string> Bodies(size_t n, const std::string& body = "x") {
  return std::vector<std::string>(n, body);
}

TEST_F(QueueLimitsTest, SoManyStayAndTheNextOneIsRefused) {
  ASSERT_TRUE(Set({.max_messages = 5}).ok());
  const uint64_t epoch = Open("p");
  ASSERT_EQ(Batch("p", epoch, 1, Bodies(3)).size(), 1u);
  // Of a batch what fits is stored, its beginning; the rest is refused, with the limit.
  auto outcomes = Batch("p", epoch, 4, Bodies(4));
  ASSERT_EQ(outcomes.size(), 2u);
  std::sort(outcomes.begin(), outcomes.end(),
            [](const auto& a, const auto& b) { return a.first_sequence < b.first_sequence; });
  EXPECT_EQ(outcomes[0].kind, Kind::kOk);
  EXPECT_EQ(outcomes[0].count, 2u);
  EXPECT_EQ(outcomes[1].kind, Kind::kRefused);
  EXPECT_EQ(outcomes[1].first_sequence, 6u);
  EXPECT_EQ(outcomes[1].refusal.by, By::kQueueMessages);
  EXPECT_EQ(outcomes[1].refusal.limit, 5u);
  EXPECT_EQ(outcomes[1].code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(outcomes[1].reason, HasSubstr("its limit is 5 messages"));
  EXPECT_EQ(Held(), 5u);
  EXPECT_EQ(Describe().refused, 2u);

  // Without a name nobody could be told of a part: all or nothing.
  EXPECT_EQ(Batch("", 0, 1, {"a"})[0].kind, Kind::kRefused);

  // What is in flight or returned counts; what is settled does not.
  auto some = Receive(2, milliseconds(0), milliseconds(60'000));
  EXPECT_EQ(Batch("", 0, 1, {"a"})[0].kind, Kind::kRefused);
  Settle(some, queue::Disposition::kRequeue);
  EXPECT_EQ(Batch("", 0, 1, {"a"})[0].kind, Kind::kRefused);
  Settle(Receive(2, milliseconds(0), milliseconds(60'000)), queue::Disposition::kAcknowledge);
  EXPECT_EQ(Batch("", 0, 1, {"a", "b", "c"})[0].kind, Kind::kRefused);
  EXPECT_EQ(Batch("", 0, 1, {"a", "b"})[0].kind, Kind::kOk);
  EXPECT_EQ(Batch("", 0, 1, {"a"})[0].kind, Kind::kRefused);
  // What was refused can be sent again.
  Settle(Receive(2, milliseconds(0), milliseconds(60'000)), queue::Disposition::kAcknowledge);
  EXPECT_EQ(Batch("p", epoch, 6, Bodies(2))[0].kind, Kind::kOk);
  EXPECT_EQ(Held(), 5u);
}

// Safety rule 2: what is appended and not applied counts.
TEST_F(QueueLimitsTest, WhatComesAtOnceIsJudgedTogether) {
  ASSERT_TRUE(Set({.max_messages = 7}).ok());
  auto sink = std::make_shared<NotingPublishSink>();
  for (int i = 0; i < 20; ++i) Publish(sink, "", 0, 1, {"x"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 20; }));
  const auto stored = std::count_if(sink->outcomes.begin(), sink->outcomes.end(),
                                    [](const PublishOutcome& o) { return o.kind == Kind::kOk; });
  EXPECT_EQ(stored, 7);
  EXPECT_EQ(Held(), 7u);
}

TEST_F(QueueLimitsTest, TheyHoldOverAFailover) {
  ASSERT_TRUE(Set({.max_messages = 4, .max_bytes = 1'000'000}).ok());
  EXPECT_EQ(Batch("", 0, 1, Bodies(3))[0].kind, Kind::kOk);
  auto held = Receive(1, milliseconds(0), milliseconds(600'000));
  const uint64_t bytes = Describe().held->bytes;
  FailOver();
  EXPECT_EQ(Describe().settings.max_messages, 4u);
  EXPECT_EQ(Held(), 3u);
  EXPECT_EQ(Describe().held->bytes, bytes);
  EXPECT_EQ(Batch("", 0, 1, Bodies(2))[0].kind, Kind::kRefused);
  EXPECT_EQ(Batch("", 0, 1, Bodies(1))[0].kind, Kind::kOk);
  EXPECT_EQ(Batch("", 0, 1, Bodies(1))[0].kind, Kind::kRefused);
  Settle(held, queue::Disposition::kAcknowledge);
  EXPECT_EQ(Batch("", 0, 1, Bodies(1))[0].kind, Kind::kOk);
}

TEST_F(QueueLimitsTest, BytesAreCountedExactly) {
  const uint64_t each = queue::MessageBytes(BatchOf({std::string(100, 'x')}).size(), 1);
  ASSERT_TRUE(Set({.max_bytes = 10 * each}).ok());
  const uint64_t epoch = Open("p");
  EXPECT_EQ(Batch("p", epoch, 1, Bodies(4, std::string(100, 'x')))[0].kind, Kind::kOk);
  EXPECT_EQ(Describe().held->bytes, 4 * each);
  auto outcomes = Batch("p", epoch, 5, Bodies(9, std::string(100, 'x')));
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[0].kind, Kind::kRefused);
  EXPECT_EQ(outcomes[0].count, 3u);
  EXPECT_EQ(outcomes[0].refusal.by, By::kQueueBytes);
  EXPECT_EQ(outcomes[0].refusal.limit, 10 * each);
  EXPECT_EQ(outcomes[1].count, 6u);
  EXPECT_EQ(Describe().held->bytes, 10 * each);
  EXPECT_EQ(Batch("", 0, 1, {""})[0].kind, Kind::kRefused);
  // Of a batch one by one.
  for (int left = 9; left >= 0; --left) {
    Settle(Receive(1, milliseconds(0), milliseconds(60'000)), queue::Disposition::kAcknowledge);
    EXPECT_EQ(Describe().held->bytes, left * each);
  }
}

TEST_F(QueueLimitsTest, AMessageCountsUntilNoSubscriptionNeedsIt) {
  ASSERT_TRUE(Set({.max_messages = 3}).ok());
  std::optional<absl::StatusOr<SubscriptionMade>> made;
  w_.Serving()->CreateSubscription("audit", {}, {}, [&](auto m) { made = std::move(m); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return made.has_value(); }));
  ASSERT_TRUE(made->ok());
  EXPECT_EQ(Batch("", 0, 1, Bodies(3))[0].kind, Kind::kOk);
  auto first = Receive(3, milliseconds(0), milliseconds(600'000));
  auto other = Receive(2, milliseconds(0), milliseconds(600'000), "audit");
  EXPECT_EQ(Held(), 3u);
  Settle(first, queue::Disposition::kAcknowledge);
  EXPECT_EQ(Held(), 3u);
  EXPECT_EQ(Batch("", 0, 1, Bodies(1))[0].kind, Kind::kRefused);
  FailOver();
  EXPECT_EQ(Held(), 3u);
  Settle(other, queue::Disposition::kAcknowledge, (*made)->id);
  EXPECT_EQ(Held(), 1u);
  EXPECT_EQ(Batch("", 0, 1, Bodies(3))[0].kind, Kind::kRefused);
  EXPECT_EQ(Batch("", 0, 1, Bodies(2))[0].kind, Kind::kOk);
  bool deleted = false;
  w_.Serving()->DeleteSubscription("audit", [&](const auto&) { deleted = true; });
  ASSERT_TRUE(w_.world.RunUntil([&] { return deleted; }));
  EXPECT_EQ(Held(), 2u);
}

TEST_F(QueueLimitsTest, ALowerLimitLeavesWhatIsThere) {
  EXPECT_EQ(Describe().held, std::nullopt);
  EXPECT_EQ(Batch("", 0, 1, Bodies(5))[0].kind, Kind::kOk);
  ASSERT_TRUE(Set({.max_messages = 2}).ok());
  EXPECT_EQ(Held(), 5u);
  // What comes behind the change is judged by it, though the change is not applied yet.
  bool set = false;
  w_.Serving()->ChangeQueue({.max_messages = 6}, [&](const absl::Status& status) { set = status.ok(); });
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {"x"});
  Publish(sink, "", 0, 1, {"x"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 2; }));
  EXPECT_TRUE(set);
  EXPECT_EQ(Held(), 6u);
  ASSERT_TRUE(Set({}).ok());
  EXPECT_EQ(Batch("", 0, 1, Bodies(50))[0].kind, Kind::kOk);
}

TEST_F(QueueLimitsTest, AMessageMayBeSoLarge) {
  ASSERT_TRUE(Set({.max_message_bytes = 100}).ok());
  EXPECT_EQ(Batch("", 0, 1, {std::string(98, 'x')})[0].kind, Kind::kOk);
  const auto outcome = Batch("", 0, 1, {"x", std::string(99, 'x')})[0];
  EXPECT_EQ(outcome.kind, Kind::kRefused);
  EXPECT_EQ(outcome.refusal.by, By::kMessageSize);
  EXPECT_EQ(outcome.refusal.limit, 100u);
  EXPECT_THAT(std::string(Set({.max_message_bytes = uint64_t{1} << 40}).message()), HasSubstr("max_message_bytes is"));
  EXPECT_FALSE(Set({.max_messages = uint64_t{1} << 51}).ok());
}

TEST_F(QueueLimitsTest, TheOldestLeaveForNewOnes) {
  ASSERT_TRUE(Set({.max_messages = 4, .overflow = queue::Overflow::kDropOldest}).ok());
  PublishEach({"a", "b", "c", "d"});
  auto held = Receive(1, milliseconds(0), milliseconds(600'000));
  PublishEach({"e"});
  EXPECT_EQ(Held(), 4u);
  EXPECT_EQ(Describe().subscriptions[0].overflowed, 1u);
  // A batch takes the place of as many, a larger one of all that is not held.
  EXPECT_EQ(Batch("", 0, 1, {"f", "g"})[0].kind, Kind::kOk);
  EXPECT_EQ(Describe().subscriptions[0].overflowed, 3u);
  EXPECT_EQ(Held(), 4u);
  FailOver();
  const uint64_t epoch = Open("p");
  EXPECT_EQ(Batch("p", epoch, 1, {"h"})[0].kind, Kind::kOk);
  EXPECT_EQ(Batch("p", epoch, 1, {"h"})[0].kind, Kind::kDuplicate);
  EXPECT_EQ(Describe().subscriptions[0].overflowed, 4u);
  EXPECT_EQ(Held(), 4u);
  // Returned ones are the oldest.
  Settle(held, queue::Disposition::kRequeue);
  EXPECT_EQ(Batch("", 0, 1, {"i"})[0].kind, Kind::kOk);
  std::vector<std::string> bodies;
  auto all = Receive(100, milliseconds(0), milliseconds(600'000));
  for (const DeliveredRun& run : all) {
    for (std::string& body : BodiesOf(run.batch)) bodies.push_back(std::move(body));
  }
  EXPECT_THAT(bodies, ElementsAre("f", "g", "h", "i"));
  // All are held.
  const auto full = Batch("", 0, 1, {"j"})[0];
  EXPECT_EQ(full.kind, Kind::kRefused);
  EXPECT_EQ(full.refusal.by, By::kQueueMessages);
  Settle(all, queue::Disposition::kAcknowledge);
  const auto some = Batch("p", epoch, 2, Bodies(6));
  ASSERT_EQ(some.size(), 2u);
  EXPECT_EQ(Held(), 4u);
}

TEST_F(QueueLimitsTest, TheyLeaveByBytesAndFromEverySubscription) {
  std::optional<absl::StatusOr<SubscriptionMade>> made;
  w_.Serving()->CreateSubscription("audit", {}, {}, [&](auto m) { made = std::move(m); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return made.has_value(); }));
  const uint64_t each = queue::MessageBytes(BatchOf({"x"}).size(), 1);
  ASSERT_TRUE(Set({.max_bytes = 5 * each, .overflow = queue::Overflow::kDropOldest}).ok());
  EXPECT_EQ(Batch("", 0, 1, Bodies(3))[0].kind, Kind::kOk);
  Settle(Receive(2, milliseconds(0), milliseconds(600'000)), queue::Disposition::kAcknowledge);
  auto held = Receive(1, milliseconds(0), milliseconds(600'000), "audit");
  EXPECT_EQ(Batch("", 0, 1, Bodies(3))[0].kind, Kind::kOk);
  EXPECT_EQ(Describe().held->bytes, 5 * each);
  auto subscriptions = Describe().subscriptions;
  EXPECT_EQ(subscriptions[0].overflowed, 0u);
  EXPECT_EQ(subscriptions[1].overflowed, 1u);
  EXPECT_EQ(Batch("", 0, 1, Bodies(3))[0].kind, Kind::kOk);
  EXPECT_EQ(Describe().held->bytes, 5 * each);
  subscriptions = Describe().subscriptions;
  EXPECT_EQ(subscriptions[0].overflowed, 3u);
  EXPECT_EQ(subscriptions[1].overflowed, 4u);
}

TEST_F(QueueLimitsTest, AnOverflowThatCannotBeIsRefused) {
  EXPECT_THAT(std::string(Set({.overflow = queue::Overflow::kDropOldest}).message()), HasSubstr("with a limit"));
  EXPECT_THAT(std::string(Set({.max_messages = 3, .overflow = queue::Overflow::kDeadLetter}).message()),
              HasSubstr("has a dead-letter queue"));
  ASSERT_TRUE(SetSubscription("default", {.dead_letter = {.group = 77, .queue = "dead"}}).ok());
  ASSERT_TRUE(Set({.max_messages = 3, .overflow = queue::Overflow::kDeadLetter}).ok());
  EXPECT_EQ(Batch("", 0, 1, Bodies(3))[0].kind, Kind::kOk);
  EXPECT_EQ(Batch("", 0, 1, Bodies(2))[0].kind, Kind::kOk);
  EXPECT_EQ(Held(), 3u);
  EXPECT_EQ(Describe().subscriptions[0].leaving, 2u);
  const auto& runs = w_.Serving()->machine().subscription(0).departures.runs();
  EXPECT_EQ(runs.begin()->second.reason, queue::DeadReason::kOverflow);
}

TEST_F(QueueLimitsTest, SoManyAreInFlightOverAllConsumers) {
  ASSERT_TRUE(SetSubscription("default", {.max_in_flight = 5}).ok());
  EXPECT_EQ(Batch("", 0, 1, Bodies(20))[0].kind, Kind::kOk);
  auto a = Attach("a", {}, 100);
  auto b = Attach("b", {}, 100);
  w_.world.Run(milliseconds(500));
  EXPECT_EQ(a->messages() + b->messages(), 5u);
  EXPECT_EQ(Receive(10, milliseconds(100), milliseconds(60'000)).size(), 0u);
  // As one is settled the next one comes.
  auto& some = a->messages() > 0 ? a : b;
  Settle({some->runs.front()}, queue::Disposition::kAcknowledge);
  w_.world.Run(milliseconds(500));
  EXPECT_EQ(Describe().subscriptions[0].in_flight, 5u);
  FailOver();
  Attach("c", {}, 100);
  w_.world.Run(milliseconds(500));
  EXPECT_EQ(Describe().subscriptions[0].in_flight, 5u);
}

}  // namespace
}  // namespace trireme::broker::testing
