// What the background thread does while the log goes on: moves that are held up, work that comes to nothing.
#include <chrono>

#include "gtest/gtest.h"
#include "tests/storage/store_harness.h"

namespace trireme::storage {
namespace {

using raft::Bytes;
using raft::Entry;
using raft::EntryType;
using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::LogWrite;
using raft::ReplicaId;
using raft::Term;
using Survival = FaultFileSystem::Survival;

constexpr char kOld[] = "/disk/store/old";

class BackgroundTest : public ::testing::Test {
 public:
  // A segment has room for 13 batches of one block.
  static StoreOptions SmallOptions() {
    StoreOptions options;
    options.segment_bytes = 64 << 10;
    options.young_budget_bytes = 2 * options.segment_bytes;
    options.headroom_segments = 2;
    options.batch_cap_bytes = 16 << 10;
    options.reclaim_bytes = 512 << 10;
    return options;
  }

 protected:
  BackgroundTest() : h_(SmallOptions()) {}

  void Submit(GroupId group, size_t bytes) {
    uint64_t index = h_.groups().at(group).submitted.last() + 1;
    std::vector<LogWrite> writes;
    writes.push_back(
        {group, {}, {{Term(made_), Index(index), EntryType::kCommand, Bytes::Take(std::string(bytes, 'e'))}}});
    h_.Write(std::move(writes));
  }
  // Each is a batch of one block.
  void Append(GroupId group, int count) {
    for (int i = 0; i < count; ++i) {
      Submit(group, 3000);
      h_.Await();
    }
  }
  void Make(GroupId group, std::string descriptor = "members") {
    h_.Create(group, std::move(descriptor));
    h_.Await();
    ++made_;
  }
  // The power goes now.
  void Crash() {
    h_.disk().CrashAt(h_.disk().steps() + 1);
    h_.Close();
    h_.disk().Restart(Survival::kNothing, 1);
  }

