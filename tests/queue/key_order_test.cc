// One message of a key at a time, in order.
#include "broker/queue/key_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/queue/leader.h"
#include "tests/queue/model.h"

namespace trireme::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using State = KeyOrder::State;

constexpr Credit kMuch{100, 1 << 20};

Position At(uint64_t index) {
  return Position(index, 0);
}

TEST(KeyOrderTest, TheLowestOfAFreeKeyIsNext) {
  KeyOrder order;
  order.Put(At(1), 7, State::kHeld);
  order.Put(At(2), 7, State::kWaits);
  order.Put(At(3), 8, State::kWaits);
  order.Put(At(4), kNoKey, State::kWaits);
  EXPECT_EQ(order.Front(), At(3));
  EXPECT_EQ(order.blocked(), 1u);
  order.Move(At(3), State::kGiven);
  EXPECT_EQ(order.Front(), At(4));
  order.Remove(At(4));
  EXPECT_EQ(order.Front(), std::nullopt);
  order.Remove(At(1));
  EXPECT_EQ(order.Front(), At(2));
  // It comes back: nothing of its key overtakes it.
  order.Put(At(9), 8, State::kWaits);
  order.Move(At(3), State::kWaits);
  order.Remove(At(2));
  EXPECT_EQ(order.Front(), At(3));
  EXPECT_TRUE(order.Blocks(8));
  EXPECT_FALSE(order.Blocks(7));
}

TEST(KeyOrderTest, AKeyWaitsWithAMessageThatIsNotDue) {
  KeyOrder order;
  order.Put(At(1), 7, State::kWaits, 500);
  order.Put(At(2), 7, State::kWaits);
  EXPECT_EQ(order.Front(), std::nullopt);
  EXPECT_EQ(order.NextDue(), 500);
  const auto blocked = order.List(Position(), 10);
  ASSERT_THAT(blocked, SizeIs(1));
  EXPECT_EQ(blocked[0].by, At(1));
  EXPECT_EQ(blocked[0].due_ms, 500);
  EXPECT_EQ(blocked[0].waiting, 1u);
  order.Advance(499);
  EXPECT_EQ(order.Front(), std::nullopt);
  order.Advance(500);
  EXPECT_EQ(order.Front(), At(1));
  order.Move(At(1), State::kWaits, KeyOrder::kNever);
  EXPECT_EQ(order.Front(), std::nullopt);
  EXPECT_EQ(order.NextDue(), std::nullopt);
  order.Remove(At(1));
  EXPECT_EQ(order.Front(), At(2));
  order.DropWaiting(At(3));
  EXPECT_EQ(order.Front(), std::nullopt);
  EXPECT_FALSE(order.Blocks(7));
}

std::string Keyed(std::string_view key) {
  raft::Writer message, record;
  message.Byte(0x12);  // Message.key
  message.Counted(key);
  record.Byte(0x0a);
  record.Counted(message.bytes());
  return record.Take();
}

class OrderByKeyTest : public ::testing::Test {
 protected:
  OrderByKeyTest() { Set({.order_by_key = true}); }
  void Set(SubscriptionSettings settings) {
    log_.Apply(FactsEntry({fact::VersionRaised{kFactVersion}, fact::SubscriptionChanged{0, std::move(settings)}}));
  }
  // One message of each key, in one entry.
  uint64_t Publish(Leader& leader, std::initializer_list<const char*> keys) {
    std::string batch;
    for (const char* key : keys) batch += Keyed(key);
    const fact::Published fact{"", 0, 0, static_cast<uint32_t>(keys.size()), *CheckBatch(batch, {})};
    raft::Bytes entry = EncodePublished(fact, leader.now, batch);
    const EntryShape shape{fact.count, batch.size()};
    const uint64_t index = log_.Append(std::move(entry));
    leader.dispatchers.Appended(index, shape);
    return index;
  }
  // What came to it, and nothing else did.
  std::vector<Position> PositionsOf(const std::vector<Dispatcher::Delivery>& deliveries) {
    std::vector<Position> all;
    for (const Slots& slots : SlotsOf(deliveries)) {
      for (uint32_t i = 0; i < slots.count; ++i) all.push_back(slots.first + i);
    }
    return all;
  }
  std::vector<Token> TokenOf(const std::vector<Dispatcher::Delivery>& deliveries, Position position) {
    for (const auto& d : deliveries) {
      for (const auto& run : d.runs) {
        if (run.slots.first <= position && position < run.slots.first + run.slots.count)
          return {{{position, 1}, d.checkout_index}};
      }
    }
    return {};
  }
  const Subscription& state() const { return log_.machine.subscription(0); }

