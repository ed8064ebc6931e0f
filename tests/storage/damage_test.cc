// Safety rules 15 and 17: damage that is no torn tail stops the open and says where; what lies of earlier uses in a
// segment is never taken for new.
#include <algorithm>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/segments.h"
#include "storage/wal_format.h"
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
using ::testing::HasSubstr;
using ::testing::Not;
using Survival = FaultFileSystem::Survival;

constexpr GroupId kGroup(3);

StoreOptions SmallOptions() {
  StoreOptions options;
  options.segment_bytes = 64 << 10;
  options.young_budget_bytes = 4 * options.segment_bytes;
  options.batch_cap_bytes = 16 << 10;
  return options;
}

class DamageTest : public ::testing::Test {
 protected:
  DamageTest() : h_(SmallOptions()) {}

  void Fill(uint64_t batches, size_t size = 3000) {
    ASSERT_EQ(h_.Open(), "");
    h_.Create(kGroup, "damaged");
    h_.Await();
    for (uint64_t i = 1; i <= batches; ++i) Append(i, size);
  }
  void Append(uint64_t index, size_t size = 3000) {
    std::vector<LogWrite> writes;
    std::string data(size, static_cast<char>('a' + index % 26));
    writes.push_back({kGroup,
                      HardState{Term(1), ReplicaId(1), Index(index - 1)},
                      {{Term(1), Index(index), EntryType::kCommand, Bytes::Copy(data)}}});
    h_.Write(std::move(writes));
    h_.Await();
  }
  // The end of the process, without a clean stop.
  void Kill() {
    h_.disk().CrashAt(h_.disk().steps() + 1);
    h_.Close();
    h_.disk().Restart(Survival::kNothing, 1);
  }

  struct Where {
    std::string path;
    BatchHeader header;
    uint64_t offset;
  };
  // All batches on the disk, by sequence.
  std::vector<Where> Batches() {
    std::vector<Where> all;
    for (const std::string& path : h_.disk().Files("/disk/store/wal")) {
      std::string bytes = h_.disk().Content(path);
      for (uint64_t at = kBlockBytes; at + kBatchHeaderBytes <= bytes.size(); at += kBlockBytes) {
        if (bytes.compare(at, 4, "TRWB") != 0) continue;
        Where w{path, {}, at};
        std::memcpy(&w.header.sequence, bytes.data() + at + 8, 8);
        std::memcpy(&w.header.synced, bytes.data() + at + 16, 8);
        std::memcpy(&w.header.begin, bytes.data() + at + 24, 8);
        std::memcpy(&w.header.bytes, bytes.data() + at + 32, 4);
        std::memcpy(&w.header.records, bytes.data() + at + 36, 4);
        all.push_back(w);
      }
    }
    std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.header.sequence < b.header.sequence; });
    return all;
  }
  // As it was when it was made.
  void Empty(const std::string& path) {
    h_.disk().Overwrite(path, kBlockBytes, std::string(h_.disk().Content(path).size() - kBlockBytes, '\0'));
  }
  std::string OpenError() { return std::string(h_.OpenStatus().ToString()); }

  StoreHarness h_;
};

