// Messages for later: delivered when they are due, not before, once, and by whoever leads then.
#include "broker/replica/scheduling.h"

#include <gmock/gmock.h>

#include "broker/message/message.h"
#include "broker/replica/looking.h"
#include "broker/replica/schedule_watch.h"
#include "tests/broker/fake_group.h"
#include "tests/broker/fake_shard.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using queue::Position;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Sent {
  std::string body;
  int64_t delay_ms = 0;
  int64_t due_at_ms = 0;
};

raft::Bytes LaterBatch(const std::vector<Sent>& messages) {
  raft::Writer batch;
  for (const Sent& sent : messages) {
    raft::Writer message;
    message.Byte(1 << 3 | 2);
    message.Counted(sent.body);
    if (sent.delay_ms != 0) {
      message.Byte(message::kDelayMs << 3);
      message.Varint(static_cast<uint64_t>(sent.delay_ms));
    }
    if (sent.due_at_ms != 0) {
      message.Byte(message::kDueAtMs << 3);
      message.Varint(static_cast<uint64_t>(sent.due_at_ms));
    }
    batch.Byte(1 << 3 | 2);
    batch.Counted(message.bytes());
  }
  return raft::Bytes::Take(batch.Take());
}

class SchedulingTest : public QueueTest {
 protected:
  // What became of it, all parts.
  std::vector<PublishOutcome> Send(const std::vector<Sent>& messages, const std::string& producer = "",
                                   uint64_t epoch = 0, uint64_t first = 1) {
    auto sink = std::make_shared<NotingPublishSink>();
    w_.Serving()->Publish({sink, 7, producer, epoch, first, LaterBatch(messages)});
    EXPECT_TRUE(w_.world.RunUntil([&] {
      uint32_t answered = 0;
      for (const PublishOutcome& outcome : sink->outcomes) answered += outcome.count;
      return answered == messages.size();
    }));
    return sink->outcomes;
  }
  absl::Status Cancel(Position position) {
    std::optional<absl::Status> got;
    w_.Serving()->CancelScheduled(position, [&](absl::Status status) { got = std::move(status); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return got.has_value(); }));
    return got.value_or(absl::UnknownError("no answer"));
  }
  static std::vector<std::string> Bodies(const NotingConsumerSink& sink) {
    std::vector<std::string> bodies;
    for (const DeliveredRun& run : sink.runs) {
      for (std::string& body : BodiesOf(run.batch)) bodies.push_back(std::move(body));
    }
    return bodies;
  }
  bool Arrive(const NotingConsumerSink& sink, uint64_t messages, milliseconds within) {
    return w_.world.RunUntil([&] { return sink.messages() >= messages; }, within);
  }
  uint64_t Scheduled() { return w_.Serving()->machine().schedule().messages(); }
};

TEST_F(SchedulingTest, WhatIsDueIsDeliveredThenAndNotBefore) {
  auto consumer = Attach("s");
  const auto outcomes = Send({{"later", 500}});
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].kind, PublishOutcome::Kind::kOk);
  EXPECT_NE(outcomes[0].first, Position());
  EXPECT_EQ(Describe().scheduled, 1u);
  EXPECT_EQ(Describe().published, 0u) << "no part of what waits";
  EXPECT_FALSE(Arrive(*consumer, 1, milliseconds(400))) << "early";
  EXPECT_TRUE(Arrive(*consumer, 1, milliseconds(200)));
  EXPECT_THAT(Bodies(*consumer), ElementsAre("later"));
  EXPECT_EQ(Describe().scheduled, 0u);
  EXPECT_EQ(Describe().published, 1u);
}