  Log log_;
};

TEST_F(OrderByKeyTest, OtherKeysPassThoseThatWait) {
  Leader leader(&log_);
  leader.Attach("a", kMuch);
  const uint64_t i = Publish(leader, {"x", "x", "y", "x", "z"});
  const auto first = leader.Turn();
  EXPECT_THAT(PositionsOf(first), ElementsAre(Position(i, 0), Position(i, 2), Position(i, 4)));
  EXPECT_EQ(state().waiting, 0u);
  EXPECT_EQ(state().returned_messages, 2u);
  leader.Turn({Settle(TokenOf(first, Position(i, 0)))});
  const auto second = leader.Turn();
  EXPECT_THAT(PositionsOf(second), ElementsAre(Position(i, 1)));
  EXPECT_EQ(second[0].runs[0].deliveries, 1u);
  // Rejected, it is as settled.
  leader.Turn({Settle(TokensOf(second), Disposition::kReject)});
  EXPECT_THAT(PositionsOf(leader.Turn()), ElementsAre(Position(i, 3)));
}

TEST_F(OrderByKeyTest, WhatComesBackGoesBeforeItsSuccessorsAndTheKeyWaitsWithIt) {
  Leader leader(&log_);
  leader.Attach("a", kMuch);
  leader.Attach("b", kMuch);
  const uint64_t i = Publish(leader, {"x", "x", "y"});
  const auto first = leader.Turn();
  auto later = Settle(TokenOf(first, Position(i, 0)), Disposition::kRequeue);
  later.due_ms = {1'000};
  leader.Turn({later, Settle(TokenOf(first, Position(i, 2)))});
  EXPECT_THAT(leader.Turn(), IsEmpty());
  ASSERT_NE(leader.dispatcher.keys(), nullptr);
  EXPECT_THAT(leader.dispatcher.keys()->List(Position(), 10), SizeIs(1));
  EXPECT_LE(leader.dispatchers.NextWake(0, 0).value_or(9'999), 1'000);
  leader.now = 1'000;
  EXPECT_THAT(PositionsOf(leader.Turn()), ElementsAre(Position(i, 0)));
}

// Whatever a new leader finds out of line: it looks up the keys before it gives anything.
TEST_F(OrderByKeyTest, AFailoverKeepsKeysBlocked) {
  uint64_t i;
  std::vector<Dispatcher::Delivery> first;
  {
    Leader leader(&log_);
    leader.Attach("a", {2, 1 << 20}, 1'000'000);
    i = Publish(leader, {"x", "x", "y", "y", "z"});
    first = leader.Turn();
    EXPECT_THAT(PositionsOf(first), ElementsAre(Position(i, 0), Position(i, 2)));
  }
  Leader leader(&log_);
  leader.lowest = log_.machine.Live().floor;
  leader.Attach("b", kMuch);
  EXPECT_THAT(PositionsOf(leader.Turn()), ElementsAre(Position(i, 4)));
  EXPECT_THAT(leader.Turn({Settle(TokenOf(first, Position(i, 2)))}), IsEmpty());
  EXPECT_THAT(PositionsOf(leader.Turn()), ElementsAre(Position(i, 3)));
}

// Safety rule 1: one key that nobody settles does not put the whole backlog out of line.
TEST_F(OrderByKeyTest, TheWindowBoundsWhatIsPassedOver) {
  Set({.order_by_key = true, .key_window = 3});
  Leader leader(&log_);
  leader.Attach("a", kMuch);
  const uint64_t i = Publish(leader, {"x", "x", "x", "y", "x", "x", "z"});
  const auto first = leader.Turn();
  EXPECT_THAT(PositionsOf(first), ElementsAre(Position(i, 0), Position(i, 3)));
  EXPECT_TRUE(leader.dispatcher.waits_for_keys());
  EXPECT_EQ(state().returned_messages, 3u);
  EXPECT_EQ(state().waiting, 2u);
  leader.Turn({Settle(TokenOf(first, Position(i, 0)))});
  EXPECT_THAT(PositionsOf(leader.Turn()), ElementsAre(Position(i, 1)));
  EXPECT_EQ(state().waiting, 1u);
  EXPECT_TRUE(leader.dispatcher.waits_for_keys());
}

// A message that came back too often keeps its key until it has left.
TEST_F(OrderByKeyTest, ADeadOneFreesItsKeyOnceItHasLeft) {
  Set({.delivery_limit = 1, .order_by_key = true});
  Leader leader(&log_);
  leader.Attach("a", kMuch);
  const uint64_t i = Publish(leader, {"x", "x"});
  leader.Turn({Settle(TokensOf(leader.Turn()), Disposition::kRequeue)});
  EXPECT_THAT(leader.Turn(), IsEmpty());  // it is buried
  EXPECT_EQ(state().dead, 1u);
  EXPECT_THAT(PositionsOf(leader.Turn()), ElementsAre(Position(i, 1)));
}

// From the moment that it is set, with leases of before: their keys are blocked.
TEST_F(OrderByKeyTest, ItMayBeSetWhileMessagesAreOut) {
  Set({});
  Leader leader(&log_);
  leader.Attach("a", {2, 1 << 20});
  const uint64_t i = Publish(leader, {"x", "y", "x", "z"});
  const auto first = leader.Turn();
  EXPECT_THAT(PositionsOf(first), ElementsAre(Position(i, 0), Position(i, 1)));
  leader.Turn({fact::SubscriptionChanged{0, {.order_by_key = true}}});
  leader.Attach("b", kMuch);
  leader.Turn();
  EXPECT_THAT(PositionsOf(leader.Turn()), IsEmpty());
  EXPECT_EQ(state().in_flight_messages, 3u) << "but for the one of the key z";
  leader.Turn({fact::SubscriptionChanged{0, {}}});
  leader.Turn();
  EXPECT_EQ(state().in_flight_messages, 4u);
}

// A checkout that was decided otherwise than the subscription is set to changes nothing (Safety rule 2).
TEST_F(OrderByKeyTest, ACheckoutThatWasDecidedOtherwiseIsRefused) {
  log_.Publish(2);
  const Position batch(log_.last(), 0);
  auto give = [&](bool by_key) {
    return log_
        .Apply<effect::CheckedOut>(fact::CheckedOut{.subscription = 0,
                                                    .session = {},
                                                    .session_epoch = 0,
                                                    .deadline_ms = 1,
                                                    .from_next = state().next,
                                                    .to_next = batch + 1,
                                                    .waiting = {{batch, 1}},
                                                    .returned = {},
                                                    .skipped = 0,
                                                    .counted_at = 0,
                                                    .sized = true,
                                                    .sizes = {1},
                                                    .skipped_bytes = 0,
                                                    .by_key = by_key})
        .accepted;
  };
  EXPECT_FALSE(give(false));
  EXPECT_TRUE(give(true));
}

// The model's eyes: it must see a machine that gives two of one key, or the later one first.
TEST_F(OrderByKeyTest, TheModelFindsTwoOfOneKey) {
  // Of the slots of entry 3, the first and the sixth share a key.
  ASSERT_EQ(KeyAt(Position(3, 0)), KeyAt(Position(3, 5)));
  for (const bool held : {true, false}) {
    Model model;
    auto apply = [&](uint64_t index, std::vector<Fact> facts, std::vector<Effect> effects) {
      return model.Apply(index, facts, {std::move(effects), {}}, 0);
    };
    EXPECT_FALSE(apply(1, {fact::SubscriptionChanged{0, {.order_by_key = true}}}, {effect::SubscriptionChanged{true}}));
    EXPECT_FALSE(apply(3, {fact::Published{"", 0, 0, 6, std::vector<uint32_t>(6)}},
                       {effect::Published{.count = 6, .pieces = {}}}));
    EXPECT_FALSE(apply(4, {fact::Deferred{0, Position(), Position(3, 6), {{Position(3, 0), 6}}, {0}, 0, 0, 0}},
                       {effect::Skipped{true}}));
    auto give = [&](uint64_t index, uint32_t slot) {
      const Slots slots{Position(3, slot), 1};
      const fact::CheckedOut out{.subscription = 0,
                                 .session = {},
                                 .session_epoch = 0,
                                 .deadline_ms = 1,
                                 .from_next = Position(3, 6),
                                 .to_next = Position(3, 6),
                                 .waiting = {},
                                 .returned = {slots},
                                 .skipped = 0,
                                 .counted_at = 0,
                                 .sized = true,
                                 .sizes = {},
                                 .skipped_bytes = 0,
                                 .by_key = true};
      return apply(index, {out}, {effect::CheckedOut{true, {{slots, 1}}}});
    };
    if (held) {
      EXPECT_FALSE(give(5, 0));
    }
    EXPECT_EQ(give(6, 5).value_or(""), held ? "fact 0 of kind 5: 3:5 was given while 3:0 of its key is held"
                                            : "fact 0 of kind 5: 3:5 was given before 3:0 of its key");
  }
}

}  // namespace
}  // namespace trireme::queue
