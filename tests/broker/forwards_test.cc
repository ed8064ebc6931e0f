#include "broker/api/forwards.h"

#include <gtest/gtest.h>

namespace trireme::broker {
namespace {

struct Call {
  void Cancel() { ++cancelled; }
  int cancelled = 0;
};

TEST(ForwardsTest, WhatWentToALostNodeIsEndedOnce) {
  Forwards forwards;
  auto first = std::make_shared<Call>(), second = std::make_shared<Call>(), other = std::make_shared<Call>();
  forwards.Add(raft::NodeId(1), first);
  forwards.Add(raft::NodeId(1), second);
  forwards.Add(raft::NodeId(2), other);
  forwards.Lost(raft::NodeId(3));
  forwards.Lost(raft::NodeId(1));
  forwards.Lost(raft::NodeId(1));
  EXPECT_EQ(first->cancelled, 1);
  EXPECT_EQ(second->cancelled, 1);
  EXPECT_EQ(other->cancelled, 0);
  EXPECT_EQ(first.use_count(), 1);
}

TEST(ForwardsTest, WhatHasEndedIsNotKept) {
  Forwards forwards;
  std::vector<std::shared_ptr<Call>> under_way;
  for (int i = 0; i < 10'000; ++i) {
    auto call = std::make_shared<Call>();
    forwards.Add(raft::NodeId(1), call);
    if (i % 100 == 0) under_way.push_back(call);
  }
  EXPECT_LE(forwards.size(), 2 * under_way.size() + 64);
  forwards.Lost(raft::NodeId(1));
  for (const auto& call : under_way) EXPECT_EQ(call->cancelled, 1);
  EXPECT_EQ(forwards.size(), 0u);
}

}  // namespace
}  // namespace trireme::broker
