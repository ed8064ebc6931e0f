// The store on this machine's own disk: what it promises, one thing per test.
#include "storage/store.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

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
using raft::TermRun;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr GroupId kGroup(7);

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    std::string pattern = ::testing::TempDir() + "/store_test.XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    options_.directory = directory_;
    options_.segment_bytes = 64 << 10;
    options_.young_budget_bytes = 4 * options_.segment_bytes;
    options_.reclaim_bytes = 256 << 10;
  }
  ~StoreTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Open() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<Store>> opened = Store::Open(options_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
    groups_ = store_->Recover();
  }
  absl::Status OpenError() {
    store_.reset();
    return Store::Open(options_).status();
  }

  template <typename Call>
  void Await(Call call) {
    std::promise<void> promise;
    call([&promise] { promise.set_value(); });
    promise.get_future().wait();
  }
  void Create(GroupId group, std::string descriptor = "members") {
    Await([&](auto done) {
      store_->CreateGroup(group, ReplicaId(group.value() * 10), Bytes::Copy(descriptor), std::move(done));
    });
  }
  void Delete(GroupId group) {
    Await([&](auto done) { store_->DeleteGroup(group, std::move(done)); });
  }
  static std::vector<Entry> Entries(uint64_t first, uint64_t count, uint64_t term, size_t size = 20) {
    std::vector<Entry> entries;
    for (uint64_t i = first; i < first + count; ++i) {
      std::string data = std::to_string(term) + ":" + std::to_string(i) + ":";
      data.resize(std::max(size, data.size()), static_cast<char>('a' + (i + term) % 26));
      entries.push_back({Term(term), Index(i), EntryType::kCommand, Bytes::Copy(data)});
    }
    return entries;
  }
  void Append(GroupId group, std::vector<Entry> entries, std::optional<HardState> state = {}) {
    Await([&](auto done) {
      std::vector<LogWrite> writes;
      writes.push_back({group, state, std::move(entries)});
      store_->Write(std::move(writes), std::move(done));
    });
  }
  void Snapshot(GroupId group, uint64_t index, uint64_t term, std::string bytes) {
    Await([&](auto done) {
      store_->SaveSnapshot(group, Index(index), Term(term), Bytes::Take(std::move(bytes)), std::move(done));
    });
  }
  absl::StatusOr<std::vector<Entry>> Read(GroupId group, uint64_t first, uint64_t last, size_t max_bytes = 64 << 20) {
    std::promise<absl::StatusOr<std::vector<Entry>>> promise;
    store_->Read(group, Index(first), Index(last), max_bytes, [&](auto entries) { promise.set_value(entries); });
    return promise.get_future().get();
  }
  void ExpectEntries(GroupId group, const std::vector<Entry>& want) {
    auto got = Read(group, want.front().index.value(), want.back().index.value());
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*got, want);
  }

  std::string directory_;
  StoreOptions options_;
  std::unique_ptr<Store> store_;
  std::vector<raft::StoredGroup> groups_;
};

TEST_F(StoreTest, AFreshDirectoryHasNothing) {
  Open();
  EXPECT_THAT(groups_, IsEmpty());
  EXPECT_EQ(store_->last_synced(), 0u);
  Open();
  EXPECT_THAT(groups_, IsEmpty());
}

TEST_F(StoreTest, WhatWasCompletedIsThereAfterARestart) {
  Open();
  Create(kGroup, "three of us");
  Create(GroupId(8));
  Append(kGroup, Entries(1, 3, 1), HardState{Term(1), ReplicaId(70), Index(0)});
  Append(kGroup, Entries(4, 2, 2), HardState{Term(2), ReplicaId(), Index(3)});
  uint64_t synced = store_->last_synced();
  for (int restart = 0; restart < 3; ++restart) {
    Open();
    EXPECT_GE(store_->last_synced(), synced);
    ASSERT_THAT(groups_, SizeIs(2));
    EXPECT_EQ(groups_[0].group, kGroup);
    EXPECT_EQ(groups_[0].replica, ReplicaId(70));
    EXPECT_EQ(groups_[0].descriptor.view(), "three of us");
    EXPECT_EQ(groups_[0].log.hard_state, (HardState{Term(2), ReplicaId(), Index(3)}));
    EXPECT_EQ(groups_[0].log.last_index, Index(5));
    EXPECT_THAT(groups_[0].log.terms, ElementsAre(TermRun{Index(1), Term(1)}, TermRun{Index(4), Term(2)}));
    EXPECT_EQ(groups_[1].log.last_index, Index(0));
    auto want = Entries(1, 3, 1);
    for (Entry& e : Entries(4, 2, 2)) want.push_back(e);
    ExpectEntries(kGroup, want);
  }
}

