// One consumer at a time: who it is, and that nobody else gets anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/queue/leader.h"
#include "tests/queue/model.h"

namespace trireme::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr Credit kMuch{100, 1 << 20};

class SingleActiveTest : public ::testing::Test {
 protected:
  SingleActiveTest() { log_.Apply(FactsEntry({fact::VersionRaised{5}, Set(true)})); }
  static Fact Set(bool single) { return fact::SubscriptionChanged{0, {.single_active = single}}; }
  const Subscription& state() const { return log_.machine.subscription(0); }

  Log log_;
};

// Whom the deliveries went to, one for each.
std::vector<std::string> ReceiversOf(const std::vector<Dispatcher::Delivery>& deliveries) {
  std::vector<std::string> all;
  for (const auto& d : deliveries) all.push_back(d.session);
  return all;
}

TEST_F(SingleActiveTest, TheOldestSessionGetsAllAndTheNextInLineTakesOver) {
  Leader leader(&log_);
  for (const char* session : {"z", "b", "c"}) leader.Attach(session, kMuch);
  leader.Publish(1);
  leader.Publish(1);
  const auto first = leader.Turn();
  EXPECT_THAT(ReceiversOf(first), ElementsAre("z"));
  // What it gives back comes to it again, and goes to nobody else.
  const auto again = leader.Turn({Settle(TokensOf(first), Disposition::kRequeue)});
  EXPECT_THAT(ReceiversOf(leader.Turn()), ElementsAre("z"));
  EXPECT_THAT(again, IsEmpty());
  leader.dispatcher.End("z");
  EXPECT_THAT(ReceiversOf(leader.Turn()), IsEmpty());  // its end is not known to all yet
  const auto taken = leader.Turn();
  EXPECT_THAT(ReceiversOf(taken), ElementsAre("b"));
  EXPECT_THAT(SlotsOf(taken), SizeIs(2));
  // One that comes back is the last in line.
  leader.Attach("z", kMuch);
  leader.dispatcher.End("b");
  leader.Turn();
  EXPECT_THAT(ReceiversOf(leader.Turn()), ElementsAre("c"));
}

// It has its whole timeout to come back, under the same leader and under the next.
TEST_F(SingleActiveTest, ASilentOneStaysUntilItsTimeoutIsOver) {
  uint64_t batch;
  {
    Leader leader(&log_);
    leader.Attach("a", {1, 1 << 20}, 1'000);
    leader.Attach("b", kMuch, 5'000);
    batch = leader.Publish(3);
    EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(batch, 0), 1}));
    leader.dispatcher.Disconnect("a", 0);
    leader.now = 999;
    EXPECT_THAT(leader.Turn(), IsEmpty());
  }
  Leader leader(&log_);
  leader.Attach("b", kMuch, 5'000);
  EXPECT_THAT(leader.Turn(), IsEmpty());
  leader.Attach("a", {2, 1 << 20}, 1'000);
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(batch, 1), 1}));
  leader.dispatcher.Disconnect("a", 0);
  leader.now = 1'000;
  leader.Turn();
  const auto taken = leader.Turn();
  EXPECT_THAT(ReceiversOf(taken), ElementsAre("b"));
  EXPECT_THAT(SlotsOf(taken),
              ElementsAre(Slots{Position(batch, 0), 1}, Slots{Position(batch, 1), 1}, Slots{Position(batch, 2), 1}));
}

// A standby that is gone is not waited for when its turn comes and another is there.
TEST_F(SingleActiveTest, ADeadStandbyIsPassedBy) {
  Leader leader(&log_);
  for (const char* session : {"a", "b", "c"}) leader.Attach(session, kMuch, 3'600'000);
  leader.dispatcher.Disconnect("b", 0);
  leader.dispatcher.End("a");
  leader.Publish(1);
  for (int i = 0; i < 2; ++i) EXPECT_THAT(leader.Turn(), IsEmpty());
  EXPECT_THAT(ReceiversOf(leader.Turn()), ElementsAre("c"));
  EXPECT_THAT(state().sessions, SizeIs(1));
}

