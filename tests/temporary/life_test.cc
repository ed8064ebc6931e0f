// What temporary queues give, and when they end.
#include <gmock/gmock.h>

#include "broker/ops/error.h"
#include "tests/temporary/world.h"

namespace trireme::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = PublishOutcome::Kind;

class TemporaryTest : public ::testing::Test {
 protected:
  TemporaryWorld w_;
};

TEST_F(TemporaryTest, MessagesAreDeliveredInOrderAndSettled) {
  const QueuePtr queue = w_.Make();
  EXPECT_EQ(w_.Publish(queue, {"a", "b"}).kind, Kind::kOk);
  auto consumer = w_.Attach(queue, "s");
  EXPECT_EQ(w_.Publish(queue, {"c"}).kind, Kind::kOk);
  ASSERT_THAT(consumer->runs, SizeIs(2));
  EXPECT_THAT(BodiesOf(consumer->runs[0].batch), ElementsAre("a", "b"));
  EXPECT_THAT(BodiesOf(consumer->runs[1].batch), ElementsAre("c"));
  for (const DeliveredRun& run : std::vector(consumer->runs)) w_.Settle(queue, "s", consumer, run);
  EXPECT_THAT(consumer->lost, IsEmpty());
  // A token that is not current changes nothing.
  w_.Settle(queue, "s", consumer, consumer->runs[0]);
  EXPECT_THAT(consumer->lost, SizeIs(1));
}

TEST_F(TemporaryTest, WhatIsRequeuedComesAgain) {
  const QueuePtr queue = w_.Make();
  auto consumer = w_.Attach(queue, "s");
  w_.Publish(queue, {"a"});
  ASSERT_THAT(consumer->runs, SizeIs(1));
  w_.Settle(queue, "s", consumer, consumer->runs[0], queue::Disposition::kRequeue);
  ASSERT_THAT(consumer->runs, SizeIs(2));
  EXPECT_EQ(consumer->runs[1].deliveries, 2u);
  EXPECT_THAT(BodiesOf(consumer->runs[1].batch), ElementsAre("a"));
}