  // `gone` is deleted and `next` begins while the first segment of `gone` is on its way to RocksDB; all segments are
  // written over before the next move is through; then the power goes.
  void DeleteWhileItMoves(GroupId gone, GroupId next) {
    ASSERT_EQ(h_.Open(), "");
    Make(gone);
    h_.disk().Hold(kOld);
    Append(gone, 33);  // two segments and more than half of the third
    ASSERT_TRUE(h_.disk().AwaitHeld());
    h_.Delete(gone);
    h_.Await();
    Make(next, std::string(30'000, 'd'));  // begins the fourth segment, for which the third has no room
    Append(next, 2);
    h_.disk().Release();
    ASSERT_EQ(h_.Settle(), "");
    h_.disk().Hold(kOld);
    Append(next, 20);  // over the second and the third, where they are free
    Crash();
    ASSERT_EQ(h_.Open(), "");
  }

  StoreHarness h_;
  uint64_t made_ = 0;  // groups; the term of what is written, so that two groups under one id are told apart
};

// Safety rule 14, broken on purpose where RocksDB learns of a deletion only once the move is over: the segment that
// tells of the deletion is written over meanwhile, RocksDB has what was moved, and after a crash the group is back.
TEST_F(BackgroundTest, AGroupThatIsDeletedWhileItMovesStaysDeleted) {
  DeleteWhileItMoves(GroupId(1), GroupId(2));
  EXPECT_EQ(h_.groups().count(GroupId(1)), 0u);
}

TEST_F(BackgroundTest, AGroupThatComesBackWhileItMovesHasNothingOfTheOldOne) {
  DeleteWhileItMoves(GroupId(1), GroupId(1));
  EXPECT_EQ(h_.groups().at(GroupId(1)).durable.last(), 22u);
}

// Entries 1 to 12 of the first one are a pack in RocksDB, entries 1 to 5 of the second. There are three flushes: with
// the fourth RocksDB would rewrite the files without what is deleted.
TEST_F(BackgroundTest, AGroupThatComesBackHasNothingOfTheOldOne) {
  const GroupId group(1);
  ASSERT_EQ(h_.Open(), "");
  Make(group);
  Append(group, 27);
  ASSERT_EQ(h_.Settle(), "");
  ASSERT_GT(h_.store()->figures().bytes_moved, 0u);
  h_.Delete(group);
  h_.Await();
  Make(group, std::string(20'000, 'd'));
  Append(group, 21);
  ASSERT_EQ(h_.Settle(), "");
  EXPECT_EQ(h_.CheckAll(), "");
  ASSERT_EQ(h_.Open(), "");
}

TEST_F(BackgroundTest, WhatIsDeadIsDeletedOnceNothingElseIsInRocksDb) {
  const GroupId consumed(1), other(2), busy(3);
  ASSERT_EQ(h_.Open(), "");
  Make(consumed);
  Make(other);
  Make(busy);
  Append(consumed, 10);  // with what made the groups a segment
  Append(other, 13);
  Append(busy, 20);
  ASSERT_EQ(h_.Settle(), "");
  ASSERT_EQ(h_.store()->figures().bytes_moved, 23u * 3032) << "two segments, and nothing of the busy group";
  h_.Save(consumed, 10, "state");
  h_.Await();
  h_.Compact(consumed, 10, {});  // too little to be deleted by itself
  ASSERT_EQ(h_.Settle(), "");
  h_.Delete(other);
  h_.Await();
  EXPECT_EQ(h_.Settle(), "");
}

// Work becomes due and comes to nothing before the background thread has looked: whoever waits for it must hear of it.
TEST_F(BackgroundTest, WorkThatComesToNothingIsNotWaitedFor) {
  ASSERT_EQ(h_.Open(), "");
  for (uint64_t i = 1; i <= 200; ++i) {
    const GroupId group(i);
    Make(group);
    for (int entry = 0; entry < 39; ++entry) Submit(group, 3000);
    h_.Await();
    ASSERT_EQ(h_.Settle(), "");
    h_.Save(group, 30, "state");
    h_.Await();
    h_.Compact(group, 30, {});  // much is to be deleted
    h_.Delete(group);           // and all of it goes with the group
    ASSERT_EQ(h_.Settle(), "") << "round " << i;
    h_.Await();
  }
}

class FullDiskTest : public ::testing::Test {
 protected:
  static StoreOptions Options() {
    StoreOptions options = BackgroundTest::SmallOptions();
    options.pack_bytes = 8 << 10;  // three entries
    return options;
  }
  FullDiskTest() : h_(Options()) {}

  void Append(uint64_t first, uint64_t last) {
    for (uint64_t i = first; i <= last; ++i) {
      std::vector<LogWrite> writes;
      writes.push_back({kGroup, {}, {{Term(1), Index(i), EntryType::kCommand, Bytes::Take(std::string(3000, 'e'))}}});
      h_.Write(std::move(writes));
      if (i % 13 == 0) h_.Await();
    }
    h_.Await();
  }
  // Most of it in RocksDB, all of it covered by a snapshot. Returns what it takes on the disk.
  uint64_t MakeBacklog() {
    EXPECT_EQ(h_.Open(), "");
    h_.Create(kGroup, "a backlog");
    h_.Await();
    Append(1, kEntries);
    h_.Save(kGroup, kEntries, "state");
    h_.Await();
    EXPECT_EQ(h_.Settle(), "");
    EXPECT_EQ(h_.store()->deletions().rewrites, 0u);
    EXPECT_GT(h_.disk().UsedBytes(), 3'500'000u);
    return h_.disk().UsedBytes();
  }
  // More than a half dies, so that there is something alive in each file.
  void Consume() {
    std::vector<raft::IndexRange> live;
    for (uint64_t i = 1; i <= kEntries; i += 15) live.push_back({Index(i), Index(i + 5)});
    h_.Compact(kGroup, kEntries, live);
    ASSERT_EQ(h_.Settle(), "");
  }

  static constexpr GroupId kGroup{1};
  static constexpr uint64_t kEntries = 1200;
  StoreHarness h_;
};

// Safety rule 19, broken on purpose where all that is alive is written anew before anything goes: the process ends when
// half of a backlog is consumed, for there is no room for the other half twice.
TEST_F(FullDiskTest, SpaceIsGivenBackInStepsThatFit) {
  const uint64_t before = MakeBacklog();
  h_.disk().LimitTo(before + (1 << 20));
  Consume();
  EXPECT_FALSE(h_.failed());
  EXPECT_GE(h_.store()->deletions().rewrites, 3u);
  EXPECT_LT(h_.disk().UsedBytes(), before - 1'500'000);
  EXPECT_EQ(h_.CheckAll(), "");
}

// There is no room at all: nothing happens, until there is.
TEST_F(FullDiskTest, WithoutRoomSpaceIsGivenBackLater) {
  const uint64_t before = MakeBacklog();
  h_.disk().LimitTo(before + (96 << 10));
  Consume();
  EXPECT_FALSE(h_.failed());
  EXPECT_EQ(h_.store()->deletions().rewrites, 0u);
  h_.disk().LimitTo(0);
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (h_.store()->deletions().rewrites == 0 && std::chrono::steady_clock::now() < patience) {
    ASSERT_EQ(h_.Settle(), "");
  }
  ASSERT_EQ(h_.Settle(), "");
  EXPECT_GT(h_.store()->deletions().rewrites, 0u);
  EXPECT_LT(h_.disk().UsedBytes(), before - 1'500'000);
  EXPECT_EQ(h_.CheckAll(), "");
}

// Somebody else takes the room while it is at work.
TEST_F(FullDiskTest, ACompactionThatFindsNoRoomHarmsNothing) {
  const uint64_t before = MakeBacklog();
  h_.disk().LimitTo(before + (300 << 10), /*lies=*/true);
  Consume();
  EXPECT_TRUE(h_.disk().AwaitFull());
  EXPECT_GT(h_.store()->deletions().rewrites, 0u);
  EXPECT_FALSE(h_.failed());
  EXPECT_EQ(h_.CheckAll(), "");
  h_.disk().LimitTo(0);
  Append(kEntries + 1, kEntries + 100);
  ASSERT_EQ(h_.Settle(), "");
  EXPECT_FALSE(h_.failed());
  EXPECT_EQ(h_.CheckAll(), "");
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(FullDiskTest, WritersWaitForASegmentThatCannotBeMade) {
  ASSERT_EQ(h_.Open(), "");
  ASSERT_EQ(h_.Settle(), "");
  h_.disk().LimitTo(h_.disk().UsedBytes() + (16 << 10));
  h_.Create(kGroup, "on a full disk");
  for (uint64_t i = 1; i <= 40; ++i) {
    std::vector<LogWrite> writes;
    writes.push_back({kGroup, {}, {{Term(1), Index(i), EntryType::kCommand, Bytes::Take(std::string(3000, 'e'))}}});
    h_.Write(std::move(writes));
  }
  ASSERT_TRUE(h_.disk().AwaitFull());
  EXPECT_FALSE(h_.failed());
  h_.disk().LimitTo(0);
  h_.Await();
  EXPECT_FALSE(h_.failed());
  EXPECT_EQ(h_.CheckAll(), "");
  EXPECT_EQ(h_.Open(), "");
}

}  // namespace
}  // namespace trireme::storage