TEST_F(DamageTest, AFlippedBitAnywhereInTheMiddleStopsTheOpen) {
  Fill(40);
  Kill();
  std::vector<Where> batches = Batches();
  ASSERT_GT(batches.size(), 30u);
  for (size_t i = 0; i + 1 < batches.size(); ++i) {
    const Where& w = batches[i];
    uint64_t at = w.offset + (i * 997) % w.header.bytes;
    h_.disk().FlipBit(w.path, at, static_cast<int>(i % 8));
    std::string error = OpenError();
    // Padding between records has no checksum, and needs none.
    if (error != "OK") {
      EXPECT_THAT(error, HasSubstr("DATA_LOSS"));
      EXPECT_THAT(error, HasSubstr("/disk/store/wal"));
      EXPECT_THAT(error, HasSubstr("batch " + std::to_string(w.header.sequence) + " is missing"));
    }
    h_.disk().FlipBit(w.path, at, static_cast<int>(i % 8));
  }
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(DamageTest, EveryByteOfABatchsHeaderAndRecordsCounts) {
  Fill(4, 100);
  Kill();
  Where w = Batches()[2];
  int unnoticed = 0;
  for (uint64_t at = w.offset; at < w.offset + w.header.bytes; ++at) {
    h_.disk().FlipBit(w.path, at, 3);
    if (h_.OpenStatus().ok()) ++unnoticed;
    h_.disk().FlipBit(w.path, at, 3);
  }
  EXPECT_LT(unnoticed, 16) << "only padding to 8 bytes may go unnoticed";
}

TEST_F(DamageTest, ALostSectorInTheMiddleStopsTheOpen) {
  Fill(40);
  Kill();
  Where w = Batches()[20];
  h_.disk().Overwrite(w.path, w.offset + 512, std::string(512, '\0'));
  EXPECT_THAT(OpenError(), HasSubstr("was synced"));
}

TEST_F(DamageTest, AnEmptiedSegmentStopsTheOpen) {
  Fill(30);  // two segments, and far from the budget at which the first would be reclaimed
  Kill();
  std::vector<Where> batches = Batches();
  std::string first = batches.front().path, last = batches.back().path;
  ASSERT_NE(first, last);
  Empty(first);
  EXPECT_THAT(OpenError(), HasSubstr("batch 1 is missing"));
}

TEST_F(DamageTest, ADamagedSegmentHeaderStopsTheOpen) {
  Fill(5);
  Kill();
  h_.disk().FlipBit(h_.disk().Files("/disk/store/wal").front(), 9, 1);
  EXPECT_THAT(OpenError(), HasSubstr("DATA_LOSS"));
}

TEST_F(DamageTest, ATornTailIsCutWithoutAWord) {
  Fill(10);
  // The write of batch 12 reaches the disk in part; its sync does not happen.
  h_.disk().CrashAt(h_.disk().steps() + 1);
  Append(11);
  EXPECT_TRUE(h_.failed());
  h_.Close();
  h_.disk().Restart(Survival::kAll, 1);
  Where last = Batches().back();
  ASSERT_EQ(last.header.sequence, 12u);
  h_.disk().Overwrite(last.path, last.offset + 1024, std::string(512, 'x'));
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 10u);
  // What comes next takes its number and place.
  Append(11);
  Append(12);
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 12u);
}

TEST_F(DamageTest, AWholeTailThatWasNotSyncedIsTakenAndMadeDurable) {
  Fill(10);
  h_.disk().CrashAt(h_.disk().steps() + 2);  // with the sync
  Append(11);
  EXPECT_TRUE(h_.failed());
  h_.Close();
  h_.disk().Restart(Survival::kAll, 1);
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 11u);
  Kill();
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 11u);
}

// The process ends, but not the machine: what was written and not synced is there, and nowhere but in memory.
TEST_F(DamageTest, ATailThatIsOnlyInThePageCacheIsMadeDurable) {
  Fill(10);
  ASSERT_EQ(h_.Settle(), "");
  h_.disk().FailAt(h_.disk().steps() + 2);
  Append(11);
  EXPECT_TRUE(h_.failed());
  ASSERT_THAT(h_.disk().failed_call(), HasSubstr("sync /disk/store/wal"));
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 11u);
  Kill();
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 11u);
}

TEST_F(DamageTest, DamageToTheLastBatchIsToldFromATornTailAfterACleanStop) {
  Fill(10);
  h_.Close();
  std::vector<Where> batches = Batches();
  ASSERT_EQ(batches.back().header.records, 0u) << "it does not close the log";
  const Where& last = batches[batches.size() - 2];
  ASSERT_GT(last.header.records, 0u);
  h_.disk().FlipBit(last.path, last.offset + 100, 0);
  EXPECT_THAT(OpenError(), HasSubstr("is missing or its checksum is wrong"));
}

