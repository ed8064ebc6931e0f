#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/queue/leader.h"

namespace trireme::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(DispatcherTest, ABatchAndItsCheckoutGoInOneAppend) {
  Log log;
  Leader leader(&log);
  leader.Attach("a", {10, 1 << 20});
  const uint64_t batch = leader.Publish(3);
  EXPECT_EQ(leader.Decide().size(), 1u);  // before the batch is applied
  auto deliveries = leader.ApplyAll();
  EXPECT_THAT(SlotsOf(deliveries), ElementsAre(Slots{Position(batch, 0), 3}));
  EXPECT_EQ(deliveries[0].session, "a");
  EXPECT_EQ(deliveries[0].runs[0].deliveries, 1u);
}

// A queue whose messages are all settled holds no entry: a new leader must find its way without reading any of them.
TEST(DispatcherTest, ANewLeaderOfASettledQueueReadsNothingThatMayBeGone) {
  Log log;
  {
    Leader leader(&log);
    leader.Attach("a", {10, 1 << 20});
    leader.Publish(3);
    leader.Turn({Settle(TokensOf(leader.Turn()))});
    for (int i = 0; i < 20; ++i) leader.Turn({fact::ProducerOpened{"p", static_cast<uint64_t>(i + 1)}});
  }
  auto live = log.machine.Live();
  EXPECT_EQ(live.floor, log.last());
  EXPECT_THAT(live.live, IsEmpty());

  Leader leader(&log);
  leader.lowest = live.floor;
  leader.Attach("a", {10, 1 << 20});
  const uint64_t batch = leader.Publish(2);
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(batch, 0), 2}));
}

// The same within one term, when the window of known entries was full of facts while they were compacted away.
TEST(DispatcherTest, EntriesWithoutMessagesDoNotFillTheWindow) {
  Log log;
  Leader leader(&log, {.read_ahead = 8});
  for (int i = 0; i < 40; ++i) leader.Turn({fact::ProducerOpened{"p", static_cast<uint64_t>(i + 1)}});
  leader.lowest = log.machine.Live().floor;
  EXPECT_EQ(leader.lowest, log.last());
  leader.Attach("a", {10, 1 << 20});
  const uint64_t batch = leader.Publish(2);
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(batch, 0), 2}));
}

// What came back goes first, in the order of positions, whoever gave it back and when; then what waits.
TEST(DispatcherTest, ReturnedMessagesGoOutInOrderAheadOfWhatWaits) {
  Log log;
  Leader leader(&log);
  leader.Attach("a", {10, 1 << 20});
  const uint64_t first = leader.Publish(3), second = leader.Publish(2);
  std::vector<Token> held = TokensOf(leader.Turn());
  ASSERT_THAT(held, SizeIs(2));
  const uint64_t checkout = held[0].checkout_index;
  const uint64_t third = leader.Publish(1);
  leader.ApplyAll();
  // The last ones first.
  leader.dispatcher.Disconnect("a", leader.now);
  leader.Turn({Settle({{{Position(second, 1), 1}, checkout}}, Disposition::kRequeue)});
  leader.Turn(
      {Settle({{{Position(first, 2), 1}, checkout}, {{Position(first, 0), 1}, checkout}}, Disposition::kRequeue)});
  leader.Attach("b", {10, 1 << 20});
  const auto deliveries = leader.Turn();
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_THAT(SlotsOf(deliveries), ElementsAre(Slots{Position(first, 0), 1}, Slots{Position(first, 2), 1},
                                               Slots{Position(second, 1), 1}, Slots{Position(third, 0), 1}));
}

// The same over several consumers, each with room for one: nothing that waits overtakes what came back.
TEST(DispatcherTest, NothingThatWaitsOvertakesWhatCameBack) {
  Log log;
  Leader leader(&log);
  leader.Attach("a", {3, 1 << 20});
  const uint64_t first = leader.Publish(2);
  const std::vector<Token> held = TokensOf(leader.Turn());
  leader.dispatcher.Disconnect("a", leader.now);
  leader.Publish(5);
  leader.Turn({Settle(held, Disposition::kRequeue)});
  for (const char* session : {"b", "c", "d"}) leader.dispatcher.Disconnect(session, leader.now);
  leader.Attach("b", {1, 1 << 20});
  leader.Attach("c", {1, 1 << 20});
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(first, 1), 1}));
  leader.Attach("d", {1, 1 << 20});
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(first + 2, 0), 1}));
}

