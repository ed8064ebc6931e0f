// A batch taken apart by queue, and what its publisher is told when the queues have answered.
#include "broker/routing/distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "broker/queue/batch.h"
#include "trireme/v1/message.pb.h"

namespace trireme::broker {
namespace {

namespace v1 = trireme::v1;
using Kind = Verdict::Kind;
using testing::ElementsAre;

raft::Bytes Batch(const std::vector<std::string>& bodies) {
  v1::MessageBatch batch;
  for (const std::string& body : bodies) batch.add_messages()->set_body(body);
  return raft::Bytes::Take(batch.SerializeAsString());
}

std::vector<std::string> Bodies(const raft::Bytes& batch) {
  v1::MessageBatch parsed;
  EXPECT_TRUE(parsed.ParseFromArray(batch.data(), static_cast<int>(batch.size())));
  std::vector<std::string> bodies;
  for (const v1::Message& message : parsed.messages()) bodies.push_back(message.body());
  return bodies;
}

// A message goes to the queues whose numbers are the digits of its body.
Split Take(const raft::Bytes& batch, bool gather) {
  std::vector<uint32_t> queues;
  return SplitBatch(batch, gather, [&](std::string_view message) -> absl::Span<const uint32_t> {
    v1::Message parsed;
    EXPECT_TRUE(parsed.ParseFromArray(message.data(), static_cast<int>(message.size())));
    queues.clear();
    for (char c : parsed.body()) queues.push_back(static_cast<uint32_t>(c - '0'));
    return queues;
  });
}

TEST(SplitBatch, EachRunIsAPieceThatSharesTheBatch) {
  const raft::Bytes batch = Batch({"1", "12", "2", "", "21"});
  const Split split = Take(batch, /*gather=*/false);
  EXPECT_THAT(split.targets, ElementsAre(1, 2, 1, 0, 2));
  ASSERT_EQ(split.shares.size(), 2u);
  EXPECT_EQ(split.shares[0].queue, 1u);
  ASSERT_EQ(split.shares[0].pieces.size(), 2u);
  EXPECT_THAT(split.shares[0].pieces[0].runs, ElementsAre(SlotRun{0, 2}));
  EXPECT_THAT(split.shares[0].pieces[1].runs, ElementsAre(SlotRun{4, 1}));
  EXPECT_THAT(Bodies(split.shares[0].pieces[0].batch), ElementsAre("1", "12"));
  EXPECT_THAT(Bodies(split.shares[0].pieces[1].batch), ElementsAre("21"));
  ASSERT_EQ(split.shares[1].pieces.size(), 2u);
  EXPECT_THAT(split.shares[1].pieces[0].runs, ElementsAre(SlotRun{1, 2}));
  for (const Share& share : split.shares) {
    for (const Piece& piece : share.pieces) EXPECT_EQ(piece.batch.owner(), batch.owner());
  }
}

TEST(SplitBatch, GatheredAQueueGetsOneBatch) {
  const Split split = Take(Batch({"1", "12", "2", "", "21"}), /*gather=*/true);
  ASSERT_EQ(split.shares.size(), 2u);
  ASSERT_EQ(split.shares[0].pieces.size(), 1u);
  EXPECT_THAT(split.shares[0].pieces[0].runs, ElementsAre(SlotRun{0, 2}, SlotRun{4, 1}));
  EXPECT_THAT(Bodies(split.shares[0].pieces[0].batch), ElementsAre("1", "12", "21"));
  EXPECT_THAT(Bodies(split.shares[1].pieces[0].batch), ElementsAre("12", "2", "21"));
}

TEST(SplitBatch, RandomBatchesLoseAndInventNothing) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> bodies(1 + random() % 30);
    for (std::string& body : bodies) {
      for (char queue = '0'; queue < '5'; ++queue) {
        if (random() % 3 == 0) body += queue;
      }
    }
    const Split split = Take(Batch(bodies), round % 2 == 0);
    std::map<uint32_t, std::vector<std::string>> got, expected;
    for (const std::string& body : bodies) {
      for (char queue : body) expected[static_cast<uint32_t>(queue - '0')].push_back(body);
    }
    for (const Share& share : split.shares) {
      for (const Piece& piece : share.pieces) {
        std::vector<std::string> in_piece = Bodies(piece.batch), by_runs;
        for (SlotRun run : piece.runs) {
          for (uint32_t i = 0; i < run.count; ++i) by_runs.push_back(bodies.at(run.offset + i));
        }
        ASSERT_EQ(in_piece, by_runs);
        got[share.queue].insert(got[share.queue].end(), in_piece.begin(), in_piece.end());
      }
    }
    ASSERT_EQ(got, expected);
  }
}

