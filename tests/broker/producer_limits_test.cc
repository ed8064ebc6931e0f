// Producers that come and go: how many a queue knows, and the epochs that they get.
#include <gmock/gmock.h>

#include <limits>

#include "broker/replica/queue_replica.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using Kind = PublishOutcome::Kind;
using ::testing::HasSubstr;
using Opened = absl::StatusOr<QueueReplica::OpenedProducer>;

class ProducerLimitsTest : public QueueTest {
 protected:
  void SetUp() override {
    w_.limits.dispatch.producer_idle_ms = 1'000;
    w_.limits.max_producers = 10;
    ASSERT_TRUE(w_.Up());
  }
  std::shared_ptr<std::optional<Opened>> StartOpen(const std::string& producer, uint64_t epoch = 0) {
    auto answer = std::make_shared<std::optional<Opened>>();
    w_.Serving()->OpenProducer(producer, epoch, [answer](Opened opened) { *answer = std::move(opened); });
    return answer;
  }
  Opened Answer(const std::shared_ptr<std::optional<Opened>>& answer) {
    EXPECT_TRUE(w_.world.RunUntil([&] { return answer->has_value(); }));
    return **answer;
  }
  Opened OpenAs(const std::string& producer, uint64_t epoch = 0) { return Answer(StartOpen(producer, epoch)); }
  Kind PublishAs(const std::string& producer, uint64_t epoch, uint64_t first) {
    auto sink = std::make_shared<NotingPublishSink>();
    Publish(sink, producer, epoch, first, {"x"});
    EXPECT_TRUE(w_.world.RunUntil([&] { return !sink->outcomes.empty(); }));
    return sink->outcomes.at(0).kind;
  }
  void ForgetAll() {
    ASSERT_TRUE(w_.world.RunUntil([&] { return Describe().producers == 0; }, milliseconds(130'000)));
  }
};

TEST_F(ProducerLimitsTest, AnEpochOutOfReachIsRefusedAndNeverWraps) {
  EXPECT_EQ(OpenAs("p")->epoch, 1u);
  for (uint64_t epoch : {std::numeric_limits<uint64_t>::max(), queue::kMaxNamedEpoch + 1}) {
    Opened refused = OpenAs("p", epoch);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(std::to_string(epoch)));
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(std::to_string(queue::kMaxNamedEpoch)));
  }
  EXPECT_EQ(PublishAs("p", 1, 1), Kind::kOk);  // it is as it was
  // The highest that can be named can be followed: by the next one, by one that comes back, and after it was forgotten.
  EXPECT_EQ(OpenAs("p", queue::kMaxNamedEpoch)->epoch, queue::kMaxNamedEpoch);
  EXPECT_EQ(PublishAs("p", 1, 2), Kind::kFenced);
  EXPECT_EQ(OpenAs("p")->epoch, queue::kMaxNamedEpoch + 1);
  EXPECT_EQ(OpenAs("p", queue::kMaxNamedEpoch + 1)->epoch, queue::kMaxNamedEpoch + 1);
  EXPECT_EQ(PublishAs("p", queue::kMaxNamedEpoch + 1, 2), Kind::kOk);
  ForgetAll();
  EXPECT_EQ(OpenAs("q")->epoch, queue::kMaxNamedEpoch + 2);
  EXPECT_EQ(PublishAs("q", queue::kMaxNamedEpoch + 2, 1), Kind::kOk);
}

// Safety rule 6: a producer that is not known starts above every epoch that was forgotten. Its users are told that one,
// and the newer of two streams is the one that has it.
TEST_F(ProducerLimitsTest, WhoOpensAfterAForgottenOneGetsTheHigherEpoch) {
  for (uint64_t epoch = 1; epoch <= 3; ++epoch) EXPECT_EQ(OpenAs("p")->epoch, epoch);
  ForgetAll();
  auto older = StartOpen("q"), newer = StartOpen("q");
  EXPECT_EQ(Answer(older)->epoch, 4u);
  ASSERT_TRUE(Answer(newer).ok()) << Answer(newer).status();
  EXPECT_EQ(Answer(newer)->epoch, 5u);
  EXPECT_EQ(PublishAs("q", 4, 1), Kind::kFenced);
  EXPECT_EQ(PublishAs("q", 5, 1), Kind::kOk);
  // As a single call does.
  auto joined = std::make_shared<std::optional<Opened>>();
  w_.Serving()->JoinProducer("r", 0, 1, [joined](Opened opened) { *joined = std::move(opened); });
  EXPECT_EQ(Answer(joined)->epoch, 4u);
  EXPECT_EQ(PublishAs("r", 4, 1), Kind::kOk);
}

TEST_F(ProducerLimitsTest, AQueueKnowsABoundedNumberOfProducers) {
  std::vector<std::shared_ptr<std::optional<Opened>>> answers;
  for (int i = 0; i < 15; ++i) answers.push_back(StartOpen("p" + std::to_string(i)));
  for (int i = 0; i < 15; ++i) {
    Opened opened = Answer(answers[static_cast<size_t>(i)]);
    if (i < 10) {
      EXPECT_TRUE(opened.ok()) << opened.status();
      continue;
    }
    EXPECT_EQ(opened.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(opened.status().message()), HasSubstr("10 producers, which is the limit"));
  }
  EXPECT_EQ(Describe().producers, 10u);
  // Those that are known go on, also anew.
  EXPECT_EQ(OpenAs("p3")->epoch, 2u);
  EXPECT_EQ(PublishAs("p3", 2, 1), Kind::kOk);
  auto joined = std::make_shared<std::optional<Opened>>();
  w_.Serving()->JoinProducer("q", 0, 1, [joined](Opened opened) { *joined = std::move(opened); });
  EXPECT_EQ(Answer(joined).status().code(), absl::StatusCode::kResourceExhausted);
  // And there is room again for others.
  ForgetAll();
  EXPECT_TRUE(OpenAs("q").ok());
}

// Safety rule 6: a call's retry finds that its producer was forgotten, and with it what was stored.
TEST_F(ProducerLimitsTest, ACallOfAForgottenProducerIsNotTakenForNew) {
  std::optional<Opened> joined;
  w_.Serving()->JoinProducer("gone", 0, 2, [&](Opened opened) { joined = std::move(opened); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return joined.has_value(); }));
  EXPECT_EQ(joined->status().code(), absl::StatusCode::kFailedPrecondition) << joined->status();
  joined.reset();
  w_.Serving()->JoinProducer("gone", 0, 1, [&](Opened opened) { joined = std::move(opened); });
  ASSERT_TRUE(w_.world.RunUntil([&] { return joined.has_value(); }));
  EXPECT_TRUE(joined->ok()) << joined->status();
}

}  // namespace
}  // namespace trireme::broker::testing
