// What leaves a queue for another one: it arrives there once, whichever leader dies and whatever answer is lost (Safety
// rule 20).
#include "broker/replica/moving.h"

#include <gmock/gmock.h>

#include <deque>

#include "broker/message/dead_letter.h"
#include "broker/message/message.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The other queues, as a queue's leader sees them: they take each sequence of a producer once.
struct OtherQueues {
  struct Waiting {
    Carrier::Load load;
    Carrier::Done done;
  };
  std::deque<Waiting> waiting;  // carried, and not stored yet
  // By target and sequence.
  std::map<uint64_t, std::map<uint64_t, std::string>> stored;
  uint64_t duplicates = 0;
  std::set<uint64_t> gone;

  // The first that was carried is stored now, or was. Answered unless `lost`.
  void Store(bool lost = false) {
    Waiting next = std::move(waiting.front());
    waiting.pop_front();
    if (gone.contains(next.load.target.value())) {
      if (!lost) next.done(Carrier::Outcome::kGone, "it was deleted");
      return;
    }
    auto& target = stored[next.load.target.value()];
    uint64_t sequence = next.load.first_sequence;
    uint32_t count = 0;
    for (queue::BatchWalker walker(next.load.batch.view()); walker.Next(); ++count, ++sequence)
      duplicates += target.emplace(sequence, walker.message()).second ? 0 : 1;
    EXPECT_EQ(count, next.load.count);
    EXPECT_EQ(next.load.producer, "$dead/1/0");
    if (!lost) next.done(Carrier::Outcome::kStored, "");
  }
  void Refuse() {
    Waiting next = std::move(waiting.front());
    waiting.pop_front();
    next.done(Carrier::Outcome::kUnknown, "it is full");
  }
};

class FakeCarrier final : public Carrier {
 public:
  explicit FakeCarrier(OtherQueues* others) : others_(others) {}
  void Carry(Load load, Done done) override {
    // A destroyed carrier calls nobody.
    others_->waiting.push_back({std::move(load), [done = std::move(done), alive = std::weak_ptr<bool>(alive_)](
                                                     Outcome o, std::string r) mutable {
                                  if (!alive.expired()) done(o, std::move(r));
                                }});
  }

