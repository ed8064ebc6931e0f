// What clients settle, in floods: entries stay small, everyone is answered, and nobody steps down for it.
#include "broker/replica/settling.h"

#include <gmock/gmock.h>

#include "broker/queue/entry.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using queue::Disposition;
using queue::Position;
using queue::Token;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr size_t kMax = AskedTokens::kMax;

std::vector<Token> SomeTokens(size_t count) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back({{Position(i + 1, 0), 1}, 7});
  return tokens;
}

// The effect of a fact whose tokens at these places were lost.
queue::effect::Settled Lost(const AskedTokens& fact, const std::vector<uint32_t>& places) {
  queue::effect::Settled effect;
  for (uint32_t place : places) effect.lost.push_back({place, fact.tokens()[place].slots});
  return effect;
}

// Applies what may go, with nothing lost; how many tokens that were.
size_t Round(Settling& settling) {
  size_t tokens = 0;
  for (Settling::Fact& fact : settling.Take()) {
    EXPECT_LE(fact.tokens.tokens().size(), kMax);
    tokens += fact.tokens.tokens().size();
    fact.tokens.Answer({});
    settling.Applied();
  }
  return tokens;
}

TEST(SettlingTest, SettlementsWaitForCompanyAndShareAFact) {
  Settling settling(std::chrono::milliseconds(5));
  settling.HurryAt(100);
  auto a = std::make_shared<NotingConsumerSink>(), b = std::make_shared<NotingConsumerSink>();
  EXPECT_FALSE(settling.due(1'000));
  settling.Add({0, Disposition::kAcknowledge}, SomeTokens(2), {.sink = a}, 10);
  settling.Add({0, Disposition::kAcknowledge}, SomeTokens(3), {.sink = b}, 12);
  settling.Add({0, Disposition::kRequeue}, SomeTokens(1), {.sink = b}, 12);
  EXPECT_FALSE(settling.due(14));
  EXPECT_TRUE(settling.due(15));
  EXPECT_EQ(settling.due_at(), 15);
  std::vector<Settling::Fact> facts = settling.Take();
  ASSERT_THAT(facts, SizeIs(2));
  EXPECT_EQ(facts[0].kind.disposition, Disposition::kAcknowledge);
  EXPECT_THAT(facts[0].tokens.tokens(), SizeIs(5));
  EXPECT_EQ(facts[1].kind.disposition, Disposition::kRequeue);
  EXPECT_FALSE(settling.due(1'000));
  // Each hears of its own.
  facts[0].tokens.Answer(Lost(facts[0].tokens, {1, 2, 4}));
  EXPECT_THAT(a->lost, ElementsAre(SomeTokens(2)[1]));
  EXPECT_THAT(b->lost, ElementsAre(SomeTokens(3)[0], SomeTokens(3)[2]));
}

TEST(SettlingTest, WhoAsksIsNotKeptWaiting) {
  auto sink = std::make_shared<NotingConsumerSink>();
  Settling receipt(std::chrono::milliseconds(5)), call(std::chrono::milliseconds(5)),
      many(std::chrono::milliseconds(5));
  for (Settling* settling : {&receipt, &call, &many}) settling->HurryAt(3);
  receipt.Add({0, Disposition::kAcknowledge}, {}, {.sink = sink, .receipt = 1}, 0);
  EXPECT_TRUE(receipt.due(0));
  call.Add({0, Disposition::kAcknowledge}, SomeTokens(1), {.done = [](auto) {}}, 0);
  EXPECT_TRUE(call.due(0));
  many.Add({0, Disposition::kAcknowledge}, SomeTokens(2), {.sink = sink}, 0);
  EXPECT_FALSE(many.due(0));
  many.Add({0, Disposition::kReject}, SomeTokens(1), {.sink = sink}, 0);
  EXPECT_TRUE(many.due(0));
}

// Safety rule 17: however much is settled at once, no fact has more tokens than fit an entry; and the receipt comes
// with the last of them.
TEST(SettlingTest, AFloodGoesInFactsOfABoundedSize) {
  Settling settling(std::chrono::milliseconds(5));
  auto sink = std::make_shared<NotingConsumerSink>();
  settling.Add({0, Disposition::kAcknowledge}, SomeTokens(2 * kMax + 10), {.sink = sink, .receipt = 5}, 0);
  std::vector<Settling::Fact> facts = settling.Take();
  ASSERT_THAT(facts, SizeIs(3));
  facts[0].tokens.Answer(Lost(facts[0].tokens, {3}));
  facts[1].tokens.Answer({});
  EXPECT_THAT(sink->receipts, IsEmpty());
  EXPECT_THAT(sink->lost, ElementsAre(SomeTokens(4)[3]));
  facts[2].tokens.Answer(Lost(facts[2].tokens, {9}));
  EXPECT_THAT(sink->receipts, ElementsAre(5));
  EXPECT_THAT(sink->lost, ElementsAre(SomeTokens(4)[3], SomeTokens(2 * kMax + 10).back()));
}

// While nothing is committed, what waits is bounded: per stream, and in all.
TEST(SettlingTest, WhatWaitsIsBounded) {
  Settling settling(std::chrono::milliseconds(5), {.per_stream = 3 * kMax, .all = 5 * kMax});
  auto a = std::make_shared<NotingConsumerSink>(), b = std::make_shared<NotingConsumerSink>();
  const auto add = [&](const std::shared_ptr<NotingConsumerSink>& sink, size_t tokens) {
    absl::Status room = settling.Admits(sink.get(), tokens);
    if (room.ok()) settling.Add({0, Disposition::kAcknowledge}, SomeTokens(tokens), {.sink = sink}, 0);
    return room.code();
  };
  EXPECT_EQ(add(a, 2 * kMax), absl::StatusCode::kOk);
  EXPECT_EQ(add(a, kMax + 1), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(add(a, kMax), absl::StatusCode::kOk);
  EXPECT_EQ(add(b, 2 * kMax + 1), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(add(b, 2 * kMax), absl::StatusCode::kOk);
  EXPECT_EQ(settling.Admits(nullptr, 1).code(), absl::StatusCode::kResourceExhausted);
  // A barrier takes no room.
  EXPECT_EQ(add(a, 0), absl::StatusCode::kOk);
  // What goes makes room.
  EXPECT_EQ(Round(settling), 5 * kMax);
  EXPECT_EQ(add(a, 3 * kMax), absl::StatusCode::kOk);
  settling.Fail(absl::UnavailableError("over"));
  EXPECT_EQ(add(a, 3 * kMax), absl::StatusCode::kOk);
  // One that asks for more at once than may wait is not shut out for ever.
  EXPECT_EQ(add(b, 4 * kMax), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Round(settling), 3 * kMax);
  EXPECT_EQ(add(b, 4 * kMax), absl::StatusCode::kOk);
}

TEST(SettlingTest, ACallWhoseTokensAreInSeveralFactsIsAnsweredOnce) {
  Settling settling(std::chrono::milliseconds(5));
  int answers = 0;
  std::vector<bool> current;
  auto sink = std::make_shared<NotingConsumerSink>();
  settling.Add({0, Disposition::kReject}, SomeTokens(10), {.sink = sink}, 0);
  settling.Add({0, Disposition::kReject}, SomeTokens(kMax + 5),
               {.done =
                    [&](absl::StatusOr<std::vector<bool>> c) {
                      ++answers;
                      current = *std::move(c);
                    }},
               0);
  std::vector<Settling::Fact> facts = settling.Take();
  ASSERT_THAT(facts, SizeIs(2));
  facts[0].tokens.Answer(Lost(facts[0].tokens, {9, 12}));
  EXPECT_EQ(answers, 0);
  facts[1].tokens.Answer(Lost(facts[1].tokens, {14}));
  EXPECT_EQ(answers, 1);
  ASSERT_THAT(current, SizeIs(kMax + 5));
  EXPECT_EQ(std::count(current.begin(), current.end(), false), 2);
  EXPECT_FALSE(current[2]);
  EXPECT_FALSE(current.back());
  EXPECT_THAT(sink->lost, ElementsAre(SomeTokens(10)[9]));
}

TEST(SettlingTest, WhatIsUnknownIsSaidOnce) {
  Settling settling(std::chrono::milliseconds(5));
  int answers = 0;
  settling.Add({0, Disposition::kAcknowledge}, SomeTokens(2 * kMax),
               {.done = [&](auto c) { answers += c.ok() ? 100 : 1; }}, 0);
  std::vector<Settling::Fact> facts = settling.Take();
  for (Settling::Fact& fact : facts) fact.tokens.Fail(absl::UnavailableError("moved"));
  EXPECT_EQ(answers, 1);
  settling.Add({0, Disposition::kAcknowledge}, SomeTokens(1), {.done = [&](auto c) { answers += c.ok() ? 100 : 1; }},
               0);
  settling.Fail(absl::UnavailableError("moved"));
  EXPECT_EQ(answers, 2);
  EXPECT_THAT(settling.Take(), IsEmpty());
}

// Safety rule 19: what is under way is bounded, and the rest goes as that is applied, in order.
TEST(SettlingTest, WhatIsUnderWayIsBounded) {
  Settling settling(std::chrono::milliseconds(5));
  auto sink = std::make_shared<NotingConsumerSink>();
  constexpr size_t kFacts = 3 * Settling::kMaxUnderWay;
  settling.Add({0, Disposition::kAcknowledge}, SomeTokens(kFacts * kMax), {.sink = sink, .receipt = 9}, 0);
  // Asks about all of it.
  settling.Add({0, Disposition::kRequeue}, {}, {.sink = sink, .receipt = 10}, 0);
  EXPECT_TRUE(settling.crowded());
  std::vector<Settling::Fact> facts = settling.Take();
  EXPECT_LE(facts.size(), Settling::kMaxUnderWay + 2);
  EXPECT_TRUE(settling.crowded());
  EXPECT_THAT(settling.Take(), IsEmpty());
  EXPECT_FALSE(settling.due_at().has_value());  // there is a turn when those are applied
  for (Settling::Fact& fact : facts) {
    fact.tokens.Answer({});
    settling.Applied();
  }
  EXPECT_THAT(sink->receipts, IsEmpty());
  size_t rounds = 0;
  while (Round(settling) > 0) ++rounds;
  EXPECT_EQ(rounds, 2u);
  EXPECT_THAT(sink->receipts, ElementsAre(9, 10));
  EXPECT_FALSE(settling.crowded());
  EXPECT_FALSE(settling.due(1'000));
}

class SettleFloodTest : public QueueTest {};

// Several consumers hand over as much as a frame holds, in one turn. No entry is larger than 256 KiB, so that each fits
// a frame between nodes; the group keeps its leader, and what was really held is settled.
TEST_F(SettleFloodTest, MaximalFramesInOneTurnMakeNoLargeEntries) {
  std::vector<std::shared_ptr<NotingConsumerSink>> consumers;
  for (int i = 0; i < 8; ++i) consumers.push_back(Attach("s" + std::to_string(i)));
  PublishEach({"a", "b", "c", "d", "e", "f", "g", "h"});
  auto delivered = [&] {
    uint64_t n = 0;
    for (const auto& consumer : consumers) n += consumer->messages();
    return n;
  };
  ASSERT_TRUE(w_.world.RunUntil([&] { return delivered() == 8; }));
  const uint64_t leader = w_.Leader();
  const uint64_t term = w_.Serving()->group()->term().value();
  const uint64_t before = w_.Serving()->group()->applied_index().value();
  for (size_t i = 0; i < consumers.size(); ++i) {
    // Scattered, so that each takes as many bytes as it can; the real ones are the last.
    std::vector<Token> tokens;
    for (uint64_t t = 0; t < 100'000; ++t)
      tokens.push_back(
          {{Position(t % 2 == 0 ? 1 : queue::kMaxLogIndex, 65'000), 535}, t % 2 == 0 ? 1 : ~uint64_t{0} >> 1});
    for (const DeliveredRun& run : consumers[i]->runs) tokens.push_back(TokenOf(run));
    w_.Serving()->Settle({"s" + std::to_string(i), consumers[i].get()}, Disposition::kAcknowledge, {w_.group, tokens},
                         77);
  }
  ASSERT_TRUE(w_.world.RunUntil(
      [&] {
        return std::all_of(consumers.begin(), consumers.end(), [](const auto& c) { return c->receipts.contains(77); });
      },
      milliseconds(60'000)));
  EXPECT_EQ(w_.Leader(), leader);
  EXPECT_EQ(w_.Serving()->group()->term().value(), term);
  for (const auto& consumer : consumers) EXPECT_THAT(consumer->lost, SizeIs(100'000));
  EXPECT_EQ(Describe().subscriptions[0].acknowledged, 8u);
  size_t entries = 0;
  for (uint64_t index = before + 1; index <= w_.Serving()->group()->applied_index().value(); ++index, ++entries) {
    const raft::Entry* entry = w_.Serving()->group()->TailEntry(raft::Index(index));
    if (entry == nullptr) continue;
    EXPECT_LE(entry->data.size(), queue::kMaxFactsBytes) << index;
  }
  EXPECT_GT(entries, 45u);
}

// What a session settled is applied before its end, even when it waits for room.
TEST_F(SettleFloodTest, AFloodThatEndsWithItsSessionIsStillSettled) {
  auto consumer = Attach("s");
  PublishEach({"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  std::vector<Token> tokens(40 * kMax, Token{{Position(1, 0), 1}, 1});
  tokens.push_back(TokenOf(consumer->runs[0]));
  w_.Serving()->Settle({"s", consumer.get()}, Disposition::kAcknowledge, {w_.group, tokens}, 0);
  w_.Serving()->Detach({"s", consumer.get()}, true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return Describe().subscriptions[0].consumers == 0; }));
  EXPECT_EQ(Describe().subscriptions[0].acknowledged, 1u);
  EXPECT_EQ(Describe().subscriptions[0].waiting, 0u);
}

// A disk or a network that stalls: a stream that settles on and on is ended, and its session is not.
TEST_F(SettleFloodTest, AStreamThatSettlesWithoutEndWhileNothingIsCommittedIsEnded) {
  auto consumer = Attach("s");
  PublishEach({"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  const uint64_t leader = w_.Leader();
  for (uint64_t id = 1; id <= 3; ++id) w_.world.node(id).store->stalled = true;
  std::vector<Token> tokens(10'000, TokenOf(consumer->runs[0]));
  size_t frames = 0;
  for (; frames < 1'000 && !consumer->cut; ++frames) {
    w_.Serving()->Settle({"s", consumer.get()}, Disposition::kAcknowledge, {w_.group, tokens}, 0);
    w_.world.Run(milliseconds(1));
  }
  EXPECT_EQ(consumer->cut, CutReason::kOverloaded);
  EXPECT_LT(frames, 60u);
  for (uint64_t id = 1; id <= 3; ++id) w_.world.node(id).store->stalled = false;
  ASSERT_TRUE(w_.world.RunUntil([&] { return w_.Leader() != 0; }));
  EXPECT_EQ(w_.Leader(), leader);
  auto again = Attach("s", {TokenOf(consumer->runs[0])});
  EXPECT_TRUE(again->resumed);
  w_.Serving()->Settle({"s", again.get()}, Disposition::kAcknowledge, {w_.group, {TokenOf(consumer->runs[0])}}, 9);
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->receipts.contains(9); }));
  EXPECT_EQ(Describe().subscriptions[0].acknowledged, 1u);
}

}  // namespace
}  // namespace trireme::broker::testing
