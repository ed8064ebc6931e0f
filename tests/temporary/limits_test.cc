// What temporary queues may take: each, a client's, and a node's together.
#include <gmock/gmock.h>

#include "broker/ops/error.h"
#include "tests/temporary/world.h"

namespace trireme::broker::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using Kind = PublishOutcome::Kind;

trireme::v1::TemporarySettings Of(uint32_t messages, uint64_t bytes) {
  trireme::v1::TemporarySettings settings;
  settings.set_max_messages(messages);
  settings.set_max_bytes(bytes);
  return settings;
}

void ExpectFull(const PublishOutcome& outcome, const std::string& why) {
  EXPECT_EQ(outcome.kind, Kind::kRefused);
  EXPECT_EQ(outcome.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(outcome.reason, HasSubstr(why));
}

TEST(TemporaryLimitsTest, AFullQueueRefusesUntilSomethingIsSettled) {
  TemporaryWorld w;
  const QueuePtr queue = w.Make(Of(3, 1 << 20));
  EXPECT_EQ(w.Publish(queue, {"a", "b"}).kind, Kind::kOk);
  ExpectFull(w.Publish(queue, {"c", "d"}), "its limit of 3");
  EXPECT_EQ(w.Publish(queue, {"c"}).kind, Kind::kOk);
  ExpectFull(w.Publish(queue, {"d"}), "holds 3 messages");
  // Delivered is not settled.
  auto consumer = w.Attach(queue, "s");
  ASSERT_EQ(consumer->messages(), 3u);
  ExpectFull(w.Publish(queue, {"d"}), "its limit of 3");
  w.Settle(queue, "s", consumer, consumer->runs[0]);
  EXPECT_EQ(w.Publish(queue, {"d", "e"}).kind, Kind::kOk);
}

// What comes in one turn is not in the log yet when it is judged.
TEST(TemporaryLimitsTest, OneTurnDoesNotPassTheLimit) {
  TemporaryWorld w;
  const QueuePtr queue = w.Make(Of(10, 1 << 20));
  auto sink = std::make_shared<NotingPublishSink>();
  w.Do([&] {
    for (int i = 0; i < 50; ++i) w.Replica(queue)->Publish({sink, 0, "", 0, 1, BatchOf({"a"})});
  });
  ASSERT_THAT(sink->outcomes, SizeIs(50));
  EXPECT_EQ(std::count_if(sink->outcomes.begin(), sink->outcomes.end(),
                          [](const PublishOutcome& outcome) { return outcome.kind == Kind::kOk; }),
            10);
}

// One message is held, another given back again and again: what became of that one is not kept for the first's sake.
TEST(TemporaryLimitsTest, GivingBackCostsNothingThatStays) {
  TemporaryWorld w;
  const QueuePtr queue = w.Make(Of(10, 65'536));
  EXPECT_EQ(w.Publish(queue, {"a"}).kind, Kind::kOk);
  EXPECT_EQ(w.Publish(queue, {"b"}).kind, Kind::kOk);
  auto consumer = w.Attach(queue, "s", {}, 30'000);
  ASSERT_EQ(consumer->messages(), 2u);
  for (size_t i = 0; i < 1'000; ++i) {
    const DeliveredRun run = consumer->runs.back();
    w.Settle(queue, "s", consumer, run, queue::Disposition::kRequeue);
    ASSERT_EQ(consumer->messages(), 3 + i);
  }
  EXPECT_EQ(w.Publish(queue, {std::string(10'000, 'x')}).kind, Kind::kOk) << "what is no message has taken the room";
  // It is read behind all of that.
  EXPECT_EQ(consumer->messages(), 1'003u);
}

TEST(TemporaryLimitsTest, BytesAreThoseThatAreHeld) {
  TemporaryWorld w;
  const QueuePtr queue = w.Make(Of(1'000, 100'000));
  const std::string body(30'000, 'x');
  for (int i = 0; i < 3; ++i) EXPECT_EQ(w.Publish(queue, {body}).kind, Kind::kOk);
  ExpectFull(w.Publish(queue, {body}), "its limit of 100000 bytes");
  auto consumer = w.Attach(queue, "s");
  w.Settle(queue, "s", consumer, consumer->runs.at(0));
  EXPECT_EQ(w.Publish(queue, {body}).kind, Kind::kOk);
  EXPECT_LE(w.queues.figures().bytes, 100'000u);
}

TEST(TemporaryLimitsTest, AllQueuesShareANodesBytes) {
  TemporaryWorld w({.bytes = 100'000});
  const QueuePtr one = w.Make(), other = w.Make();
  const std::string body(60'000, 'x');
  EXPECT_EQ(w.Publish(one, {body}).kind, Kind::kOk);
  ExpectFull(w.Publish(other, {body}), "of this node hold");
  w.Do([&] { w.queues.RemoveSoon(one->group); });
  EXPECT_EQ(w.Publish(other, {body}).kind, Kind::kOk);
}

TEST(TemporaryLimitsTest, QueuesAreCountedPerClientAndPerNode) {
  TemporaryWorld w({.queues = 3, .queues_per_client = 2});
  const auto first = w.TryMake({.client = "a"});
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(w.TryMake({.client = "a"}).ok());
  const absl::Status third = w.TryMake({.client = "a"}).status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FactsOf(third).reason, "TOO_MANY_TEMPORARY_QUEUES");
  EXPECT_THAT(std::string(third.message()), HasSubstr("this connection has 2"));
  EXPECT_TRUE(w.TryMake({.client = "b"}).ok());
  EXPECT_THAT(std::string(w.TryMake({.client = "c"}).status().message()), HasSubstr("this node holds 3"));
  w.Do([&] { w.queues.RemoveSoon((*first)->group); });
  EXPECT_TRUE(w.TryMake({.client = "a"}).ok());
}

TEST(TemporaryLimitsTest, SettingsHaveLimits) {
  TemporaryWorld w;
  EXPECT_EQ(w.TryMake({.settings = Of(100'001, 0)}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(w.TryMake({.settings = Of(0, 65'535)}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(w.TryMake({.settings = Of(0, (uint64_t{64} << 20) + 1)}).status().code(),
            absl::StatusCode::kInvalidArgument);
  trireme::v1::TemporarySettings settings;
  settings.set_idle_timeout_ms(999);
  EXPECT_THAT(std::string(w.TryMake({.settings = settings}).status().message()), HasSubstr("1000 to 3600000 ms"));
  const QueuePtr queue = w.Make();
  EXPECT_EQ(queue->settings.temporary().max_messages(), 10'000u);
  EXPECT_EQ(queue->settings.temporary().max_bytes(), uint64_t{16} << 20);
  EXPECT_EQ(queue->settings.temporary().idle_timeout_ms(), 300'000u);
}

// Safety rule 1 in memory: what is held is what is alive, however much has passed through.
TEST(TemporaryLimitsTest, WhatIsSettledTakesNoMemory) {
  TemporaryWorld w;
  const QueuePtr queue = w.Make();
  auto consumer = w.Attach(queue, "s", {}, 3'600'000);
  w.Publish(queue, {"kept"});
  size_t most = 0;
  for (int i = 0; i < 20'000; ++i) {
    w.Publish(queue, {std::string(100, 'x')});
    w.Settle(queue, "s", consumer, consumer->runs.back());
    most = std::max<size_t>(most, w.queues.figures().bytes);
  }
  EXPECT_LT(most, 64u << 10);
  EXPECT_EQ(consumer->messages(), 20'001u);
  EXPECT_TRUE(consumer->lost.empty());
  // The one that nobody has settled is there.
  w.Settle(queue, "s", consumer, consumer->runs[0], queue::Disposition::kRequeue);
  EXPECT_EQ(BodiesOf(consumer->runs.back().batch).at(0), "kept");
}

}  // namespace
}  // namespace trireme::broker::testing
