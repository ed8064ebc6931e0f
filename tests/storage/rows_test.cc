// Index rows: what scans see, what they cost who has none, and what waits for them (Safety rule 14). crash_test.cc has
// what a crash leaves of them.
#include <future>
#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/storage/raw_rocksdb.h"
#include "tests/storage/row_model.h"
#include "tests/storage/store_harness.h"

namespace trireme::storage {
namespace {

using raft::Bytes;
using raft::Entry;
using raft::EntryType;
using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::IndexRow;
using raft::LogWrite;
using raft::ReplicaId;
using raft::RowChange;
using raft::RowPage;
using raft::Term;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr GroupId kGroup(7), kOther(8);
constexpr char kRocksDb[] = "/disk/store/old";

StoreOptions SmallOptions() {
  StoreOptions options;
  options.segment_bytes = 64 << 10;
  options.young_budget_bytes = 2 * options.segment_bytes;
  options.headroom_segments = 2;
  options.batch_cap_bytes = 16 << 10;
  options.pack_bytes = 4 << 10;
  return options;
}

class RowsTest : public ::testing::Test {
 protected:
  RowsTest() : h_(SmallOptions()) {}

  void SetUp() override {
    ASSERT_EQ(h_.Open(), "");
    h_.Create(kGroup, "with rows");
    h_.Create(kOther, "without");
    h_.Await();
    Append(kGroup, 40);
    Append(kOther, 40);
  }
  void Append(GroupId group, uint64_t count, size_t size = 300) {
    std::vector<LogWrite> writes;
    writes.push_back({group, HardState{Term(1), ReplicaId(1), Index(1)}, {}});
    Index next(h_.groups().at(group).submitted.last());
    for (uint64_t i = 0; i < count; ++i) {
      next = next + 1;
      writes[0].entries.push_back({Term(1), next, EntryType::kCommand, Bytes::Copy(std::string(size, 'x'))});
    }
    h_.Write(std::move(writes));
    h_.Await();
  }
  // Until all of the log that was in use before has moved, and what had to be deleted is.
  void Turn() {
    for (int i = 0; i < 12; ++i) Append(kOther, 20, 1500);
    ASSERT_EQ(h_.Settle(), "");
  }
  std::vector<std::string> Keys(const std::string& from, const std::string& to, size_t page_bytes = 1 << 20) {
    std::vector<std::string> keys;
    absl::StatusOr<RowPage> page = h_.Scan(kGroup, from, to, page_bytes);
    EXPECT_TRUE(page.ok()) << page.status();
    if (page.ok()) {
      for (const IndexRow& row : page->rows) keys.push_back(row.key);
    }
    return keys;
  }
  void Put(std::vector<std::string> keys, uint64_t mark) {
    std::vector<RowChange> changes;
    for (std::string& key : keys) changes.push_back({RowChange::Kind::kPut, std::move(key), "value"});
    h_.store()->WriteRows(kGroup, Index(mark), std::move(changes));
  }

