// Looking at a queue's messages and leases changes nothing; releasing a lease is a return like any other.
#include "broker/replica/looking.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using queue::Position;
using State = MessageStand::State;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Looking : public QueueTest {
 protected:
  template <typename T, typename Start>
  absl::StatusOr<T> Wait(Start start) {
    std::optional<absl::StatusOr<T>> got;
    start([&](absl::StatusOr<T> result) { got = std::move(result); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return got.has_value(); }));
    return got.value_or(absl::UnknownError("no answer"));
  }
  BrowsedPage Page(Position from, uint32_t limit, size_t bytes = 1 << 20) {
    auto page = Wait<BrowsedPage>([&](auto done) {
      Browse(*w_.Serving(), {.subscription = 0, .from = from, .max_messages = limit, .max_bytes = bytes}, done);
    });
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? *page : BrowsedPage();
  }
  absl::StatusOr<Explanation> ExplainAt(Position position) {
    return Wait<Explanation>([&](auto done) { Explain(*w_.Serving(), 0, position, done); });
  }
  std::vector<Lease> Leases() {
    auto page = Wait<LeasesPage>([&](auto done) { ListLeases(*w_.Serving(), 0, {}, 1'000, done); });
    EXPECT_TRUE(page.ok()) << page.status();
    return page.ok() ? page->leases : std::vector<Lease>();
  }
  absl::StatusOr<uint64_t> ReleaseAll(const ReleaseWanted& wanted) {
    return Wait<uint64_t>([&](auto done) { Release(*w_.Serving(), wanted, done); });
  }
  static std::string Body(const raft::Bytes& message) {
    raft::Reader in(message.view());
    in.Byte();
    return std::string(in.Counted());
  }
  static std::vector<std::string> Bodies(const BrowsedPage& page) {
    std::vector<std::string> bodies;
    for (const BrowsedMessage& message : page.messages) bodies.push_back(Body(message.message));
    return bodies;
  }
  // Delivered to a consumer of that session.
  std::shared_ptr<NotingConsumerSink> Take(const std::string& session, uint32_t messages) {
    auto sink = Attach(session, {}, messages);
    EXPECT_TRUE(w_.world.RunUntil([&] { return sink->messages() == messages; }));
    return sink;
  }
  void Settle(const std::string& session, const std::shared_ptr<NotingConsumerSink>& sink, queue::Disposition how,
              std::vector<queue::Token> tokens) {
    w_.Serving()->Settle({session, sink.get()}, how, {w_.group, std::move(tokens)}, ++receipt_);
    EXPECT_TRUE(w_.world.RunUntil([&] { return sink->receipts.contains(receipt_); }));
  }
  uint64_t receipt_ = 0;
};

TEST_F(Looking, BrowsingShowsWhatIsNotSettledAndWhoHasIt) {
  PublishEach({"a", "b", "c", "d", "e"});
  auto sink = Take("s1", 2);
  Settle("s1", sink, queue::Disposition::kAcknowledge, {TokenOf(sink->runs[0])});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->messages() == 3; }));
  const QueueFigures before = Describe();
  const BrowsedPage page = Page({}, 100);
  EXPECT_THAT(Bodies(page), ElementsAre("b", "c", "d", "e"));
  EXPECT_FALSE(page.next.has_value());
  for (size_t i = 0; i < 4; ++i) {
    const BrowsedMessage& message = page.messages[i];
    EXPECT_GT(message.published_ms, 0);
    if (i < 2) {
      EXPECT_EQ(message.stand.state, State::kInFlight);
      EXPECT_EQ(message.stand.deliveries, 1u);
      EXPECT_EQ(message.holder.session, "s1");
      EXPECT_EQ(message.holder.consumer, "test");
    } else {
      EXPECT_EQ(message.stand.state, State::kWaiting);
      EXPECT_EQ(message.stand.deliveries, 0u);
    }
  }
  const QueueFigures after = Describe();
  EXPECT_EQ(after.at_index, before.at_index) << "nothing was written";
  EXPECT_EQ(sink->messages(), 3u);
}