// One that does not fit what a consumer may still hold waits for room, and all that is behind it with it; a consumer
// with room gets it.
TEST(DispatcherTest, AReturnedMessageThatDoesNotFitIsNotPassedOver) {
  Log log;
  Leader leader(&log);
  leader.Attach("a", {10, 100'000});
  const uint64_t small = leader.Publish(1);
  const uint64_t large = leader.Publish(1, std::string(50'000, 'x'));
  const std::vector<Token> held = TokensOf(leader.Turn());
  ASSERT_THAT(held, SizeIs(2));
  leader.dispatcher.Disconnect("a", leader.now);
  leader.Turn({Settle(held, Disposition::kRequeue)});
  const uint64_t waiting = leader.Publish(1);
  leader.ApplyAll();
  leader.Attach("b", {10, 40'000});
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(small, 0), 1}));
  EXPECT_THAT(SlotsOf(leader.Turn()), IsEmpty());
  leader.Attach("c", {10, 100'000});
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(large, 0), 1}, Slots{Position(waiting, 0), 1}));
}

// A new leader has not seen the sizes of what came back under an earlier one. It reads them, rather than take each for
// as large as a message can be, so that a consumer is given what it has room for.
TEST(DispatcherTest, AfterAFailoverReturnedMessagesCountAsWhatTheyAre) {
  Log log;
  constexpr int kMessages = 500;
  {
    Leader leader(&log);
    leader.Attach("a", {kMessages, 16 << 20});
    for (int i = 0; i < kMessages; ++i) leader.Publish(1, std::string(1'000, 'x'));
    leader.Turn({Settle(TokensOf(leader.Turn()), Disposition::kRequeue)});
  }
  Leader leader(&log);
  leader.lowest = log.machine.Live().floor;
  leader.Attach("a", {kMessages, 300'000});
  size_t got = 0;
  for (const Slots& slots : SlotsOf(leader.Turn())) got += slots.count;
  EXPECT_GT(got, 290u);
  EXPECT_LT(got, 300u);
}

// Producers beyond those that a queue remembers are forgotten as fast as entries of a bounded size allow, not a
// thousand a minute.
TEST(DispatcherTest, ManyIdleProducersAreForgottenSoon) {
  Log log;
  std::vector<Fact> opened;
  for (int i = 0; i < 5'000; ++i) opened.emplace_back(fact::ProducerOpened{"p" + std::to_string(i), 1});
  log.Apply(FactsEntry(opened, 0));
  Leader leader(&log, {.max_producers = 10});
  leader.now = 59'000;
  leader.Turn();
  EXPECT_THAT(log.machine.producers(), SizeIs(5'000));  // not idle for a minute
  int turns = 0;
  leader.now = 120'000;
  while (true) {
    EXPECT_LE(leader.Decide().size(), 1'000u);
    leader.ApplyAll();
    if (log.machine.producers().size() <= 10 || ++turns == 100) break;
    leader.now = *leader.dispatchers.NextWake(leader.now, leader.now);
  }
  EXPECT_THAT(log.machine.producers(), SizeIs(10));
  EXPECT_LE(leader.now, 130'000);
  EXPECT_THAT(leader.Decide(), IsEmpty());
}

// A single receive is not told that there is nothing before the sizes are known.
TEST(DispatcherTest, AReceiveWaitsForTheSizesOfWhatCameBack) {
  Log log;
  {
    Leader leader(&log);
    leader.Attach("a", {10, 1 << 20});
    leader.Publish(1);
    leader.Turn({Settle(TokensOf(leader.Turn()), Disposition::kRequeue)});
    leader.dispatcher.Disconnect("a", 0);
  }
  Dispatcher dispatcher(&log.machine, 0, log.last(), 0, {.max_exceptions = 1});
  EXPECT_TRUE(dispatcher.capped());
  dispatcher.Receive(7, 1, 0, 1'000);
  auto plan = DecideAlone(dispatcher);
  EXPECT_THAT(plan.empty_handed, IsEmpty());
  EXPECT_THAT(plan.facts, IsEmpty());
  auto wanted = dispatcher.Wanted();
  ASSERT_TRUE(wanted.has_value());
  dispatcher.Shapes(wanted->first, {ShapeOf(log.at(wanted->first))});
  EXPECT_THAT(DecideAlone(dispatcher).facts, SizeIs(1));
}

// Not all that waits is looked up: for a stream so many bytes ahead, for a single receive what it wants.
TEST(DispatcherTest, NoMoreIsLookedUpThanWillBeNeeded) {
  Log log;
  {
    Leader leader(&log);
    leader.Attach("a", {10, 1 << 20});
    for (int i = 0; i < 100; ++i) leader.Publish(1, std::string(100'000, 'x'));
    leader.ApplyAll();
  }
  Dispatcher dispatcher(&log.machine, 0, log.last(), 0, {.read_ahead_bytes = 1'000'000});
  uint32_t known = 0;
  auto look_up = [&] {
    while (auto wanted = dispatcher.Wanted()) {
      const EntryShape shape = ShapeOf(log.at(wanted->first));
      dispatcher.Shapes(wanted->first, {shape});
      known += shape.messages;
    }
    return known;
  };
  EXPECT_EQ(look_up(), 0u);  // nobody is there
  dispatcher.Receive(7, 1, 100, 1'000);
  EXPECT_EQ(look_up(), 1u);
  dispatcher.Receive(8, 5, 100, 1'000);
  EXPECT_EQ(look_up(), 6u);
  dispatcher.Connect("a", {10, 1 << 20});
  EXPECT_EQ(look_up(), 10u);
  // What is given makes room for as much.
  EXPECT_THAT(DecideAlone(dispatcher).facts, ::testing::Not(IsEmpty()));
  EXPECT_GT(look_up(), 15u);
  EXPECT_LT(look_up(), 40u);
}

// What two want of the few that may be in flight is shared, too.
TEST(DispatcherTest, WhatMayBeInFlightIsSharedEvenly) {
  Log log;
  Leader leader(&log);
  leader.Turn({fact::VersionRaised{kFactVersion}, fact::SubscriptionChanged{0, {.max_in_flight = 5}}});
  leader.Attach("a", {100, 1 << 20});
  leader.Attach("b", {100, 1 << 20});
  leader.Publish(50);
  leader.Turn();
  const Subscription& s = log.machine.subscription(0);
  EXPECT_EQ(s.in_flight_messages, 5u);
  EXPECT_GE(s.HeldBy(1), 2u);
  EXPECT_GE(s.HeldBy(2), 2u);
}

// Safety rule 2: a checkout that was decided before the setting and stands behind it is ignored, and decided anew.
TEST(DispatcherTest, WhatMayBeInFlightHoldsFromItsPlaceInTheLogOn) {
  Log log;
  Leader leader(&log);
  leader.Turn({fact::VersionRaised{kFactVersion}});
  leader.Attach("a", {100, 1 << 20});
  leader.Publish(3);
  const auto held = leader.Turn();
  leader.Publish(10);
  leader.Decide({Settle(TokensOf(held), Disposition::kRequeue), fact::SubscriptionChanged{0, {.max_in_flight = 4}}});
  leader.ApplyAll();
  EXPECT_LE(log.machine.subscription(0).in_flight_messages, 4u);
  for (int i = 0; i < 3; ++i) leader.Turn();
  EXPECT_EQ(log.machine.subscription(0).in_flight_messages, 4u);
}

// A decision that came behind the facts' next version is ignored; who waited for it still wants what he asked for.
TEST(DispatcherTest, ARefusedReceiverKeepsWhatItAskedFor) {
  Log log;
  Leader leader(&log);
  leader.Publish(3);
  leader.dispatcher.Receive(7, 3, /*until=*/1'000, /*lease_ms=*/60'000);
  leader.Decide({fact::VersionRaised{kFactVersion}});
  EXPECT_THAT(leader.ApplyAll(), IsEmpty());
  EXPECT_TRUE(leader.dispatcher.Waits(7));
  leader.Turn();  // begins anew, and looks at what is there
  const auto deliveries = leader.Turn();
  ASSERT_THAT(deliveries, SizeIs(1));
  EXPECT_EQ(deliveries[0].receiver, 7u);
  EXPECT_EQ(deliveries[0].runs[0].slots.count, 3u);
  EXPECT_EQ(log.machine.subscription(0).in_flight.begin()->second.deadline_ms, 60'000);
  EXPECT_THAT(leader.empty_handed, IsEmpty());
}

}  // namespace
}  // namespace trireme::queue
