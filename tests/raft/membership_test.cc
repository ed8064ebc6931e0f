// Memberships: the way from one to another, as bytes, and what is not one.
#include "raft/core/membership.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "raft/core/random.h"

namespace trireme::raft {
namespace {

Member Of(uint64_t replica, Standing standing = Standing::kVoter) {
  return {ReplicaId(replica), NodeId(replica + 100), standing};
}

Membership Draw(Random& random) {
  Membership membership;
  for (uint64_t id = 1; id <= 7; ++id) {
    if (random.Below(2) == 0) {
      membership.members.push_back(Of(id, random.Below(3) == 0 ? Standing::kLearner : Standing::kVoter));
    }
  }
  std::rotate(membership.members.begin(),
              membership.members.begin() + static_cast<std::ptrdiff_t>(random.Below(membership.members.size() + 1)),
              membership.members.end());
  return membership;
}

std::vector<ReplicaId> In(const Membership& membership, Half half) {
  std::vector<ReplicaId> ids;
  for (const Member& member : membership.members) {
    if (CountsIn(member.standing, half)) ids.push_back(member.replica);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(Membership, AStepHasTheOldVotersInOneHalfAndTheNewInTheOther) {
  Random random(3);
  int joint = 0, plain = 0;
  for (int round = 0; round < 20'000; ++round) {
    const Membership now = Draw(random), target = Draw(random);
    if (!now.Sound() || !target.Sound()) continue;
    const Membership step = StepTowards(now, target);
    ASSERT_TRUE(step.Sound());
    const bool same_voters = In(now, Half::kNew) == In(target, Half::kNew);
    ASSERT_EQ(step.joint(), !same_voters);
    ASSERT_EQ(In(step, Half::kOld), In(now, Half::kOld));
    ASSERT_EQ(In(step, Half::kNew), In(target, Half::kNew));
    ASSERT_EQ(AfterJoint(step), target);
    ++(same_voters ? plain : joint);
  }
  EXPECT_GT(joint, 1000);
  EXPECT_GT(plain, 100);
}

TEST(Membership, RoundTripAndDamage) {
  const Membership membership{{Of(11), Of(1'000'000, Standing::kLearner), Of(3, Standing::kJoining),
                               Of(4, Standing::kDemoted), Of(5, Standing::kLeaving)}};
  const std::string bytes(EncodeMembership(membership).view());
  ASSERT_EQ(DecodeMembership(bytes), membership);
  for (size_t cut = 0; cut < bytes.size(); ++cut) EXPECT_EQ(DecodeMembership(bytes.substr(0, cut)), std::nullopt);
  EXPECT_EQ(DecodeMembership(bytes + "x"), std::nullopt);
  std::string later = bytes;
  later[0] = 9;
  EXPECT_EQ(DecodeMembership(later), std::nullopt);
  std::string standing = bytes;
  standing.back() = 6;
  EXPECT_EQ(DecodeMembership(standing), std::nullopt);
}

TEST(Membership, WhatNoGroupCanLiveWith) {
  EXPECT_TRUE(Membership{{Of(1)}}.Sound());
  EXPECT_FALSE(Membership{}.Sound());
  EXPECT_FALSE((Membership{{Of(1), Of(2), Of(1)}}.Sound()));
  EXPECT_FALSE((Membership{{Of(1), Of(0)}}.Sound()));
  EXPECT_FALSE((Membership{{Of(1, Standing::kLearner)}}.Sound()));
  EXPECT_FALSE((Membership{{Of(1, Standing::kJoining)}}.Sound()));
  EXPECT_FALSE((Membership{{Of(1, Standing::kLeaving)}}.Sound()));
  Membership many;
  for (uint64_t id = 1; id <= kMembersMax; ++id) many.members.push_back(Of(id));
  EXPECT_TRUE(many.Sound());
  many.members.push_back(Of(kMembersMax + 1));
  EXPECT_FALSE(many.Sound());
}

}  // namespace
}  // namespace trireme::raft
