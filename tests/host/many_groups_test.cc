// Many quiet groups at once, and the elections that a death, a restart or a slow disk costs them, on simulated nodes
// (Safety rules 9 and 10).
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/host/quiet_fixture.h"

namespace trireme::raft::testing {
namespace {

using ManyGroupsTest = QuietTest;

// All its groups are led again in good time; each is elected once, by its one preferred candidate.
TEST_F(ManyGroupsTest, ALeadersDeathIsNoStampede) {
  constexpr uint64_t kGroups = 600;
  Up(kGroups);
  uint64_t elections = 0;
  for (uint64_t id : {2, 3}) elections += world_.node(id).host->figures().elections;
  Count();
  MonotonicTime killed = world_.clock().now();
  world_.Kill(1);
  std::vector<milliseconds> led;
  std::vector<bool> seen(kGroups + 1);
  ASSERT_TRUE(world_.RunUntil(
      [&] {
        for (uint64_t g = 1; g <= kGroups; ++g) {
          if (seen[g] || LeaderId(g) == 0) continue;
          seen[g] = true;
          led.push_back(std::chrono::duration_cast<milliseconds>(world_.clock().now() - killed));
        }
        return led.size() == kGroups;
      },
      milliseconds(5000)));
  EXPECT_LE(led[kGroups / 2], milliseconds(2000));
  EXPECT_EQ(Elections() - elections, kGroups);
  EXPECT_EQ(sent_[MessageType::kPreVote], 2 * kGroups) << "to the dead and to the living";
  // Both take their share.
  for (uint64_t id : {2, 3}) EXPECT_GT(world_.node(id).host->figures().leading, kGroups / 3);
  EXPECT_TRUE(AwaitQuiet());
}

// One node gives up thousands at once, and lives on.
TEST_F(ManyGroupsTest, ResigningFromManyIsNoStampede) {
  constexpr uint64_t kGroups = 600;
  Up(kGroups);
  const uint64_t elections = Elections();
  Count();
  std::map<milliseconds, std::map<NodeId, int>> asked;  // by tick and candidate
  also_on_send_ = [&](NodeId from, NodeId, Frame& frame) {
    const auto tick = std::chrono::floor<milliseconds>(world_.clock().now().time_since_epoch()) / 50;
    for (const GroupMessage& m : frame.messages) asked[tick][from] += m.message.type == MessageType::kPreVote ? 1 : 0;
  };
  for (uint64_t g = 1; g <= kGroups; ++g) On(1, g)->StepDown();
  ASSERT_TRUE(AwaitAllLed(milliseconds(8000)));
  int most = 0;
  for (const auto& [tick, by_node] : asked) {
    for (const auto& [node, count] : by_node) most = std::max(most, count);
  }
  EXPECT_LE(most, 2 * 2 * 64) << "64 elections at a time, with two others to ask, and two ticks may fall into one";
  EXPECT_LE(Elections() - elections, kGroups + kGroups / 10);
  also_on_send_ = nullptr;
  EXPECT_TRUE(AwaitQuiet());
}

// The one that all else waits for does not wait itself, however many stand before it.
TEST_F(ManyGroupsTest, APromptGroupDoesNotWaitItsTurn) {
  constexpr uint64_t kGroups = 600;
  world_.prompt.insert(GroupId(kGroups));
  Up(kGroups);
  for (bool told : {true, false}) {
    const uint64_t leader = LeaderId(kGroups);
    for (uint64_t id = 1; id <= 3; ++id) world_.node(id).store->latency_max = milliseconds(40);
    world_.Kill(leader, told);
    ASSERT_TRUE(world_.RunUntil([&] { return LeaderId(kGroups) != 0; }, milliseconds(told ? 500 : 1500)));
    EXPECT_FALSE(AwaitAllLed(milliseconds(0)));
    ASSERT_TRUE(AwaitAllLed(milliseconds(8000)));
    world_.Start(leader);
    ASSERT_TRUE(AwaitQuiet());
  }
}

// Whoever is waited for does not wait for the others.
TEST_F(ManyGroupsTest, WhatIsWantedGoesFirst) {
  constexpr uint64_t kGroups = 600;
  Up(kGroups);
  for (uint64_t id : {2, 3}) world_.node(id).store->latency_max = milliseconds(40);
  world_.Kill(1);
  world_.Run(milliseconds(60));
  On(2, kGroups)->WantLeader();
  On(3, kGroups - 1)->WantLeader();
  ASSERT_TRUE(world_.RunUntil([&] { return LeaderId(kGroups) != 0 && LeaderId(kGroups - 1) != 0; }, milliseconds(400)));
  EXPECT_FALSE(AwaitAllLed(milliseconds(0)));
  EXPECT_TRUE(AwaitAllLed(milliseconds(5000)));
}

// The first in line lacks what was committed while it was away: the other steps in.
TEST_F(ManyGroupsTest, ThePreferredCandidateLagsBehind) {
  Up(20);
  for (uint64_t away : {2, 3}) {
    uint64_t leader = LeaderId(1);
    CutOff(away);
    world_.Run(milliseconds(1000));
    for (uint64_t g = 1; g <= groups_; ++g) world_.Propose(g, "while " + std::to_string(away) + " is away");
    world_.Run(milliseconds(1000));
    world_.cut.clear();
    world_.Kill(leader);
    ASSERT_TRUE(AwaitAllLed(milliseconds(5000)));
    world_.Start(leader);
    world_.Run(milliseconds(4000));
    for (uint64_t g = 1; g <= groups_; ++g) EXPECT_EQ(world_.Applied(1, g), world_.Applied(2, g));
    for (uint64_t g = 1; g <= groups_; ++g) EXPECT_EQ(world_.Applied(1, g), world_.Applied(3, g));
    ASSERT_TRUE(AwaitQuiet());
  }
}

TEST_F(ManyGroupsTest, AFollowersRestartMovesNoLeader) {
  Up(100);
  uint64_t elections = Elections() - world_.node(3).host->figures().elections;
  world_.Kill(3);
  world_.Run(milliseconds(1000));
  world_.Start(3);
  world_.Run(milliseconds(3000));
  EXPECT_EQ(Elections(), elections);
  for (uint64_t g = 1; g <= groups_; ++g) EXPECT_EQ(On(3, g)->leader_node(), NodeId(1));
  EXPECT_TRUE(AwaitQuiet());
}

TEST_F(ManyGroupsTest, AllRestart) {
  Up(100);
  for (uint64_t id = 1; id <= 3; ++id) world_.Kill(id);
  for (uint64_t id = 1; id <= 3; ++id) world_.Start(id);
  EXPECT_TRUE(AwaitAllLed(milliseconds(5000)));
  EXPECT_TRUE(AwaitQuiet());
  // Two of three; and one group is wanted.
  for (uint64_t id = 1; id <= 3; ++id) world_.Kill(id);
  for (uint64_t id : {2, 3}) world_.Start(id);
  ASSERT_TRUE(world_.RunUntil(
      [&] {
        On(3, 5)->WantLeader();
        return LeaderId(5) != 0;
      },
      milliseconds(600)));
  EXPECT_TRUE(AwaitAllLed(milliseconds(8000)));
}

// ---- slow disks and slow peers

// Its own groups go elsewhere; others do not notice.
TEST_F(ManyGroupsTest, AStalledDiskHandsLeadershipAway) {
  Up(6);
  for (uint64_t g : {4, 5, 6}) world_.Leader(g)->StepDown();
  ASSERT_TRUE(world_.RunUntil([&] { return LeaderId(4) > 1 && LeaderId(5) > 1 && LeaderId(6) > 1; }));
  ASSERT_TRUE(AwaitQuiet());
  std::map<uint64_t, Term> terms;
  for (uint64_t g : {3, 4, 5, 6}) terms[g] = world_.Leader(g)->term();
  world_.node(1).store->stalled = true;
  for (int i = 0; i < 10; ++i) {
    for (uint64_t g : {1, 2, 4, 5, 6}) world_.Propose(g, std::to_string(i));
    world_.Run(milliseconds(200));
    // What is committed needs no one disk.
    for (uint64_t g : {4, 5, 6}) EXPECT_EQ(world_.Applied(2, g).size(), static_cast<size_t>(i + 1));
  }
  for (uint64_t g : {1, 2}) EXPECT_GT(LeaderId(g), 1u);
  EXPECT_EQ(LeaderId(3), 1u) << "nothing of it waits for the disk";
  for (uint64_t g : {3, 4, 5, 6}) EXPECT_EQ(world_.Leader(g)->term(), terms[g]);
  world_.node(1).store->stalled = false;
  for (uint64_t g = 1; g <= 6; ++g) world_.Propose(g, "end");
  for (uint64_t g = 1; g <= 6; ++g) EXPECT_TRUE(AwaitApplied("end", g));
  EXPECT_TRUE(AwaitQuiet());
}

// A follower that acknowledges nothing for a while does not fill the leader's memory.
TEST_F(ManyGroupsTest, ASlowPeerIsServedFromTheDisk) {
  world_.options.tail_budget_bytes = 20'000;
  Up(2);
  also_on_send_ = [&](NodeId from, NodeId, Frame& frame) {
    std::erase_if(frame.messages, [&](const GroupMessage& m) {
      return from == NodeId(3) && m.group == GroupId(1) && m.message.type == MessageType::kAppendResponse;
    });
  };
  for (int i = 0; i < 600; ++i) {
    world_.Propose(1, std::to_string(i) + std::string(10'000, '.'));
    world_.Run(milliseconds(5));
  }
  ASSERT_EQ(LeaderId(), 1u);
  Group* leader = world_.Leader(1);
  size_t held = 0;
  for (Index i{1}; i <= leader->applied_index(); ++i) held += leader->TailEntry(i) == nullptr ? 0 : 1;
  EXPECT_LE(held, 150u);
  ASSERT_EQ(world_.Propose(2, "other").error, std::nullopt);
  EXPECT_TRUE(AwaitApplied("other", 2, milliseconds(200)));
  also_on_send_ = nullptr;
  EXPECT_TRUE(AwaitApplied("599" + std::string(10'000, '.'), 1));
  EXPECT_TRUE(AwaitQuiet());
}

}  // namespace
}  // namespace trireme::raft::testing
