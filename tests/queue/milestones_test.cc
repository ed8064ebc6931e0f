#include "broker/queue/milestones.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "broker/queue/machine.h"
#include "tests/queue/log.h"
#include "tests/queue/text.h"

namespace trireme::queue {
namespace {

void Apply(Machine& machine, const raft::Bytes& entry) {
  auto effects = machine.Apply(machine.applied() + 1, entry);
  ASSERT_TRUE(effects.ok()) << effects.status();
}
void Apply(Machine& machine, const std::string& fact) {
  Apply(machine, FactsEntry({ParseFact(script::Split(fact), machine.subscription(0).next)}));
}

// Safety rule 1: they are a bounded number, whatever waits, and still near enough to any place.
TEST(MilestonesTest, ADeepQueueKeepsFewAndNoPlaceIsFarFromOne) {
  constexpr uint64_t kEntries = 400'000;
  Machine machine;
  Apply(machine, "raise 2");
  const raft::Bytes batches[] = {PublishedEntry(1), PublishedEntry(2), PublishedEntry(3)};
  std::vector<uint64_t> before(kEntries + 2);  // by entry
  for (uint64_t i = 2; i < kEntries + 2; ++i) {
    before[i] = machine.published();
    Apply(machine, batches[i % 3]);
  }
  const auto& all = machine.milestones().all();
  EXPECT_LE(all.size(), Milestones::kMost);
  EXPECT_GE(all.size(), Milestones::kMost / 2 - 1);
  EXPECT_EQ(all.front().index, 2u);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].ordinal, before[all[i].index]);
    const uint64_t next = i + 1 < all.size() ? all[i + 1].index : kEntries + 2;
    EXPECT_LE(next - all[i].index, kEntries / 32) << "entries";
  }
  EXPECT_EQ(machine.milestones().AtOrBefore(1), nullptr);
  EXPECT_EQ(machine.milestones().AtOrBefore(2), &all[0]);
  EXPECT_EQ(machine.milestones().AtOrBefore(all[5].index - 1), &all[4]);
  EXPECT_EQ(machine.milestones().AtOrBefore(all[5].index), &all[5]);
  EXPECT_EQ(machine.milestones().AtOrBefore(kMaxLogIndex), &all.back());

  Machine restored;
  ASSERT_TRUE(restored.Restore(machine.Snapshot()).ok());
  EXPECT_EQ(restored.milestones().all(), all);
  EXPECT_EQ(restored.Digest(), machine.Digest());

  // What nobody can ask for any more goes with the next one.
  Apply(machine, "purge");
  for (uint64_t i = 0; i < 3 * all.back().index / 64; ++i) Apply(machine, batches[0]);
  EXPECT_GT(machine.milestones().all().front().index, kEntries);
}

TEST(MilestonesTest, ATimeIsFoundBehindTheLastOneBeforeIt) {
  Milestones stones;
  for (uint64_t i = 1; i <= 4; ++i) stones.Add({i * 10'000, i, static_cast<int64_t>(i / 2 * 100)}, 1);
  EXPECT_EQ(stones.BeforeTime(0), nullptr);
  EXPECT_EQ(stones.BeforeTime(1)->index, 10'000u);
  EXPECT_EQ(stones.BeforeTime(100)->index, 10'000u);  // two entries are of that very time
  EXPECT_EQ(stones.BeforeTime(101)->index, 30'000u);
  EXPECT_EQ(stones.BeforeTime(1'000)->index, 40'000u);
}

TEST(MilestonesTest, WhatCannotBeIsNotRead) {
  Milestones stones;
  stones.Add({10, 5, 100}, 1);
  stones.Add({2'000, 50, 200}, 1);
  raft::Writer out;
  stones.Encode(out, kFactVersion);
  auto reads = [&](uint64_t applied, uint64_t published) {
    raft::Reader in(out.bytes());
    Milestones read;
    return read.Decode(in, kFactVersion, applied, published) && read.all() == stones.all();
  };
  EXPECT_TRUE(reads(2'000, 50));
  EXPECT_FALSE(reads(1'999, 50));
  EXPECT_FALSE(reads(2'000, 49));
}

}  // namespace
}  // namespace trireme::queue