 private:
  OtherQueues* const others_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class MovingTest : public QueueTest {
 protected:
  MovingTest() {
    w_.limits.make_carrier = [this] { return std::make_unique<FakeCarrier>(&others_); };
  }
  void SetTarget(uint64_t group, uint32_t delivery_limit = 0) {
    std::optional<absl::Status> set;
    w_.Serving()->ChangeSubscription(
        "default",
        {.delivery_limit = delivery_limit, .dead_letter = {.group = group, .queue = "dead", .routing_key = "from-q"}},
        [&](absl::StatusOr<SubscriptionMade> made) { set = made.status(); });
    ASSERT_TRUE(w_.world.RunUntil([&] { return set.has_value(); }));
    ASSERT_TRUE(set->ok()) << *set;
  }
  void Reject(const std::vector<DeliveredRun>& runs) {
    std::vector<queue::Token> tokens;
    for (const DeliveredRun& run : runs) tokens.push_back(TokenOf(run));
    bool done = false;
    w_.Serving()->SettleTokens(0, queue::Disposition::kReject, tokens, [&](absl::StatusOr<std::vector<bool>> settled) {
      ASSERT_TRUE(settled.ok()) << settled.status();
      done = true;
    });
    ASSERT_TRUE(w_.world.RunUntil([&] { return done; }));
  }
  void AwaitLoad() {
    ASSERT_TRUE(w_.world.RunUntil([&] { return !others_.waiting.empty(); }));
  }
  SubscriptionFigures Figures() { return Describe().subscriptions.front(); }
  std::vector<std::string> BodiesIn(uint64_t target) {
    std::vector<std::string> bodies;
    for (const auto& [sequence, message] : others_.stored[target]) {
      message::WalkFields(message, [&](const message::Field& field) {
        if (field.number == message::kBody) bodies.emplace_back(field.contents);
        return true;
      });
    }
    return bodies;
  }

  OtherQueues others_;
};

TEST_F(MovingTest, WhatIsRejectedOrComesBackTooOftenIsThereOnceWithItsStory) {
  SetTarget(70, /*delivery_limit=*/1);
  PublishEach({"a", "b", "c"});
  auto got = Receive(3, milliseconds(0), milliseconds(2'000));
  Reject({got[1]});
  ASSERT_NO_FATAL_FAILURE(AwaitLoad());
  EXPECT_EQ(Figures().leaving, 1u);
  others_.Store();
  // The leases of the others end.
  ASSERT_TRUE(w_.world.RunUntil([&] { return Figures().dead == 2; }, milliseconds(5'000)));
  ASSERT_NO_FATAL_FAILURE(AwaitLoad());
  others_.Store();
  ASSERT_TRUE(w_.world.RunUntil([&] { return Figures().arrived == 3; }));
  EXPECT_THAT(BodiesIn(70), ElementsAre("b", "a", "c"));
  EXPECT_EQ(Figures().leaving, 0u);
  const std::string& b = others_.stored[70][1];
  EXPECT_EQ(message::DeadLetterQueue(b), "q");
  EXPECT_EQ(message::DeadLetterHops(b), 1u);
  EXPECT_EQ(message::RoutingKey(b), "from-q");
  std::map<std::string, message::OwnedValue> headers;
  message::WalkHeaders(b, [&](std::string_view name, const message::Value& value) {
    headers.emplace(name, message::OwnedValue(value));
  });
  EXPECT_EQ(std::get<std::string_view>(headers.at("trireme-dead-subscription").view()), "default");
  EXPECT_EQ(std::get<std::string_view>(headers.at("trireme-dead-reason").view()), "rejected");
  EXPECT_EQ(std::get<int64_t>(headers.at("trireme-dead-deliveries").view()), 1);
  EXPECT_EQ(std::get<int64_t>(headers.at("trireme-dead-position").view()),
            static_cast<int64_t>(got[1].slots.first.packed()));
  EXPECT_EQ(others_.duplicates, 0u);
}

TEST_F(MovingTest, ALostAnswerAndADeadLeaderStoreNothingTwice) {
  SetTarget(70);
  std::vector<std::string> bodies;
  for (int i = 0; i < 20; ++i) bodies.push_back(std::to_string(i));
  PublishEach(bodies);
  auto got = Receive(20, milliseconds(0), milliseconds(600'000));
  Reject({got.begin(), got.begin() + 10});
  ASSERT_NO_FATAL_FAILURE(AwaitLoad());
  others_.Store(/*lost=*/true);
  // The next leader does not know, and sends them again.
  FailOver();
  ASSERT_NO_FATAL_FAILURE(AwaitLoad());
  Reject({got.begin() + 10, got.end()});
  while (Figures().arrived < 20) {
    ASSERT_NO_FATAL_FAILURE(AwaitLoad());
    others_.Store();
    w_.world.Run(milliseconds(200));
  }
  EXPECT_GE(others_.duplicates, 10u);
  EXPECT_EQ(BodiesIn(70), bodies);
  EXPECT_EQ(Figures().rejected, 20u);
  EXPECT_EQ(Figures().leaving, 0u);
}

TEST_F(MovingTest, AFullTargetIsTriedAgainAndADeletedOneWaitsForAnother) {
  SetTarget(70);
  PublishEach({"a", "b"});
  Reject(Receive(2, milliseconds(0), milliseconds(600'000)));
  ASSERT_NO_FATAL_FAILURE(AwaitLoad());
  others_.Refuse();
  ASSERT_TRUE(w_.world.RunUntil([&] { return Figures().trouble == "it is full"; }));
  ASSERT_NO_FATAL_FAILURE(AwaitLoad());
  others_.gone.insert(70);
  others_.Store();
  w_.world.Run(milliseconds(1'000));
  EXPECT_THAT(Figures().trouble, HasSubstr("was deleted"));
  EXPECT_EQ(Figures().leaving, 2u);
  SetTarget(71);
  while (Figures().arrived < 2) {
    ASSERT_NO_FATAL_FAILURE(AwaitLoad());
    others_.Store();
    w_.world.Run(milliseconds(200));
  }
  EXPECT_THAT(BodiesIn(71), ElementsAre("a", "b"));
  EXPECT_THAT(BodiesIn(70), IsEmpty());
  EXPECT_EQ(Figures().trouble, "");
}

TEST_F(MovingTest, ARedrivenMessageIsAsItWas) {
  PublishEach({"a"});
  auto got = Receive(1, milliseconds(0), milliseconds(600'000));
  std::optional<std::vector<bool>> done;
  w_.Serving()->RedriveTokens(0, raft::GroupId(72), {TokenOf(got[0]), TokenOf(got[0])},
                              [&](absl::StatusOr<std::vector<bool>> redriven) { done = *std::move(redriven); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return done.has_value(); }));
  EXPECT_THAT(*done, ElementsAre(true, false));
  ASSERT_NO_FATAL_FAILURE(AwaitLoad());
  others_.Store();
  ASSERT_TRUE(w_.world.RunUntil([&] { return Figures().arrived == 1; }));
  EXPECT_EQ(Figures().redriven, 1u);
  queue::BatchWalker walker(got[0].batch.view());
  ASSERT_TRUE(walker.Next());
  EXPECT_EQ(others_.stored[72][1], walker.message());
}

// A large one goes alone, and one load is bounded.
TEST_F(MovingTest, LoadsAreBoundedAndInOrder) {
  SetTarget(70);
  std::vector<std::string> bodies;
  for (int i = 0; i < 6; ++i) bodies.push_back(std::string(150'000, static_cast<char>('a' + i)));
  PublishEach(bodies);
  Reject(Receive(6, milliseconds(0), milliseconds(600'000)));
  size_t loads = 0;
  while (Figures().arrived < 6) {
    ASSERT_NO_FATAL_FAILURE(AwaitLoad());
    EXPECT_LE(others_.waiting.front().load.batch.size(), size_t{256} << 10);
    ++loads;
    others_.Store();
    w_.world.Run(milliseconds(200));
  }
  EXPECT_EQ(loads, 6u);
  EXPECT_EQ(BodiesIn(70), bodies);
}

}  // namespace
}  // namespace trireme::broker::testing
