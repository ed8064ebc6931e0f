// Quiet groups and what wakes them, on simulated nodes (Safety rules 9, 10 and 12).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "tests/host/quiet_fixture.h"

namespace trireme::raft::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Cannot apply commands once it is told so.
struct Failing final : StateMachine {
  absl::Status Check(const Entry&) const override { return absl::OkStatus(); }
  absl::Status Apply(const Entry& entry) override {
    if (*halt && entry.type == EntryType::kCommand) return absl::UnimplementedError("needs version 9");
    return absl::OkStatus();
  }
  void RoleChanged(const RoleChange&, bool) override {}
  Bytes Snapshot() const override { return {}; }
  absl::Status CheckSnapshot(const Bytes&, Index) const override { return absl::OkStatus(); }
  uint64_t Digest() const override { return 0; }
  absl::Status Restore(const Bytes&, Index) override { return absl::OkStatus(); }
  Liveness Live() const override { return {}; }
  const bool* halt = nullptr;
};

// ---- silence

TEST_F(QuietTest, AQuietGroupSendsNothingForAnHour) {
  Up(30);
  std::vector<Term> terms;
  for (uint64_t g = 1; g <= groups_; ++g) terms.push_back(world_.Leader(g)->term());
  Count();
  uint64_t syncs = world_.node(1).store->figures().syncs;
  const uint64_t turns = world_.node(1).shard->turns();
  world_.Run(std::chrono::hours(1));
  EXPECT_EQ(messages_, 0u) << "of groups";
  EXPECT_EQ(Active(), 0u) << "none is ticked";
  EXPECT_EQ(world_.node(1).store->figures().syncs, syncs);
  // Five small frames per pair of nodes and promise, both ways, however many the groups.
  EXPECT_EQ(heartbeats_, frames_);
  EXPECT_NEAR(static_cast<double>(frames_), 6.0 * 10 * 3600, 100);
  // And a node wakes for its own, and for those of the two others, and for no tick in between.
  EXPECT_LT(world_.node(1).shard->turns() - turns, 3 * 10 * 3600 + 100);
  for (uint64_t g = 1; g <= groups_; ++g) EXPECT_EQ(world_.Leader(g)->term(), terms[g - 1]);
  ASSERT_EQ(world_.Propose(1, "x").error, std::nullopt);
  EXPECT_TRUE(AwaitApplied("x", 1, milliseconds(200)));
}

// Groups that are at work send no heartbeats of their own either.
TEST_F(QuietTest, BusyGroupsSendWhatTheyHaveToSay) {
  Up(1);
  Count();
  for (int i = 0; i < 400; ++i) {
    world_.Propose(1, std::to_string(i));
    world_.Run(milliseconds(5));
  }
  EXPECT_EQ(sent_[MessageType::kAppend], 800u);
  EXPECT_EQ(sent_[MessageType::kAppendResponse], 800u);
  EXPECT_LE(sent_[MessageType::kHeartbeat], 10u);
}

// ---- what wakes it

// An append, an answer: as if it had never slept.
TEST_F(QuietTest, APublishCostsNoExtraRoundTrip) {
  world_.net_latency_max = microseconds(1);
  Up();
  Count();
  MonotonicTime before = world_.clock().now();
  world_.Propose(1, "x");
  ASSERT_TRUE(world_.RunUntil([&] { return !world_.Applied(1, 1).empty(); }));
  EXPECT_LE(world_.clock().now() - before, 2 * microseconds(50) + 2 * world_.node(1).store->latency_max);
  EXPECT_EQ(sent_[MessageType::kAppend], 2u);
  EXPECT_GE(sent_[MessageType::kAppendResponse], 1u);
  EXPECT_EQ(messages_, sent_[MessageType::kAppend] + sent_[MessageType::kAppendResponse]);
  ASSERT_TRUE(AwaitApplied("x", 1, milliseconds(200)));
  EXPECT_TRUE(AwaitQuiet());
}

TEST_F(QuietTest, ARead) {
  Up();
  absl::Status read = absl::UnknownError("");
  world_.Leader(1)->ReadBarrier([&](absl::Status status) { read = std::move(status); });
  EXPECT_TRUE(world_.RunUntil([&] { return read.ok(); }, milliseconds(50)));
  EXPECT_TRUE(AwaitQuiet());
}

