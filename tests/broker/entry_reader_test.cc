// What a leader reads of its log for deliveries, and how often.
#include "broker/replica/entry_reader.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/broker/fake_group.h"

namespace trireme::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class EntryReaderTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kEntries = 4'000;
  static constexpr size_t kEntryBytes = 4'000;

  void SetUp() override {
    for (uint64_t i = 1; i <= kEntries; ++i) {
      raft::Bytes entry = EntryOf({std::string(kEntryBytes, 'x')});
      all_ += entry.size();
      group_.Add(i, std::move(entry));
    }
  }
  uint64_t ReadShapes(uint64_t first) {
    uint64_t count = 0;
    reader_.Shapes(first, kEntries, nullptr, false, [&](absl::StatusOr<std::vector<queue::EntryShape>> shapes) {
      ASSERT_TRUE(shapes.ok());
      count = shapes->size();
    });
    return count;
  }
  void Fetch(uint64_t index) {
    reader_.Fetch(index, kEntries, [this, index](absl::StatusOr<raft::Bytes> entry) {
      ASSERT_TRUE(entry.ok());
      fetched_.push_back(index);
    });
  }

  FakeGroup group_;
  EntryReader reader_{&group_, size_t{4} << 20};
  size_t all_ = 0;
  std::vector<uint64_t> fetched_;
};

// What is needed next must not be what the cache gives up.
TEST_F(EntryReaderTest, ABacklogWhoseShapesAreAllReadFirstIsReadAboutTwice) {
  for (uint64_t next = 1; next <= kEntries;) next += ReadShapes(next);
  EXPECT_LE(group_.bytes_read, all_);
  for (uint64_t i = 1; i <= kEntries; ++i) Fetch(i);
  EXPECT_THAT(fetched_, SizeIs(kEntries));
  EXPECT_LE(group_.bytes_read, 2 * all_);
}

// With shapes no further ahead than the cache holds, as the dispatcher asks for them.
TEST_F(EntryReaderTest, ABacklogThatIsReadAheadALittleIsReadOnce) {
  uint64_t known = 1;
  for (uint64_t i = 1; i <= kEntries; ++i) {
    while (known <= kEntries && (known - i) * kEntryBytes < size_t{2} << 20) known += ReadShapes(known);
    Fetch(i);
    Fetch(i);  // in parts, to two consumers
  }
  EXPECT_THAT(fetched_, SizeIs(2 * kEntries));
  EXPECT_EQ(group_.bytes_read, all_);
  EXPECT_LE(group_.reads, all_ / (size_t{1} << 20) + 8);  // in large pieces all the same
}

TEST_F(EntryReaderTest, EntriesOutOfLineCostLittle) {
  for (uint64_t i = 1; i <= 20; ++i) Fetch(kEntries / 20 * (21 - i));
  EXPECT_THAT(fetched_, SizeIs(20));
  EXPECT_LE(group_.bytes_read, 20 * (size_t{64} << 10));
}

// A checkout's runs are asked for at once, before the first of them has come.
TEST_F(EntryReaderTest, WhatIsAskedForMeanwhileComesWithTheReadUnderWay) {
  group_.hold = true;
  for (uint64_t i = 101; i <= 200; ++i) Fetch(i);
  EXPECT_EQ(group_.reads, 1u);
  EXPECT_THAT(fetched_, IsEmpty());
  group_.Release();
  ASSERT_THAT(fetched_, SizeIs(100));
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(fetched_[i], 101 + i);
  EXPECT_LE(group_.reads, 4u);
  EXPECT_LE(group_.bytes_read, 3 * 100 * kEntryBytes);
}

TEST_F(EntryReaderTest, AnEntryThatIsGoneIsItsOwnAskersLossOnly) {
  group_.hold = true;
  absl::Status gone;
  reader_.Fetch(kEntries + 7, kEntries + 7, [&](absl::StatusOr<raft::Bytes> entry) { gone = entry.status(); });
  Fetch(5);
  group_.Release();
  EXPECT_EQ(gone.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(fetched_, ElementsAre(5u));
}

TEST_F(EntryReaderTest, NothingIsCalledOnceItIsGone) {
  group_.hold = true;
  auto reader = std::make_unique<EntryReader>(&group_, size_t{4} << 20);
  int called = 0;
  reader->Fetch(1, kEntries, [&](absl::StatusOr<raft::Bytes>) {
    ++called;
    reader.reset();  // by what it is told
  });
  reader->Fetch(2, kEntries, [&](absl::StatusOr<raft::Bytes>) { ++called; });
  group_.Release();
  EXPECT_EQ(called, 1);
  EXPECT_EQ(reader, nullptr);
}

}  // namespace
}  // namespace trireme::broker::testing