// ---------------------------------------------------------------- verdicts

std::vector<Kind> Kinds(const Distribution& distribution) {
  std::vector<Kind> kinds;
  for (const Verdict& verdict : distribution.Verdicts())
    kinds.insert(kinds.end(), verdict.messages.count, verdict.kind);
  return kinds;
}

TEST(Distribution, IsDoneWhenAllQueuesHaveAnsweredForAllMessages) {
  Distribution distribution({1, 2, 0}, /*mandatory=*/false);
  EXPECT_FALSE(distribution.done());
  distribution.Settle({0, 2}, "a", QueueOutcome::kStored, "");
  EXPECT_FALSE(distribution.done());
  distribution.Settle({1, 1}, "b", QueueOutcome::kDuplicate, "");
  ASSERT_TRUE(distribution.done());
  const std::vector<Verdict> verdicts = distribution.Verdicts();
  ASSERT_EQ(verdicts.size(), 1u) << "neighbours with one fate are one";
  EXPECT_EQ(verdicts[0].messages, (SlotRun{0, 3}));
  EXPECT_EQ(verdicts[0].kind, Kind::kStored);
}

TEST(Distribution, UnroutableIsAnOutcomeForWhoAskedToBeTold) {
  EXPECT_TRUE(Distribution({0, 0}, false).done());
  EXPECT_THAT(Kinds(Distribution({0, 0}, false)), ElementsAre(Kind::kStored, Kind::kStored));
  EXPECT_THAT(Kinds(Distribution({0, 0}, true)), ElementsAre(Kind::kUnroutable, Kind::kUnroutable));
}

// Safety rule 22.
TEST(Distribution, APartialFailureIsUnknownWithTheList) {
  Distribution distribution({3, 3}, false);
  distribution.Settle({0, 2}, "a", QueueOutcome::kStored, "");
  distribution.Settle({0, 2}, "b", QueueOutcome::kRefused, "low on disk");
  distribution.Settle({0, 1}, "c", QueueOutcome::kUnknown, "its leader moved");
  distribution.Settle({1, 1}, "c", QueueOutcome::kStored, "");
  const std::vector<Verdict> verdicts = distribution.Verdicts();
  ASSERT_EQ(verdicts.size(), 2u);
  EXPECT_EQ(verdicts[0].kind, Kind::kUnknown);
  EXPECT_EQ(verdicts[0].reason, "1 of 3 queues have it; b: low on disk");
  EXPECT_THAT(verdicts[0].parts, ElementsAre(Verdict::Part{"b", QueueOutcome::kRefused, "low on disk"},
                                             Verdict::Part{"c", QueueOutcome::kUnknown, "its leader moved"}));
  EXPECT_EQ(verdicts[1].reason, "2 of 3 queues have it; b: low on disk");
  EXPECT_EQ(verdicts[1].parts.size(), 1u);
}

TEST(Distribution, WhatIsSurelyNowhereIsRefusedOrFenced) {
  Distribution distribution({2, 2, 1}, false);
  distribution.Settle({0, 3}, "a", QueueOutcome::kRefused, "no");
  distribution.Settle({0, 1}, "b", QueueOutcome::kRefused, "neither");
  distribution.Settle({1, 1}, "b", QueueOutcome::kFenced, "a newer stream");
  EXPECT_THAT(Kinds(distribution), ElementsAre(Kind::kRefused, Kind::kFenced, Kind::kRefused));
}