TEST_F(SchedulingTest, TheyComeInTheOrderOfTheirTimes) {
  auto consumer = Attach("s");
  Send({{"c", 300}});
  Send({{"a", 100}, {"b", 200}, {"d", 400}});
  const int64_t due_ms = w_.Serving()->machine().time_ms() + 250;
  Send({{"b2", 0, due_ms}});
  EXPECT_TRUE(Arrive(*consumer, 5, milliseconds(1'000)));
  EXPECT_THAT(Bodies(*consumer), ElementsAre("a", "b", "b2", "c", "d"));
}

TEST_F(SchedulingTest, WhatIsDueInThePastGoesAtOnce) {
  auto consumer = Attach("s");
  Send({{"past", 0, 1}, {"negative", -5}});
  EXPECT_TRUE(Arrive(*consumer, 2, milliseconds(100)));
  EXPECT_EQ(Describe().scheduled, 0u);
}

TEST_F(SchedulingTest, MoreThanTenYearsAheadIsRefused) {
  const auto outcomes = Send({{"x", kMaxDelayMs + 1}});
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].kind, PublishOutcome::Kind::kRefused);
  EXPECT_THAT(outcomes[0].reason, HasSubstr("10 years"));
  EXPECT_EQ(Send({{"x", kMaxDelayMs}})[0].kind, PublishOutcome::Kind::kOk);
  EXPECT_EQ(Send({{"x", std::numeric_limits<int64_t>::max()}})[0].kind, PublishOutcome::Kind::kRefused);
}

// Its messages keep their order among each other; and a retry is answered with where they were first.
TEST_F(SchedulingTest, ABatchOfAProducerIsTakenApart) {
  const uint64_t epoch = Open("p");
  auto consumer = Attach("s");
  const std::vector<Sent> batch = {{"now1"}, {"now2"}, {"later", 300}, {"now3"}};
  const auto outcomes = Send(batch, "p", epoch, 1);
  EXPECT_TRUE(Arrive(*consumer, 3, milliseconds(100)));
  EXPECT_THAT(Bodies(*consumer), ElementsAre("now1", "now2", "now3"));
  std::vector<Position> stored;
  for (const PublishOutcome& outcome : outcomes) {
    EXPECT_EQ(outcome.kind, PublishOutcome::Kind::kOk);
    for (uint32_t i = 0; i < outcome.count; ++i) stored.push_back(outcome.first + i);
  }
  EXPECT_TRUE(Arrive(*consumer, 4, milliseconds(500)));
  std::vector<Position> again;
  for (const PublishOutcome& outcome : Send(batch, "p", epoch, 1)) {
    EXPECT_EQ(outcome.kind, PublishOutcome::Kind::kDuplicate);
    for (uint32_t i = 0; i < outcome.count; ++i) again.push_back(outcome.first + i);
  }
  EXPECT_EQ(stored, again);
  EXPECT_FALSE(Arrive(*consumer, 5, milliseconds(1'000))) << "stored twice";
}

// Its stream counts frames, so that it is confirmed as one.
TEST_F(SchedulingTest, ABatchWithoutAProducerIsConfirmedAsOne) {
  auto consumer = Attach("s");
  EXPECT_EQ(Send({{"now"}, {"later", 300}, {"now"}}).size(), 1u);
  EXPECT_TRUE(Arrive(*consumer, 2, milliseconds(100)));
  EXPECT_FALSE(Arrive(*consumer, 3, milliseconds(100)));
  EXPECT_TRUE(Arrive(*consumer, 3, milliseconds(300)));
}

TEST_F(SchedulingTest, SurvivesTheLeader) {
  for (int i = 0; i < 20; ++i) Send({{std::to_string(i), 3'000 + i}});
  FailOver();
  EXPECT_EQ(Scheduled(), 20u);
  auto consumer = Attach("s");
  EXPECT_TRUE(Arrive(*consumer, 20, milliseconds(6'000)));
  EXPECT_FALSE(Arrive(*consumer, 21, milliseconds(2'000))) << "twice";
}

// In the midst of it: each is released by one leader or the other.
TEST_F(SchedulingTest, ALeaderThatDiesWhileItReleases) {
  for (uint64_t i = 0; i < 300; ++i) Send({{std::to_string(i), 2'000}});
  auto released = [&] { return w_.Serving() != nullptr && w_.Serving()->machine().schedule().released() > 0; };
  ASSERT_TRUE(w_.world.RunUntil(released, milliseconds(5'000)));
  FailOver();
  auto consumer = Attach("s", {}, 1'000);
  EXPECT_TRUE(Arrive(*consumer, 300, milliseconds(5'000)));
  EXPECT_FALSE(Arrive(*consumer, 301, milliseconds(1'000)));
}

TEST_F(SchedulingTest, SurvivesEveryProcess) {
  Send({{"later", 5'000}});
  for (uint64_t id = 1; id <= 3; ++id) w_.Kill(id);
  for (uint64_t id = 1; id <= 3; ++id) w_.world.Start(id);
  ASSERT_TRUE(w_.world.RunUntil([&] { return w_.Serving() != nullptr; }));
  auto consumer = Attach("s");
  EXPECT_TRUE(Arrive(*consumer, 1, milliseconds(6'000)));
}

TEST_F(SchedulingTest, WhatIsCancelledDoesNotCome) {
  auto consumer = Attach("s");
  const Position first = Send({{"a", 500}})[0].first, second = Send({{"b", 500}, {"c", 500}})[0].first;
  EXPECT_EQ(Cancel(second + 1), absl::OkStatus());
  EXPECT_TRUE(absl::IsNotFound(Cancel(second + 1)));
  EXPECT_TRUE(absl::IsNotFound(Cancel(Position(1, 0))));
  EXPECT_EQ(Scheduled(), 2u);
  EXPECT_TRUE(Arrive(*consumer, 2, milliseconds(1'000)));
  EXPECT_THAT(Bodies(*consumer), ElementsAre("a", "b"));
  EXPECT_TRUE(absl::IsNotFound(Cancel(first))) << "it was due";
}

TEST_F(SchedulingTest, APurgeDropsThemToo) {
  auto consumer = Attach("s");
  Send({{"a", 500}, {"b", 600}});
  std::optional<uint64_t> purged;
  w_.Serving()->Purge([&](absl::StatusOr<uint64_t> n) { purged = *n; });
  ASSERT_TRUE(w_.world.RunUntil([&] { return purged.has_value(); }));
  EXPECT_EQ(*purged, 2u);
  Send({{"c", 500}});
  EXPECT_FALSE(Arrive(*consumer, 2, milliseconds(2'000)));
  EXPECT_THAT(Bodies(*consumer), ElementsAre("c"));
}

TEST_F(SchedulingTest, CanBeLookedAt) {
  const Position b = Send({{"b", 700}})[0].first;
  Send({{"a", 500}, {"c", 900}});
  auto page = [&](queue::ScheduleKey from, uint32_t limit) {
    std::optional<SchedulePage> got;
    BrowseSchedule(*w_.Serving(), {.from = from, .max_messages = limit},
                   [&](absl::StatusOr<SchedulePage> p) { got = *std::move(p); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return got.has_value(); }));
    return *got;
  };
  SchedulePage first = page({}, 2);
  ASSERT_EQ(first.messages.size(), 2u);
  EXPECT_EQ(first.messages[1].position, b);
  EXPECT_EQ(first.messages[1].stand.state, MessageStand::State::kScheduled);
  ASSERT_TRUE(first.next);
  EXPECT_EQ(page(*first.next, 2).messages.size(), 1u);

  auto explain = [&] {
    std::optional<absl::StatusOr<Explanation>> got;
    Explain(*w_.Serving(), 0, b, [&](absl::StatusOr<Explanation> e) { got = std::move(e); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return got.has_value(); }));
    return **got;
  };
  EXPECT_EQ(explain().stand.state, MessageStand::State::kScheduled);
  EXPECT_GT(explain().stand.due_ms, explain().published_ms);
  auto consumer = Attach("s");
  ASSERT_TRUE(Arrive(*consumer, 3, milliseconds(2'000)));
  EXPECT_EQ(explain().stand.state, MessageStand::State::kUnscheduled);
}

// Safety rule 8: a replica that follows asks for a leader as the time comes, and not before; and again as long as none
// releases what is due.
TEST(ScheduleWatchTest, AsksForALeaderInTime) {
  queue::Machine machine;
  FakeTime time;
  FakeShard shard(0, &time);
  FakeGroup group;
  ScheduleWatch watch(&shard, &machine);
  auto store = [&](uint64_t index, int64_t due_ms) {
    const raft::Bytes batch = BatchOf({"x"});
    const queue::fact::Published fact{
        .producer = {}, .count = 1, .checksums = *queue::CheckBatch(batch.view(), {}), .due_ms = {due_ms}};
    ASSERT_TRUE(machine.Apply(index, queue::EncodePublished(fact, 0, batch.view())).ok());
    watch.Look(&group);
  };
  const queue::Fact raise = queue::fact::VersionRaised{queue::kScheduleVersion};
  ASSERT_TRUE(machine.Apply(1, queue::EncodeFacts({&raise, 1}, 0)).ok());
  watch.Look(&group);
  const int64_t now_ms = shard.WallMs();
  store(2, now_ms + 1'000'000'000);
  store(3, now_ms + 3'600'000);
  time.Run(std::chrono::minutes(59));
  EXPECT_EQ(group.wanted, 0);
  time.Run(std::chrono::seconds(59));
  EXPECT_GE(group.wanted, 1);
  const int before = group.wanted;
  time.Run(std::chrono::minutes(2));
  EXPECT_GE(group.wanted, before + 2);
  EXPECT_LE(group.wanted, before + 20) << "ever less often";
  // This one leads.
  watch.Look(nullptr);
  const int by_then = group.wanted;
  time.Run(std::chrono::hours(1));
  EXPECT_EQ(group.wanted, by_then);
}

// Safety rule 19: what is released takes room; there is none.
TEST(SchedulingOnFullDiskTest, WhatIsDueWaitsForRoom) {
  QueueWorld w(1);
  bool low = false;
  w.limits.low_disk = [&] { return low; };
  ASSERT_TRUE(w.Up());
  auto sink = std::make_shared<NotingPublishSink>();
  w.Serving()->Publish({sink, 7, "", 0, 1, LaterBatch({{"x", 500}})});
  ASSERT_TRUE(w.world.RunUntil([&] { return !sink->outcomes.empty(); }));
  low = true;
  EXPECT_FALSE(w.world.RunUntil([&] { return w.Serving()->machine().published() > 0; }, milliseconds(5'000)));
  EXPECT_THAT(w.Serving()->Figures().schedule_trouble, HasSubstr("low on disk"));
  low = false;
  EXPECT_TRUE(w.world.RunUntil([&] { return w.Serving()->machine().published() > 0; }, milliseconds(2'000)));
  EXPECT_THAT(w.Serving()->Figures().schedule_trouble, IsEmpty());
}

}  // namespace
}  // namespace trireme::broker::testing
