// Safety rule 12: a copy of a data directory is noticed.
#include "raft/host/peer_starts.h"

#include <gtest/gtest.h>

namespace trireme::raft {
namespace {

constexpr NodeId kNode{3};
const std::string kDirectory(16, 'd');

class PeerStartsTest : public ::testing::Test {
 protected:
  bool Ok(uint64_t incarnation, uint64_t nonce) { return starts_.Check(kNode, kDirectory, {incarnation, nonce}).ok(); }

  PeerStarts starts_;
};

TEST_F(PeerStartsTest, ALaterStartReplacesAnEarlierOne) {
  EXPECT_TRUE(Ok(1, 11));
  EXPECT_TRUE(Ok(1, 11)) << "each shard and lane calls";
  EXPECT_TRUE(Ok(2, 22));
  EXPECT_FALSE(Ok(1, 11)) << "what is late is not listened to";
  EXPECT_TRUE(Ok(2, 22)) << "and does no harm";
  EXPECT_TRUE(starts_.Check(NodeId(4), kDirectory, {1, 1}).ok()) << "nodes are apart";
}

TEST_F(PeerStartsTest, TwoProcessesOfOneIncarnationAreBothRefused) {
  EXPECT_TRUE(Ok(7, 1));
  absl::Status second = starts_.Check(kNode, kDirectory, {7, 2});
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.message().find("exists twice"), std::string::npos);
  EXPECT_FALSE(Ok(7, 1)) << "the other may have promised something else";
  EXPECT_FALSE(Ok(8, 3)) << "and a start of either makes nothing good";
  EXPECT_TRUE(starts_.Check(kNode, std::string(16, 'e'), {1, 9}).ok()) << "another directory is another one";
}

TEST_F(PeerStartsTest, AnOlderCopyIsKnownWhenItsStartsMeetThoseOfTheOther) {
  for (uint64_t incarnation = 1; incarnation <= 40; ++incarnation) EXPECT_TRUE(Ok(incarnation, incarnation));
  // Far behind, it is only late; the nearer it comes, the worse.
  EXPECT_FALSE(Ok(3, 100));
  EXPECT_TRUE(Ok(40, 40));
  EXPECT_FALSE(Ok(39, 101));
  EXPECT_FALSE(Ok(40, 40));
  EXPECT_FALSE(Ok(41, 102));
}

TEST_F(PeerStartsTest, ItIsRememberedOverOnesOwnStarts) {
  EXPECT_TRUE(Ok(5, 50));
  PeerStarts restarted;
  for (auto& [node, seen] : starts_.seen()) restarted.Remember(node, seen);
  EXPECT_FALSE(restarted.Check(kNode, kDirectory, {5, 51}).ok());
  PeerStarts again;
  for (auto& [node, seen] : restarted.seen()) again.Remember(node, seen);
  EXPECT_FALSE(again.Check(kNode, kDirectory, {6, 52}).ok());
}

TEST_F(PeerStartsTest, AnOlderVersionDoesNotSayItsNonce) {
  EXPECT_TRUE(Ok(5, 0));
  EXPECT_TRUE(Ok(5, 50));
  EXPECT_TRUE(Ok(5, 0));
  EXPECT_FALSE(Ok(5, 51));
}

}  // namespace
}  // namespace trireme::raft
