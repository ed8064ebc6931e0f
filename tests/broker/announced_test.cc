#include "broker/cluster/announced.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/broker/temp_dir.h"

namespace trireme::broker {
namespace {

const std::vector<NodeRecord> kNodes = {
    {raft::NodeId(1), "a:1", std::string(16, 'a'), raft::ReplicaId(1)},
    {raft::NodeId(2), "b:1", std::string(16, 'b'), raft::ReplicaId(2)},
};

DirectoryHistory Synced(uint64_t synced) {
  return {{synced, 3, false}, {}};
}
DirectoryHistories Heard(uint64_t a) {
  return {{raft::NodeId(1), Synced(a)}};
}

TEST(AnnouncedFile, RemembersTheHighestOverStarts) {
  TempDir dir;
  {
    AnnouncedFile file(dir.path());
    EXPECT_TRUE(file.Of(kNodes).empty());
    DirectoryHistories heard = {{raft::NodeId(1), Synced(10)}, {raft::NodeId(2), Synced(20)}, {raft::NodeId(9), {}}};
    EXPECT_TRUE(file.Save(kNodes, heard).ok());
    heard[raft::NodeId(1)] = Synced(5);
    heard[raft::NodeId(2)] = Synced(21);
    EXPECT_TRUE(file.Save(kNodes, heard).ok());
  }
  AnnouncedFile file(dir.path());
  EXPECT_EQ(file.Of(kNodes), (DirectoryHistories{{raft::NodeId(1), Synced(10)}, {raft::NodeId(2), Synced(21)}}));
  EXPECT_EQ(file.SyncedOf(kNodes[1].directory_id), 21u);
  EXPECT_EQ(file.SyncedOf(std::string(16, 'x')), 0u);
  EXPECT_TRUE(file.Save(kNodes, {}).ok());
  EXPECT_EQ(file.Of(kNodes).size(), 2u);
}

TEST(AnnouncedFile, RemembersWhoForgotAndWhoExistsTwice) {
  TempDir dir;
  const DirectoryHistory forgot = {{10, 3, true}, {}};
  const DirectoryHistory twice = {{20, 4, false}, {kNodes[1].directory_id, {{3, 33}, {4, 44}}, true}};
  {
    AnnouncedFile file(dir.path());
    ASSERT_TRUE(file.Save(kNodes, {{raft::NodeId(1), forgot}, {raft::NodeId(2), twice}}).ok());
    // What a shard heard before is no news.
    ASSERT_TRUE(file.Save(kNodes, Heard(9)).ok());
  }
  EXPECT_EQ(AnnouncedFile(dir.path()).Of(kNodes),
            (DirectoryHistories{{raft::NodeId(1), forgot}, {raft::NodeId(2), twice}}));
}

// Another directory is another store: nothing was ever heard of it.
TEST(AnnouncedFile, BelongsToADirectory) {
  TempDir dir;
  AnnouncedFile file(dir.path());
  ASSERT_TRUE(file.Save(kNodes, {{raft::NodeId(1), {{10, 3, true}, {kNodes[0].directory_id, {{3, 33}}, false}}}}).ok());
  std::vector<NodeRecord> moved = kNodes;
  moved[0].directory_id = std::string(16, 'x');
  EXPECT_TRUE(file.Of(moved).empty());
  ASSERT_TRUE(file.Save(moved, Heard(3)).ok());
  EXPECT_EQ(file.Of(moved), Heard(3));
  EXPECT_TRUE(file.Of(kNodes).empty());
}

// Safety rule 12: a flipped bit anywhere takes back the last write at most.
TEST(AnnouncedFile, ADamagedFileTakesBackTheLastWriteOnly) {
  TempDir dir;
  {
    AnnouncedFile file(dir.path());
    for (uint64_t synced = 10; synced <= 12; ++synced) ASSERT_TRUE(file.Save(kNodes, Heard(synced)).ok());
  }
  EXPECT_EQ(AnnouncedFile(dir.path()).Of(kNodes), Heard(12));
  for (const char* name : {"/announced", "/announced.2"}) {
    const std::string path = dir.path() + name;
    std::ifstream in(path, std::ios::binary);
    std::string whole{std::istreambuf_iterator<char>(in), {}};
    ASSERT_FALSE(whole.empty());
    for (size_t i = 0; i < whole.size(); ++i) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
      std::ofstream(path, std::ios::binary) << damaged;
      AnnouncedFile file(dir.path());
      const uint64_t synced = file.SyncedOf(kNodes[0].directory_id);
      ASSERT_TRUE(synced == 11 || synced == 12) << name << ", byte " << i << ": " << synced;
    }
    std::ofstream(path, std::ios::binary) << "something else";
    AnnouncedFile file(dir.path());
    ASSERT_TRUE(file.Save(kNodes, Heard(13)).ok());
    EXPECT_EQ(AnnouncedFile(dir.path()).Of(kNodes), Heard(13));
    std::ofstream(path, std::ios::binary) << whole;
  }
}

}  // namespace
}  // namespace trireme::broker
