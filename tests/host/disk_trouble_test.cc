// What a node's disk may do to its groups: entries that cannot be read, writes that are forgotten or take for ever, on
// simulated nodes (Safety rules 12 and 17).
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/host/world.h"

namespace trireme::raft::testing {
namespace {

constexpr uint64_t kNodes = 3;

class DiskTroubleTest : public ::testing::Test {
 protected:
  void Up(uint64_t groups = 1) {
    groups_ = groups;
    world_.StartAll();
    for (uint64_t g = 1; g <= groups; ++g) world_.AddEverywhere(g);
    for (uint64_t g = 1; g <= groups; ++g) ASSERT_TRUE(world_.AwaitLeader(g));
  }
  uint64_t LeaderId(uint64_t group = 1) { return world_.Leader(group)->spec().self.value() / 1000; }
  uint64_t FollowerId() { return LeaderId() % kNodes + 1; }
  // `count` texts, each with `padding`, of which none waits for the one before it.
  void Publish(int count, size_t padding) {
    for (int i = 0; i < count; ++i) {
      ASSERT_EQ(world_.Propose(1, absl::StrCat(++published_, std::string(padding, '.'))).error, std::nullopt);
      world_.Run(milliseconds(3));
    }
  }
  // Every node that takes part has applied as much as the leader.
  bool AwaitSame(uint64_t group = 1, uint64_t without = 0) {
    return world_.RunUntil([&] {
      Group* leader = world_.Leader(group);
      for (uint64_t id = 1; id <= kNodes && leader != nullptr; ++id) {
        if (id == without) continue;
        if (world_.node(id).host->Find(GroupId(group))->applied_index() < leader->applied_index()) return false;
      }
      return leader != nullptr;
    });
  }

  World world_{7};
  uint64_t groups_ = 1;
  int published_ = 0;
};

// Safety rule 12, broken on purpose where a node says only now and then how much is on its disk: nobody knows that it
// lost what it acknowledged last.
TEST_F(DiskTroubleTest, WhatIsAcknowledgedIsAnnouncedWithTheAcknowledgement) {
  Up();
  Publish(3, 10);
  world_.Run(milliseconds(1000));
  const uint64_t follower = FollowerId();
  SimStore::Image image = world_.node(follower).store->TakeImage();
  bool acknowledged = false;
  world_.on_send = [&](NodeId from, NodeId, Frame& frame) {
    for (const GroupMessage& m : frame.messages) {
      acknowledged |= from == NodeId(follower) && m.message.type == MessageType::kAppendResponse && !m.message.reject;
    }
  };
  ASSERT_EQ(world_.Propose(1, "the last one").error, std::nullopt);
  ASSERT_TRUE(world_.RunUntil([&] { return acknowledged; }));
  world_.Run(milliseconds(1));
  world_.Kill(follower);
  world_.node(follower).store->Restore(image);
  world_.Start(follower);
  world_.Run(milliseconds(3000));
  EXPECT_EQ(world_.node(follower).forgot.size(), 1u);
}

// One of them would lead, and serve nobody.
TEST_F(DiskTroubleTest, WhoCannotReadWhatIsToBeAppliedDoesNotLead) {
  Up();
  Publish(10, 10);
  for (uint64_t bad = 1; bad <= kNodes; ++bad) {
    SCOPED_TRACE(absl::StrCat("node ", bad));
    for (uint64_t id = 1; id <= kNodes; ++id) world_.Kill(id);
    world_.node(bad).store->read_fails = [](GroupId, Index index) {
      return index == Index(5) ? absl::InternalError("input/output error") : absl::OkStatus();
    };
    world_.StartAll();
    ASSERT_TRUE(world_.AwaitLeader(1));
    EXPECT_NE(LeaderId(), bad);
    Publish(1, 10);
    EXPECT_TRUE(AwaitSame(1, bad));
    world_.node(bad).store->read_fails = nullptr;
  }
}

TEST_F(DiskTroubleTest, AReadThatFailsForAWhileIsRepeated) {
  Up();
  Publish(10, 10);
  const uint64_t bad = FollowerId();
  world_.Kill(bad);
  int failures = 0;
  world_.node(bad).store->read_fails = [&](GroupId, Index) {
    return ++failures <= 10 ? absl::InternalError("input/output error") : absl::OkStatus();
  };
  world_.Start(bad);
  EXPECT_TRUE(AwaitSame());
  EXPECT_GT(failures, 10);
  EXPECT_TRUE(world_.node(bad).host->Find(GroupId(1))->halted().ok());
}

// Safety rule 17: a damaged entry is fetched from a peer.
TEST_F(DiskTroubleTest, AFollowerGetsWhatIsDamagedOnTheLeaderFromAnother) {
  world_.options.tail_budget_bytes = 1000;
  Up();
  Publish(5, 10);
  const uint64_t leader = LeaderId(), down = FollowerId();
  world_.Kill(down);
  Publish(40, 300);
  world_.node(leader).store->read_fails = [](GroupId, Index index) {
    return index == Index(20) ? absl::DataLossError("entry 20 is damaged") : absl::OkStatus();
  };
  world_.Start(down);
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Applied(down, 1).size() == static_cast<size_t>(published_); }));
  EXPECT_NE(LeaderId(), leader);
  Publish(1, 10);
  EXPECT_TRUE(AwaitSame());
}