TEST(Distribution, ADeletedQueueIsNoTargetAnyMore) {
  Distribution distribution({2, 1, 2}, false);
  distribution.Settle({0, 3}, "gone", QueueOutcome::kGone, "deleted");
  distribution.Settle({0, 1}, "a", QueueOutcome::kStored, "");
  distribution.Settle({2, 1}, "a", QueueOutcome::kUnknown, "who knows");
  EXPECT_THAT(Kinds(distribution), ElementsAre(Kind::kStored, Kind::kRefused, Kind::kUnknown));
  EXPECT_THAT(distribution.Verdicts()[2].parts, ElementsAre(Verdict::Part{"a", QueueOutcome::kUnknown, "who knows"}));
}

TEST(Distribution, TheListOfQueuesIsBounded) {
  constexpr uint32_t kQueues = 1'000;
  Distribution distribution({kQueues}, false);
  for (uint32_t i = 0; i < kQueues; ++i) {
    distribution.Settle({0, 1}, "q" + std::to_string(i), QueueOutcome::kUnknown, "lost");
  }
  EXPECT_EQ(distribution.Verdicts()[0].parts.size(), Distribution::kMaxParts);
}

// Whatever the queues answer and in which order: stored is said only of what all queues have, and refused, fenced or
// unroutable only of what none has.
TEST(Distribution, NeverSaysStoredOrRefusedOfWhatIsNot) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 3'000; ++round) {
    const uint32_t messages = 1 + random() % 6, queues = 1 + random() % 4;
    const bool mandatory = random() % 2 == 0;
    std::vector<uint32_t> targets(messages);
    struct Answer {
      uint32_t message, queue;
      QueueOutcome outcome;
    };
    std::vector<Answer> answers;
    for (uint32_t m = 0; m < messages; ++m) {
      for (uint32_t q = 0; q < queues; ++q) {
        if (random() % 3 == 0) continue;
        ++targets[m];
        answers.push_back({m, q, random() % 2 == 0 ? QueueOutcome::kStored : static_cast<QueueOutcome>(random() % 6)});
      }
    }
    Distribution distribution(targets, mandatory);
    std::shuffle(answers.begin(), answers.end(), random);
    for (const Answer& a : answers) {
      ASSERT_FALSE(distribution.done());
      distribution.Settle({a.message, 1}, "q" + std::to_string(a.queue), a.outcome, "r");
    }
    ASSERT_TRUE(distribution.done());
    const std::vector<Kind> kinds = Kinds(distribution);
    ASSERT_EQ(kinds.size(), messages);
    for (uint32_t m = 0; m < messages; ++m) {
      uint32_t live = 0, has = 0, maybe = 0;
      for (const Answer& a : answers) {
        if (a.message != m || a.outcome == QueueOutcome::kGone) continue;
        ++live;
        has += a.outcome == QueueOutcome::kStored || a.outcome == QueueOutcome::kDuplicate ? 1 : 0;
        maybe += a.outcome == QueueOutcome::kUnknown ? 1 : 0;
      }
      switch (kinds[m]) {
        case Kind::kStored:
          ASSERT_TRUE(has == live && (live > 0 || (targets[m] == 0 && !mandatory)));
          break;
        case Kind::kDuplicate:
          ASSERT_TRUE(has == live && live > 0);
          break;
        case Kind::kUnroutable:
          ASSERT_TRUE(targets[m] == 0 && mandatory);
          break;
        case Kind::kRefused:
        case Kind::kFenced:
          ASSERT_TRUE(has == 0 && maybe == 0 && targets[m] > 0);
          break;
        case Kind::kUnknown:
          ASSERT_TRUE(has < live && (has > 0 || maybe > 0));
          break;
      }
    }
  }
}

}  // namespace
}  // namespace trireme::broker
