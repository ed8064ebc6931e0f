#include "broker/api/send_answer.h"

#include <gtest/gtest.h>

#include "broker/ops/error.h"

namespace trireme::broker {
namespace {

using Kind = PublishOutcome::Kind;

PublishOutcome Full(uint64_t first, uint32_t count) {
  return {.kind = Kind::kRefused,
          .first_sequence = first,
          .count = count,
          .first = {},
          .reason = "the queue is full",
          .code = absl::StatusCode::kResourceExhausted,
          .refusal = {Refusal::By::kQueueMessages, 5}};
}

TEST(SendAnswerTest, WhatIsRefusedWholeEndsTheCall) {
  auto answer = SendAnswer(4).Add(Full(4, 4));
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FactsOf(answer->status()).reason, "QUEUE_MESSAGES");
  EXPECT_EQ(FactsOf(answer->status()).limit, "5");
}

// An error would say that nothing was stored, and hide that a part was.
TEST(SendAnswerTest, WhatIsStoredInPartIsToldInPartsWhicheverComesFirst) {
  for (const bool refused_first : {true, false}) {
    SendAnswer answer(4);
    const PublishOutcome stored{
        .kind = Kind::kOk, .first_sequence = 4, .count = 2, .first = queue::Position(9, 0), .reason = ""};
    EXPECT_FALSE(answer.Add(refused_first ? Full(6, 2) : stored).has_value());
    auto all = answer.Add(refused_first ? stored : Full(6, 2));
    ASSERT_TRUE(all.has_value());
    ASSERT_TRUE(all->ok()) << all->status();
    ASSERT_EQ((*all)->confirms_size(), 2);
    const v1::Confirm& ok = (*all)->confirms(refused_first ? 1 : 0);
    EXPECT_EQ(ok.outcome(), v1::OUTCOME_OK);
    EXPECT_EQ(ok.first_sequence(), 4u);
    EXPECT_EQ(ok.count(), 2u);
    EXPECT_EQ(ok.first_position(), queue::Position(9, 0).packed());
    const v1::Confirm& full = (*all)->confirms(refused_first ? 0 : 1);
    EXPECT_EQ(full.outcome(), v1::OUTCOME_REFUSED);
    EXPECT_EQ(full.first_sequence(), 6u);
    EXPECT_EQ(full.count(), 2u);
    EXPECT_EQ(full.refused_by(), v1::REFUSED_BY_QUEUE_MESSAGES);
    EXPECT_EQ(full.limit(), 5u);
  }
}

// Of each limit its own name, as a status and as an outcome.
TEST(SendAnswerTest, EachLimitIsNamed) {
  struct Case {
    Refusal::By by;
    const char* name;
    v1::RefusedBy wire;
  };
  for (const Case& c : {Case{Refusal::By::kQueueMessages, "QUEUE_MESSAGES", v1::REFUSED_BY_QUEUE_MESSAGES},
                        Case{Refusal::By::kQueueBytes, "QUEUE_BYTES", v1::REFUSED_BY_QUEUE_BYTES},
                        Case{Refusal::By::kMessageSize, "MESSAGE_SIZE", v1::REFUSED_BY_MESSAGE_SIZE},
                        Case{Refusal::By::kKeyMissing, "KEY_MISSING", v1::REFUSED_BY_KEY_MISSING}}) {
    PublishOutcome outcome = Full(1, 1);
    outcome.refusal.by = c.by;
    EXPECT_EQ(FactsOf(SendAnswer(1).Add(outcome)->status()).reason, c.name);
    SendAnswer parts(2);
    parts.Add(outcome);
    outcome.first_sequence = 2;
    EXPECT_EQ((**parts.Add(outcome)).confirms(0).refused_by(), c.wire) << c.name;
  }
}

TEST(SendAnswerTest, WhatHasMovedGoesElsewhere) {
  auto answer = SendAnswer(2).Add({.kind = Kind::kMoved,
                                   .first_sequence = 1,
                                   .count = 2,
                                   .first = {},
                                   .reason = "moved",
                                   .code = absl::StatusCode::kUnavailable});
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(FactsOf(answer->status()).reason, kNotLeader);
}

}  // namespace
}  // namespace trireme::broker