// Alone, it keeps its session: there is nobody who would take over.
TEST_F(SingleActiveTest, ADeadStandbyIsKeptWhileNobodyElseIsThere) {
  Leader leader(&log_);
  for (const char* session : {"a", "b"}) leader.Attach(session, kMuch, 3'600'000);
  leader.dispatcher.Disconnect("b", 0);
  leader.dispatcher.End("a");
  for (int i = 0; i < 3; ++i) leader.Turn();
  EXPECT_TRUE(state().sessions.contains("b"));
}

// Leases of before the setting, and of single receives, end first.
TEST_F(SingleActiveTest, NothingIsGivenWhileAnyoneElseHoldsALease) {
  log_.Apply(FactsEntry({Set(false)}));
  Leader leader(&log_);
  leader.Attach("a", {1, 1 << 20});
  leader.Attach("b", {1, 1 << 20});
  leader.Publish(1);
  leader.dispatcher.Receive(7, 1, 1'000, 50);
  const auto received = leader.Turn();
  leader.Publish(2);
  const auto given = leader.Turn();
  ASSERT_THAT(ReceiversOf(given), SizeIs(2));
  leader.Turn({Set(true)});
  leader.Attach("a", kMuch);
  leader.Publish(1);
  EXPECT_THAT(leader.Turn(), IsEmpty());
  leader.Turn({Settle(TokensOf(given))});
  EXPECT_THAT(leader.Turn(), IsEmpty()) << "the receive's lease is held";
  leader.dispatcher.Receive(8, 1, 1'000, 50);
  EXPECT_THAT(leader.Turn(), IsEmpty()) << "receives are given nothing";
  leader.now = 50;
  leader.Turn();
  EXPECT_THAT(ReceiversOf(leader.Turn()), ElementsAre("a"));
}

// Whatever a leader decides: apply holds to it (Safety rule 2).
TEST_F(SingleActiveTest, ACheckoutForAnotherOneIsRefused) {
  log_.Apply(FactsEntry({fact::Attached{0, "a", 1, "", 1'000}, fact::Attached{0, "b", 1, "", 1'000}}));
  log_.Publish(2);
  const Position batch(log_.last(), 0);
  const Position next = state().next;
  auto give = [&](const SessionId& session) {
    return log_
        .Apply<effect::CheckedOut>(fact::CheckedOut{.subscription = 0,
                                                    .session = session,
                                                    .session_epoch = session.empty() ? 0u : 1u,
                                                    .deadline_ms = 0,
                                                    .from_next = next,
                                                    .to_next = batch + 1,
                                                    .waiting = {{batch, 1}},
                                                    .returned = {},
                                                    .skipped = 0,
                                                    .counted_at = 0})
        .accepted;
  };
  EXPECT_FALSE(give("b"));
  EXPECT_FALSE(give(""));
  EXPECT_TRUE(give("a"));
}

// The model's eyes: it must see a machine that lets a second one have something.
TEST_F(SingleActiveTest, TheModelFindsASecondHolder) {
  Model model;
  auto apply = [&](uint64_t index, std::vector<Fact> facts, std::vector<Effect> effects) {
    return model.Apply(index, facts, {.facts = std::move(effects), .returned = {}, .rows = {}}, 0);
  };
  EXPECT_FALSE(apply(1, {Set(true)}, {effect::SubscriptionChanged{true}}));
  EXPECT_FALSE(apply(2, {fact::Attached{0, "a", 1, "", 1}, fact::Attached{0, "b", 1, "", 1}},
                     {effect::Attached{true, false, 1, 1}, effect::Attached{true, false, 2, 1}}));
  EXPECT_FALSE(apply(3, {fact::Published{"", 0, 0, 2, {0, 0}}}, {effect::Published{.count = 2, .pieces = {}}}));
  fact::CheckedOut out{.subscription = 0,
                       .session = "b",
                       .session_epoch = 1,
                       .deadline_ms = 0,
                       .from_next = Position(),
                       .to_next = Position(3, 1),
                       .waiting = {{Position(3, 0), 1}},
                       .returned = {},
                       .skipped = 0,
                       .counted_at = 0};
  const effect::CheckedOut given{true, {{{Position(3, 0), 1}, 1}}};
  EXPECT_EQ(apply(4, {out}, {given}).value_or(""),
            "fact 0 of kind 5: given to 'b', which is not the single active consumer");
}

}  // namespace
}  // namespace trireme::queue