TEST_F(TemporaryTest, AReceiveWaitsForItsMessage) {
  const QueuePtr queue = w_.Make();
  std::optional<std::vector<DeliveredRun>> got;
  w_.Do([&] {
    w_.Replica(queue)->Receive("default", 1, milliseconds(5'000), milliseconds(30'000),
                               [&](absl::StatusOr<Received> given) { got = std::move(given->runs); });
  });
  w_.Run(milliseconds(1'000));
  EXPECT_FALSE(got.has_value());
  w_.Publish(queue, {"a"});
  ASSERT_TRUE(got.has_value());
  EXPECT_THAT(BodiesOf(got->at(0).batch), ElementsAre("a"));
}

// Safety rule 24. Both processes have given the number 1, to different clients.
TEST_F(TemporaryTest, ANameOfAnEarlierProcessReachesNoQueueOfThisOne) {
  const QueuePtr old = w_.Make();
  TemporaryWorld after({}, w_.place.incarnation + 1);
  const QueuePtr others = after.Make();
  ASSERT_EQ(old->group, others->group);
  EXPECT_NE(old->name, others->name);
  const absl::StatusOr<QueuePtr> found = after.queues.Find(after.place, *ParseTemporaryName(old->name));
  EXPECT_EQ(found.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(FactsOf(found.status()).reason, "TEMPORARY_QUEUE_GONE");
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("started again"));
  EXPECT_TRUE(after.There(others));
}

TEST_F(TemporaryTest, GoesWithItsConsumerAtOnce) {
  const QueuePtr queue = w_.Make();
  auto consumer = w_.Attach(queue, "s");
  w_.Publish(queue, {"a"});
  w_.Detach(queue, "s", consumer, /*graceful=*/true);
  EXPECT_FALSE(w_.There(queue));
  EXPECT_EQ(w_.queues.figures().queues, 0u);
  EXPECT_EQ(w_.queues.figures().bytes, 0u);
}

TEST_F(TemporaryTest, OutlivesABrokenStreamForItsSessionsTimeout) {
  const QueuePtr queue = w_.Make();
  auto consumer = w_.Attach(queue, "s");
  w_.Publish(queue, {"a"});
  w_.Detach(queue, "s", consumer, /*graceful=*/false);
  w_.Publish(queue, {"b"});
  w_.Run(milliseconds(9'000));
  ASSERT_TRUE(w_.There(queue));
  // What it held is its own still; what came meanwhile comes now.
  auto again = w_.Attach(queue, "s", {TokenOf(consumer->runs.at(0))});
  EXPECT_TRUE(again->resumed);
  ASSERT_THAT(again->runs, SizeIs(1));
  EXPECT_THAT(BodiesOf(again->runs[0].batch), ElementsAre("b"));
  w_.Detach(queue, "s", again, /*graceful=*/false);
  w_.Run(milliseconds(11'000));
  EXPECT_FALSE(w_.There(queue));
}

TEST_F(TemporaryTest, GoesWithTheLastOfSeveralConsumers) {
  trireme::v1::TemporarySettings shared;
  shared.set_shared(true);
  const QueuePtr queue = w_.Make(shared);
  EXPECT_TRUE(w_.queues.Admit(queue->group, "one").ok());
  EXPECT_TRUE(w_.queues.Admit(queue->group, "two").ok());
  auto one = w_.Attach(queue, "one");
  auto two = w_.Attach(queue, "two");
  w_.Detach(queue, "one", one, true);
  EXPECT_TRUE(w_.There(queue));
  w_.Detach(queue, "two", two, true);
  EXPECT_FALSE(w_.There(queue));
}

TEST_F(TemporaryTest, AnExclusiveOneIsTheFirstSessionsAlone) {
  const QueuePtr queue = w_.Make();
  EXPECT_TRUE(w_.queues.Admit(queue->group, "").ok());  // a Receive, while there is no session
  EXPECT_TRUE(w_.queues.Admit(queue->group, "mine").ok());
  EXPECT_TRUE(w_.queues.Admit(queue->group, "mine").ok());
  for (const char* other : {"other", ""}) {
    const absl::Status refused = w_.queues.Admit(queue->group, other);
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(FactsOf(refused).reason, "EXCLUSIVE_QUEUE");
  }
  // What is not held here is not judged here.
  EXPECT_TRUE(w_.queues.Admit(raft::GroupId(1), "other").ok());
}

TEST_F(TemporaryTest, GoesWhenNothingIsDoneWithIt) {
  trireme::v1::TemporarySettings settings;
  settings.set_idle_timeout_ms(2'000);
  const QueuePtr unused = w_.Make(settings), used = w_.Make(settings), waited_at = w_.Make(settings),
                 consumed = w_.Make(settings);
  auto consumer = w_.Attach(consumed, "s", {}, 60'000);
  w_.Do([&] { w_.queues.Use(waited_at->group, milliseconds(10'000)); });
  w_.Run(milliseconds(1'500));
  w_.Publish(used, {"a"});
  w_.Run(milliseconds(1'100));
  EXPECT_FALSE(w_.There(unused));
  EXPECT_TRUE(w_.There(used));
  w_.Run(milliseconds(2'000));
  EXPECT_FALSE(w_.There(used));
  EXPECT_TRUE(w_.There(waited_at));
  w_.Run(milliseconds(9'000));
  EXPECT_FALSE(w_.There(waited_at));
  // A consumer that has nothing to do is there all the same.
  EXPECT_TRUE(w_.There(consumed));
}

TEST_F(TemporaryTest, GoesWhenWhoeverWantedItIsGone) {
  bool gone = false;
  absl::StatusOr<QueuePtr> queue = w_.TryMake({.abandoned = [&] { return gone; }});
  w_.Run(milliseconds(2'000));
  EXPECT_TRUE(w_.There(*queue));
  gone = true;
  w_.Run(milliseconds(1'000));
  EXPECT_FALSE(w_.There(*queue));
}

TEST_F(TemporaryTest, WhoUsesItIsToldThatItIsDeleted) {
  const QueuePtr queue = w_.Make();
  auto consumer = w_.Attach(queue, "s");
  std::optional<absl::Status> received;
  w_.Do([&] {
    w_.Replica(queue)->Receive("default", 1, milliseconds(5'000), milliseconds(30'000),
                               [&](const absl::StatusOr<Received>& given) { received = given.status(); });
    w_.queues.RemoveSoon(queue->group);
    w_.queues.RemoveSoon(queue->group);
  });
  EXPECT_EQ(consumer->cut, CutReason::kQueueDeleted);
  ASSERT_TRUE(received.has_value());
  EXPECT_FALSE(received->ok());
  EXPECT_FALSE(w_.There(queue));
}

}  // namespace
}  // namespace trireme::broker::testing