// In a quiet group nothing else would bring the question to a follower.
TEST_F(QuietTest, AReadWhoseQuestionsAreLost) {
  Up();
  std::map<ReplicaId, int> lost;
  also_on_send_ = [&](NodeId, NodeId, Frame& frame) {
    std::erase_if(frame.messages, [&](const GroupMessage& m) {
      return m.message.type == MessageType::kHeartbeat && m.message.read_context != 0 && lost[m.message.to]++ == 0;
    });
  };
  absl::Status read = absl::UnknownError("");
  world_.Leader(1)->ReadBarrier([&](absl::Status status) { read = std::move(status); });
  EXPECT_TRUE(world_.RunUntil([&] { return read.ok(); }, milliseconds(300)));
  EXPECT_EQ(lost.size(), 2u);
  EXPECT_TRUE(AwaitQuiet());
}

TEST_F(QuietTest, TheLeadersConnectionCloses) {
  Up();
  world_.Kill(LeaderId());
  EXPECT_TRUE(world_.RunUntil([&] { return LeaderId() != 0; }, milliseconds(300)));
  world_.Propose(1, "x");
  EXPECT_TRUE(AwaitApplied("x"));
  EXPECT_TRUE(AwaitQuiet());
}

TEST_F(QuietTest, TheLeadersNodeFallsSilent) {
  Up();
  uint64_t old = LeaderId();
  CutOff(old);
  EXPECT_TRUE(world_.RunUntil([&] { return LeaderId() != 0 && LeaderId() != old; }, milliseconds(1000)));
  world_.Propose(1, "x");
  // And the old one does not think any more that it leads.
  EXPECT_TRUE(world_.RunUntil([&] { return !On(old)->leading(); }, milliseconds(1000)));
  EXPECT_EQ(On(old)->leader_node(), NodeId());
  world_.cut.clear();
  EXPECT_TRUE(AwaitApplied("x"));
  EXPECT_TRUE(AwaitQuiet());
}

// Its clients still reach it: so it must give up, and say that it is of no use, in about the time in which the others
// elect another; and these must know that what they have passed on to it is lost.
TEST_F(QuietTest, ALeaderThatIsCutOffGivesUpAsTheOthersElect) {
  std::map<NodeId, int> lost;
  world_.options.lost = [&](NodeId node) { ++lost[node]; };
  Up(20);
  ASSERT_EQ(LeaderId(), 1u);
  lost.clear();
  CutOff(1);
  MonotonicTime cut = world_.clock().now();
  milliseconds gave_up{0}, led{0};
  while (world_.clock().now() - cut < milliseconds(2000)) {
    for (uint64_t g = 1; g <= 10; ++g) {  // the others are quiet
      for (uint64_t id = 1; id <= 3; ++id) {
        if (On(id, g)->leading()) On(id, g)->Propose({Bytes::Copy("x")}, false);
      }
    }
    world_.Run(milliseconds(10));
    const auto now = std::chrono::duration_cast<milliseconds>(world_.clock().now() - cut);
    bool gone = true, there = true;
    for (uint64_t g = 1; g <= groups_; ++g) {
      gone &= !On(1, g)->leading();
      // Of those that are quiet somebody asks for one.
      if (now > milliseconds(600) && g > 15) On(2, g)->WantLeader();
      there &= On(2, g)->leading() || On(3, g)->leading();
    }
    if (gone && gave_up == milliseconds(0)) gave_up = now;
    if (there && led == milliseconds(0)) led = now;
  }
  EXPECT_GT(gave_up, milliseconds(400));
  EXPECT_LE(gave_up, milliseconds(750));
  EXPECT_GT(led, milliseconds(400));
  EXPECT_LE(led, milliseconds(1000));
  EXPECT_TRUE(On(1)->cut_off());
  EXPECT_FALSE(On(2)->cut_off());
  EXPECT_FALSE(On(3)->cut_off());
  EXPECT_EQ(lost[NodeId(1)], 2) << "on the two others, once";
  EXPECT_EQ(lost[NodeId(2)] + lost[NodeId(3)], 2) << "on the one that is cut off";
  world_.cut.clear();
  EXPECT_TRUE(world_.RunUntil([&] { return !On(1)->cut_off(); }, milliseconds(500)));
  EXPECT_TRUE(AwaitQuiet());
}

