// Several subscriptions on one queue, on three simulated nodes.
#include <gmock/gmock.h>
#include <malloc.h>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using At = SubscriptionStart::At;

class SubscriptionsTest : public QueueTest {
 protected:
  absl::StatusOr<SubscriptionMade> Create(const std::string& name, SubscriptionStart start = {},
                                          const std::string& filter = "") {
    return Await([&](SubscribeDone done) {
      w_.Serving()->CreateSubscription(name, {.filter = filter}, start, std::move(done));
    });
  }
  absl::StatusOr<SubscriptionMade> Change(const std::string& name, const std::string& filter) {
    return Await(
        [&](SubscribeDone done) { w_.Serving()->ChangeSubscription(name, {.filter = filter}, std::move(done)); });
  }
  absl::StatusOr<SubscriptionMade> Set(const std::string& name, queue::SubscriptionSettings settings) {
    return Await([&](SubscribeDone done) { w_.Serving()->ChangeSubscription(name, settings, std::move(done)); });
  }
  absl::StatusOr<SubscriptionMade> Delete(const std::string& name) {
    return Await([&](SubscribeDone done) { w_.Serving()->DeleteSubscription(name, std::move(done)); });
  }
  SubscriptionFigures Of(const std::string& name) {
    for (const SubscriptionFigures& s : Describe().subscriptions) {
      if (s.name == name) return s;
    }
    ADD_FAILURE() << "no subscription " << name;
    return {};
  }
  std::vector<std::string> Bodies(const std::vector<DeliveredRun>& runs) {
    std::vector<std::string> all;
    for (const DeliveredRun& run : runs) {
      for (std::string& body : BodiesOf(run.batch)) all.push_back(std::move(body));
    }
    return all;
  }
  std::vector<std::string> ReceiveAll(const std::string& subscription) {
    return Bodies(Receive(100, milliseconds(0), milliseconds(30'000), subscription));
  }
  void AckAll(const std::string& session, const std::string& subscription,
              const std::shared_ptr<NotingConsumerSink>& consumer) {
    GroupTokens tokens{w_.group, {}};
    for (const DeliveredRun& run : consumer->runs) tokens.tokens.push_back(TokenOf(run));
    w_.Serving()->Settle({session, consumer.get(), subscription}, queue::Disposition::kAcknowledge, tokens, 77);
    ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->receipts.contains(77); }));
    EXPECT_THAT(consumer->lost, IsEmpty());
  }

 private:
  template <typename Ask>
  absl::StatusOr<SubscriptionMade> Await(Ask ask) {
    std::optional<absl::StatusOr<SubscriptionMade>> made;
    ask([&](absl::StatusOr<SubscriptionMade> m) { made = std::move(m); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return made.has_value(); }));
    return made.value_or(absl::InternalError("no answer"));
  }
};

// A batch with one message, with a header.
raft::Bytes Coloured(const std::string& body, const std::string& colour) {
  raft::Writer value, header, message, batch;
  value.Byte(1 << 3 | 2);
  value.Counted(colour);
  header.Byte(1 << 3 | 2);
  header.Counted("colour");
  header.Byte(2 << 3 | 2);
  header.Counted(value.bytes());
  message.Byte(1 << 3 | 2);
  message.Counted(body);
  message.Byte(4 << 3 | 2);
  message.Counted(header.bytes());
  batch.Byte(1 << 3 | 2);
  batch.Counted(message.bytes());
  return raft::Bytes::Take(batch.Take());
}

TEST_F(SubscriptionsTest, EachGetsEveryMessageAndKeepsItsOwnCountsOverAFailover) {
  auto made = Create("audit");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(made->created);
  auto again = Create("audit");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->created);
  PublishEach({"a", "b", "c"});

  auto consumer = Attach("s");
  auto auditor = Attach("s", {}, 2, 30'000, "audit");
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 3 && auditor->messages() == 2; }));
  AckAll("s", "default", consumer);
  EXPECT_EQ(Of("default").acknowledged, 3u);
  EXPECT_EQ(Of("audit").acknowledged, 0u);

  FailOver();
  EXPECT_EQ(Of("audit").in_flight, 2u);
  EXPECT_EQ(Of("audit").waiting, 1u);
  // It resumes there, and nowhere else.
  auto resumed = Attach("s", {TokenOf(auditor->runs[0]), TokenOf(auditor->runs[1])}, 10, 30'000, "audit");
  EXPECT_TRUE(resumed->resumed);
  ASSERT_TRUE(w_.world.RunUntil([&] { return resumed->messages() == 1; }));
  EXPECT_THAT(Bodies(resumed->runs), ElementsAre("c"));
  resumed->runs.insert(resumed->runs.begin(), auditor->runs.begin(), auditor->runs.end());
  AckAll("s", "audit", resumed);
  EXPECT_EQ(Of("audit").acknowledged, 3u);
  EXPECT_EQ(Of("default").acknowledged, 3u);
}

