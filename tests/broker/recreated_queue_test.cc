// Safety rule 4: a queue that was deleted and made again under its name is another group, whose log begins anew. What
// was given out of the old one means nothing in the new one.
#include <gmock/gmock.h>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The same clients ask the same of the queue before and after, so that the new one gives the old one's tokens again,
// for other messages.
class RecreatedQueueTest : public QueueTest {
 protected:
  void SetUp() override {
    QueueTest::SetUp();
    ASSERT_TRUE(again_.Up());
    old_consumer_ = Consume(w_, "old");
    new_consumer_ = Consume(again_, "new");
    ASSERT_EQ(TokenOf(old_consumer_->runs.at(0)), TokenOf(new_consumer_->runs.at(0)));
  }
  // A session that holds a message.
  static std::shared_ptr<NotingConsumerSink> Consume(QueueWorld& w, const std::string& body) {
    auto consumer = std::make_shared<NotingConsumerSink>();
    w.Serving()->Attach({"s", "test", 30'000, {}, 100, 1 << 20}, consumer);
    w.Serving()->Publish({std::make_shared<NotingPublishSink>(), 0, "", 0, 1, BatchOf({body})});
    EXPECT_TRUE(w.world.RunUntil([&] { return consumer->messages() == 1; }));
    return consumer;
  }
  GroupTokens OldTokens() const { return {w_.group, {TokenOf(old_consumer_->runs[0])}}; }
  QueueFigures Figures() {
    std::optional<QueueFigures> figures;
    again_.Serving()->Describe([&](absl::StatusOr<QueueFigures> f) { figures = *f; });
    EXPECT_TRUE(again_.world.RunUntil([&] { return figures.has_value(); }));
    return *figures;
  }

  QueueWorld again_{3, 2};
  std::shared_ptr<NotingConsumerSink> old_consumer_, new_consumer_;
};

TEST_F(RecreatedQueueTest, ATokenOfTheOldQueueSettlesNothingInTheNew) {
  for (auto disposition :
       {queue::Disposition::kAcknowledge, queue::Disposition::kReject, queue::Disposition::kRequeue}) {
    new_consumer_->lost.clear();
    const uint64_t receipt = static_cast<uint64_t>(disposition);
    again_.Serving()->Settle({"s", new_consumer_.get()}, disposition, OldTokens(), receipt);
    ASSERT_TRUE(again_.world.RunUntil([&] { return new_consumer_->receipts.contains(receipt); }));
    EXPECT_THAT(new_consumer_->lost, ElementsAre(OldTokens().tokens[0]));
  }
  // Nor does one that names no group.
  again_.Serving()->Settle({"s", new_consumer_.get()}, queue::Disposition::kAcknowledge, {{}, OldTokens().tokens}, 9);
  ASSERT_TRUE(again_.world.RunUntil([&] { return new_consumer_->receipts.contains(9); }));
  EXPECT_EQ(Figures().subscriptions[0].in_flight, 1u);
  EXPECT_EQ(Figures().subscriptions[0].acknowledged, 0u);
  EXPECT_EQ(new_consumer_->messages(), 1u);
}

// A receipt stands for all that was settled before it, whatever it was asked with.
TEST_F(RecreatedQueueTest, TheReceiptOfATokenOfTheOldQueueWaitsForWhatWasSettledBefore) {
  again_.Serving()->Settle({"s", new_consumer_.get()}, queue::Disposition::kAcknowledge,
                           {again_.group, {TokenOf(new_consumer_->runs[0])}}, 0);
  again_.Serving()->Settle({"s", new_consumer_.get()}, queue::Disposition::kAcknowledge, OldTokens(), 5);
  EXPECT_THAT(new_consumer_->receipts, IsEmpty());
  ASSERT_TRUE(again_.world.RunUntil([&] { return new_consumer_->receipts.contains(5); }));
  EXPECT_EQ(Figures().subscriptions[0].acknowledged, 1u);
}

// The consumer comes back to the new queue under its session's name, which is known there: the answer to its first Open
// was lost. What it says that it holds is of the old queue, so all of the new one's is sent again.
TEST_F(RecreatedQueueTest, WhatIsHeldOfTheOldQueueIsNotHeldInTheNew) {
  auto resumed = std::make_shared<NotingConsumerSink>();
  again_.Serving()->Attach({"s", "test", 30'000, OldTokens(), 100, 1 << 20}, resumed);
  ASSERT_TRUE(again_.world.RunUntil([&] { return resumed->messages() == 1; }, milliseconds(1'000)));
  EXPECT_FALSE(resumed->resumed);
  EXPECT_THAT(BodiesOf(resumed->runs[0].batch), ElementsAre("new"));
  EXPECT_EQ(TokenOf(resumed->runs[0]), TokenOf(new_consumer_->runs[0]));
  EXPECT_EQ(resumed->runs[0].deliveries, 1u);
}

TEST_F(RecreatedQueueTest, WhatIsHeldOfTheSameQueueStaysHeld) {
  auto resumed = std::make_shared<NotingConsumerSink>();
  again_.Serving()->Attach({"s", "test", 30'000, {again_.group, {TokenOf(new_consumer_->runs[0])}}, 100, 1 << 20},
                           resumed);
  ASSERT_TRUE(again_.world.RunUntil([&] { return resumed->attached; }));
  EXPECT_TRUE(resumed->resumed);
  again_.world.Run(milliseconds(500));
  EXPECT_EQ(resumed->messages(), 0u);
}

}  // namespace
}  // namespace trireme::broker::testing