// Nodes that share no group on this shard exchange nothing there: what is not known of them yet is no absence.
TEST_F(QuietTest, TheFirstGroupOfAnIdleShardIsNotCutOff) {
  world_.StartAll();
  for (uint64_t group = 1; group <= 2; ++group) {
    world_.Run(milliseconds(3'000));
    world_.AddEverywhere(group);
    for (uint64_t id = 1; id <= 3; ++id) EXPECT_FALSE(On(id, group)->cut_off()) << "node " << id << ", group " << group;
    ASSERT_TRUE(world_.AwaitLeader(group));
    for (uint64_t id = 1; id <= 3; ++id) world_.node(id).host->Remove(GroupId(group));
  }
  // But where they stay away it is, after the same time as any other.
  CutOff(1);
  world_.AddEverywhere(3);
  EXPECT_FALSE(On(1, 3)->cut_off());
  world_.Run(milliseconds(1'500));
  EXPECT_TRUE(On(1, 3)->cut_off());
}

// Back before anyone missed it, and without a connection seen to close: it leads no more, and must not be waited for.
TEST_F(QuietTest, TheLeadersIncarnationChanges) {
  Up();
  uint64_t old = LeaderId();
  Term term = On(old)->term();
  world_.Kill(old, /*told=*/false);
  world_.Start(old);
  EXPECT_TRUE(world_.RunUntil([&] { return LeaderId() != 0; }, milliseconds(400)));
  EXPECT_GT(world_.Leader(1)->term(), term);
  EXPECT_TRUE(AwaitQuiet());
}

TEST_F(QuietTest, TheLeaderStepsDown) {
  Up();
  uint64_t old = LeaderId();
  world_.Leader(1)->StepDown();
  EXPECT_TRUE(world_.RunUntil([&] { return LeaderId() != 0 && LeaderId() != old; }, milliseconds(300)));
  EXPECT_TRUE(AwaitQuiet());
}

// Its node lives on, so nobody would notice; and it may not be heard the first time.
TEST_F(QuietTest, TheLeaderIsHalted) {
  bool halt = false;
  const bool never = false;
  world_.make_machine = [&](SimNode& n, uint64_t) {
    auto machine = std::make_unique<Failing>();
    machine->halt = n.id == NodeId(1) ? &halt : &never;
    return machine;
  };
  Up();
  ASSERT_EQ(LeaderId(), 1u);
  halt = true;
  int lost = 0;
  also_on_send_ = [&](NodeId, NodeId, Frame& frame) {
    std::erase_if(frame.messages,
                  [&](const GroupMessage& m) { return m.message.type == MessageType::kResign && ++lost < 3; });
  };
  world_.Propose(1, "x");
  EXPECT_TRUE(world_.RunUntil([&] { return LeaderId() != 0 && LeaderId() != 1; }, milliseconds(3000)));
  EXPECT_GE(lost, 3);
}

// It never answers, and its node lives: that is no reason to stay awake for ever.
TEST_F(QuietTest, AHaltedFollowerKeepsNobodyAwake) {
  bool halt = false;
  const bool never = false;
  world_.make_machine = [&](SimNode& n, uint64_t) {
    auto machine = std::make_unique<Failing>();
    machine->halt = n.id == NodeId(3) ? &halt : &never;
    return machine;
  };
  Up();
  ASSERT_EQ(LeaderId(), 1u);
  halt = true;
  world_.Propose(1, "x");
  ASSERT_TRUE(world_.RunUntil([&] { return !On(3)->halted().ok(); }));
  EXPECT_EQ(world_.node(3).host->figures().halted, 1u);
  world_.Run(milliseconds(1500));
  EXPECT_GT(Active(), 0u) << "it may only be slow";
  EXPECT_TRUE(AwaitQuiet(milliseconds(5'000)));
  Count();
  world_.Run(std::chrono::minutes(10));
  EXPECT_LE(messages_, 10 * 2 * 30u) << "now and then it is asked";
  EXPECT_EQ(LeaderId(), 1u);
  // Once it is well it follows again.
  halt = false;
  world_.Kill(3);
  world_.Start(3);
  EXPECT_TRUE(world_.RunUntil([&] { return On(3)->applied_index() == On(1)->applied_index(); }, milliseconds(5000)));
  EXPECT_TRUE(AwaitQuiet());
}

// Safety rule 10: it hears the leader, but cannot reach it, so it made no promise whose end would wake it.
TEST_F(QuietTest, NobodySleepsWithALeaderThatItDoesNotSupport) {
  Up();
  ASSERT_EQ(LeaderId(), 1u);
  world_.node(3).transport->receiver.down(NodeId(1));
  world_.Propose(1, "x");
  ASSERT_TRUE(AwaitApplied("x"));
  world_.Run(milliseconds(5000));
  EXPECT_EQ(LeaderId(), 1u) << "the others support it";
  also_on_send_ = [&](NodeId from, NodeId, Frame& frame) {
    std::erase_if(frame.messages,
                  [&](const GroupMessage& m) { return from == NodeId(2) && m.message.type == MessageType::kPreVote; });
  };
  world_.Kill(1, /*told=*/false);
  EXPECT_TRUE(world_.RunUntil([&] { return LeaderId() == 3; }, milliseconds(3000)));
}

// Safety rule 9: an answer in the term that it once led is not said by a leader, and brings no support for its new
// life.
TEST_F(QuietTest, ALateAnswerIsNoSignOfALeader) {
  Up();
  ASSERT_EQ(LeaderId(), 1u);
  const Message late{.type = MessageType::kHeartbeatResponse,
                     .from = On(1)->spec().self,
                     .to = On(2)->spec().self,
                     .term = On(1)->term()};
  also_on_send_ = [&](NodeId from, NodeId to, Frame& frame) {
    frame.messages.clear();
    if (from == NodeId(1) && to == NodeId(2)) frame.messages.push_back({GroupId(1), late});
  };
  world_.Kill(1, /*told=*/false);
  world_.Start(1);
  ASSERT_TRUE(world_.RunUntil([&] { return world_.node(2).host->figures().frames_in > 0 && sent_.size() > 0; }));
  for (int i = 0; i < 50; ++i) {
    world_.Run(milliseconds(20));
    EXPECT_EQ(On(2)->leader_node(), NodeId()) << i;
    if (HasFailure()) break;
  }
  also_on_send_ = nullptr;
  EXPECT_TRUE(AwaitAllLed(milliseconds(5000)));
  EXPECT_TRUE(AwaitQuiet());
}

// ---- who is told

// A follower that was away while its group went quiet hears of what it missed when it is back, though nobody publishes.
TEST_F(QuietTest, AFollowerWasDownWhenItWentQuiet) {
  Up();
  world_.Kill(3);
  world_.Propose(1, "x");
  ASSERT_TRUE(AwaitApplied("x"));
  ASSERT_TRUE(AwaitQuiet());
  world_.Run(milliseconds(30'000));
  EXPECT_EQ(Active(), 0u);
  Term term = world_.Leader(1)->term();
  world_.Start(3);
  EXPECT_TRUE(AwaitApplied("x", 1, milliseconds(1500)));
  EXPECT_TRUE(AwaitQuiet());
  EXPECT_EQ(world_.Leader(1)->term(), term) << "without an election";
  EXPECT_EQ(On(3)->leader_node(), NodeId(LeaderId()));
}

TEST_F(QuietTest, AFollowerWasCutOffWhenItWentQuiet) {
  Up();
  CutOff(3);
  world_.Run(milliseconds(2000));
  world_.Propose(1, "x");
  ASSERT_TRUE(world_.RunUntil([&] { return !world_.Applied(2, 1).empty(); }));
  ASSERT_TRUE(AwaitQuiet());
  Term term = world_.Leader(1)->term();
  world_.cut.clear();
  EXPECT_TRUE(AwaitApplied("x", 1, milliseconds(1500)));
  EXPECT_TRUE(AwaitQuiet());
  EXPECT_EQ(world_.Leader(1)->term(), term);
}

// Safety rule 10: the node lives, but its replica has not confirmed. It may be missing there, so it is not asked all
// the time; but again and again, for as long as it takes.
TEST_F(QuietTest, NobodySleepsForGoodBeforeEveryLiveVoterHasConfirmed) {
  Up();
  also_on_send_ = [&](NodeId from, NodeId to, Frame& frame) {
    if (from == NodeId(3) || to == NodeId(3)) frame.messages.clear();
  };
  world_.Propose(1, "x");
  world_.Run(milliseconds(1500));
  EXPECT_GT(Active(), 0u);
  world_.Run(milliseconds(200'000));
  EXPECT_THAT(world_.Applied(2, 1), ElementsAre("x"));
  EXPECT_TRUE(world_.Applied(3, 1).empty());
  also_on_send_ = nullptr;
  EXPECT_TRUE(AwaitApplied("x", 1, milliseconds(70'000)));
  EXPECT_TRUE(AwaitQuiet());
}

// Safety rule 10: it has the entry, but does not know that it is committed; or not on its disk.
TEST_F(QuietTest, WhatIsConfirmedIsCommittedAndDurable) {
  Up();
  also_on_send_ = [&](NodeId, NodeId to, Frame& frame) {
    std::erase_if(frame.messages,
                  [&](const GroupMessage& m) { return to == NodeId(3) && m.message.type == MessageType::kHeartbeat; });
  };
  world_.Propose(1, "x");
  world_.Run(milliseconds(20'000));
  EXPECT_TRUE(world_.Applied(3, 1).empty());
  also_on_send_ = nullptr;
  EXPECT_TRUE(AwaitApplied("x", 1, milliseconds(2000)));
  ASSERT_TRUE(AwaitQuiet());

  world_.node(3).store->stalled = true;
  world_.Propose(1, "y");
  ASSERT_TRUE(AwaitApplied("y"));
  world_.Run(milliseconds(20'000));
  EXPECT_GE(Active(), 2u);
  world_.node(3).store->stalled = false;
  EXPECT_TRUE(AwaitQuiet());
}

// ---- promises

// Safety rule 9: one that cannot hear the leader finds nobody to vote for it among those who can.
class PromiseTest : public QuietTest, public ::testing::WithParamInterface<bool> {};

TEST_P(PromiseTest, WhoSupportsALeaderVotesForNoOther) {
  const bool busy = GetParam();
  Up(20);
  std::vector<Term> terms;
  for (uint64_t g = 1; g <= groups_; ++g) terms.push_back(world_.Leader(g)->term());
  ASSERT_EQ(LeaderId(), 1u);
  world_.cut.insert({NodeId(1), NodeId(3)});
  for (int i = 0; i < 30; ++i) {
    for (uint64_t g = 1; busy && g <= groups_; ++g) world_.Propose(g, std::to_string(i));
    for (uint64_t g = 1; g <= groups_; ++g) On(3, g)->WantLeader();
    world_.Run(milliseconds(1000));
  }
  EXPECT_GT(sent_[MessageType::kPreVote], 0u) << "it was asked";
  for (uint64_t g = 1; g <= groups_; ++g) {
    EXPECT_EQ(LeaderId(g), 1u);
    EXPECT_EQ(world_.Leader(g)->term(), terms[g - 1]);
  }
  world_.cut.clear();
  world_.Propose(1, "end");
  EXPECT_TRUE(AwaitApplied("end"));
  EXPECT_TRUE(AwaitQuiet());
}

INSTANTIATE_TEST_SUITE_P(QuietAndBusy, PromiseTest, ::testing::Bool());

// It is heard and cannot hear, or hears and is not heard: either way it must not lead, and others must.
TEST_F(QuietTest, AsymmetricPartitions) {
  for (bool hears : {true, false}) {
    World world(hears ? 21 : 22);
    world.StartAll();
    for (uint64_t g = 1; g <= 5; ++g) world.AddEverywhere(g);
    world.Run(milliseconds(3000));
    for (uint64_t g = 1; g <= 5; ++g) ASSERT_TRUE(world.node(1).host->Find(GroupId(g))->leading());
    for (uint64_t other : {2, 3}) {
      world.cut_one_way.insert(hears ? std::pair{NodeId(1), NodeId(other)} : std::pair{NodeId(other), NodeId(1)});
    }
    world.Run(milliseconds(3500));
    for (uint64_t g = 1; g <= 5; ++g) {
      EXPECT_FALSE(world.node(1).host->Find(GroupId(g))->leading()) << hears;
      ASSERT_NE(world.Leader(g), nullptr) << hears;
      EXPECT_EQ(world.Propose(g, "x").error, std::nullopt);
    }
    world.Run(milliseconds(500));
    for (uint64_t g = 1; g <= 5; ++g) EXPECT_THAT(world.Applied(2, g), ElementsAre("x"));
    world.cut_one_way.clear();
    world.Run(milliseconds(3000));
    for (uint64_t g = 1; g <= 5; ++g) EXPECT_THAT(world.Applied(1, g), ElementsAre("x"));
  }
}

TEST_F(QuietTest, APausedLeaderIsReplacedAndFollows) {
  Up(20);
  ASSERT_EQ(LeaderId(1), 1u);
  world_.Pause(1, milliseconds(5000));
  for (uint64_t g : {1, 2, 3}) {  // somebody waits for these
    world_.Run(milliseconds(300));
    On(2, g)->WantLeader();
  }
  ASSERT_TRUE(AwaitAllLed(milliseconds(3000), [](uint64_t leader) { return leader != 1; }));
  for (uint64_t g = 1; g <= groups_; ++g) world_.Propose(g, "x");
  world_.Run(milliseconds(5000));
  for (uint64_t g = 1; g <= groups_; ++g) {
    EXPECT_FALSE(On(1, g)->leading());
    EXPECT_THAT(world_.Applied(1, g), ElementsAre("x"));
  }
  EXPECT_TRUE(AwaitQuiet());
}

// Whoever stood still itself does not hold the others for dead.
TEST_F(QuietTest, APausedFollowerDisturbsNobody) {
  Up(20);
  uint64_t elections = Elections();
  for (int i = 0; i < 5; ++i) {
    world_.Pause(3, milliseconds(4000));
    world_.Run(milliseconds(6000));
  }
  EXPECT_EQ(Elections(), elections);
  EXPECT_TRUE(AwaitQuiet());
  EXPECT_TRUE(AwaitAllLed(milliseconds(0), [](uint64_t leader) { return leader == 1; }));
}

// However long a promise lasts: a node without anything to do looks soon enough for what it has to do next.
TEST_F(QuietTest, AnIdleNodeElectsSoonWhenPromisesAreLong) {
  world_.options.election_ticks = 1000;
  Up(20);
  ASSERT_EQ(LeaderId(1), 1u);
  world_.Kill(1);
  EXPECT_TRUE(AwaitAllLed(milliseconds(3000), [](uint64_t leader) { return leader != 1; }));
}

// Cut off with everything that it leads, a node gives up leading, and then does nothing but its heartbeats.
TEST_F(QuietTest, ANodeAloneIsCalm) {
  Up(50);
  CutOff(1);
  world_.Run(milliseconds(3000));
  EXPECT_EQ(world_.node(1).host->figures().leading, 0u);
  Count();
  uint64_t syncs = world_.node(1).store->figures().syncs;
  also_on_send_ = [&](NodeId from, NodeId, Frame& frame) { EXPECT_TRUE(from != NodeId(1) || frame.messages.empty()); };
  world_.Run(milliseconds(60'000));
  EXPECT_EQ(world_.node(1).host->figures().active, 0u);
  EXPECT_EQ(world_.node(1).store->figures().syncs, syncs);
  also_on_send_ = nullptr;
  world_.cut.clear();
  EXPECT_TRUE(AwaitAllLed(milliseconds(5000)));
  world_.Run(milliseconds(3000));
  for (uint64_t g = 1; g <= groups_; ++g) EXPECT_NE(On(1, g)->leader_node(), NodeId()) << g;
  EXPECT_TRUE(AwaitQuiet());
}

// A follower that is cut off for a while needs no election, and hardly a message.
TEST_F(QuietTest, AFollowersShortPartition) {
  Up(50);
  uint64_t elections = Elections();
  Count();
  CutOff(3);
  world_.Run(milliseconds(5000));
  world_.cut.clear();
  world_.Run(milliseconds(5000));
  EXPECT_EQ(Elections(), elections);
  EXPECT_EQ(Active(), 0u);
  for (uint64_t g = 1; g <= groups_; ++g) EXPECT_EQ(On(3, g)->leader_node(), NodeId(1));
  EXPECT_EQ(messages_, 0u);
}

// ---- a leader that is a member no more

// Its node lives, so nobody would notice by its silence; it votes no more, so it asks for no later term; and what it
// said when it left was lost.
TEST_F(QuietTest, ALeaderThatLeftTheGroupIsNotFollowedForEver) {
  Up();
  ASSERT_EQ(LeaderId(), 1u);
  also_on_send_ = [&](NodeId from, NodeId, Frame& frame) {
    std::erase_if(frame.messages, [&](const GroupMessage& m) {
      return from == NodeId(1) &&
             (m.message.type == MessageType::kTimeoutNow || m.message.type == MessageType::kHeartbeat);
    });
  };
  std::vector<Member> without = On(1)->membership().members;
  std::erase_if(without, [](const Member& member) { return member.node == NodeId(1); });
  ASSERT_EQ(On(1)->ProposeMembers(without), std::nullopt);
  ASSERT_TRUE(world_.RunUntil([&] { return LeaderId() == 0; }, milliseconds(2000)));
  EXPECT_TRUE(world_.RunUntil([&] { return LeaderId() > 1; }, milliseconds(5000)));
  EXPECT_EQ(On(LeaderId())->membership().members, without);
  ASSERT_EQ(world_.Propose(1, "after").error, std::nullopt);
  EXPECT_TRUE(world_.RunUntil([&] { return world_.Applied(5 - LeaderId(), 1) == std::vector<std::string>{"after"}; }));
  EXPECT_TRUE(AwaitQuiet());
}

// ---- Safety rule 12

TEST_F(QuietTest, ANodeThatForgotDoesNotVote) {
  Up();
  world_.Propose(1, "a");
  ASSERT_TRUE(AwaitApplied("a"));
  SimStore::Image image = world_.node(3).store->TakeImage();
  world_.Propose(1, "b");
  ASSERT_TRUE(AwaitApplied("b"));
  ASSERT_TRUE(AwaitQuiet());
  world_.Kill(3);
  world_.node(3).store->Restore(image);
  world_.Start(3);
  world_.Run(milliseconds(3000));
  ASSERT_EQ(world_.node(3).forgot.size(), 1u);
  EXPECT_THAT(std::string(world_.node(3).forgot[0].message()), HasSubstr("restored from an older copy"));
  EXPECT_THAT(world_.Applied(3, 1), Not(Contains("b"))) << "nobody talks to it";
  // Its acknowledgement does not count, nor does its vote; and others remember that over their own restarts.
  for (uint64_t id : {1, 2}) {
    world_.Kill(id);
    world_.Run(milliseconds(10'000));
    EXPECT_EQ(LeaderId(), 0u);
    world_.Start(id);
    ASSERT_TRUE(world_.AwaitLeader(1));
    world_.Run(milliseconds(3000));
  }
  EXPECT_EQ(world_.node(3).forgot.size(), 1u) << "said once";
  // Writes of its own carry it past what it had; that brings nothing back.
  world_.Kill(3);
  SimStore::Image later = image;
  later.last_synced += 1000;
  world_.node(3).store->Restore(later);
  world_.Start(3);
  world_.Run(milliseconds(3000));
  EXPECT_EQ(world_.node(3).forgot.size(), 2u) << "and it is told again";
  EXPECT_THAT(world_.Applied(3, 1), Not(Contains("b")));
}

// Safety rule 12: an older copy of a directory is known by the number of its starts, too.
TEST_F(QuietTest, ANodeThatWasStartedMoreOftenElsewhereEnds) {
  Up();
  world_.Propose(1, "a");
  ASSERT_TRUE(AwaitApplied("a"));
  world_.Kill(3);
  world_.node(3).starts += 5;
  world_.Start(3);
  ASSERT_TRUE(AwaitQuiet());
  EXPECT_TRUE(world_.node(3).forgot.empty());
  world_.Kill(3);
  world_.node(3).starts -= 3;
  world_.Start(3);
  world_.Run(milliseconds(3000));
  EXPECT_EQ(world_.node(3).forgot.size(), 1u);
}

}  // namespace
}  // namespace trireme::raft::testing
