#include "broker/cluster/announced.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/broker/temp_dir.h"

namespace trireme::broker {
namespace {

using Announced = std::map<raft::NodeId, uint64_t>;

const std::vector<NodeRecord> kNodes = {
    {raft::NodeId(1), "a:1", std::string(16, 'a'), raft::ReplicaId(1)},
    {raft::NodeId(2), "b:1", std::string(16, 'b'), raft::ReplicaId(2)},
};

TEST(AnnouncedFile, RemembersTheHighestOverStarts) {
  TempDir dir;
  {
    AnnouncedFile file(dir.path());
    EXPECT_TRUE(file.Of(kNodes).empty());
    EXPECT_TRUE(file.Save(kNodes, {{raft::NodeId(1), 10}, {raft::NodeId(2), 20}, {raft::NodeId(9), 1}}).ok());
    EXPECT_TRUE(file.Save(kNodes, {{raft::NodeId(1), 5}, {raft::NodeId(2), 21}}).ok());
  }
  AnnouncedFile file(dir.path());
  EXPECT_EQ(file.Of(kNodes), (Announced{{raft::NodeId(1), 10}, {raft::NodeId(2), 21}}));
  EXPECT_TRUE(file.Save(kNodes, {}).ok());
  EXPECT_EQ(file.Of(kNodes).size(), 2u);
}

// Another directory is another store: nothing was ever heard of it.
TEST(AnnouncedFile, BelongsToADirectory) {
  TempDir dir;
  AnnouncedFile file(dir.path());
  ASSERT_TRUE(file.Save(kNodes, {{raft::NodeId(1), 10}}).ok());
  std::vector<NodeRecord> moved = kNodes;
  moved[0].directory_id = std::string(16, 'x');
  EXPECT_TRUE(file.Of(moved).empty());
  ASSERT_TRUE(file.Save(moved, {{raft::NodeId(1), 3}}).ok());
  EXPECT_EQ(file.Of(moved), (Announced{{raft::NodeId(1), 3}}));
  EXPECT_TRUE(file.Of(kNodes).empty());
}

TEST(AnnouncedFile, DamageCountsAsNothingKnown) {
  TempDir dir;
  {
    AnnouncedFile file(dir.path());
    ASSERT_TRUE(file.Save(kNodes, {{raft::NodeId(1), 10}}).ok());
  }
  const std::string path = dir.path() + "/announced";
  ASSERT_TRUE(std::filesystem::exists(path));
  std::ofstream(path, std::ios::binary) << "something else";
  AnnouncedFile file(dir.path());
  EXPECT_TRUE(file.Of(kNodes).empty());
  EXPECT_TRUE(file.Save(kNodes, {{raft::NodeId(1), 11}}).ok());
  EXPECT_EQ(AnnouncedFile(dir.path()).Of(kNodes), (Announced{{raft::NodeId(1), 11}}));
}

}  // namespace
}  // namespace trireme::broker
