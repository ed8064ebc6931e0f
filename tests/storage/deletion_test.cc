// Safety rules 17 and 18 where entries rest in RocksDB: how many deletions it takes to be rid of them, and what is not
// believed of it.
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
using raft::IndexRange;
using raft::LogWrite;
using raft::ReplicaId;
using raft::Term;
using ::testing::HasSubstr;

constexpr GroupId kGroup(1), kOther(2);
constexpr uint64_t kBacklog = 240;

StoreOptions SmallOptions() {
  StoreOptions options;
  options.segment_bytes = 64 << 10;
  options.young_budget_bytes = 2 * options.segment_bytes;
  options.headroom_segments = 2;
  options.batch_cap_bytes = 16 << 10;
  options.pack_bytes = 3 << 10;  // two entries
  options.reclaim_bytes = 1 << 20;
  return options;
}

class DeletionTest : public ::testing::Test {
 protected:
  DeletionTest() : h_(SmallOptions()) {}

  void Append(GroupId group, uint64_t first, uint64_t last) {
    for (; first <= last; first += 4) {
      std::vector<LogWrite> writes;
      writes.push_back({group, HardState{Term(1), ReplicaId(1), Index(0)}, {}});
      for (uint64_t i = first; i < first + 4; ++i) {
        writes[0].entries.push_back(
            {Term(1), Index(i), EntryType::kCommand, Bytes::Copy(std::string(1500, static_cast<char>('a' + i % 26)))});
      }
      h_.Write(std::move(writes));
      h_.Await();
    }
  }
  // A backlog, most of which is in RocksDB, all of it covered by a snapshot.
  void MakeBacklog() {
    ASSERT_EQ(h_.Open(), "");
    h_.Create(kGroup, "deep");
    h_.Create(kOther, "other");
    h_.Await();
    Append(kGroup, 1, kBacklog);
    ASSERT_EQ(h_.Settle(), "");
    ASSERT_GT(h_.store()->figures().bytes_moved, 200'000u);
    h_.Save(kGroup, kBacklog, "state");
    h_.Await();
  }
  StoreHarness h_;
};

TEST_F(DeletionTest, WhatIsConsumedBitByBitIsDeletedInLongRanges) {
  MakeBacklog();
  for (uint64_t i = 1; i <= 150; ++i) {
    h_.Compact(kGroup, i, {});
    ASSERT_EQ(h_.Settle(), "");
  }
  Store::Deletions deletions = h_.store()->deletions();
  EXPECT_GE(deletions.ranges, 1u);
  EXPECT_LE(deletions.ranges, 3u);
  EXPECT_EQ(deletions.points, 0u);
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(DeletionTest, ShortRangesAreDeletedPackByPack) {
  MakeBacklog();
  std::vector<IndexRange> live;
  for (uint64_t i = 1; i <= 150; i += 30) live.push_back({Index(i), Index(i + 9)});
  h_.Compact(kGroup, 150, live);
  ASSERT_EQ(h_.Settle(), "");
  Store::Deletions deletions = h_.store()->deletions();
  EXPECT_EQ(deletions.ranges, 0u);
  EXPECT_GE(deletions.points, 30u);
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(DeletionTest, AQueueThatKeepsUpReachesRocksDbNotAtAll) {
  ASSERT_EQ(h_.Open(), "");
  h_.Create(kGroup, "keeps up");
  h_.Await();
  for (uint64_t i = 1; i <= 400; i += 4) {
    Append(kGroup, i, i + 3);
    h_.Save(kGroup, i + 3, "state");
    h_.Await();
    h_.Compact(kGroup, i + 3, {});
  }
  ASSERT_EQ(h_.Settle(), "");
  EXPECT_EQ(h_.store()->figures().bytes_moved, 0u);
  Store::Deletions deletions = h_.store()->deletions();
  EXPECT_EQ(deletions.points + deletions.ranges, 0u);
}

// Damage that RocksDB's own checksums cannot tell.
TEST_F(DeletionTest, ADamagedPackIsNotServed) {
  MakeBacklog();
  h_.Close();
  RawRocksDb(&h_.disk()).Rewrite("log", [](std::string* pack) { pack->at(pack->size() / 2) ^= 4; });
  EXPECT_THAT(h_.Open(), HasSubstr("DATA_LOSS"));
}

TEST_F(DeletionTest, ADamagedSnapshotIsNotServed) {
  MakeBacklog();
  Append(kOther, 1, 160);  // moves the snapshot
  ASSERT_EQ(h_.Settle(), "");
  h_.Close();
  int snapshots = 0;
  RawRocksDb(&h_.disk()).Rewrite("state", [&](std::string* snapshot) {
    snapshot->back() ^= 4;
    ++snapshots;
  });
  ASSERT_EQ(snapshots, 1);
  std::string error(h_.OpenStatus().ToString());
  EXPECT_THAT(error, HasSubstr("the snapshot of group 1 is damaged"));
}

}  // namespace
}  // namespace trireme::storage
