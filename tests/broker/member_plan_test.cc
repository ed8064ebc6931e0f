// Steps from the members that a group has to those that it should have.
#include "broker/cluster/member_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::broker {
namespace {

using raft::Member;
using raft::Membership;
using raft::NodeId;
using raft::ReplicaId;
using raft::Standing;
using testing::ElementsAre;

constexpr Member kA{ReplicaId(1), NodeId(1)}, kB{ReplicaId(2), NodeId(2)}, kC{ReplicaId(3), NodeId(3)};
constexpr Member kD{ReplicaId(9), NodeId(4)};       // on another node
constexpr Member kCAnew{ReplicaId(10), NodeId(3)};  // on the same node
constexpr Member Learner(Member member) {
  member.standing = Standing::kLearner;
  return member;
}

TEST(PlanMembers, WhoComesLearnsFirstAndThenTakesThePlace) {
  const std::vector<Member> wanted = {kA, kB, kD};
  auto step = PlanMembers({{kA, kB, kC}}, true, wanted);
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(*step, ElementsAre(kA, kB, kC, Learner(kD))) << "the lost one counts until the other has caught up";
  step = PlanMembers({*step}, true, wanted);
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(*step, ElementsAre(kA, kB, kD));
  EXPECT_FALSE(PlanMembers({*step}, true, wanted).has_value());
}

TEST(PlanMembers, OnOneNodeTheOldReplicaGoesFirst) {
  const std::vector<Member> wanted = {kA, kB, kCAnew};
  auto step = PlanMembers({{kA, kB, kC}}, true, wanted);
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(*step, ElementsAre(kA, kB));
  step = PlanMembers({*step}, true, wanted);
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(*step, ElementsAre(kA, kB, Learner(kCAnew)));
  step = PlanMembers({*step}, true, wanted);
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(*step, ElementsAre(kA, kB, kCAnew));
}

// The report that the old replica is gone may come late, when the new one learns already: the members would have the
// ids that they should, and nobody would look at them again.
TEST(PlanMembers, WhoLearnsIsNotReportedAsWhatThereShouldBe) {
  const std::vector<Member> wanted = {kA, kB, kCAnew};
  EXPECT_THAT(MembersToReport({{kA, kB, Learner(kCAnew)}}, wanted), ElementsAre(kA, kB));
  EXPECT_THAT(MembersToReport({{kA, kB, kCAnew}}, wanted), ElementsAre(kA, kB, kCAnew));
  // Whoever is to go is a member until it is gone, whatever it counts (Safety rule 11).
  EXPECT_THAT(MembersToReport({{kA, kB, Learner(kC)}}, wanted), ElementsAre(kA, kB, Learner(kC)));
}

TEST(PlanMembers, ThePreferredLeaderKeepsItsRank) {
  const Membership now{{kC, kA, kB, Learner(kD)}};
  auto step = PlanMembers(now, true, {kD, kA, kB});
  ASSERT_TRUE(step.has_value());
  EXPECT_THAT(*step, ElementsAre(kD, kA, kB));
}

TEST(PlanMembers, AnOlderViewDoesNotKnowWhoCameSince) {
  QueueInfo queue;
  queue.replicas = {kA, kB, kC};
  EXPECT_TRUE(KnowsAll(queue, {{kA, kB, kC}}));
  EXPECT_TRUE(KnowsAll(queue, {{kA, kB}}));
  EXPECT_FALSE(KnowsAll(queue, {{kA, kB, kC, Learner(kD)}}));
  queue.replicas = {kA, kB, kD};
  queue.leaving = {kC};
  EXPECT_TRUE(KnowsAll(queue, {{kA, kB, kC, Learner(kD)}}));
}

TEST(PlanMembers, NothingWhileAChangeIsUnderWay) {
  const std::vector<Member> wanted = {kA, kB, kD};
  EXPECT_FALSE(PlanMembers({{kA, kB, kC}}, false, wanted).has_value());
  Member leaving = kC;
  leaving.standing = Standing::kLeaving;
  EXPECT_FALSE(PlanMembers({{kA, kB, leaving}}, true, wanted).has_value());
  EXPECT_FALSE(PlanMembers({}, true, wanted).has_value()) << "nothing is known yet";
}

}  // namespace
}  // namespace trireme::broker