TEST_F(DamageTest, RecordsOfAnEarlierUseAreNeverTakenForNew) {
  // A group that keeps up: segments are written over again and again, and hold old batches behind the new ones.
  Fill(0);
  for (uint64_t i = 1; i <= 150; ++i) {
    Append(i);
    if (i % 10 == 0) {
      h_.Save(kGroup, i, "state " + std::to_string(i));
      h_.Await();
      h_.Compact(kGroup, i, {});
    }
  }
  h_.Save(kGroup, 150, "state");
  h_.Await();
  h_.Compact(kGroup, 150, {});
  Kill();
  std::vector<Where> batches = Batches();
  uint64_t begin = batches.back().header.begin;
  ASSERT_LT(batches.front().header.sequence, begin) << "nothing old is left to be mistaken";
  EXPECT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 150u);
  // Damage to what is not needed any more is nobody's business.
  Kill();
  Where old = Batches().front();
  h_.disk().FlipBit(old.path, old.offset + 60, 1);
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(DamageTest, AnotherStoresSegmentIsRefused) {
  Fill(3);
  Kill();
  StoreHarness other(SmallOptions());
  ASSERT_EQ(other.Open(), "");
  other.Close();
  std::string path = "/disk/store/wal/" + SegmentName(1);
  h_.disk().Overwrite(path, 0, other.disk().Content(path));
  EXPECT_THAT(OpenError(), HasSubstr("another store"));
}

TEST_F(DamageTest, ALogThatIsOlderThanRocksDbIsRefused) {
  Fill(10);
  Kill();
  std::map<std::string, std::string> before;
  for (const std::string& path : h_.disk().Files("/disk/store/wal")) before[path] = h_.disk().Content(path);
  ASSERT_EQ(h_.Open(), "");
  for (uint64_t i = 11; i <= 200; ++i) Append(i);
  ASSERT_EQ(h_.Settle(), "");
  ASSERT_GT(h_.store()->figures().bytes_moved, 0u);
  Kill();
  for (const std::string& path : h_.disk().Files("/disk/store/wal")) {
    Empty(path);
    if (before.contains(path)) h_.disk().Overwrite(path, 0, before[path]);
  }
  EXPECT_THAT(OpenError(), HasSubstr("ends at batch 11, but batch"));
}

TEST_F(DamageTest, ADamagedEntryIsNotServed) {
  Fill(10);
  Where w = Batches()[5];
  h_.disk().FlipBit(w.path, w.offset + 1000, 2);
  EXPECT_EQ(h_.CheckRead(kGroup, 1, 4, 1 << 20), "");
  std::string error = h_.CheckRead(kGroup, 5, 5, 1 << 20);
  EXPECT_THAT(error, HasSubstr("entry 5 of group 3 is damaged"));
  EXPECT_THAT(error, HasSubstr(w.path));
  EXPECT_EQ(h_.CheckRead(kGroup, 6, 10, 1 << 20), "");
}

TEST_F(DamageTest, ADamagedEntryInRocksDbIsNotServed) {
  Fill(200);
  ASSERT_EQ(h_.Settle(), "");
  ASSERT_GT(h_.store()->figures().bytes_moved, 0u);
  for (const std::string& path : h_.disk().Files("/disk/store/old")) {
    if (!path.ends_with(".blob")) continue;
    h_.disk().FlipBit(path, h_.disk().Content(path).size() / 2, 2);
  }
  int damaged = 0;
  for (uint64_t i = 1; i <= 200; ++i) {
    std::string wrong = h_.CheckRead(kGroup, i, i, 1 << 20);
    EXPECT_THAT(wrong, Not(HasSubstr("is wrong")));
    if (!wrong.empty()) {
      EXPECT_THAT(wrong, HasSubstr("DATA_LOSS"));
      ++damaged;
    }
  }
  EXPECT_GT(damaged, 0);
}

}  // namespace
}  // namespace trireme::storage