  StoreHarness h_;
};

TEST_F(RowsTest, AScanSeesWhatWasWrittenBeforeIt) {
  Put({"b", "d", "a"}, 3);
  EXPECT_THAT(Keys("", ""), ElementsAre("a", "b", "d"));
  Put({"c"}, 4);
  h_.store()->WriteRows(kGroup, Index(5), {{RowChange::Kind::kErase, "a"}, {RowChange::Kind::kErase, "never there"}});
  EXPECT_THAT(Keys("", ""), ElementsAre("b", "c", "d"));
  EXPECT_THAT(Keys("c", ""), ElementsAre("c", "d"));
  EXPECT_THAT(Keys("", "d"), ElementsAre("b", "c"));
  EXPECT_THAT(Keys("bb", "bc"), IsEmpty());
  h_.store()->WriteRows(kGroup, Index(6), {{RowChange::Kind::kEraseRange, "c", ""}});
  EXPECT_THAT(Keys("", ""), ElementsAre("b"));
}

TEST_F(RowsTest, PagesAreBoundedAndHaveARowAtLeast) {
  Put({"aaaa", "bbbb", "cccc"}, 3);
  for (auto [max_bytes, rows] : {std::pair<size_t, size_t>{1, 1}, {9, 1}, {18, 2}, {26, 2}, {27, 3}}) {
    std::promise<RowPage> promise;
    h_.store()->ScanRows(kGroup, "", "", max_bytes, [&](auto page) { promise.set_value(*page); });
    RowPage page = promise.get_future().get();
    EXPECT_EQ(page.rows.size(), rows) << max_bytes;
    EXPECT_EQ(page.more, rows < 3) << max_bytes;
    EXPECT_EQ(page.mark, Index(3));
  }
  EXPECT_THAT(Keys("", "", 1), ElementsAre("aaaa", "bbbb", "cccc"));
}

TEST_F(RowsTest, OtherGroupsAndTheMarkAreNotInAScan) {
  h_.GiveRows(kOther, 40);
  Put({std::string(1, '\0'), "\xff\xff\xff\xff\xff\xff\xff\xff\xff"}, 3);
  EXPECT_EQ(Keys("", "").size(), 2u);
  EXPECT_EQ(h_.CheckRows(kOther), "");
}

TEST_F(RowsTest, WhatIsThereIsNotMadeAgain) {
  Put({"a"}, 3);
  h_.store()->WriteRows(kGroup, Index(4), {{RowChange::Kind::kErase, "a"}});
  h_.Save(kOther, 10, "no rows");
  h_.Await();
  Put({"a"}, 3);
  EXPECT_THAT(Keys("", ""), IsEmpty());
}

// Safety rule 14.
TEST_F(RowsTest, ASnapshotWaitsForTheRowsItReliesOn) {
  h_.GiveRows(kGroup, 30);
  h_.disk().Hold(kRocksDb);
  std::atomic<bool> saved = false;
  h_.store()->SaveSnapshot(kGroup, Index(30), Term(1), Bytes::Copy("with rows"), [&] { saved = true; });
  ASSERT_TRUE(h_.disk().AwaitHeld());
  // The log goes on meanwhile, and a snapshot that relies on no rows does not wait.
  h_.Save(kOther, 20, "without rows");
  h_.Await();
  EXPECT_FALSE(saved);
  h_.disk().Release();
  ASSERT_EQ(h_.Settle(), "");
  h_.Await();
  Append(kOther, 1);
  EXPECT_TRUE(saved);
}

// RocksDB is flushed for other reasons, too, while some of them have not come there yet.
TEST_F(RowsTest, WhatIsStillGatheredIsNotTakenForFlushed) {
  h_.GiveRows(kGroup, 30);
  Turn();
  ASSERT_GT(h_.store()->figures().bytes_moved, 0u) << "nothing was flushed";
  h_.Save(kGroup, 30, "with rows");
  h_.Await();
  ASSERT_EQ(h_.Open(), "");
  EXPECT_GE(h_.groups().at(kGroup).rows, 30u);
}

TEST_F(RowsTest, WhoHasNoRowsPaysNothing) {
  h_.disk().Hold(kRocksDb);
  bool answered = false;
  h_.store()->ScanRows(kOther, "", "", 100, [&](auto page) { answered = page.ok() && page->rows.empty(); });
  EXPECT_TRUE(answered) << "without waiting for anything";
  h_.Save(kOther, 20, "its state");
  h_.Await();
  h_.disk().Release();
  h_.Close();
  EXPECT_THAT(RawRocksDb(&h_.disk()).GenerationsOf(kOther, "index"), IsEmpty());
}

TEST_F(RowsTest, RowsGoWithTheirGroup) {
  h_.GiveRows(kGroup, 40);
  h_.Save(kGroup, 40, "its state");
  h_.Await();
  h_.Close();
  ASSERT_EQ(RawRocksDb(&h_.disk()).GenerationsOf(kGroup, "index").size(), 1u);
  ASSERT_EQ(h_.Open(), "");
  // Some are on the way when it goes.
  Append(kGroup, 5);
  h_.GiveRows(kGroup, 45);
  h_.Delete(kGroup);
  h_.Await();
  Turn();
  h_.Close();
  EXPECT_THAT(RawRocksDb(&h_.disk()).GenerationsOf(kGroup, "index"), IsEmpty());
  ASSERT_EQ(h_.Open(), "");
  h_.Create(kGroup, "another one");
  h_.Await();
  Append(kGroup, 20);
  EXPECT_THAT(Keys("", ""), IsEmpty());
  h_.GiveRows(kGroup, 20);
  EXPECT_EQ(h_.CheckAll(), "");
}

// Safety rule 13.
TEST_F(RowsTest, InstalledRowsTakeThePlaceOfTheOldOnes) {
  h_.GiveRows(kGroup, 30);
  h_.Save(kGroup, 20, "its own");
  h_.Await();
  const ModelGroup::Installed snapshot{.snapshot = {Index(100), Term(5), raft::VotersOnly({ReplicaId(1)})},
                                       .bytes = "the leader's state",
                                       .hard_state = {Term(6), ReplicaId(2), Index(100)},
                                       .live = {}};
  h_.StageRows(kGroup, Index(100), Term(5), 9);
  EXPECT_EQ(h_.CheckRows(kGroup), "") << "before it is installed the old ones are there";
  // Some of the old log are on the way.
  h_.GiveRows(kGroup, 40);
  h_.Install(kGroup, snapshot, 10);
  h_.groups().at(kGroup).rows = 100;
  EXPECT_EQ(h_.CheckRows(kGroup), "");
  h_.store()->WriteRows(kGroup, Index(35), RowChangesOf(35));
  EXPECT_EQ(h_.CheckRows(kGroup), "");
  Turn();
  Append(kGroup, 10);
  h_.GiveRows(kGroup, 110);
  h_.Save(kGroup, 110, "all is flushed");
  h_.Await();
  EXPECT_EQ(h_.CheckRows(kGroup), "");
  h_.Close();
  EXPECT_EQ(RawRocksDb(&h_.disk()).GenerationsOf(kGroup, "index").size(), 1u);
  ASSERT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).rows, 110u);
}

