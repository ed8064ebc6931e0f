#include "broker/temporary/memory_group.h"

#include <gmock/gmock.h>

#include <set>

#include "tests/temporary/world.h"

namespace trireme::broker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Notes what it is given; what is alive is for the test to say.
class NotingMachine final : public raft::StateMachine {
 public:
  absl::Status Check(const raft::Entry&) const override { return absl::OkStatus(); }
  absl::Status Apply(const raft::Entry& entry) override {
    applied.push_back(entry.index.value());
    return absl::OkStatus();
  }
  void AppliedBatch() override {
    ++batches;
    if (then != nullptr) std::exchange(then, nullptr)();
  }
  void RoleChanged(const raft::RoleChange&, bool) override {}
  raft::Bytes Snapshot() const override { return {}; }
  absl::Status CheckSnapshot(const raft::Bytes&, raft::Index) const override { return absl::OkStatus(); }
  absl::Status Restore(const raft::Bytes&, raft::Index) override { return absl::OkStatus(); }
  uint64_t Digest() const override { return 0; }
  Liveness Live() const override {
    Liveness out{raft::Index(floor), {}};
    for (uint64_t index : live) out.live.push_back({raft::Index(index), raft::Index(index)});
    return out;
  }

  std::vector<uint64_t> applied;
  int batches = 0;
  std::function<void()> then;
  uint64_t floor = 0;
  std::set<uint64_t> live;
};

class MemoryGroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    group_.Drive(&machine_, [this] { ++told_; });
  }
  template <typename Act>
  void Do(Act act) {
    shard_.Post(std::move(act));
    time_.Run(std::chrono::milliseconds(0));
  }
  raft::Proposed Propose(size_t entries) {
    return group_.Propose(std::vector<raft::Bytes>(entries, raft::Bytes::Take("data")), false);
  }
  std::vector<uint64_t> Read(uint64_t first, uint64_t last, size_t max_bytes) {
    std::vector<uint64_t> indexes;
    group_.ReadEntries(raft::Index(first), raft::Index(last), max_bytes,
                       [&](absl::StatusOr<std::vector<raft::Entry>> entries) {
                         if (!entries.ok()) return;
                         for (const raft::Entry& entry : *entries) indexes.push_back(entry.index.value());
                       });
    return indexes;
  }

  FakeTime time_;
  FakeShard shard_{0, &time_};
  NotingMachine machine_;
  MemoryGroup group_{&shard_, raft::GroupId(9), raft::NodeId(2)};
  int told_ = 0;
};

TEST_F(MemoryGroupTest, WhatIsProposedInATurnIsAppliedAtItsEnd) {
  Do([&] {
    EXPECT_EQ(Propose(2).first, raft::Index(1));
    EXPECT_EQ(Propose(1).first, raft::Index(3));
    EXPECT_THAT(machine_.applied, IsEmpty());
    EXPECT_EQ(group_.applied_index(), raft::Index(0));
    EXPECT_NE(group_.TailEntry(raft::Index(3)), nullptr);
  });
  EXPECT_THAT(machine_.applied, ElementsAre(1, 2, 3));
  EXPECT_EQ(machine_.batches, 1);
  EXPECT_EQ(told_, 1);
}

TEST_F(MemoryGroupTest, WhatFollowsFromThatIsAppliedInTheSameTurn) {
  machine_.then = [&] { Propose(1); };
  Do([&] { Propose(1); });
  EXPECT_THAT(machine_.applied, ElementsAre(1, 2));
  EXPECT_EQ(machine_.batches, 2);
}

TEST_F(MemoryGroupTest, ABarrierWaitsForWhatWasProposedBefore) {
  bool read = false;
  Do([&] {
    group_.ReadBarrier([&](const absl::Status& status) { read = status.ok(); });
    EXPECT_TRUE(std::exchange(read, false));
    Propose(1);
    group_.ReadBarrier([&](const absl::Status& status) { read = status.ok() && machine_.applied.size() == 1; });
    EXPECT_FALSE(read);
  });
  EXPECT_TRUE(read);
}

TEST_F(MemoryGroupTest, OnlyWhatIsAliveStays) {
  Do([&] { Propose(10); });
  const size_t whole = group_.bytes();
  machine_.floor = 7;
  machine_.live = {2, 3, 6};
  group_.Trim();
  for (uint64_t dead : {1, 4, 5, 7}) EXPECT_EQ(group_.TailEntry(raft::Index(dead)), nullptr) << dead;
  for (uint64_t alive : {2, 3, 6, 8, 9, 10}) EXPECT_NE(group_.TailEntry(raft::Index(alive)), nullptr) << alive;
  EXPECT_EQ(group_.bytes(), whole / 10 * 6);
  EXPECT_THAT(Read(2, 10, 1'000), ElementsAre(2, 3));
  EXPECT_THAT(Read(8, 9, 1'000), ElementsAre(8, 9));
  EXPECT_THAT(Read(8, 10, 1), ElementsAre(8));
  EXPECT_THAT(Read(4, 10, 1'000), IsEmpty());
}

TEST_F(MemoryGroupTest, NothingThatIsNotAppliedIsLetGo) {
  Do([&] {
    Propose(3);
    machine_.floor = 3;
    group_.Trim();
    EXPECT_NE(group_.TailEntry(raft::Index(1)), nullptr);
  });
  EXPECT_THAT(machine_.applied, ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace trireme::broker
