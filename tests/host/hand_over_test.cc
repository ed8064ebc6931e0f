// A node that is about to stop hands over what it leads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "tests/host/world.h"

namespace trireme::raft::testing {
namespace {

using ::testing::Contains;

class HandOverTest : public ::testing::Test {
 protected:
  void Up(uint64_t groups) {
    world_.StartAll();
    for (uint64_t g = 1; g <= groups; ++g) world_.AddEverywhere(g);
    for (uint64_t g = 1; g <= groups; ++g) {
      ASSERT_TRUE(world_.AwaitLeader(g));
      ASSERT_EQ(LeaderOf(g), 1u);
      // Its followers are known to be caught up.
      world_.Propose(g, "first");
    }
    world_.Run(milliseconds(200));
  }
  uint64_t LeaderOf(uint64_t group) { return world_.Leader(group)->spec().self.value() / 1000; }
  // How many are left; nothing while it is not done.
  std::shared_ptr<std::optional<size_t>> HandOver(uint64_t node, milliseconds patience = milliseconds(5'000)) {
    auto left = std::make_shared<std::optional<size_t>>();
    world_.node(node).host->HandOver(patience, [left](size_t n) { *left = n; });
    return left;
  }

  World world_{11};
};

TEST_F(HandOverTest, EveryGroupIsLedElsewhereWithinMilliseconds) {
  Up(300);
  auto left = HandOver(1);
  ASSERT_TRUE(world_.RunUntil([&] { return left->has_value(); }, milliseconds(200)));
  EXPECT_EQ(**left, 0u);
  world_.Run(milliseconds(20));
  for (uint64_t g = 1; g <= 300; ++g) {
    ASSERT_NE(world_.Leader(g), nullptr) << g;
    EXPECT_NE(LeaderOf(g), 1u) << g;
    EXPECT_NE(world_.node(1).host->Find(GroupId(g))->leader_node(), NodeId()) << g;
  }
}

// Its clients are told what became of it, and where to go.
TEST_F(HandOverTest, WhatWasProposedIsAppliedBeforeLeadershipGoes) {
  Up(1);
  Group* old = world_.Leader(1);
  ASSERT_FALSE(world_.Propose(1, "last").error.has_value());
  ASSERT_FALSE(old->HandOver().has_value());
  EXPECT_TRUE(old->handing_over());
  EXPECT_EQ(world_.Propose(1, "late").error, ProposeError::kTransferring);
  ASSERT_TRUE(world_.RunUntil([&] { return !old->leading(); }, milliseconds(100)));
  EXPECT_EQ(world_.Applied(1, 1).back(), "last");
  EXPECT_FALSE(old->handing_over());
  const NodeId next = old->leader_node();
  EXPECT_NE(next, NodeId());
  EXPECT_NE(next, NodeId(1));
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr; }, milliseconds(100)));
  EXPECT_EQ(LeaderOf(1), next.value());
  EXPECT_FALSE(world_.Propose(1, "next").error.has_value());
}

TEST_F(HandOverTest, AMemberThatIsBehindIsNotChosen) {
  Up(1);
  world_.cut.insert({NodeId(1), NodeId(2)});
  world_.Propose(1, "not at 2");
  world_.Run(milliseconds(100));
  auto left = HandOver(1);
  ASSERT_TRUE(world_.RunUntil([&] { return left->has_value(); }, milliseconds(200)));
  EXPECT_EQ(**left, 0u);
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr; }, milliseconds(200)));
  EXPECT_EQ(LeaderOf(1), 3u);
}

TEST_F(HandOverTest, WithNobodyToLeadNobodyIsWaitedFor) {
  Up(3);
  world_.Kill(2);
  world_.Kill(3);
  world_.Run(milliseconds(10));
  auto left = HandOver(1);
  EXPECT_TRUE(world_.RunUntil([&] { return left->has_value(); }, milliseconds(20)));
}

TEST_F(HandOverTest, ItIsBoundedInTime) {
  Up(1);
  // Nobody knows that they are gone.
  world_.cut = {{NodeId(1), NodeId(2)}, {NodeId(1), NodeId(3)}};
  auto left = HandOver(1, milliseconds(150));
  EXPECT_FALSE(world_.RunUntil([&] { return left->has_value(); }, milliseconds(140)));
  ASSERT_TRUE(world_.RunUntil([&] { return left->has_value(); }, milliseconds(20)));
  EXPECT_EQ(**left, 1u);
  world_.cut.clear();
  ASSERT_TRUE(world_.AwaitLeader(1));
}

// A transfer that fails is begun again.
TEST_F(HandOverTest, WhoseTargetDiesIsHandedToAnother) {
  Up(1);
  world_.Leader(1)->HandOver();
  world_.Kill(2);
  auto left = HandOver(1);
  ASSERT_TRUE(world_.RunUntil([&] { return left->has_value(); }, milliseconds(2'000)));
  EXPECT_EQ(**left, 0u);
  ASSERT_TRUE(world_.AwaitLeader(1));
  EXPECT_EQ(LeaderOf(1), 3u);
}

TEST_F(HandOverTest, AllNodesMayStopAtOnce) {
  Up(20);
  std::vector<std::shared_ptr<std::optional<size_t>>> left;
  for (uint64_t node = 1; node <= 3; ++node) left.push_back(HandOver(node));
  EXPECT_TRUE(world_.RunUntil(
      [&] { return std::all_of(left.begin(), left.end(), [](const auto& l) { return l->has_value(); }); },
      milliseconds(6'000)));
  // As their processes end.
  for (uint64_t node = 1; node <= 3; ++node) world_.Kill(node);
}

}  // namespace
}  // namespace trireme::raft::testing
