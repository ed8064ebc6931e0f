// Replicas whose states differ are found and stopped (Safety rule 25), on simulated nodes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/host/world.h"

namespace trireme::raft::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DivergenceTest : public ::testing::Test {
 protected:
  void Up() {
    world_.options.digest_entries = 8;
    world_.StartAll();
    world_.AddEverywhere(1);
    ASSERT_TRUE(world_.AwaitLeader(1));
  }
  void Publish(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(world_.AwaitLeader(1));
      ASSERT_FALSE(world_.Propose(1, absl::StrCat("message ", ++published_)).error.has_value());
      world_.Run(milliseconds(20));
    }
  }
  uint64_t LeaderId() { return world_.Leader(1)->spec().self.value() / 1000; }
  // Its memory has flipped a bit.
  void Damage(uint64_t id) {
    std::string& text = world_.node(id).logs[GroupId(1)].applied.at(0);
    text += absl::StrCat(" on node ", id);
  }
  const absl::Status& Halted(uint64_t id) { return world_.node(id).host->Find(GroupId(1))->halted(); }
  // Where a follower's state differs from the fourth message on; more are to be published before it can be found out.
  void UpWithABadFollower() {
    Up();
    Publish(3);
    leader_ = LeaderId();
    bad_ = leader_ % 3 + 1;
    Damage(bad_);
  }
  uint64_t Good() const { return 6 - leader_ - bad_; }  // the other follower
  uint64_t Differed() {
    uint64_t differed = 0;
    for (uint64_t id = 1; id <= 3; ++id) {
      if (world_.node(id).up()) differed += world_.node(id).host->figures().digests_differed;
    }
    return differed;
  }

  World world_{3};
  int published_ = 0;
  uint64_t leader_ = 0;
  uint64_t bad_ = 0;
};

TEST_F(DivergenceTest, EqualStatesAreComparedAndNobodyStops) {
  Up();
  Publish(40);
  EXPECT_GE(world_.node(LeaderId()).host->figures().digests_compared, 4u);
  EXPECT_EQ(Differed(), 0u);
  for (uint64_t id = 1; id <= 3; ++id) EXPECT_TRUE(Halted(id).ok()) << Halted(id);
}

TEST_F(DivergenceTest, AFollowerThatDiffersStops) {
  UpWithABadFollower();
  Publish(20);
  EXPECT_EQ(Halted(bad_).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(Halted(bad_).message()), HasSubstr("at index 8"));
  EXPECT_TRUE(Halted(leader_).ok());
  EXPECT_TRUE(Halted(Good()).ok());
  EXPECT_EQ(LeaderId(), leader_);
  world_.Run(milliseconds(1000));
  EXPECT_EQ(world_.Applied(leader_, 1), world_.Applied(Good(), 1));
}

TEST_F(DivergenceTest, ALeaderThatDiffersStopsAndAnotherLeads) {
  Up();
  Publish(3);
  const uint64_t bad = LeaderId();
  Damage(bad);
  Publish(20);
  EXPECT_EQ(Halted(bad).code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(world_.AwaitLeader(1));
  EXPECT_NE(LeaderId(), bad);
  Publish(20);
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(Halted(id).ok(), id != bad) << Halted(id);
  }
}

TEST_F(DivergenceTest, WhereNoMajorityAgreesTheGroupStops) {
  Up();
  Publish(3);
  for (uint64_t id = 1; id <= 3; ++id) Damage(id);
  for (int i = 0; i < 10 && world_.Leader(1) != nullptr; ++i) {
    world_.Propose(1, "more");
    world_.Run(milliseconds(50));
  }
  world_.Run(milliseconds(1000));
  for (uint64_t id = 1; id <= 3; ++id) EXPECT_EQ(Halted(id).code(), absl::StatusCode::kDataLoss) << id;
  EXPECT_EQ(world_.Leader(1), nullptr);
}

