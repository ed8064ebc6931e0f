#include "broker/temporary/name.h"

#include <gtest/gtest.h>

#include "broker/cluster/names.h"

namespace trireme::broker {
namespace {

TEST(TemporaryNameTest, SaysWhereItsQueueIs) {
  const TemporaryName name{raft::NodeId(3), 17, 42};
  EXPECT_EQ(ToString(name), "$temp/3.17/42");
  EXPECT_EQ(ParseTemporaryName("$temp/3.17/42"), name);
  EXPECT_TRUE(IsTemporary("$temp/3.17/42"));
}

// Safety rule 24: of two processes on a node's directory, and of two nodes.
TEST(TemporaryNameTest, IsNeverGivenTwice) {
  const TemporaryName name{raft::NodeId(3), 17, 42};
  EXPECT_NE(ToString(name), ToString({raft::NodeId(3), 18, 42}));
  EXPECT_NE(ToString(name), ToString({raft::NodeId(4), 17, 42}));
  EXPECT_NE(ToString({raft::NodeId(1), 12, 3}), ToString({raft::NodeId(11), 2, 3}));
}

TEST(TemporaryNameTest, IsNoOtherQueuesName) {
  EXPECT_FALSE(ValidateQueueName("$temp/3.17/42").ok());
  EXPECT_FALSE(ValidateQueueName("$temp/anything").ok());
  EXPECT_FALSE(IsTemporary("temp/3.17/42"));
  EXPECT_FALSE(IsTemporary("$tem"));
  EXPECT_FALSE(IsTemporary(""));
}

// One name for one queue.
TEST(TemporaryNameTest, IsTakenOnlyAsItIsWritten) {
  for (const char* bad :
       {"$temp/", "$temp/3", "$temp/3.17", "$temp/3.17/", "$temp/3.17/0", "$temp/3.17/042", "$temp/03.17/42",
        "$temp/+3.17/42", "$temp/3.17/ 42", "$temp/3.17/42 ", "$temp/3.17/42/1", "$temp/3.-17/42", "$temp/a.17/42",
        "$temp/3.17/9223372036854775808", "$temp/3.17/99999999999999999999", "orders"}) {
    EXPECT_EQ(ParseTemporaryName(bad), std::nullopt) << bad;
  }
  EXPECT_TRUE(ParseTemporaryName("$temp/3.17/9223372036854775807").has_value());
}

// Metadata counts from 1.
TEST(TemporaryNameTest, HasAGroupThatNoQueueHas) {
  EXPECT_EQ(GroupOf({raft::NodeId(3), 17, 42}).value(), (uint64_t{1} << 63) + 42);
  EXPECT_TRUE(IsTemporary(GroupOf({raft::NodeId(3), 17, 1})));
  EXPECT_FALSE(IsTemporary(raft::GroupId(1)));
}

}  // namespace
}  // namespace trireme::broker