TEST_F(RowsTest, StagedRowsGoWithWhatIsNotInstalled) {
  h_.StageRows(kGroup, Index(100), Term(5), 9);
  const uint64_t staged = h_.store()->last_synced();
  Turn();
  h_.Close();
  ASSERT_THAT(RawRocksDb(&h_.disk()).GenerationsOf(kGroup, "index"), Contains(staged));
  ASSERT_EQ(h_.Open(), "");
  EXPECT_THAT(Keys("", ""), IsEmpty());
  Turn();
  h_.Close();
  EXPECT_THAT(RawRocksDb(&h_.disk()).GenerationsOf(kGroup, "index"), Not(Contains(staged)));
}

// What RocksDB does not take waits in memory, but only so much of it: then the log waits, too, and goes on with it.
TEST_F(RowsTest, TheLogGoesOnAfterTooManyRowsHaveWaited) {
  h_.disk().Hold(kRocksDb);
  h_.GiveRows(kGroup, 1);
  h_.Save(kGroup, 1, "its rows are being flushed");
  ASSERT_TRUE(h_.disk().AwaitHeld());
  std::vector<RowChange> changes;
  for (int i = 0; i < 5000; ++i) {
    changes.push_back({RowChange::Kind::kPut, absl::StrCat("key ", i), std::string(4000, 'v')});
  }
  h_.store()->WriteRows(kGroup, Index(2), std::move(changes));
  std::vector<LogWrite> writes;
  writes.push_back({kOther, HardState{Term(2), ReplicaId(), Index(1)}, {}});
  h_.Write(std::move(writes));
  h_.disk().Release();
  h_.Await();
  EXPECT_EQ(Keys("key 4", "key 5").size(), 1111u);
}

}  // namespace
}  // namespace trireme::storage
