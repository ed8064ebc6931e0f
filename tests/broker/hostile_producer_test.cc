// Producers that break the rules of sequences and epochs: a leader answers them, and goes on.
#include <gmock/gmock.h>

#include <limits>
#include <map>

#include "broker/replica/queue_replica.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using Kind = PublishOutcome::Kind;

using HostileProducerTest = QueueTest;

// Safety rule 6: a sequence is judged on the window as it will be when it is applied. One far ahead, still under way,
// leaves the low one below the window.
TEST_F(HostileProducerTest, ASequenceBehindOneThatMovesTheWindowIsUnknown) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  Publish(sink, "p", epoch, 10'000'000, {"far"});
  Publish(sink, "p", epoch, 10, {"low"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 2; }));
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kOk);
  EXPECT_EQ(sink->outcomes[0].first_sequence, 10'000'000u);
  EXPECT_EQ(sink->outcomes[1].kind, Kind::kUnknown);
}

// So do more ranges with holes between them than the window holds.
TEST_F(HostileProducerTest, AHoleThatFallsOutOfAFullWindowIsUnknown) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  const size_t ranges = queue::ProducerWindow::kRanges + 8;
  for (size_t i = 0; i < ranges; ++i) Publish(sink, "p", epoch, 1 + 2 * i, {"x"});
  Publish(sink, "p", epoch, 2, {"hole"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == ranges + 1; }));
  EXPECT_EQ(sink->outcomes.back().first_sequence, 2u);
  EXPECT_EQ(sink->outcomes.back().kind, Kind::kUnknown);
}

// A retry with other bounds waits for what it repeats; what was sent behind it must not overtake it.
TEST_F(HostileProducerTest, WhatComesBehindARetryWithOtherBoundsKeepsItsPlace) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  auto bodies = [](size_t count) { return std::vector<std::string>(count, "x"); };
  Publish(sink, "p", epoch, 1, bodies(10));
  Publish(sink, "p", epoch, 5, bodies(10));
  Publish(sink, "p", epoch, 15, bodies(6));
  uint64_t stored = 0;
  ASSERT_TRUE(w_.world.RunUntil([&] {
    stored = 0;
    for (const PublishOutcome& outcome : sink->outcomes) stored += outcome.kind == Kind::kOk ? outcome.count : 0;
    return stored == 20;
  }));
  std::map<uint64_t, queue::Position> places;
  for (const PublishOutcome& outcome : sink->outcomes) {
    if (outcome.kind == Kind::kOk) places[outcome.first_sequence] = outcome.first;
  }
  queue::Position before;
  for (const auto& [sequence, place] : places) {
    EXPECT_GT(place.packed(), before.packed()) << "sequence " << sequence;
    before = place;
  }
}

TEST_F(HostileProducerTest, SequencesThatRunOverTheEndAreRefused) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  const uint64_t top = std::numeric_limits<uint64_t>::max();
  Publish(sink, "p", epoch, top, {"a"});
  Publish(sink, "p", epoch, top - 1, {"a", "b"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 2; }));
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kRefused);
  EXPECT_EQ(sink->outcomes[1].kind, Kind::kRefused);
}

// Forgotten and known again, a producer starts over with a low epoch; a stream from before has a higher one.
TEST_F(HostileProducerTest, AnEpochThatIsNotInForceIsFenced) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  Publish(sink, "p", epoch + 4, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 1; }));
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kFenced);
}

// The part that is stored is answered at once, the new one when it is; the batch's bytes count with the last answer.
TEST_F(HostileProducerTest, ABatchAnsweredInPartsIsDoneWithItsLastAnswer) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  Publish(sink, "p", epoch, 2, {"b"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 1; }));
  const size_t before = sink->freed;
  Publish(sink, "p", epoch, 1, {"a", "b"});  // new, then stored
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 2; }));
  EXPECT_EQ(sink->outcomes[1].kind, Kind::kDuplicate);
  EXPECT_EQ(sink->freed, before);
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 3; }));
  EXPECT_EQ(sink->outcomes[2].kind, Kind::kOk);
  EXPECT_EQ(sink->freed, before + BatchOf({"a", "b"}).size());
}

// Messages that came back are given out again without a look at their size; a single receive's answer must still fit a
// stock client, or they could never be received at all.
TEST_F(HostileProducerTest, AReceiveOfReturnedMessagesFitsAStockClient) {
  auto sink = std::make_shared<NotingPublishSink>();
  for (int i = 0; i < 5; ++i) w_.Serving()->Publish({sink, 7, "", 0, 1, BatchOf({std::string(1'500'000, 'x')})});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 5; }));
  auto take = [&] { return Receive(10, milliseconds(5'000), milliseconds(20'000)); };
  auto tokens = [](const std::vector<DeliveredRun>& runs) {
    std::vector<queue::Token> out;
    for (const DeliveredRun& run : runs) out.push_back(TokenOf(run));
    return out;
  };
  std::vector<queue::Token> held;
  while (held.size() < 5) {
    for (const queue::Token& token : tokens(take())) held.push_back(token);
  }
  bool back = false;
  w_.Serving()->SettleTokens(0, queue::Disposition::kRequeue, held,
                             [&](absl::StatusOr<std::vector<bool>>) { back = true; });
  ASSERT_TRUE(w_.world.RunUntil([&] { return back; }));
  size_t got = 0;
  for (int i = 0; i < 5 && got < 5; ++i) {
    std::vector<DeliveredRun> runs = take();
    size_t bytes = 0;
    for (const DeliveredRun& run : runs) bytes += run.batch.size();
    EXPECT_LE(bytes, 4u << 20);
    got += runs.size();
  }
  EXPECT_EQ(got, 5u);
}

}  // namespace
}  // namespace trireme::broker::testing
