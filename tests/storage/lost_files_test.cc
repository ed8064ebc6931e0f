// A directory that once held a log is not started without all of it: a node that forgot its votes and messages must not
// go on as if it had not (Safety rule 12). And the first start, wherever it is cut short, is no loss.
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"
#include "storage/segments.h"
#include "tests/storage/raw_rocksdb.h"
#include "tests/storage/store_harness.h"

namespace trireme::storage {
namespace {

using raft::Bytes;
using raft::EntryType;
using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::LogWrite;
using raft::ReplicaId;
using raft::Term;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Survival = FaultFileSystem::Survival;

constexpr GroupId kGroup(3);
constexpr char kFormat[] = "/disk/store/FORMAT";

StoreOptions SmallOptions() {
  StoreOptions options;
  options.segment_bytes = 64 << 10;
  options.young_budget_bytes = 8 * options.segment_bytes;
  options.batch_cap_bytes = 16 << 10;
  return options;
}

class LostFilesTest : public ::testing::Test {
 protected:
  LostFilesTest() : h_(SmallOptions()) {}

  // Far from the budget at which anything would move to RocksDB.
  void Fill(uint64_t entries) {
    ASSERT_EQ(h_.Open(), "");
    h_.Create(kGroup, "lost");
    h_.Await();
    for (uint64_t i = 1; i <= entries; ++i) {
      std::vector<LogWrite> writes;
      writes.push_back({kGroup,
                        HardState{Term(1), ReplicaId(1), Index(i - 1)},
                        {{Term(1), Index(i), EntryType::kCommand, Bytes::Copy(std::string(3000, 'x'))}}});
      h_.Write(std::move(writes));
      h_.Await();
    }
    ASSERT_EQ(h_.Settle(), "");
    ASSERT_EQ(h_.store()->figures().bytes_moved, 0u);
    h_.Close();
  }
  void RemoveAll(const std::string& directory) {
    for (const std::string& path : h_.disk().Files(directory)) h_.disk().RemoveFile(path);
  }
  // What the store has, as of an earlier version.
  static void WriteFormat(StoreHarness& h, int version) {
    const std::string format = h.disk().Content(kFormat);
    std::string text = absl::StrCat("trireme store\nversion ", version, "\n");
    for (const char* name : {"salt ", "segment_bytes ", "segments "}) {
      const size_t at = format.find(absl::StrCat("\n", name));
      ASSERT_NE(at, std::string::npos);
      if (version == 2 && std::string_view(name) == "segments ") continue;
      text += format.substr(at + 1, format.find('\n', at + 1) - at);
    }
    text += absl::StrCat("checksum ", raft::Crc32c(text), "\n");
    h.disk().RemoveFile(kFormat);
    absl::StatusOr<std::unique_ptr<File>> file = h.disk().Open(kFormat, FileSystem::Mode::kCreate);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Write(0, text).ok());
    ASSERT_TRUE((*file)->Sync().ok());
    ASSERT_TRUE(h.disk().SyncDirectory("/disk/store").ok());
  }
  std::string OpenError() { return std::string(h_.OpenStatus().ToString()); }

  StoreHarness h_;
};

TEST_F(LostFilesTest, ALostLogStopsTheOpen) {
  Fill(5);
  RemoveAll("/disk/store/wal");
  for (int attempt = 0; attempt < 2; ++attempt) {
    EXPECT_THAT(OpenError(), AllOf(HasSubstr("DATA_LOSS"), HasSubstr("/disk/store/wal"), HasSubstr(SegmentName(1)),
                                   HasSubstr("Put back what is missing")));
  }
}

TEST_F(LostFilesTest, AnyLostSegmentStopsTheOpen) {
  Fill(45);
  std::vector<std::string> segments = h_.disk().Files("/disk/store/wal");
  ASSERT_GE(segments.size(), 3u);
  for (const std::string& path : segments) {
    std::string content = h_.disk().Content(path);
    h_.disk().RemoveFile(path);
    EXPECT_THAT(OpenError(), AllOf(HasSubstr("DATA_LOSS"), HasSubstr(path))) << path;
    absl::StatusOr<std::unique_ptr<File>> back = h_.disk().Open(path, FileSystem::Mode::kCreate);
    ASSERT_TRUE(back.ok());
    ASSERT_TRUE((*back)->Write(0, content).ok());
    ASSERT_TRUE((*back)->Sync().ok());
    ASSERT_TRUE(h_.disk().SyncDirectory("/disk/store/wal").ok());
  }
  EXPECT_EQ(h_.Open(), "");
}

TEST_F(LostFilesTest, ALostRocksDbStopsTheOpen) {
  Fill(5);
  RemoveAll("/disk/store/old");
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("DATA_LOSS"), HasSubstr("/disk/store/old")));
}

TEST_F(LostFilesTest, AStoreThatItsOwnerKnowsOfIsNotMadeAnew) {
  StoreOptions options = SmallOptions();
  options.must_exist = true;
  StoreHarness h(options);
  std::string error(h.OpenStatus().ToString());
  EXPECT_THAT(error, AllOf(HasSubstr("DATA_LOSS"), HasSubstr("/disk/store"), HasSubstr("Put back what is missing")));
  EXPECT_TRUE(h.disk().Files("/disk/store").empty());
}