TEST_F(SubscriptionsTest, OneBeginsWhereItIsTold) {
  PublishEach({"a", "b"});
  const int64_t later = Describe().queue_time_ms + 5'000;
  w_.world.Run(milliseconds(6'000));
  PublishEach({"c", "d"});
  auto held = Receive(3, milliseconds(0), milliseconds(600'000));
  ASSERT_EQ(Bodies(held).size(), 3u);

  ASSERT_TRUE(Create("end").ok());
  ASSERT_TRUE(Create("first", {.at = At::kFirst}).ok());
  ASSERT_TRUE(Create("place", {.at = At::kPosition, .position = held[1].slots.first}).ok());
  ASSERT_TRUE(Create("time", {.at = At::kTime, .time_ms = later}).ok());
  ASSERT_TRUE(Create("future", {.at = At::kTime, .time_ms = later + 1'000'000}).ok());
  ASSERT_TRUE(Create("beyond", {.at = At::kPosition, .position = queue::Position(1'000'000, 0)}).ok());
  PublishEach({"e"});
  EXPECT_THAT(ReceiveAll("end"), ElementsAre("e"));
  EXPECT_THAT(ReceiveAll("first"), ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_THAT(ReceiveAll("place"), ElementsAre("b", "c", "d", "e"));
  EXPECT_THAT(ReceiveAll("time"), ElementsAre("d", "e"));  // "c" is below the slowest cursor: held, not waiting
  EXPECT_THAT(ReceiveAll("future"), ElementsAre("e"));
  EXPECT_THAT(ReceiveAll("beyond"), ElementsAre("e"));
}

// Beyond the first milestones of the log: the search begins at the nearest.
TEST_F(SubscriptionsTest, APlaceDeepInTheLogIsFound) {
  ASSERT_TRUE(Create("end").ok());  // they come with the second version of the facts
  int64_t times[3];
  for (int i = 0; i < 3; ++i) {
    times[i] = Describe().queue_time_ms + 100;
    w_.world.Run(milliseconds(200));
    PublishEach(std::vector<std::string>(1'100, std::string(1, static_cast<char>('a' + i))));
  }
  ASSERT_GE(w_.Serving()->machine().milestones().all().size(), 3u);
  const queue::Milestones::Stone third = w_.Serving()->machine().milestones().all()[2];
  ASSERT_TRUE(Create("stone", {.at = At::kPosition, .position = queue::Position(third.index, 0)}).ok());
  ASSERT_TRUE(Create("before", {.at = At::kPosition, .position = queue::Position(third.index - 1, 0)}).ok());
  ASSERT_TRUE(Create("second", {.at = At::kTime, .time_ms = times[1]}).ok());
  ASSERT_TRUE(Create("third", {.at = At::kTime, .time_ms = times[2]}).ok());
  EXPECT_EQ(Of("stone").waiting, 3'300 - third.ordinal);
  EXPECT_EQ(Of("before").waiting, 3'300 - third.ordinal + 1);
  EXPECT_EQ(Of("second").waiting, 2'200u);
  EXPECT_EQ(Of("third").waiting, 1'100u);
}

TEST_F(SubscriptionsTest, AFilterTakesWhatMatchesAndCountsTheRest) {
  auto sink = std::make_shared<NotingPublishSink>();
  auto publish = [&](const std::string& body, const std::string& colour) {
    const size_t before = sink->outcomes.size();
    w_.Serving()->Publish({sink, 0, "", 0, 1, Coloured(body, colour)});
    ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() > before; }));
  };
  publish("a", "red");
  publish("b", "blue");
  // What others hold is looked at, too.
  ASSERT_EQ(Receive(2, milliseconds(0), milliseconds(600'000)).size(), 2u);
  ASSERT_TRUE(Create("reds", {.at = At::kFirst}, "colour = 'red'").ok());
  publish("c", "blue");
  publish("d", "red");
  publish("e", "green");
  auto consumer = Attach("s", {}, 100, 30'000, "reds");
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 2; }));
  EXPECT_THAT(Bodies(consumer->runs), ElementsAre("a", "d"));
  // The rest is told to the state after a while, so that it does not keep the log.
  ASSERT_TRUE(w_.world.RunUntil([&] { return Of("reds").skipped == 3; }));
  EXPECT_EQ(Of("reds").waiting, 0u);
  AckAll("s", "reds", consumer);

  FailOver();
  publish("f", "blue");
  publish("g", "red");
  auto again = Attach("s", {}, 100, 30'000, "reds");
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->messages() == 1; }));
  EXPECT_THAT(Bodies(again->runs), ElementsAre("g"));
  ASSERT_TRUE(Change("reds", "colour <> 'red'").ok());
  publish("h", "blue");
  publish("i", "red");
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->messages() == 2; }));
  EXPECT_THAT(Bodies(again->runs), ElementsAre("g", "h"));
  EXPECT_EQ(Of("reds").settings.filter, "colour <> 'red'");
}

TEST_F(SubscriptionsTest, WhatIsWrongIsRefused) {
  auto bad = Create("bad", {}, "colour = = 'red'");
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(bad.status().message(), HasSubstr("column 10"));
  ASSERT_TRUE(Create("good", {}, "a = 1").ok());
  EXPECT_EQ(Create("good", {}, "a = 2").status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Change("good", "(").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Change("none", "").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Delete("none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Attach("s", {}, 1, 30'000, "none")->cut, CutReason::kSubscriptionGone);
  std::optional<absl::Status> received;
  w_.Serving()->Receive("none", 1, milliseconds(0), milliseconds(1'000),
                        [&](absl::StatusOr<Received> r) { received = r.status(); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return received.has_value(); }));
  EXPECT_EQ(received->code(), absl::StatusCode::kNotFound);
}

TEST_F(SubscriptionsTest, DeletingOneEndsItsStreamsAndItsTokens) {
  ASSERT_TRUE(Create("audit").ok());
  PublishEach({"a"});
  auto auditor = Attach("s", {}, 100, 30'000, "audit");
  auto other = Attach("s");
  ASSERT_TRUE(w_.world.RunUntil([&] { return auditor->messages() == 1 && other->messages() == 1; }));
  std::optional<absl::Status> waiting;
  w_.Serving()->Receive("audit", 1, milliseconds(60'000), milliseconds(1'000),
                        [&](absl::StatusOr<Received> r) { waiting = r.status(); });
  ASSERT_TRUE(Delete("audit").ok());
  EXPECT_EQ(auditor->cut, CutReason::kSubscriptionGone);
  ASSERT_TRUE(waiting.has_value());
  EXPECT_EQ(waiting->code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(other->cut.has_value());
  // Another one of that name is another one (Safety rule 4).
  ASSERT_TRUE(Create("audit", {.at = At::kFirst}).ok());
  auto again = Attach("s", {TokenOf(auditor->runs[0])}, 100, 30'000, "audit");
  EXPECT_FALSE(again->resumed);
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->messages() == 1; }));
  w_.Serving()->Settle({"s", again.get(), "audit"}, queue::Disposition::kAcknowledge,
                       {w_.group, {TokenOf(auditor->runs[0])}}, 5);
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->receipts.contains(5); }));
  EXPECT_THAT(again->lost, ElementsAre(TokenOf(auditor->runs[0])));
  AckAll("s", "default", other);
}

// One entry has both, and both askers are answered when the subscription is gone already.
TEST_F(SubscriptionsTest, OneIsChangedAndDeletedAtOnce) {
  ASSERT_TRUE(Create("audit").ok());
  auto auditor = Attach("s", {}, 100, 30'000, "audit");
  std::vector<absl::Status> said;
  auto note = [&](absl::StatusOr<SubscriptionMade> made) { said.push_back(made.status()); };
  w_.Serving()->ChangeSubscription("audit", {.filter = "a = 1"}, note);
  w_.Serving()->DeleteSubscription("audit", note);
  ASSERT_TRUE(w_.world.RunUntil([&] { return said.size() == 2; }));
  EXPECT_TRUE(said[0].ok()) << said[0];
  EXPECT_TRUE(said[1].ok()) << said[1];
  EXPECT_EQ(auditor->cut, CutReason::kSubscriptionGone);
}

TEST_F(SubscriptionsTest, WithoutAnyNothingIsKept) {
  ASSERT_TRUE(Delete("default").ok());
  PublishEach({"a", "b"});
  ASSERT_TRUE(Create("default", {.at = At::kFirst}).ok());
  PublishEach({"c"});
  EXPECT_THAT(ReceiveAll("default"), ElementsAre("c"));
}

// Gives the last message that came back; how long until it comes again, in steps of 50 ms.
class ReturnsTest : public SubscriptionsTest {
 protected:
  milliseconds Requeue(const std::shared_ptr<NotingConsumerSink>& consumer, int64_t delay_ms = Settling::kAsSet) {
    const size_t before = consumer->runs.size();
    w_.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kRequeue,
                         {w_.group, {TokenOf(consumer->runs.back())}}, 0, delay_ms);
    milliseconds waited{0};
    while (consumer->runs.size() == before && waited < milliseconds(60'000)) {
      w_.world.Run(milliseconds(50));
      waited += milliseconds(50);
    }
    return waited;
  }
};

TEST_F(ReturnsTest, ABackOffGrowsWithTheDeliveriesOverAFailover) {
  ASSERT_TRUE(Set("default", {.retry_delay_ms = 1'000, .retry_percent = 300, .max_retry_delay_ms = 5'000}).ok());
  PublishEach({"a"});
  auto consumer = Attach("s", {}, 100, 600'000);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  EXPECT_THAT(Requeue(consumer).count(), ::testing::AllOf(::testing::Ge(1'000), ::testing::Le(1'200)));
  EXPECT_EQ(consumer->runs.back().deliveries, 2u);
  EXPECT_THAT(Requeue(consumer).count(), ::testing::AllOf(::testing::Ge(3'000), ::testing::Le(3'200)));
  EXPECT_THAT(Requeue(consumer).count(), ::testing::AllOf(::testing::Ge(5'000), ::testing::Le(5'200)));
  // One that asks for its own.
  EXPECT_THAT(Requeue(consumer, 0).count(), ::testing::Le(200));
  EXPECT_THAT(Requeue(consumer, 8'000).count(), ::testing::AllOf(::testing::Ge(8'000), ::testing::Le(8'200)));
  EXPECT_EQ(consumer->runs.back().deliveries, 6u);
  // It stays away for as long, whoever leads.
  w_.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kRequeue,
                       {w_.group, {TokenOf(consumer->runs.back())}}, 5, 20'000);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->receipts.contains(5); }));
  FailOver();
  auto again = Attach("s", {}, 100, 600'000);
  w_.world.Run(milliseconds(10'000));
  EXPECT_EQ(again->messages(), 0u);
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->messages() == 1; }, milliseconds(15'000)));
  EXPECT_EQ(again->runs.back().deliveries, 7u);
}

// Safety rule 3: the settlement that first needs a version does not go before the fact that raises the log to it.
TEST_F(ReturnsTest, TheFirstDelayOfAQueueRaisesItsFacts) {
  PublishEach({"a"});
  auto consumer = Attach("s", {}, 100, 600'000);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  EXPECT_THAT(Requeue(consumer, 2'000).count(), ::testing::AllOf(::testing::Ge(2'000), ::testing::Le(2'200)));
  EXPECT_EQ(w_.Serving()->machine().version(), 3u);
}

TEST_F(ReturnsTest, PastItsLimitAMessageIsDroppedAndCounted) {
  ASSERT_TRUE(Set("default", {.delivery_limit = 3}).ok());
  PublishEach({"poison", "good"});
  auto consumer = Attach("s", {}, 1);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  Requeue(consumer);
  // However it comes back: requeued, its session ended, or its lease.
  FailOver();
  auto second = Attach("s", {TokenOf(consumer->runs.back())}, 1);
  w_.Serving()->Detach({"s", second.get()}, true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return Of("default").in_flight == 0; }));
  auto third = Receive(1, milliseconds(0), milliseconds(1'000));
  ASSERT_THAT(third, SizeIs(1));
  EXPECT_EQ(third[0].deliveries, 3u);
  ASSERT_TRUE(w_.world.RunUntil([&] { return Of("default").dead == 1; }, milliseconds(5'000)));
  EXPECT_EQ(Of("default").waiting, 1u);
  EXPECT_THAT(ReceiveAll("default"), ElementsAre("good"));
}

TEST_F(ReturnsTest, WhatIsWrongIsRefused) {
  EXPECT_EQ(Set("default", {.retry_delay_ms = 43'200'001}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Set("default", {.retry_percent = 99}).status().code(), absl::StatusCode::kInvalidArgument);
  auto bad = Set("default", {.retry_delay_ms = 2'000, .max_retry_delay_ms = 1'000});
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(bad.status().message(), HasSubstr("max_retry_delay_ms is 1000; it must be 2000 to 43200000"));
}

// What is read while the filter is changed was judged by the old one.
TEST_F(SubscriptionsTest, AReadThatIsUnderWayWhenTheFilterChangesSaysNothing) {
  ASSERT_TRUE(Create("painted", {}, "colour = 'red'").ok());
  auto sink = std::make_shared<NotingPublishSink>();
  for (size_t i = 1; i <= 3; ++i) {
    w_.Serving()->Publish({sink, 0, "", 0, 1, Coloured("b" + std::to_string(i), "blue")});
    ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == i; }));
  }
  // Nobody has them in memory.
  w_.world.Run(milliseconds(1'000));
  for (uint64_t id = 1; id <= 3; ++id) w_.Kill(id);
  for (uint64_t id = 1; id <= 3; ++id) w_.world.Start(id);
  ASSERT_TRUE(w_.world.RunUntil([&] { return w_.Leader() != 0; }, milliseconds(60'000)));
  for (uint64_t id = 1; id <= 3; ++id) w_.world.node(id).store->read_delay = std::chrono::seconds(5);
  auto painter = Attach("s", {}, 100, 30'000, "painted");
  ASSERT_TRUE(Change("painted", "colour = 'blue'").ok());
  EXPECT_TRUE(w_.world.RunUntil([&] { return painter->messages() == 3; }, milliseconds(60'000)));
  EXPECT_THAT(Bodies(painter->runs), ElementsAre("b1", "b2", "b3"));
}

// Whether there is such a subscription takes a moment to be known.
TEST_F(SubscriptionsTest, AStreamThatIsGoneByThenTakesNothing) {
  bool made = false;
  w_.Serving()->CreateSubscription("late", {}, {}, [&](absl::StatusOr<SubscriptionMade> m) { made = m.ok(); });
  auto gone = StartAttach("s", {}, 100, 30'000, "late");
  w_.Serving()->Detach({"s", gone.get(), "late"}, false);
  auto older = StartAttach("t", {}, 100, 30'000, "late");
  auto newer = StartAttach("t", {}, 100, 30'000, "late");
  EXPECT_TRUE(older->cut) << "of one session the newest stream counts";
  ASSERT_TRUE(w_.world.RunUntil([&] { return made && (newer->attached || newer->cut); }));
  w_.world.Run(milliseconds(1'000));
  PublishEach({"a"});
  w_.world.Run(milliseconds(1'000));
  EXPECT_FALSE(gone->attached);
  EXPECT_FALSE(older->attached);
  EXPECT_EQ(newer->messages() + Of("late").waiting, 1u);
}

// Safety rule 3: as long as a replica may be of an older program, its log is one that it can read.
class OldNodesTest : public SubscriptionsTest {
 protected:
  OldNodesTest() {
    w_.limits.lacking = [this](const std::vector<raft::NodeId>& nodes, uint32_t version) {
      EXPECT_THAT(nodes, SizeIs(3));
      std::vector<LackingNode> lacking;
      if (third_ < version) lacking.push_back({nodes.back(), third_});
      return lacking;
    };
  }
  uint32_t third_ = 0;  // what the third node understands
};

TEST_F(OldNodesTest, WhatTheyDoNotUnderstandIsRefusedUntilTheyDo) {
  const absl::Status unheard = Create("audit").status();
  EXPECT_EQ(unheard.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(unheard.message(), HasSubstr("node 3 (not heard of"));
  third_ = 1;
  const absl::Status old = Create("audit").status();
  EXPECT_EQ(old.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(old.message(), HasSubstr("node 3 (understands version 1)"));
  EXPECT_EQ(Change("default", "a = 1").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Delete("default").status().code(), absl::StatusCode::kFailedPrecondition);
  PublishEach({"a"});
  EXPECT_EQ(w_.Serving()->Digest() >> 32, uint64_t{2} << 16 | 1);  // as the older program makes it
  third_ = 2;
  ASSERT_TRUE(Create("audit").ok());
  EXPECT_EQ(w_.Serving()->Digest() >> 32, uint64_t{3} << 16 | 2);
  // Settings of a later version, and delays, are refused on their own.
  EXPECT_EQ(Set("audit", {.delivery_limit = 3}).status().code(), absl::StatusCode::kFailedPrecondition);
  std::optional<absl::Status> settled;
  w_.Serving()->SettleTokens(
      0, queue::Disposition::kRequeue, {{{queue::Position(1, 0), 1}, 2}},
      [&](absl::StatusOr<std::vector<bool>> s) { settled = s.status(); }, 1'000);
  ASSERT_TRUE(settled.has_value());
  EXPECT_EQ(settled->code(), absl::StatusCode::kFailedPrecondition);
  // From then on there is no way back.
  third_ = 1;
  FailOver();
  EXPECT_TRUE(Create("another").ok());
}

// 1,000 of them cost so much at most, wherever that is.
TEST_F(SubscriptionsTest, AThousandAreSmall) {
  const size_t before = mallinfo2().uordblks;
  for (int i = 0; i < 999; ++i) ASSERT_TRUE(Create("s" + std::to_string(i)).ok());
  EXPECT_EQ(Create("one-more").status().code(), absl::StatusCode::kResourceExhausted);
  PublishEach({"a", "b"});
  const size_t each = (mallinfo2().uordblks - before) / 999 / 3;
  std::printf("%zu bytes per subscription and node, where a third leads\n", each);
  EXPECT_LE(each, 16'384u / 3);
}

// Who is active does not depend on who leads, nor on who is back first.
TEST_F(SubscriptionsTest, TheSingleActiveConsumerStaysSoOverAFailover) {
  ASSERT_TRUE(Set("default", {.single_active = true}).ok());
  auto first = Attach("z", {}, 2);
  auto second = Attach("a", {}, 100, 5'000);
  EXPECT_FALSE(first->standby);
  EXPECT_TRUE(second->standby);
  PublishEach({"1", "2", "3", "4"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return first->messages() == 2; }));
  EXPECT_EQ(Of("default").active_session, "z");
  EXPECT_EQ(Of("default").active_consumer, "test");

  FailOver();
  auto waits = Attach("a", {}, 100, 5'000);
  EXPECT_TRUE(waits->standby);
  w_.world.Run(milliseconds(10'000));
  EXPECT_EQ(waits->messages(), 0u) << "the active one has 30 s to come back";
  auto resumed = Attach("z", {TokenOf(first->runs[0]), TokenOf(first->runs[1])}, 3);
  EXPECT_TRUE(resumed->resumed);
  EXPECT_FALSE(resumed->standby);
  ASSERT_TRUE(w_.world.RunUntil([&] { return resumed->messages() == 1; }));
  EXPECT_THAT(Bodies(resumed->runs), ElementsAre("3"));

  w_.Serving()->Detach({"z", resumed.get()}, /*graceful=*/true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return waits->messages() == 4; }));
  EXPECT_FALSE(waits->standby);
  EXPECT_THAT(Bodies(waits->runs), ElementsAre("1", "2", "3", "4"));
  EXPECT_EQ(Of("default").active_session, "a");
}

TEST_F(SubscriptionsTest, ASettingMakesStandbysAndFreesThem) {
  auto first = Attach("z");
  auto second = Attach("a");
  EXPECT_FALSE(second->standby);
  ASSERT_TRUE(Set("default", {.single_active = true}).ok());
  ASSERT_TRUE(w_.world.RunUntil([&] { return second->standby; }));
  EXPECT_FALSE(first->standby);
  absl::Status refused;
  w_.Serving()->Receive("default", 1, milliseconds(0), milliseconds(30'000),
                        [&](absl::StatusOr<Received> r) { refused = r.status(); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return !refused.ok(); }));
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("single active consumer"));
  ASSERT_TRUE(Set("default", {}).ok());
  ASSERT_TRUE(w_.world.RunUntil([&] { return !second->standby; }));
  EXPECT_EQ(Of("default").active_session, "");
}

}  // namespace
}  // namespace trireme::broker::testing
