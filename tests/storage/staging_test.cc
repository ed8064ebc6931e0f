// Safety rule 13: a snapshot of another replica goes beside what a group has, and takes its place in one step.
#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/storage/raw_rocksdb.h"
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

constexpr GroupId kGroup(7), kOther(8);

StoreOptions SmallOptions() {
  StoreOptions options;
  options.segment_bytes = 64 << 10;
  options.young_budget_bytes = 2 * options.segment_bytes;
  options.headroom_segments = 2;
  options.batch_cap_bytes = 16 << 10;
  options.pack_bytes = 4 << 10;
  return options;
}

std::vector<Entry> Entries(uint64_t first, uint64_t last, uint64_t term, size_t size = 500) {
  std::vector<Entry> entries;
  for (uint64_t i = first; i <= last; ++i) {
    std::string data = absl::StrCat("entry ", i, " of term ", term, " ", std::string(size, 'x'));
    entries.push_back({Term(term), Index(i), EntryType::kCommand, Bytes::Copy(data)});
  }
  return entries;
}

// As of 100, of a leader of term 5, with three stretches alive.
ModelGroup::Installed Snapshot() {
  ModelGroup::Installed snapshot{.snapshot = {Index(100), Term(5), raft::VotersOnly({ReplicaId(1), ReplicaId(2)})},
                                 .bytes = "the leader's state",
                                 .hard_state = {Term(6), ReplicaId(2), Index(100)},
                                 .live = {}};
  for (auto [first, last] : {std::pair(2, 4), {50, 70}, {98, 100}}) {
    std::vector<Entry> some = Entries(first, last, 5);
    snapshot.live.insert(snapshot.live.end(), some.begin(), some.end());
  }
  return snapshot;
}

class StagingTest : public ::testing::Test {
 protected:
  StagingTest() : h_(SmallOptions()) {}

  // With a log of 40 entries, the last 20 of them above its snapshot.
  void Make(GroupId group) {
    h_.Create(group, absl::StrCat("group ", group.value()));
    h_.Await();
    Append(group, Entries(1, 40, 1), HardState{Term(1), ReplicaId(1), Index(30)});
    h_.Save(group, 20, "its own state");
    h_.Await();
  }
  void Append(GroupId group, std::vector<Entry> entries, std::optional<HardState> state = {}) {
    std::vector<LogWrite> writes;
    writes.push_back({group, state, std::move(entries)});
    h_.Write(std::move(writes));
    h_.Await();
  }
  // Until all of the log that was in use before has moved, and what had to be deleted is.
  void Turn(GroupId group) {
    uint64_t next = h_.groups().at(group).submitted.last() + 1;
    for (int i = 0; i < 12; ++i, next += 20) Append(group, Entries(next, next + 19, 9, 1500));
    ASSERT_EQ(h_.Settle(), "");
  }
  void Kill() {
    h_.disk().CrashAt(h_.disk().steps() + 1);
    h_.Close();
    h_.disk().Restart(Survival::kAll, 1);
  }
  // Of its entries in RocksDB; the store is closed.
  std::set<uint64_t> GenerationsOf(GroupId group) { return RawRocksDb(&h_.disk()).GenerationsOf(group); }

  StoreHarness h_;
};

TEST_F(StagingTest, AnInstalledSnapshotIsAllThatThereIs) {
  ASSERT_EQ(h_.Open(), "");
  Make(kGroup);
  h_.Install(kGroup, Snapshot(), 7);
  EXPECT_EQ(h_.CheckAll(), "");
  EXPECT_EQ(h_.CheckRead(kGroup, 50, 80, 1 << 20), "");
  EXPECT_EQ(h_.CheckRead(kGroup, 5, 10, 1 << 20), "");
  Append(kGroup, Entries(101, 130, 6));
  EXPECT_EQ(h_.CheckRead(kGroup, 98, 130, 1 << 20), "");
  ASSERT_EQ(h_.Open(), "");
  Turn(kGroup);
  EXPECT_EQ(h_.CheckAll(), "");
  ASSERT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.memberships(),
            (std::vector<raft::MembershipAt>{{Index(100), Snapshot().snapshot.membership}}));
}

TEST_F(StagingTest, TheOldStateAnswersUntilTheNewOneIsDurable) {
  ASSERT_EQ(h_.Open(), "");
  Make(kGroup);
  ModelGroup::Installed snapshot = Snapshot();
  h_.Stage(kGroup, Index(100), Term(5), snapshot.live);
  EXPECT_EQ(h_.CheckAll(), "");
  h_.disk().Hold("/disk/store/wal");
  bool installed = false;
  h_.store()->Install(kGroup, snapshot.hard_state, snapshot.snapshot, Bytes::Copy(snapshot.bytes),
                      [&] { installed = true; });
  ASSERT_TRUE(h_.disk().AwaitHeld());
  EXPECT_EQ(h_.CheckAll(), "");
  // The power goes before the record is synced: it is the old state that comes back.
  h_.disk().CrashAt(h_.disk().steps() + 1);
  h_.disk().Release();
  h_.Close();
  EXPECT_FALSE(installed);
  h_.disk().Restart(Survival::kNothing, 1);
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 40u);
}