TEST_F(Looking, PagesFollowEachOtherWithoutGapOrOverlap) {
  auto sink = std::make_shared<NotingPublishSink>();
  std::vector<std::string> all;
  for (int i = 0; i < 40; ++i) {
    std::vector<std::string> batch;
    for (int j = 0; j < 1 + i % 5; ++j) batch.push_back(std::to_string(all.size() + batch.size()));
    Publish(sink, "", 0, 1, batch);
    all.insert(all.end(), batch.begin(), batch.end());
    w_.world.Run(milliseconds(20));
  }
  for (const uint32_t limit : {1u, 3u, 7u, 1'000u}) {
    std::vector<std::string> seen;
    std::optional<Position> from = Position();
    while (from) {
      const BrowsedPage page = Page(*from, limit);
      ASSERT_LE(page.messages.size(), limit);
      const std::vector<std::string> bodies = Bodies(page);
      seen.insert(seen.end(), bodies.begin(), bodies.end());
      from = page.next;
    }
    EXPECT_EQ(seen, all) << "pages of " << limit;
  }
  const BrowsedPage small = Page({}, 1'000, /*bytes=*/10);
  EXPECT_LT(small.messages.size(), 10u) << "a page is bounded in bytes";
  EXPECT_EQ(Page({}, 1'000, /*bytes=*/1).messages.size(), 1u) << "one always fits";
  EXPECT_TRUE(small.next.has_value());
}

TEST_F(Looking, AMessagesLifeIsExplained) {
  const uint64_t epoch = Open("shop");
  auto published = std::make_shared<NotingPublishSink>();
  Publish(published, "shop", epoch, 41, {"a", "b"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return published->outcomes.size() == 1; }));
  const Position a = published->outcomes[0].first, b = a + 1;
  absl::StatusOr<Explanation> explained = ExplainAt(b);
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_EQ(explained->producer, "shop");
  EXPECT_EQ(explained->epoch, epoch);
  EXPECT_EQ(explained->sequence, 42u);
  EXPECT_EQ(explained->batch_messages, 2u);
  EXPECT_EQ(explained->term, w_.Serving()->group()->term().value());
  EXPECT_EQ(Body(explained->message.value()), "b");
  EXPECT_EQ(explained->stand.state, State::kWaiting);

  auto sink = Take("s1", 2);
  explained = ExplainAt(b);
  EXPECT_EQ(explained->stand.state, State::kInFlight);
  EXPECT_EQ(explained->stand.checkout_index, sink->runs[0].checkout_index);
  EXPECT_EQ(explained->holder.session, "s1");
  Settle("s1", sink, queue::Disposition::kAcknowledge, {{{a, 1}, sink->runs[0].checkout_index}});
  explained = ExplainAt(a);
  EXPECT_EQ(explained->stand.state, State::kSettled);
  EXPECT_EQ(explained->holder.session, "");

  // The counts of a failover are in it.
  w_.Serving()->Detach({"s1", sink.get()}, /*graceful=*/true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return ExplainAt(b)->stand.state == State::kReturned; }));
  FailOver();
  explained = ExplainAt(b);
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_EQ(explained->stand.state, State::kReturned);
  EXPECT_EQ(explained->stand.deliveries, 1u);
}

TEST_F(Looking, WhatNeverWasIsToldFromWhatIsGone) {
  PublishEach({"a"});
  const Position a = Page({}, 1).messages[0].position;
  EXPECT_EQ(ExplainAt(a + 1).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(ExplainAt(a + 1).status().message()), HasSubstr("1 messages"));
  EXPECT_EQ(ExplainAt(Position(a.index() + 1'000, 0)).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ExplainAt(Position()).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ExplainAt(Position(1, 0)).status().code(), absl::StatusCode::kOutOfRange) << "a new leader's first entry";
}

TEST_F(Looking, LeasesAreListedWithTheirHoldersAndReleased) {
  PublishEach({"a", "b", "c", "d"});
  auto first = Take("s1", 2), second = Take("s2", 1);
  const std::vector<DeliveredRun> received = Receive(1, milliseconds(0), milliseconds(60'000));
  ASSERT_EQ(received.size(), 1u);
  std::vector<Lease> leases = Leases();
  ASSERT_EQ(leases.size(), 4u);
  for (const Lease& lease : leases) EXPECT_GT(lease.since_ms, 0);
  EXPECT_EQ(leases[0].holder.session, "s1");
  EXPECT_EQ(leases[2].holder.session, "s2");
  EXPECT_EQ(leases[3].holder.session, "") << "a single receive";
  EXPECT_GT(leases[3].run.deadline_ms, leases[3].since_ms);

  EXPECT_EQ(ReleaseAll({.session = "nobody"}).status().code(), absl::StatusCode::kNotFound);
  // To whoever has room: the first has no credit but what is freed of it.
  w_.Serving()->Detach({"s2", second.get()}, /*graceful=*/true);
  ASSERT_TRUE(w_.world.RunUntil([&] { return Leases().size() == 3; }));
  const absl::StatusOr<uint64_t> one = ReleaseAll({.slots = leases[3].slots});
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(*one, 1u);
  EXPECT_EQ(Leases().size(), 2u);
  std::optional<std::vector<bool>> current;
  w_.Serving()->SettleTokens(0, queue::Disposition::kAcknowledge, {TokenOf(received[0])},
                             [&](absl::StatusOr<std::vector<bool>> c) { current = *c; });
  ASSERT_TRUE(w_.world.RunUntil([&] { return current.has_value(); }));
  EXPECT_THAT(*current, ElementsAre(false)) << "its holder has lost it";

  w_.Serving()->Detach({"s1", first.get()}, /*graceful=*/false);
  const absl::StatusOr<uint64_t> all = ReleaseAll({.session = "s1"});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(*all, 2u);
  EXPECT_TRUE(Leases().empty());
  EXPECT_EQ(*ReleaseAll({.session = "s1"}), 0u) << "once";
  auto other = Take("s3", 4);
  for (const DeliveredRun& run : other->runs) EXPECT_EQ(run.deliveries, 2u) << "counts stay exact";
}

}  // namespace
}  // namespace trireme::broker::testing
