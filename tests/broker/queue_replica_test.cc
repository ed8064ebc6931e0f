// A queue's replica on simulated nodes: what clients are told, across failovers.
#include "broker/replica/queue_replica.h"

#include <gmock/gmock.h>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using Kind = PublishOutcome::Kind;

using QueueReplicaTest = QueueTest;

TEST_F(QueueReplicaTest, APublishIsConfirmedAndDeliveredWithItsCheckout) {
  auto consumer = Attach("s");
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  Publish(sink, "p", epoch, 1, {"a", "b"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 2; }));
  ASSERT_EQ(sink->outcomes.size(), 1u);
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kOk);
  ASSERT_EQ(consumer->runs.size(), 1u);
  EXPECT_EQ(consumer->runs[0].slots.first, sink->outcomes[0].first);
  EXPECT_EQ(consumer->runs[0].deliveries, 1u);
  EXPECT_THAT(BodiesOf(consumer->runs[0].batch), ::testing::ElementsAre("a", "b"));
  // The checkout is in the very next entry: they shared an append.
  EXPECT_EQ(consumer->runs[0].checkout_index, sink->outcomes[0].first.index() + 1);
}

// Safety rule 6.
TEST_F(QueueReplicaTest, ARetryIsADuplicateEvenWhileItsFirstCopyIsUnderWay) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t epoch = Open("p");
  Publish(sink, "p", epoch, 1, {"a", "b"});
  Publish(sink, "p", epoch, 1, {"a", "b"});
  Publish(sink, "p", epoch, 2, {"b", "c"});  // half of it is new
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 4; }));
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kOk);
  EXPECT_EQ(sink->outcomes[1].kind, Kind::kDuplicate);
  EXPECT_EQ(sink->outcomes[1].first, sink->outcomes[0].first);
  EXPECT_EQ(sink->outcomes[2].kind, Kind::kDuplicate);
  EXPECT_EQ(sink->outcomes[2].first, sink->outcomes[0].first + 1);
  EXPECT_EQ(sink->outcomes[3].kind, Kind::kOk);
  EXPECT_EQ(sink->outcomes[3].first_sequence, 3u);
  EXPECT_EQ(Describe().published, 3u);
}

TEST_F(QueueReplicaTest, ANewerStreamOfAProducerFencesTheOlder) {
  auto sink = std::make_shared<NotingPublishSink>();
  const uint64_t old = Open("p");
  const uint64_t newer = Open("p");
  EXPECT_GT(newer, old);
  Publish(sink, "p", old, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return !sink->outcomes.empty(); }));
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kFenced);
  EXPECT_EQ(Open("p", old), 0u);
  EXPECT_EQ(Open("p", newer), newer);  // one that comes back
  EXPECT_EQ(Describe().published, 0u);
}

// Safety rule 6: a producer that comes back with an epoch and was forgotten does not begin with an empty window.
TEST_F(QueueReplicaTest, AForgottenProducerIsNotTakenBackAsIfItWereNew) {
  EXPECT_EQ(Open("forgotten", 3), 0u);
  EXPECT_EQ(Open("forgotten"), 1u);
  EXPECT_EQ(Open("forgotten", 1), 1u);
}

TEST_F(QueueReplicaTest, AProducerThatIsNotKnownIsUnknownNotStored) {
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "nobody", 1, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return !sink->outcomes.empty(); }));
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kUnknown);
  EXPECT_EQ(Describe().published, 0u);
}

// Safety rule 5: checked out and committed is not yet delivered.
TEST_F(QueueReplicaTest, AResumedSessionGetsWhatItLacksAndNothingThatItHolds) {
  auto consumer = Attach("s");
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {"a", "b", "c"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 3; }));
  const DeliveredRun first = consumer->runs[0];
  FailOver();
  // The client got "a" and "c"; the frame with "b" was lost on the way.
  auto again =
      Attach("s", {{{first.slots.first, 1}, first.checkout_index}, {{first.slots.first + 2, 1}, first.checkout_index}});
  EXPECT_TRUE(again->resumed);
  EXPECT_GT(again->epoch, consumer->epoch);
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->messages() == 1; }));
  w_.world.Run(milliseconds(500));
  ASSERT_EQ(again->runs.size(), 1u);
  EXPECT_THAT(BodiesOf(again->runs[0].batch), ::testing::ElementsAre("b"));
  EXPECT_EQ(again->runs[0].deliveries, 1u);
  EXPECT_EQ(again->runs[0].checkout_index, first.checkout_index);
}

