#include "broker/cluster/stopped_replicas.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/broker/temp_dir.h"

namespace trireme::broker {
namespace {

constexpr raft::GroupId kGroup{7};
constexpr raft::ReplicaId kReplica{70};

std::unique_ptr<StoppedReplicas> Open(const TempDir& dir) {
  auto opened = StoppedReplicas::Open(dir.path());
  EXPECT_TRUE(opened.ok()) << opened.status();
  return *std::move(opened);
}

// Safety rule 25.
TEST(StoppedReplicas, AVerdictOutlivesARestart) {
  TempDir dir;
  EXPECT_TRUE(Open(dir)->Find(kGroup, kReplica).ok());
  ASSERT_TRUE(Open(dir)->Add(kGroup, kReplica, absl::DataLossError("differs at 5")).ok());
  auto again = Open(dir);
  EXPECT_EQ(again->Find(kGroup, kReplica), absl::DataLossError("differs at 5"));
  EXPECT_TRUE(again->Find(raft::GroupId(8), kReplica).ok());
  EXPECT_TRUE(again->Find(kGroup, raft::ReplicaId(71)).ok()) << "the one that came in its place";
  ASSERT_TRUE(again->Forget(kGroup).ok());
  EXPECT_TRUE(Open(dir)->Find(kGroup, kReplica).ok());
}

TEST(StoppedReplicas, ADamagedFileStopsTheNode) {
  TempDir dir;
  ASSERT_TRUE(Open(dir)->Add(kGroup, kReplica, absl::DataLossError("differs")).ok());
  std::ofstream(dir.path() + "/stopped", std::ios::binary) << "something else";
  auto opened = StoppedReplicas::Open(dir.path());
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(opened.status().message().find("replace this node"), std::string::npos);
}

}  // namespace
}  // namespace trireme::broker
