// Publishing to an exchange, end to end but for the network: production replicas behind the production publisher.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

#include "tests/broker/exchange_world.h"

namespace trireme::broker::testing {
namespace {

namespace meta = trireme::meta::v1;
using Kind = Verdict::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ExchangePublishing : public ::testing::Test {
 protected:
  // A direct exchange "x" and queues q1, q2, q3; a routing key's digits name the queues.
  ExchangePublishing() : ExchangePublishing(7) {}
  explicit ExchangePublishing(uint64_t seed)
      : w_(seed, 3),
        exchanges_(
            &w_.shard, [this](auto, auto done) { Read(std::move(done)); },
            [this](uint64_t messages) { unroutable_ += messages; }) {
    MetadataChange change;
    change.whole = true;
    for (const QueuePtr& queue : w_.queue) change.items.push_back({queue, true});
    ExchangeInfo x;
    x.name = "x";
    x.id = 1;
    x.settings.set_type(trireme::v1::EXCHANGE_TYPE_DIRECT);
    change.items.push_back({std::make_shared<ExchangeInfo>(x), true});
    exchanges_.router().Take(change);
    for (const char* key : {"1", "2", "3", "12", "23", "13", "123"}) {
      for (const char* queue = key; *queue != 0; ++queue) Bind(key, *queue);
    }
    Connect("p");
  }

  void Read(Exchanges::Done done) {
    ++reads_;
    w_.shard.After(milliseconds(1), [this, done = std::move(done)]() mutable {
      if (!read_error_.ok()) return done(read_error_);
      if (on_read_) std::exchange(on_read_, nullptr)();
      done(absl::OkStatus());
    });
  }
  void Bind(const std::string& key, char queue, bool exists = true) {
    meta::Binding binding;
    binding.set_exchange("x");
    binding.set_queue(std::string("q") + queue);
    binding.set_routing_key(key);
    MetadataChange change;
    change.items.push_back({std::make_shared<const meta::Binding>(binding), exists});
    exchanges_.router().Take(change);
  }
  // A stream of the producer's; the one before is gone.
  void Connect(const std::string& producer, bool mandatory = false) {
    ExchangePublisher::Options options{.exchange = "x", .mandatory = mandatory};
    options.feed.sequences = !producer.empty();
    publisher_ = std::make_shared<ExchangePublisher>(&w_.shard, &exchanges_, std::make_shared<SimLinks>(&w_, producer),
                                                     std::move(options), [this](absl::Status s) { failed_ = s; });
  }
  using Messages = std::vector<std::pair<std::string, std::string>>;
  std::vector<Verdict> Publish(uint64_t first, const Messages& messages, milliseconds within = milliseconds(30'000)) {
    std::optional<std::vector<Verdict>> got;
    publisher_->Publish(first, RoutedBatch(messages), [&](std::vector<Verdict> v) { got = std::move(v); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return got.has_value() || !failed_.ok(); }, within));
    return got.value_or(std::vector<Verdict>());
  }
  static std::vector<Kind> Kinds(const std::vector<Verdict>& verdicts) {
    std::vector<Kind> kinds;
    for (const Verdict& verdict : verdicts) kinds.insert(kinds.end(), verdict.messages.count, verdict.kind);
    return kinds;
  }

  ExchangeWorld w_;
  Exchanges exchanges_;
  int reads_ = 0;
  uint64_t unroutable_ = 0;
  absl::Status read_error_;
  std::function<void()> on_read_;
  absl::Status failed_;
  std::shared_ptr<ExchangePublisher> publisher_;
};

TEST_F(ExchangePublishing, EachQueueGetsWhatIsBoundToIt) {
  for (const char* producer : {"p", ""}) {
    Connect(producer);
    const bool named = *producer != 0;
    EXPECT_THAT(Kinds(Publish(named ? 1 : 0, {{"12", "a"}, {"3", "b"}, {"none", "c"}, {"1", "d"}, {"123", "e"}})),
                ElementsAre(Kind::kStored, Kind::kStored, Kind::kStored, Kind::kStored, Kind::kStored));
    EXPECT_THAT(w_.TakeAll(1), ElementsAre("a", "d", "e"));
    EXPECT_THAT(w_.TakeAll(2), ElementsAre("a", "e"));
    EXPECT_THAT(w_.TakeAll(3), ElementsAre("b", "e"));
  }
  EXPECT_EQ(unroutable_, 2u) << "what is dropped is counted";
}

TEST_F(ExchangePublishing, UnroutableIsToldToWhoWantsToKnow) {
  Connect("p", /*mandatory=*/true);
  EXPECT_THAT(Kinds(Publish(1, {{"1", "a"}, {"none", "b"}})), ElementsAre(Kind::kStored, Kind::kUnroutable));
  EXPECT_THAT(w_.TakeAll(1), ElementsAre("a"));
}

// Safety rule 22: it is not confirmed before all have it, the list says who lacks it, and a retry reaches only those.
TEST_F(ExchangePublishing, WhatOneQueueRefusesIsUnknownAndTheRetryReachesOnlyThatQueue) {
  w_.low_disk = {2};
  std::vector<Verdict> verdicts = Publish(1, {{"12", "a"}, {"12", "b"}, {"1", "c"}});
  EXPECT_THAT(Kinds(verdicts), ElementsAre(Kind::kUnknown, Kind::kUnknown, Kind::kStored));
  ASSERT_EQ(verdicts[0].parts.size(), 1u);
  EXPECT_EQ(verdicts[0].parts[0].queue, "q2");
  EXPECT_EQ(verdicts[0].parts[0].outcome, QueueOutcome::kRefused);
  EXPECT_THAT(Kinds(Publish(4, {{"2", "d"}})), ElementsAre(Kind::kRefused)) << "surely nowhere";
  w_.low_disk = {};
  EXPECT_THAT(Kinds(Publish(1, {{"12", "a"}, {"12", "b"}})), ElementsAre(Kind::kStored, Kind::kStored));
  EXPECT_THAT(Kinds(Publish(1, {{"12", "a"}})), ElementsAre(Kind::kDuplicate));
  EXPECT_THAT(w_.TakeAll(1), ElementsAre("a", "b", "c"));
  EXPECT_THAT(w_.TakeAll(2), ElementsAre("a", "b"));
}

TEST_F(ExchangePublishing, AQueueThatDoesNotAnswerIsUnknownInTimeAndTheOthersDoNotWait) {
  w_.unreachable = {2};
  std::optional<std::vector<Verdict>> slow;
  publisher_->Publish(1, RoutedBatch({{"12", "a"}}), [&](std::vector<Verdict> v) { slow = std::move(v); });
  EXPECT_THAT(Kinds(Publish(2, {{"13", "b"}}, milliseconds(1'000))), ElementsAre(Kind::kStored));
  EXPECT_FALSE(slow.has_value());
  ASSERT_TRUE(w_.world.RunUntil([&] { return slow.has_value(); }, milliseconds(15'000)));
  EXPECT_THAT(Kinds(*slow), ElementsAre(Kind::kUnknown));
  EXPECT_EQ((*slow)[0].parts[0].outcome, QueueOutcome::kRefused) << "it was never sent there";
  w_.unreachable = {};
  EXPECT_THAT(Kinds(Publish(1, {{"12", "a"}})), ElementsAre(Kind::kStored));
  EXPECT_THAT(w_.TakeAll(1), ElementsAre("a", "b"));
  EXPECT_THAT(w_.TakeAll(2), ElementsAre("a"));
}

TEST_F(ExchangePublishing, ANewerStreamOfTheProducerFencesTheOlder) {
  EXPECT_THAT(Kinds(Publish(1, {{"1", "a"}})), ElementsAre(Kind::kStored));
  auto older = publisher_;
  Connect("p");
  EXPECT_THAT(Kinds(Publish(2, {{"1", "b"}})), ElementsAre(Kind::kStored));
  std::swap(older, publisher_);
  EXPECT_THAT(Kinds(Publish(3, {{"1", "c"}})), ElementsAre(Kind::kFenced));
  EXPECT_THAT(w_.TakeAll(1), ElementsAre("a", "b"));
}

TEST_F(ExchangePublishing, NoMoreIsTakenThanQueuesRemember) {
  w_.unreachable = {1};
  std::vector<std::optional<std::vector<Verdict>>> got(2);
  publisher_->Publish(1, RoutedBatch({{"1", "a"}}), [&](std::vector<Verdict> v) { got[0] = std::move(v); });
  EXPECT_THAT(Kinds(Publish(ExchangePublisher::kMaxAhead, {{"2", "b"}})), ElementsAre(Kind::kStored));
  const std::vector<Verdict> far = Publish(ExchangePublisher::kMaxAhead + 1, {{"2", "c"}});
  EXPECT_THAT(Kinds(far), ElementsAre(Kind::kRefused));
  EXPECT_THAT(far[0].reason, HasSubstr("1000"));
  EXPECT_THAT(w_.TakeAll(2), ElementsAre("b"));
}

// Safety rule 21.
TEST_F(ExchangePublishing, ABindingThatThisNodeHasNotHeardOfIsFoundBeforeAMessageIsCalledUnroutable) {
  Connect("p", /*mandatory=*/true);
  EXPECT_THAT(Kinds(Publish(1, {{"1", "a"}})), ElementsAre(Kind::kStored));
  on_read_ = [&] { Bind("new", '2'); };
  EXPECT_THAT(Kinds(Publish(2, {{"new", "b"}})), ElementsAre(Kind::kStored));
  EXPECT_THAT(w_.TakeAll(2), ElementsAre("b"));
}

TEST_F(ExchangePublishing, ARenewalThatBeganBeforeTheMessageCameDoesNotMakeItUnroutable) {
  Connect("p", /*mandatory=*/true);
  EXPECT_THAT(Kinds(Publish(1, {{"1", "a"}})), ElementsAre(Kind::kStored));
  exchanges_.Renew([](const absl::Status&) {});
  const int before = reads_;
  EXPECT_THAT(Kinds(Publish(2, {{"none", "b"}})), ElementsAre(Kind::kUnroutable));
  EXPECT_GT(reads_, before);
}

TEST_F(ExchangePublishing, DefinitionsAreRenewedWhilePublishingAndNotUsedWhenTooOld) {
  EXPECT_THAT(Kinds(Publish(1, {{"1", "a"}})), ElementsAre(Kind::kStored));
  const int before = reads_;
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_THAT(Kinds(Publish(2 + i, {{"1", "b"}})), ElementsAre(Kind::kStored));
    w_.world.Run(milliseconds(100));
  }
  EXPECT_GE(reads_, before + 3);
  EXPECT_LE(reads_, before + 7);

  read_error_ = absl::UnavailableError("no metadata leader");
  w_.world.Run(milliseconds(1'000));
  EXPECT_THAT(Kinds(Publish(100, {{"1", "c"}})), ElementsAre(Kind::kStored)) << "young enough";
  w_.world.Run(Exchanges::kTooOld);
  EXPECT_THAT(Publish(101, {{"1", "d"}}), ElementsAre());
  EXPECT_EQ(failed_.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed_.message()), HasSubstr("another node"));
  const std::vector<std::string> stored = w_.TakeAll(1);
  EXPECT_EQ(std::count(stored.begin(), stored.end(), "c"), 1);
  EXPECT_EQ(std::count(stored.begin(), stored.end(), "d"), 0);
}

TEST_F(ExchangePublishing, ADeletedQueueIsNoTargetOnceThisIsKnown) {
  EXPECT_THAT(Kinds(Publish(1, {{"12", "a"}})), ElementsAre(Kind::kStored));
  Bind("12", '2', /*exists=*/false);
  EXPECT_THAT(Kinds(Publish(2, {{"12", "b"}})), ElementsAre(Kind::kStored));
  EXPECT_THAT(w_.TakeAll(2), ElementsAre("a"));
}

// ---------------------------------------------------------------- leaders that die

class ExchangeFailover : public ExchangePublishing, public ::testing::WithParamInterface<uint64_t> {
 protected:
  ExchangeFailover() : ExchangePublishing(GetParam()) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, ExchangeFailover, ::testing::Range<uint64_t>(1, 13));

// Leaders are killed and started, streams break; what is unknown is sent again. In the end every message that was
// confirmed is in each queue that it was routed to, once.
TEST_P(ExchangeFailover, ConfirmedMessagesAreInEachQueueOnce) {
  std::mt19937_64 random(GetParam());
  const std::vector<std::string> keys = {"1", "2", "3", "12", "23", "13", "123"};
  constexpr uint64_t kMessages = 600;
  Messages sent(1, {"", ""});     // by sequence
  std::set<uint64_t> unresolved;  // sequences under way, or to be sent again
  std::set<uint64_t> again;
  uint64_t unknown = 0, stream = 0;
  auto send = [&](uint64_t first, uint64_t count) {
    Messages batch(sent.begin() + static_cast<ptrdiff_t>(first), sent.begin() + static_cast<ptrdiff_t>(first + count));
    publisher_->Publish(first, RoutedBatch(batch), [&, first, of = stream](const std::vector<Verdict>& verdicts) {
      if (of != stream) return;
      for (const Verdict& verdict : verdicts) {
        for (uint32_t i = 0; i < verdict.messages.count; ++i) {
          const uint64_t sequence = first + verdict.messages.offset + i;
          if (verdict.kind == Kind::kStored || verdict.kind == Kind::kDuplicate) {
            unresolved.erase(sequence);
          } else {
            ASSERT_NE(verdict.kind, Kind::kUnroutable);
            ASSERT_NE(verdict.kind, Kind::kFenced) << verdict.reason;
            ++unknown;
            again.insert(sequence);
          }
        }
      }
    });
  };
  for (int step = 0; step < 20'000 && (sent.size() <= kMessages || !unresolved.empty()); ++step) {
    if (sent.size() <= kMessages && unresolved.size() < 100 && random() % 3 == 0) {
      const uint64_t first = sent.size(), count = 1 + random() % 4;
      for (uint64_t i = 0; i < count; ++i) {
        unresolved.insert(sent.size());
        sent.push_back({keys[random() % keys.size()], std::to_string(sent.size())});
      }
      send(first, count);
    }
    for (uint64_t sequence : std::exchange(again, {})) send(sequence, 1);
    if (random() % 100 == 0) {
      const uint64_t node = w_.Leader(1 + random() % 3);
      const bool all_up = w_.world.node(1).up() && w_.world.node(2).up() && w_.world.node(3).up();
      if (node != 0 && all_up) w_.Kill(node);
    }
    if (random() % 200 == 0) {
      for (uint64_t id = 1; id <= 3; ++id) {
        if (!w_.world.node(id).up()) w_.world.Start(id);
      }
    }
    if (random() % 300 == 0) {
      ++stream;
      Connect("p");
      again.clear();
      for (uint64_t sequence : unresolved) send(sequence, 1);
    }
    w_.world.Run(milliseconds(random() % 20));
  }
  ASSERT_TRUE(unresolved.empty()) << unresolved.size() << " messages are unresolved, " << unknown << " were unknown";
  ASSERT_GT(sent.size(), kMessages);
  for (uint64_t id = 1; id <= 3; ++id) {
    if (!w_.world.node(id).up()) w_.world.Start(id);
  }
  for (uint64_t queue = 1; queue <= 3; ++queue) {
    std::vector<std::string> expected, got = w_.TakeAll(queue);
    for (size_t i = 1; i < sent.size(); ++i) {
      if (sent[i].first.find(std::to_string(queue)) != std::string::npos) expected.push_back(sent[i].second);
    }
    std::sort(got.begin(), got.end());
    std::sort(expected.begin(), expected.end());
    ASSERT_EQ(got, expected) << "queue " << queue;
  }
}

}  // namespace
}  // namespace trireme::broker::testing