TEST_F(StagingTest, AStagingGoesOnWhereItWas) {
  ASSERT_EQ(h_.Open(), "");
  Make(kGroup);
  ModelGroup::Installed snapshot = Snapshot();
  EXPECT_EQ(h_.store()->Begin(kGroup, Index(100), Term(5)), Index(0));
  h_.Stage(kGroup, Index(100), Term(5), {snapshot.live.begin(), snapshot.live.begin() + 10});
  EXPECT_EQ(h_.store()->Begin(kGroup, Index(100), Term(5)), snapshot.live[9].index);
  // What comes again is left out.
  h_.Stage(kGroup, Index(100), Term(5), {snapshot.live.begin(), snapshot.live.begin() + 12});
  EXPECT_EQ(h_.store()->Begin(kGroup, Index(100), Term(5)), snapshot.live[11].index);
  // Another one begins from nothing, and this one then as well.
  EXPECT_EQ(h_.store()->Begin(kGroup, Index(101), Term(5)), Index(0));
  EXPECT_EQ(h_.store()->Begin(kGroup, Index(100), Term(5)), Index(0));
  h_.Install(kGroup, snapshot, 100);
  EXPECT_EQ(h_.CheckAll(), "");
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(StagingTest, WhatWasStagedAndNotInstalledIsDeleted) {
  ASSERT_EQ(h_.Open(), "");
  Make(kGroup);
  Make(kOther);
  h_.Stage(kGroup, Index(100), Term(5), Snapshot().live);
  uint64_t staged = h_.store()->last_synced();
  Turn(kOther);  // it is flushed with what moves
  Kill();
  ASSERT_THAT(GenerationsOf(kGroup), ::testing::Contains(staged));
  ASSERT_EQ(h_.Open(), "");
  Turn(kOther);
  h_.Close();
  EXPECT_THAT(GenerationsOf(kGroup), ::testing::Not(::testing::Contains(staged)));

  // The same without a restart.
  ASSERT_EQ(h_.Open(), "");
  h_.Stage(kGroup, Index(100), Term(5), Snapshot().live);
  staged = h_.store()->last_synced();
  h_.store()->Drop(kGroup);
  Turn(kOther);
  h_.Close();
  EXPECT_THAT(GenerationsOf(kGroup), ::testing::Not(::testing::Contains(staged)));
}

TEST_F(StagingTest, TheOldGenerationIsDeleted) {
  ASSERT_EQ(h_.Open(), "");
  Make(kGroup);
  Make(kOther);
  Turn(kOther);
  h_.Install(kGroup, Snapshot(), 50);
  Turn(kOther);
  h_.Close();
  EXPECT_EQ(GenerationsOf(kGroup).size(), 1u);
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(StagingTest, AGroupTakesWhatIsStagedAlongWhenItIsDeleted) {
  ASSERT_EQ(h_.Open(), "");
  Make(kGroup);
  Make(kOther);
  h_.Stage(kGroup, Index(100), Term(5), Snapshot().live);
  h_.Delete(kGroup);
  h_.Await();
  Make(kGroup);
  EXPECT_EQ(h_.store()->Begin(kGroup, Index(100), Term(5)), Index(0));
  Turn(kOther);
  h_.Install(kGroup, Snapshot(), 50);
  EXPECT_EQ(h_.CheckAll(), "");
  h_.Delete(kGroup);
  h_.Await();
  Turn(kOther);
  h_.Close();
  EXPECT_TRUE(GenerationsOf(kGroup).empty());
  EXPECT_EQ(h_.Open(), "");
}

// Safety rule 18: what is staged is not dead, so nothing is written anew to be rid of it.
TEST(StagingSpaceTest, WhatIsStagedIsNotTakenForDead) {
  StoreOptions options = SmallOptions();
  options.reclaim_bytes = 64 << 10;
  StoreHarness h(options);
  ASSERT_EQ(h.Open(), "");
  h.Create(kGroup, "behind");
  h.Create(kOther, "busy");
  h.Await();
  for (uint64_t round = 0; round < 20; ++round) {
    h.Stage(kGroup, Index(100'000), Term(5), Entries(round * 100 + 1, round * 100 + 100, 5, 2000));
    std::vector<LogWrite> writes;
    writes.push_back({kOther, HardState{Term(1), ReplicaId(1), Index(0)}, Entries(round * 30 + 1, round * 30 + 30, 1)});
    h.Write(std::move(writes));
    h.Await();
    ASSERT_EQ(h.Settle(), "");
  }
  EXPECT_GT(h.store()->figures().bytes_moved, 0u);
  EXPECT_EQ(h.store()->deletions().rewrites, 0u);
  // But what is dropped is.
  h.store()->Drop(kGroup);
  std::vector<LogWrite> writes;
  writes.push_back({kOther, {}, Entries(601, 900, 1)});
  h.Write(std::move(writes));
  h.Await();
  ASSERT_EQ(h.Settle(), "");
  EXPECT_GT(h.store()->deletions().rewrites, 0u);
}

}  // namespace
}  // namespace trireme::storage