TEST_F(StoreTest, TheLastWriteWins) {
  Open();
  Create(kGroup);
  Append(kGroup, Entries(1, 10, 1));
  Append(kGroup, Entries(4, 2, 2));
  EXPECT_FALSE(Read(kGroup, 6, 6).ok());
  for (int restart = 0; restart < 2; ++restart) {
    auto want = Entries(1, 3, 1);
    for (Entry& e : Entries(4, 2, 2)) want.push_back(e);
    ExpectEntries(kGroup, want);
    EXPECT_TRUE(absl::IsNotFound(Read(kGroup, 6, 6).status()));
    Open();
    EXPECT_EQ(groups_[0].log.last_index, Index(5));
    EXPECT_THAT(groups_[0].log.terms, ElementsAre(TermRun{Index(1), Term(1)}, TermRun{Index(4), Term(2)}));
  }
}

TEST_F(StoreTest, ReadsFindWhatIsNotYetDurable) {
  Open();
  Create(kGroup);
  std::vector<std::future<void>> done;
  for (uint64_t i = 1; i <= 200; ++i) {
    auto promise = std::make_shared<std::promise<void>>();
    done.push_back(promise->get_future());
    std::vector<LogWrite> writes;
    writes.push_back({kGroup, {}, Entries(i, 1, 1)});
    store_->Write(std::move(writes), [promise] { promise->set_value(); });
    ExpectEntries(kGroup, Entries(i, 1, 1));
    ExpectEntries(kGroup, Entries(1, i, 1));
  }
  for (auto& d : done) d.wait();
}

TEST_F(StoreTest, ReadsStopAtTheLimitAndGiveAtLeastOne) {
  Open();
  Create(kGroup);
  Append(kGroup, Entries(1, 50, 1, 1000));
  EXPECT_THAT(*Read(kGroup, 1, 50, 1), SizeIs(1));
  EXPECT_THAT(*Read(kGroup, 1, 50, 2500), SizeIs(2));
  EXPECT_THAT(*Read(kGroup, 10, 50, 5000), SizeIs(5));
  EXPECT_THAT(*Read(kGroup, 49, 80, 5000), SizeIs(2));
  EXPECT_TRUE(absl::IsNotFound(Read(kGroup, 51, 51).status()));
  EXPECT_TRUE(absl::IsNotFound(Read(GroupId(99), 1, 1).status()));
}