// Two that differ cannot tell who is right. The third one can, when it is back.
TEST_F(DivergenceTest, WithOneAwayNobodyStopsBeforeItIsBack) {
  Up();
  Publish(3);
  const uint64_t leader = LeaderId();
  const uint64_t away = leader % 3 + 1;
  const uint64_t bad = 6 - leader - away;
  world_.Kill(away);
  Damage(bad);
  Publish(20);
  world_.Run(milliseconds(10'000));
  EXPECT_TRUE(Halted(bad).ok()) << Halted(bad);
  EXPECT_TRUE(Halted(leader).ok()) << Halted(leader);
  world_.Start(away);
  world_.Run(milliseconds(5'000));
  EXPECT_EQ(Halted(bad).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Halted(leader).ok()) << Halted(leader);
  EXPECT_TRUE(Halted(away).ok()) << Halted(away);
}

// A stopped replica whose node starts again says the same again: it is judged by what was found then.
TEST_F(DivergenceTest, ItStopsAgainAndNobodyElseDoes) {
  UpWithABadFollower();
  Publish(20);
  ASSERT_FALSE(Halted(bad_).ok());
  Frame frame{0};
  frame.incarnation = world_.node(bad_).starts;
  frame.digests = {{GroupId(1), World::Replica(bad_, 1), World::Replica(leader_, 1), Index(8), 12345, false}};
  world_.Deliver(NodeId(bad_), NodeId(leader_), frame);
  world_.Run(milliseconds(10'000));
  EXPECT_TRUE(Halted(leader_).ok()) << Halted(leader_);
  EXPECT_TRUE(Halted(Good()).ok());
}

// Safety rule 25: its next digests may be right by chance, or be compared with nobody's, and what it serves is wrong.
TEST_F(DivergenceTest, ARestartMakesNothingGood) {
  UpWithABadFollower();
  Publish(20);
  ASSERT_FALSE(Halted(bad_).ok());
  const absl::Status why = Halted(bad_);
  world_.Kill(bad_);
  world_.Start(bad_);
  EXPECT_EQ(Halted(bad_), why);
  world_.Kill(leader_);
  world_.Run(milliseconds(10'000));
  EXPECT_EQ(world_.Leader(1), nullptr) << "it votes for nobody";
  world_.Start(leader_);
  EXPECT_TRUE(world_.AwaitLeader(1));
  EXPECT_EQ(Halted(bad_), why);
  EXPECT_THAT(world_.Applied(bad_, 1), ::testing::IsEmpty());
}

TEST_F(DivergenceTest, ItIsToldAgainWhenItDidNotHear) {
  UpWithABadFollower();
  int lost = 0;
  world_.on_send = [&](NodeId, NodeId, Frame& frame) {
    if (lost >= 2) return;
    lost += static_cast<int>(std::erase_if(frame.digests, [](const StateDigest& d) { return d.differs; }));
  };
  Publish(20);
  EXPECT_TRUE(Halted(bad_).ok()) << Halted(bad_);
  world_.Run(milliseconds(5'000));
  EXPECT_EQ(lost, 2);
  EXPECT_EQ(Halted(bad_).code(), absl::StatusCode::kDataLoss);
}

TEST_F(DivergenceTest, OnlyTheLeaderStopsAReplicaAndOnlyForWhatItSaid) {
  Up();
  Publish(20);
  const uint64_t leader = LeaderId();
  const uint64_t target = leader % 3 + 1;
  const uint64_t other = 6 - leader - target;
  auto send = [&](uint64_t from, uint64_t digest) {
    Frame frame{0};
    frame.incarnation = world_.node(from).starts;
    frame.digests = {{GroupId(1), World::Replica(from, 1), World::Replica(target, 1), Index(8), digest, true}};
    world_.Deliver(NodeId(from), NodeId(target), frame);
    world_.Run(milliseconds(20));
  };
  send(leader, 12345);  // it never said that
  send(other, 12345);
  EXPECT_TRUE(Halted(target).ok()) << Halted(target);
}

// ---- the rounds by themselves

Membership Three() {
  return VotersOnly({ReplicaId(1), ReplicaId(2), ReplicaId(3)});
}
std::vector<ReplicaId> Stopped(DigestCheck& check, const Membership& members) {
  std::vector<ReplicaId> all;
  for (const DigestCheck::Verdict& verdict : check.Judge(members, ReplicaId(1))) {
    for (const DigestCheck::Stop& stop : verdict.stop) all.push_back(stop.replica);
  }
  return all;
}
constexpr uint64_t kV1 = uint64_t{1} << 32, kV2 = uint64_t{2} << 32;

TEST(DigestCheckTest, AnotherVersionIsNotCompared) {
  DigestCheck check;
  check.Own(ReplicaId(1), Index(8), kV2 | 5);
  check.Heard(ReplicaId(2), Index(8), kV2 | 5);
  check.Heard(ReplicaId(3), Index(8), kV1 | 9);
  EXPECT_THAT(Stopped(check, Three()), IsEmpty());
  // Nor where each has one of its own.
  check.Own(ReplicaId(1), Index(16), kV2 | 5);
  check.Heard(ReplicaId(2), Index(16), kV1 | 6);
  check.Heard(ReplicaId(3), Index(16), (uint64_t{3} << 32) | 9);
  EXPECT_THAT(Stopped(check, Three()), IsEmpty());
}

TEST(DigestCheckTest, WhatIsHeardBeforeTheOwnIsKept) {
  DigestCheck check;
  check.Heard(ReplicaId(2), Index(8), kV1 | 5);
  check.Heard(ReplicaId(3), Index(8), kV1 | 6);
  EXPECT_THAT(Stopped(check, Three()), IsEmpty());
  check.Own(ReplicaId(1), Index(8), kV1 | 6);
  EXPECT_THAT(Stopped(check, Three()), ElementsAre(ReplicaId(2)));
}

TEST(DigestCheckTest, WhoSpeaksLateIsJudgedByWhatWasAgreed) {
  DigestCheck check;
  check.Own(ReplicaId(1), Index(8), kV1 | 5);
  check.Heard(ReplicaId(2), Index(8), kV1 | 5);
  EXPECT_THAT(Stopped(check, Three()), IsEmpty());
  check.Heard(ReplicaId(3), Index(8), kV1 | 6);
  EXPECT_THAT(Stopped(check, Three()), ElementsAre(ReplicaId(3)));
  EXPECT_THAT(Stopped(check, Three()), IsEmpty()) << "once";
}

TEST(DigestCheckTest, ALearnerThatDiffersStopsButCountsForNobody) {
  Membership members = Three();
  members.members.push_back({ReplicaId(4), NodeId(4), Standing::kLearner});
  DigestCheck check;
  check.Own(ReplicaId(1), Index(8), kV1 | 5);
  check.Heard(ReplicaId(4), Index(8), kV1 | 7);
  EXPECT_THAT(Stopped(check, members), IsEmpty());
  check.Heard(ReplicaId(2), Index(8), kV1 | 5);
  EXPECT_THAT(Stopped(check, members), ElementsAre(ReplicaId(4)));
}

TEST(DigestCheckTest, RoundsAreBounded) {
  DigestCheck check;
  for (uint64_t i = 1; i <= 10'000; ++i) check.Heard(ReplicaId(2), Index(i * 8), kV1 | i);
  check.Heard(ReplicaId(2), Index(8), kV1 | 1);
  for (uint64_t i = 1; i <= 10'000; ++i) check.Heard(ReplicaId(3), Index(i * 8), kV1 | i);
  EXPECT_THAT(check.Judge(Three(), ReplicaId(1)), SizeIs(8));
}

}  // namespace
}  // namespace trireme::raft::testing
