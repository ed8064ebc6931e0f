// What the background thread does while the log goes on, and who waits for it.
#include "gtest/gtest.h"
#include "tests/storage/store_harness.h"

namespace trireme::storage {
namespace {

using raft::Bytes;
using raft::Entry;
using raft::EntryType;
using raft::GroupId;
using raft::Index;
using raft::LogWrite;
using raft::Term;

class BackgroundTest : public ::testing::Test {
 protected:
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

  BackgroundTest() : h_(SmallOptions()) {}

  void Submit(GroupId group, size_t bytes) {
    uint64_t index = h_.groups().at(group).submitted.last() + 1;
    std::vector<LogWrite> writes;
    writes.push_back({group, {}, {{Term(1), Index(index), EntryType::kCommand, Bytes::Take(std::string(bytes, 'e'))}}});
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
  }
  StoreHarness h_;
};

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

}  // namespace
}  // namespace trireme::storage