TEST_F(LostFilesTest, TheFirstStartMayBeCutShortAnywhere) {
  uint64_t steps = 0;
  {
    StoreHarness h(SmallOptions());
    ASSERT_EQ(h.Open(), "");
    steps = h.disk().steps();
  }
  for (Survival survival : {Survival::kNothing, Survival::kAll, Survival::kTorn}) {
    for (uint64_t step = 1; step <= steps; ++step) {
      SCOPED_TRACE(absl::StrCat("step ", step, " of ", steps, ", survival ", static_cast<int>(survival)));
      StoreHarness h(SmallOptions());
      h.disk().CrashAt(step);
      ASSERT_EQ(h.Open(), "");
      h.Close();
      h.disk().Restart(survival, step);
      ASSERT_EQ(h.Open(), "");
      h.Create(kGroup, "born");
      h.Await();
      ASSERT_EQ(h.Open(), "");
    }
  }
}

// The format before the segments were counted.
TEST_F(LostFilesTest, ADirectoryOfVersion2IsTakenOver) {
  Fill(45);
  WriteFormat(h_, 2);
  ASSERT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 45u);
  h_.Close();
  h_.disk().RemoveFile(h_.disk().Files("/disk/store/wal").back());
  EXPECT_THAT(OpenError(), HasSubstr("DATA_LOSS"));
}

// The format before there were index rows.
TEST_F(LostFilesTest, ADirectoryOfVersion5IsTakenOver) {
  Fill(45);
  h_.Close();
  RawRocksDb(&h_.disk()).Drop("index");
  WriteFormat(h_, 5);
  ASSERT_EQ(h_.Open(), "");
  EXPECT_EQ(h_.groups().at(kGroup).durable.last(), 45u);
  h_.GiveRows(kGroup, 45);
  EXPECT_EQ(h_.CheckAll(), "");
  EXPECT_THAT(h_.disk().Content(kFormat), HasSubstr("version 6"));
}

// The format before snapshots and rows told of memberships, and of generations.
TEST_F(LostFilesTest, ADirectoryOfVersion3IsTakenOver) {
  StoreOptions options = SmallOptions();
  options.young_budget_bytes = 2 * options.segment_bytes;
  StoreHarness h(options);
  constexpr GroupId kBusy(8);
  auto append = [&](GroupId group, int entries) {
    for (int i = 0; i < entries; ++i) {
      std::vector<LogWrite> writes;
      Index next(h.groups().at(group).submitted.last() + 1);
      writes.push_back({group, HardState{Term(1), ReplicaId(1), next - 1}, {}});
      writes[0].entries.push_back({Term(1), next, EntryType::kCommand, Bytes::Copy(std::string(3000, 'x'))});
      h.Write(std::move(writes));
      h.Await();
    }
  };
  ASSERT_EQ(h.Open(), "");
  h.Create(kGroup, "old");
  h.Create(kBusy, "busy");
  h.Await();
  append(kGroup, 10);
  h.Save(kGroup, 6, "its state");
  h.Await();
  append(kBusy, 80);
  ASSERT_EQ(h.Settle(), "");
  h.Close();
  int rows = 0, snapshots = 0;
  {
    RawRocksDb raw(&h.disk());
    raw.RewriteKeys("raft", [&](std::string* key, std::string* row) {
      if (key->size() != 8) return;
      ASSERT_EQ(row->substr(row->size() - 2), std::string(2, '\0')) << "no memberships, nothing staged";
      row->front() = 1;
      row->resize(row->size() - 2);
      ++rows;
    });
    raw.RewriteKeys("state", [&](std::string* key, std::string* snapshot) {
      ASSERT_EQ(key->size(), 16u);
      ASSERT_EQ(snapshot->at(16), '\0') << "no membership";
      key->resize(8);
      const std::string head = snapshot->substr(0, 16), state = snapshot->substr(21);
      raft::Writer old;
      old.Raw(head);
      old.Fixed32(raft::Crc32c(state, raft::Crc32c(head)));
      old.Raw(state);
      *snapshot = old.Take();
      ++snapshots;
    });
  }
  ASSERT_EQ(rows, 2);
  ASSERT_EQ(snapshots, 1);
  WriteFormat(h, 3);

  ASSERT_EQ(h.Open(), "");
  EXPECT_THAT(h.disk().Content(kFormat), HasSubstr("version 6"));
  EXPECT_EQ(h.groups().at(kGroup).durable.snapshot, "its state");
  EXPECT_EQ(h.groups().at(kGroup).durable.last(), 10u);
  append(kGroup, 30);
  h.Save(kGroup, 20, "its next state");
  h.Await();
  append(kBusy, 80);
  ASSERT_EQ(h.Settle(), "");
  ASSERT_EQ(h.Open(), "");
  EXPECT_EQ(h.groups().at(kGroup).durable.snapshot, "its next state");
}

}  // namespace
}  // namespace trireme::storage