TEST_F(QueueReplicaTest, ANewerStreamOfASessionFencesTheOlder) {
  auto old = Attach("s");
  auto newer = Attach("s");
  EXPECT_EQ(old->cut, CutReason::kFenced);
  EXPECT_TRUE(newer->resumed);
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return newer->messages() == 1; }));
  EXPECT_EQ(old->messages(), 0u);
}

TEST_F(QueueReplicaTest, ASessionThatStaysAwayLosesWhatItHeld) {
  auto consumer = Attach("s", {}, 100, 5'000);
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  w_.Serving()->Detach({"s", consumer.get()}, false);
  auto other = Attach("t");
  w_.world.Run(milliseconds(4'000));
  EXPECT_EQ(other->messages(), 0u);
  ASSERT_TRUE(w_.world.RunUntil([&] { return other->messages() == 1; }, milliseconds(2'000)));
  EXPECT_EQ(other->runs[0].deliveries, 2u);
  // Safety rule 4: the old token is no good any more.
  auto late = Attach("s");
  w_.Serving()->Settle({"s", late.get()}, queue::Disposition::kAcknowledge, {w_.group, {TokenOf(consumer->runs[0])}},
                       9);
  ASSERT_TRUE(w_.world.RunUntil([&] { return late->receipts.contains(9); }));
  EXPECT_THAT(late->lost, ::testing::ElementsAre(TokenOf(consumer->runs[0])));
  EXPECT_EQ(Describe().subscriptions[0].acknowledged, 0u);
}

// Safety rule 7: a leader whose wall clock is behind goes on from where queue time is, and does not wait for its clock.
TEST_F(QueueReplicaTest, QueueTimeGoesOnUnderALeaderWhoseClockIsBehind) {
  PublishEach({"a"});
  const int64_t before = Describe().queue_time_ms;
  for (uint64_t id = 1; id <= 3; ++id) {
    if (id != w_.Leader()) w_.world.node(id).clock_error.wall_skew_ms = -4'500;
  }
  FailOver();
  PublishEach({"b"});
  const int64_t after = Describe().queue_time_ms;
  EXPECT_GE(after, before);
  w_.world.Run(milliseconds(1'000));
  PublishEach({"c"});
  EXPECT_GE(Describe().queue_time_ms, after + 1'000);
}

TEST_F(QueueReplicaTest, AGracefulEndReturnsAtOnce) {
  auto consumer = Attach("s");
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  auto other = Attach("t");
  w_.Serving()->Detach({"s", consumer.get()}, true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return other->messages() == 1; }, milliseconds(500)));
}

// Ending a session is what its client wants, also when the broker has not got round to attaching it.
TEST_F(QueueReplicaTest, AGracefulEndWhileItsAttachIsUnderWayReturnsAtOnce) {
  auto consumer = Attach("s");
  PublishEach({"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  w_.Serving()->Detach({"s", consumer.get()}, false);
  auto other = Attach("t");
  auto again = StartAttach("s", {TokenOf(consumer->runs[0])});
  w_.Serving()->Detach({"s", again.get()}, true);
  EXPECT_TRUE(w_.world.RunUntil([&] { return other->messages() == 1; }, milliseconds(500)));
  EXPECT_FALSE(again->attached);
  EXPECT_EQ(Describe().subscriptions[0].consumers, 1u);
}

// A stream that breaks then has not ended the session, be it a new one (Safety rule 5).
TEST_F(QueueReplicaTest, AStreamThatBreaksWhileItsAttachIsUnderWayKeepsTheSession) {
  auto broken = StartAttach("s", {}, 100, 5'000);
  w_.Serving()->Detach({"s", broken.get()}, false);
  w_.world.Run(milliseconds(4'000));
  EXPECT_EQ(Describe().subscriptions[0].consumers, 1u);
  w_.world.Run(milliseconds(2'000));
  EXPECT_EQ(Describe().subscriptions[0].consumers, 0u);
}

// The end of a stream that a newer one of its session has replaced means nothing.
TEST_F(QueueReplicaTest, AGracefulEndOfAReplacedStreamLeavesTheSession) {
  auto old = StartAttach("s");
  auto newer = StartAttach("s");
  w_.Serving()->Detach({"s", old.get()}, true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return newer->attached; }));
  PublishEach({"a"});
  EXPECT_TRUE(w_.world.RunUntil([&] { return newer->messages() == 1; }, milliseconds(1'000)));
  EXPECT_FALSE(newer->cut.has_value());
}

TEST_F(QueueReplicaTest, SettlingFreesCredit) {
  auto consumer = Attach("s", {}, 2);
  PublishEach(std::vector<std::string>(5, "a"));
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 2; }));
  w_.world.Run(milliseconds(200));
  EXPECT_EQ(consumer->messages(), 2u);
  w_.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kAcknowledge,
                       {w_.group, {TokenOf(consumer->runs[0])}}, 0);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 3; }));
  w_.world.Run(milliseconds(200));
  EXPECT_EQ(consumer->messages(), 3u);
}

// A barrier: it names no message, and is answered when what was sent before it is durable.
TEST_F(QueueReplicaTest, AReceiptWithoutMessagesIsAnswered) {
  auto consumer = Attach("s");
  w_.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kAcknowledge, {}, 3);
  EXPECT_TRUE(w_.world.RunUntil([&] { return consumer->receipts.contains(3); }, milliseconds(1'000)));
}

TEST_F(QueueReplicaTest, AReceiveWaitsItsTimeAndItsLeaseRunsOut) {
  auto take = [&](milliseconds wait) { return Receive(10, wait, milliseconds(1'000)); };
  EXPECT_TRUE(take(milliseconds(300)).empty());
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {"a"});
  std::vector<DeliveredRun> first = take(milliseconds(300));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_TRUE(take(milliseconds(300)).empty());  // it is held
  std::vector<DeliveredRun> second = take(milliseconds(2'000));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].deliveries, 2u);
  std::optional<std::vector<bool>> current;
  w_.Serving()->SettleTokens(0, queue::Disposition::kAcknowledge, {TokenOf(first[0]), TokenOf(second[0])},
                             [&](absl::StatusOr<std::vector<bool>> c) { current = *c; });
  ASSERT_TRUE(w_.world.RunUntil([&] { return current.has_value(); }));
  EXPECT_EQ(*current, (std::vector<bool>{false, true}));
}

// A single receive's answer is of a bounded size, which is known only once the messages are looked up. Those that it
// has no room for go back, and were never delivered.
TEST_F(QueueReplicaTest, WhatAReceiveHandsBackUnseenDoesNotCount) {
  constexpr size_t kEntries = 30;
  auto consumer = std::make_shared<NotingConsumerSink>();
  w_.Serving()->Attach({"s", "test", 30'000, {}, 100'000, uint64_t{64} << 20}, consumer);
  std::vector<std::string> bodies(51, "small");
  bodies[0] = std::string(200'000, 'x');
  auto sink = std::make_shared<NotingPublishSink>();
  for (size_t i = 0; i < kEntries; ++i) Publish(sink, "", 0, 1, bodies);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == kEntries * bodies.size(); }));
  GroupTokens small{w_.group, {}};
  for (const DeliveredRun& run : consumer->runs) {
    const bool has_large = run.slots.first.slot() == 0;
    if (has_large && run.slots.count == 1) continue;
    small.tokens.push_back(has_large ? queue::Token{{run.slots.first + 1, run.slots.count - 1}, run.checkout_index}
                                     : TokenOf(run));
  }
  w_.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kAcknowledge, small, 1);
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->receipts.contains(1); }));
  w_.Serving()->Detach({"s", consumer.get()}, true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return Describe().subscriptions[0].waiting == kEntries; }));

  std::vector<size_t> answers;
  for (size_t received = 0; received < kEntries && answers.size() < kEntries;) {
    std::vector<DeliveredRun> some = Receive(100, milliseconds(100), milliseconds(60'000));
    for (const DeliveredRun& run : some) EXPECT_EQ(run.deliveries, 2u);
    received += some.size();
    answers.push_back(some.size());
  }
  EXPECT_THAT(answers, ::testing::ElementsAre(18, 12));
}

// A new leader does not know at once what its log holds; "nothing there" is said only when it does.
TEST_F(QueueReplicaTest, AReceiveThatDoesNotWaitFindsWhatIsThereAfterAFailover) {
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 1; }));
  FailOver();
  std::optional<Received> got;
  w_.Serving()->Receive("default", 1, milliseconds(0), milliseconds(1'000),
                        [&](absl::StatusOr<Received> r) { got = *std::move(r); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return got.has_value(); }));
  EXPECT_EQ(got->runs.size(), 1u);
}

// Leadership that is lost and won again within a turn: what the old term meant to answer at the turn's end is not a
// receive of the new one.
TEST_F(QueueReplicaTest, AReceiveIsNotAnsweredByAnOlderTerm) {
  PublishEach({"a", "b"});
  QueueReplica* leader = w_.Serving();
  int answered = 0;
  std::optional<Received> first_of_new, second_of_new;
  auto note = [](std::optional<Received>& into) {
    return [&into](absl::StatusOr<Received> r) {
      if (r.ok()) into = *std::move(r);
    };
  };
  auto old_term = [&](absl::StatusOr<Received>) {
    if (++answered != 1) return;
    leader->RoleChanged({}, false);
    leader->RoleChanged({}, true);
    leader->Receive("default", 1, milliseconds(60'000), milliseconds(1'000), note(first_of_new));
    leader->Receive("default", 1, milliseconds(60'000), milliseconds(1'000), note(second_of_new));
  };
  leader->Receive("default", 1, milliseconds(0), milliseconds(40'000), old_term);
  leader->Receive("default", 1, milliseconds(0), milliseconds(40'000), old_term);
  ASSERT_TRUE(w_.world.RunUntil([&] { return answered == 2; }));
  w_.world.Run(milliseconds(5'000));
  EXPECT_FALSE(first_of_new.has_value());
  EXPECT_FALSE(second_of_new.has_value());
}

// Safety rule 19: publishing is refused on a node that is low on disk, and stuck behind its cap; settling passes both.
TEST(QueueReplicaFlow, SettlingPassesLowDiskAndAFullLog) {
  QueueWorld w(5);
  bool low = false;
  w.limits.low_disk = [&] { return low; };
  w.world.options.max_uncommitted_bytes = 2'000;
  ASSERT_TRUE(w.Up());
  auto consumer = std::make_shared<NotingConsumerSink>();
  w.Serving()->Attach({"s", "test", 30'000, {}, 100, 1 << 20}, consumer);
  auto sink = std::make_shared<NotingPublishSink>();
  w.Serving()->Publish({sink, 0, "", 0, 1, BatchOf({"a", "b"})});
  ASSERT_TRUE(w.world.RunUntil([&] { return consumer->messages() == 2; }));

  low = true;
  auto refused = std::make_shared<NotingPublishSink>();
  w.Serving()->Publish({refused, 0, "", 0, 1, BatchOf({"c"})});
  w.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kAcknowledge,
                      {w.group, {{{consumer->runs[0].slots.first, 1}, consumer->runs[0].checkout_index}}}, 1);
  ASSERT_TRUE(w.world.RunUntil([&] { return consumer->receipts.contains(1); }));
  ASSERT_EQ(refused->outcomes.size(), 1u);
  EXPECT_EQ(refused->outcomes[0].kind, Kind::kRefused);
  EXPECT_THAT(refused->outcomes[0].reason, ::testing::HasSubstr("low on disk"));
  low = false;

  // The disks that are low may be those of the others.
  w.world.low_disks = {1, 2, 3};
  w.world.low_disks.erase(w.world.Leader(w.group.value())->leader_node().value());
  w.world.Run(std::chrono::milliseconds(200));
  w.Serving()->Publish({refused, 0, "", 0, 1, BatchOf({"d"})});
  ASSERT_EQ(refused->outcomes.size(), 2u);
  EXPECT_EQ(refused->outcomes[1].kind, Kind::kRefused);
  w.world.low_disks.clear();
  w.world.Run(std::chrono::milliseconds(200));

  // More than the cap waits to be appended, all of it before the settlement is asked for.
  auto flood = std::make_shared<NotingPublishSink>();
  for (int i = 0; i < 40; ++i) w.Serving()->Publish({flood, 0, "", 0, 1, BatchOf({std::string(900, 'x')})});
  w.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kAcknowledge,
                      {w.group, {{{consumer->runs[0].slots.first + 1, 1}, consumer->runs[0].checkout_index}}}, 2);
  ASSERT_TRUE(w.world.RunUntil([&] { return consumer->receipts.contains(2); }));
  EXPECT_LT(flood->outcomes.size(), 10u);
  EXPECT_TRUE(w.world.RunUntil([&] { return flood->outcomes.size() == 40; }));
}

TEST_F(QueueReplicaTest, APurgeDropsWhatWaitsAndLeavesWhatIsHeld) {
  auto consumer = Attach("s", {}, 1);
  auto sink = std::make_shared<NotingPublishSink>();
  for (int i = 0; i < 5; ++i) Publish(sink, "", 0, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 5 && consumer->messages() == 1; }));
  std::optional<uint64_t> purged;
  w_.Serving()->Purge([&](absl::StatusOr<uint64_t> n) { purged = *n; });
  Publish(sink, "", 0, 1, {"after"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return purged.has_value(); }));
  w_.Serving()->Settle({"s", consumer.get()}, queue::Disposition::kAcknowledge,
                       {w_.group, {TokenOf(consumer->runs[0])}}, 1);
  w_.world.Run(milliseconds(300));
  Publish(sink, "", 0, 1, {"later"});
  w_.world.Run(milliseconds(300));
  QueueFigures figures = Describe();
  const SubscriptionFigures& of = figures.subscriptions.at(0);
  EXPECT_EQ(figures.published, of.acknowledged + *purged + of.waiting + of.in_flight);
  EXPECT_EQ(of.acknowledged, 1u);
  EXPECT_EQ(of.in_flight, 1u);
}

// A leader that reads from its disk: nothing but the newest entry stays in memory.
class QueueOnDiskTest : public QueueTest {
 protected:
  void SetUp() override {
    w_.world.options.tail_budget_bytes = 1;
    w_.world.options.snapshot_entries = 10;
    QueueTest::SetUp();
    Led();
  }
  void Led() {
    leader_ = w_.Leader();
    term_ = w_.Serving()->group()->term();
  }
  // Fifty messages wait, and the leader has to read where they are.
  void FiftyUnknown() {
    PublishEach(std::vector<std::string>(50, std::string(100, 'x')));
    FailOver();
    Led();
    w_.world.Run(milliseconds(300));  // the old leader is told what it missed, which is read from the disk, too
  }
  raft::testing::SimStore& store() { return *w_.world.node(leader_).store; }
  // The next read fails, and takes its time.
  void FailNextRead() {
    store().read_error = absl::NotFoundError("no such entry");
    store().read_delay = milliseconds(200);
    reads_ = store().reads;
  }
  void AwaitRead() {
    ASSERT_TRUE(w_.world.RunUntil([&] { return store().reads > reads_; }));
    store().read_delay = milliseconds(0);
  }
  bool LeadsOn() { return w_.Leader() == leader_ && w_.Serving()->group()->term() == term_; }

  uint64_t leader_ = 0, reads_ = 0;
  raft::Term term_;
};

TEST_F(QueueOnDiskTest, WhatWaitsAndCannotBeReadIsLeftToAnotherReplica) {
  FiftyUnknown();
  FailNextRead();
  auto consumer = StartAttach("s");
  AwaitRead();
  EXPECT_TRUE(w_.world.RunUntil([&] { return w_.Leader() != 0 && !LeadsOn(); }, milliseconds(5'000)));
}

TEST_F(QueueOnDiskTest, WhatIsHeldAndCannotBeReadIsLeftToAnotherReplica) {
  PublishEach({std::string(100, 'x'), std::string(100, 'y')});
  FailNextRead();
  auto consumer = StartAttach("s");
  AwaitRead();
  EXPECT_TRUE(w_.world.RunUntil([&] { return w_.Leader() != 0 && !LeadsOn(); }, milliseconds(5'000)));
}

// Safety rule 17: what has rotted is not served.
TEST_F(QueueOnDiskTest, ADamagedMessageIsNotDelivered) {
  auto sink = std::make_shared<NotingPublishSink>();
  Publish(sink, "", 0, 1, {std::string(100, 'x')});
  ASSERT_TRUE(w_.world.RunUntil([&] { return !sink->outcomes.empty(); }));
  const raft::Index index(sink->outcomes[0].first.index());
  bool rotten = false;
  store().Read(raft::GroupId(1), index, index, 1 << 20, [&](absl::StatusOr<std::vector<raft::Entry>> entries) {
    // The simulated disks share the bytes.
    const raft::Bytes& bytes = entries->front().data;
    const_cast<char*>(bytes.data())[bytes.size() - 10] ^= 1;
    rotten = true;
  });
  ASSERT_TRUE(w_.world.RunUntil([&] { return rotten; }));
  auto consumer = StartAttach("s");
  EXPECT_TRUE(w_.world.RunUntil([&] { return w_.Leader() != 0 && !LeadsOn(); }, milliseconds(5'000)));
  EXPECT_EQ(consumer->messages(), 0u);
}

// Purged and compacted while the leader reads ahead: nothing is damaged.
TEST_F(QueueOnDiskTest, APurgeDuringAReadAheadIsNoDamage) {
  FiftyUnknown();
  FailNextRead();
  auto consumer = StartAttach("s");
  AwaitRead();
  std::optional<uint64_t> purged;
  w_.Serving()->Purge([&](absl::StatusOr<uint64_t> n) { purged = *n; });
  ASSERT_TRUE(w_.world.RunUntil([&] { return purged.has_value(); }, milliseconds(100)));
  EXPECT_EQ(*purged, 50u);
  w_.world.Run(milliseconds(5'000));
  EXPECT_TRUE(LeadsOn());
  EXPECT_EQ(consumer->messages(), 0u);
  PublishEach({"after"});
  EXPECT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }, milliseconds(1'000)));
}

// Settled while it was looked up for delivery: nobody misses it, and what is behind it is delivered.
TEST_F(QueueOnDiskTest, AMessageSettledDuringItsReadIsNoDamage) {
  auto consumer = Attach("s", {}, 1);
  PublishEach({std::string(100, 'x'), std::string(100, 'y')});
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 1; }));
  w_.Serving()->Detach({"s", consumer.get()}, false);
  // It comes back without its message, which is looked up again, and settles it all the same.
  FailNextRead();
  auto again = Attach("s", {}, 1);
  AwaitRead();
  w_.Serving()->Settle({"s", again.get()}, queue::Disposition::kAcknowledge, {w_.group, {TokenOf(consumer->runs[0])}},
                       1);
  ASSERT_TRUE(w_.world.RunUntil([&] { return again->receipts.contains(1); }, milliseconds(100)));
  EXPECT_TRUE(w_.world.RunUntil([&] { return again->messages() == 1; }, milliseconds(5'000)));
  EXPECT_THAT(BodiesOf(again->runs.at(0).batch), ::testing::ElementsAre(std::string(100, 'y')));
  EXPECT_TRUE(LeadsOn());
}

TEST_F(QueueReplicaTest, WhatIsUnderWayIsCutNotRefusedWhenLeadershipIsLost) {
  auto sink = std::make_shared<NotingPublishSink>();
  auto consumer = Attach("s");
  const uint64_t leader = w_.Leader();
  for (uint64_t other = 1; other <= 3; ++other) {
    if (other != leader) w_.world.cut.insert({raft::NodeId(leader), raft::NodeId(other)});
  }
  Publish(sink, "", 0, 1, {"a"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->cut.has_value(); }));
  EXPECT_EQ(sink->cut, CutReason::kNotLeader);
  EXPECT_EQ(consumer->cut, CutReason::kNotLeader);
  EXPECT_TRUE(sink->outcomes.empty());
}

}  // namespace
}  // namespace trireme::broker::testing