TEST_F(DiskTroubleTest, ASnapshotThatIsDamagedOnTheLeaderComesFromAnother) {
  world_.options.tail_budget_bytes = 1000;
  world_.options.snapshot_entries = 20;
  world_.options.lag_entries = 30;
  Up();
  Publish(5, 10);
  const uint64_t leader = LeaderId(), down = FollowerId();
  world_.Kill(down);
  Publish(100, 300);
  world_.Run(milliseconds(3000));
  ASSERT_GT(world_.node(leader).store->durable(GroupId(1)).compacted, Index(20));
  world_.node(leader).store->read_fails = [](GroupId, Index index) {
    return index == Index(10) ? absl::DataLossError("entry 10 is damaged") : absl::OkStatus();
  };
  world_.Start(down);
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Applied(down, 1).size() == static_cast<size_t>(published_); },
                              milliseconds(60'000)));
  EXPECT_EQ(world_.node(down).host->figures().snapshots_installed, 1u);
  EXPECT_NE(LeaderId(), leader);
}

// Of all groups together, however many.
TEST_F(DiskTroubleTest, WhatWaitsForASlowDiskIsBounded) {
  constexpr size_t kBound = 100'000, kEntry = 2000;
  world_.options.held_bytes_max = kBound;
  Up(60);
  world_.node(3).store->stalled = true;
  size_t most = 0, proposed = 0;
  for (int round = 0; round < 40; ++round) {
    for (uint64_t g = 1; g <= groups_; ++g) {
      if (!world_.Propose(g, absl::StrCat(round, std::string(kEntry, '.'))).error) ++proposed;
    }
    world_.Run(milliseconds(50));
    most = std::max<size_t>(most, world_.node(3).host->figures().held_bytes);
  }
  EXPECT_GT(proposed * kEntry, 20 * kBound);
  EXPECT_GT(most, kBound);
  EXPECT_LE(most, kBound + groups_ * kEntry * 2);
  world_.node(3).store->stalled = false;
  for (uint64_t g = 1; g <= groups_; ++g) EXPECT_TRUE(AwaitSame(g)) << "group " << g;
  EXPECT_TRUE(world_.RunUntil([&] { return world_.node(3).host->figures().held_bytes == 0; }));
}

// Safety rule 19: who leads hears of the others' disks.
TEST_F(DiskTroubleTest, LowDisksOfAQuorumAreKnownToTheLeader) {
  Up();
  const uint64_t leader = LeaderId(), one = leader % kNodes + 1, other = one % kNodes + 1;
  auto low = [&] {
    world_.Run(milliseconds(200));
    return world_.Leader(1)->disk_low();
  };
  EXPECT_FALSE(low());
  world_.low_disks = {one};
  EXPECT_FALSE(low()) << "with it alone two have room";
  world_.low_disks = {one, other};
  EXPECT_TRUE(low());
  world_.low_disks = {leader, other};
  EXPECT_TRUE(low());
  world_.low_disks = {leader};
  EXPECT_FALSE(low());
}

}  // namespace
}  // namespace trireme::raft::testing