TEST_F(StoreTest, ABacklogMovesToRocksDbAndIsReadFromThere) {
  Open();
  Create(kGroup);
  Create(GroupId(8), "idle");
  Append(GroupId(8), Entries(1, 2, 1), HardState{Term(1), ReplicaId(80), Index(1)});
  std::vector<Entry> all;
  for (uint64_t i = 1; i <= 1000; i += 5) {
    auto entries = Entries(i, 5, 1 + i / 300, 900);
    all.insert(all.end(), entries.begin(), entries.end());
    Append(kGroup, entries);
  }
  ASSERT_TRUE(store_->WaitForBackground().ok());
  auto figures = store_->figures();
  EXPECT_GT(figures.bytes_moved, 400'000u);
  EXPECT_LE(figures.segments, 8u);
  for (int restart = 0; restart < 3; ++restart) {
    ExpectEntries(kGroup, all);
    ExpectEntries(GroupId(8), Entries(1, 2, 1));
    EXPECT_THAT(*Read(kGroup, 3, 1000, 9500), SizeIs(10));
    Open();
    ASSERT_THAT(groups_, SizeIs(2));
    EXPECT_EQ(groups_[0].log.last_index, Index(1000));
    EXPECT_EQ(groups_[1].descriptor.view(), "idle");
    EXPECT_EQ(groups_[1].log.hard_state, (HardState{Term(1), ReplicaId(80), Index(1)}));
  }
}

TEST_F(StoreTest, AQueueThatKeepsUpReusesSegmentsAndMovesNothing) {
  Open();
  Create(kGroup);
  uint64_t next = 1;
  for (int round = 0; round < 200; ++round) {
    Append(kGroup, Entries(next, 10, 1, 500), HardState{Term(1), ReplicaId(70), Index(next)});
    next += 10;
    Snapshot(kGroup, next - 1, 1, "state at " + std::to_string(next - 1));
    store_->Compact(kGroup, Index(next - 1), {});
  }
  // The record of the group's creation, and it alone, had to move.
  EXPECT_EQ(store_->figures().bytes_moved, 0u);
  EXPECT_LE(store_->figures().segments, 8u);
  Open();
  EXPECT_EQ(groups_[0].log.snapshot_index, Index(2000));
  EXPECT_EQ(groups_[0].log.last_index, Index(2000));
  EXPECT_THAT(groups_[0].log.terms, IsEmpty());
  EXPECT_EQ(groups_[0].snapshot.view(), "state at 2000");
}

TEST_F(StoreTest, SparseEntriesBelowTheSnapshotStay) {
  Open();
  Create(kGroup);
  for (uint64_t i = 1; i <= 400; i += 4) Append(kGroup, Entries(i, 4, 1, 500));
  Snapshot(kGroup, 390, 1, "s");
  store_->Compact(kGroup, Index(380), {{Index(3), Index(3)}, {Index(100), Index(105)}, {Index(371), Index(372)}});
  auto check = [&] {
    ExpectEntries(kGroup, Entries(3, 1, 1, 500));
    ExpectEntries(kGroup, Entries(100, 6, 1, 500));
    ExpectEntries(kGroup, Entries(371, 2, 1, 500));
    ExpectEntries(kGroup, Entries(381, 20, 1, 500));
  };
  check();
  EXPECT_FALSE(Read(kGroup, 4, 4).ok());
  EXPECT_THAT(*Read(kGroup, 100, 110), SizeIs(6));
  // Push them out of the young generation.
  for (uint64_t i = 401; i <= 1401; i += 4) Append(kGroup, Entries(i, 4, 1, 500));
  ASSERT_TRUE(store_->WaitForBackground().ok());
  check();
  Open();
  check();
  store_->Compact(kGroup, Index(390), {{Index(100), Index(101)}});
  ExpectEntries(kGroup, Entries(100, 2, 1, 500));
  EXPECT_FALSE(Read(kGroup, 3, 3).ok());
  EXPECT_FALSE(Read(kGroup, 102, 102).ok());
}

TEST_F(StoreTest, ADeletedGroupIsGone) {
  Open();
  Create(kGroup);
  Create(GroupId(8));
  for (uint64_t i = 1; i <= 600; i += 5) Append(kGroup, Entries(i, 5, 1, 900));
  Append(GroupId(8), Entries(1, 1, 1));
  Delete(kGroup);
  EXPECT_FALSE(Read(kGroup, 1, 1).ok());
  for (uint64_t i = 2; i <= 600; i += 5) Append(GroupId(8), Entries(i, 5, 1, 900));
  ASSERT_TRUE(store_->WaitForBackground().ok());
  Open();
  ASSERT_THAT(groups_, SizeIs(1));
  EXPECT_EQ(groups_[0].group, GroupId(8));
}

TEST_F(StoreTest, LargeEntriesAndSnapshots) {
  options_.segment_bytes = 1 << 20;
  options_.young_budget_bytes = 4 << 20;
  Open();
  Create(kGroup);
  Append(kGroup, Entries(1, 20, 1, 400'000));
  std::string state(900'000, 's');
  Snapshot(kGroup, 10, 1, state);
  Open();
  ExpectEntries(kGroup, Entries(1, 20, 1, 400'000));
  EXPECT_EQ(groups_[0].snapshot.view(), state);
  Append(kGroup, Entries(21, 20, 1, 400'000));
  ASSERT_TRUE(store_->WaitForBackground().ok());
  Open();
  ExpectEntries(kGroup, Entries(1, 40, 1, 400'000));
  EXPECT_EQ(groups_[0].snapshot.view(), state);
}

TEST_F(StoreTest, ASnapshotThatIsTooLargeForTheLogIsStored) {
  Open();
  Create(kGroup);
  Append(kGroup, Entries(1, 20, 1), HardState{Term(1), ReplicaId(1), Index(1)});
  Snapshot(kGroup, 5, 1, "small");
  const std::string large(options_.young_budget_bytes / 4 + 1, 'l');
  Snapshot(kGroup, 10, 1, large);
  store_->Compact(kGroup, Index(10), {});
  for (int restart = 0; restart < 2; ++restart) {
    Open();
    EXPECT_EQ(groups_[0].log.snapshot_index, Index(10));
    EXPECT_EQ(groups_[0].snapshot.view(), large);
    ExpectEntries(kGroup, Entries(11, 10, 1));
  }
  // The record that tells of it moves.
  Create(GroupId(8));
  for (uint64_t i = 1; i <= 600; i += 5) Append(GroupId(8), Entries(i, 5, 1, 900));
  ASSERT_TRUE(store_->WaitForBackground().ok());
  Open();
  EXPECT_EQ(groups_[0].snapshot.view(), large);
  ExpectEntries(kGroup, Entries(11, 10, 1));
  // Larger than all that the log may have in use; and a small one after it.
  const std::string huge(3 * options_.young_budget_bytes, 'h');
  Snapshot(kGroup, 15, 1, huge);
  Open();
  EXPECT_EQ(groups_[0].snapshot.view(), huge);
  Snapshot(kGroup, 18, 1, "small again");
  Open();
  EXPECT_EQ(groups_[0].log.snapshot_index, Index(18));
  EXPECT_EQ(groups_[0].snapshot.view(), "small again");
}

TEST_F(StoreTest, SpaceOfConsumedBacklogsIsGivenBack) {
  Open();
  Create(kGroup);
  for (uint64_t i = 1; i <= 4000; i += 20) Append(kGroup, Entries(i, 20, 1, 1000));
  ASSERT_TRUE(store_->WaitForBackground().ok());
  auto size_of_old = [&] {
    uint64_t bytes = 0;
    for (const auto& file : std::filesystem::directory_iterator(directory_ + "/old")) {
      std::string name = file.path().extension();
      if (name == ".blob" || name == ".sst") bytes += file.file_size();
    }
    return bytes;
  };
  EXPECT_GT(size_of_old(), 3'000'000u);
  Snapshot(kGroup, 4000, 1, "s");
  store_->Compact(kGroup, Index(4000), {{Index(17), Index(17)}});
  ASSERT_TRUE(store_->WaitForBackground().ok());
  ASSERT_TRUE(store_->WaitForBackground().ok());
  EXPECT_LT(size_of_old(), 500'000u);
  ExpectEntries(kGroup, Entries(17, 1, 1, 1000));
}

TEST_F(StoreTest, ADirectoryInUseIsRefused) {
  Open();
  absl::Status status = Store::Open(options_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr(directory_));
  EXPECT_THAT(std::string(status.message()), HasSubstr("process " + std::to_string(::getpid())));
}

TEST_F(StoreTest, AnotherFormatIsRefused) {
  Open();
  store_.reset();
  auto put = [&](const std::string& text) { std::ofstream(directory_ + "/FORMAT") << text; };
  put("photographs\n");
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
  put("trireme store\nversion 99\nwhatever\n");
  EXPECT_THAT(std::string(OpenError().message()), HasSubstr("version 99"));
  put("trireme store\nversion 2\nsalt 1\nsegment_bytes 65536\nchecksum 1\n");
  EXPECT_TRUE(absl::IsDataLoss(OpenError()));
  std::filesystem::remove(directory_ + "/FORMAT");
  EXPECT_THAT(std::string(OpenError().message()), HasSubstr("no FORMAT"));
}

TEST_F(StoreTest, OptionsThatDoNotFitAreRefused) {
  options_.segment_bytes = 1000;
  EXPECT_THAT(std::string(OpenError().message()), HasSubstr("1000"));
  options_.segment_bytes = 1 << 20;
  options_.young_budget_bytes = 1 << 20;
  EXPECT_TRUE(absl::IsInvalidArgument(OpenError()));
}

}  // namespace
}  // namespace trireme::storage
