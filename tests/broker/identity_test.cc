#include "broker/cluster/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/broker/temp_dir.h"

namespace trireme::broker {
namespace {

using testing::HasSubstr;

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(DataDirectory, KeepsItsIdAndCountsItsStarts) {
  TempDir dir;
  std::string path = dir.path() + "/a/b";
  std::string id;
  for (uint64_t start = 1; start <= 3; ++start) {
    auto opened = DataDirectory::Open(path, "n1:1");
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ((*opened)->identity().directory_id().size(), kIdBytes);
    EXPECT_EQ((*opened)->identity().starts(), start);
    if (start == 1) id = (*opened)->identity().directory_id();
    EXPECT_EQ((*opened)->identity().directory_id(), id);
  }
  auto other = DataDirectory::Open(dir.path() + "/c", "n1:1");
  ASSERT_TRUE(other.ok());
  EXPECT_NE((*other)->identity().directory_id(), id);
}

// Safety rule 12: started again and again, a directory that forgot would write itself past what the others remember.
TEST(DataDirectory, OneThatForgotIsNotStartedAgain) {
  TempDir dir;
  uint64_t nonce = 0;
  {
    auto opened = DataDirectory::Open(dir.path(), "n1:1");
    ASSERT_TRUE(opened.ok());
    nonce = (*opened)->nonce();
    EXPECT_NE(nonce, 0u);
    ASSERT_TRUE(DataDirectory::Condemn(dir.path(), absl::DataLossError("node 2 remembers more")).ok());
  }
  for (int i = 0; i < 2; ++i) {
    auto again = DataDirectory::Open(dir.path(), "n1:1");
    ASSERT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(again.status().message()), HasSubstr("node 2 remembers more"));
  }
  std::filesystem::remove(dir.path() + "/forgot");
  auto by_hand = DataDirectory::Open(dir.path(), "n1:1");
  ASSERT_TRUE(by_hand.ok());
  EXPECT_EQ((*by_hand)->identity().starts(), 2u) << "a start that is refused is none";
  EXPECT_NE((*by_hand)->nonce(), nonce);
}

TEST(DataDirectory, OneProcessAtATime) {
  TempDir dir;
  auto first = DataDirectory::Open(dir.path(), "n1:1");
  ASSERT_TRUE(first.ok());
  auto second = DataDirectory::Open(dir.path(), "n1:1");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(dir.path()));
  EXPECT_EQ((*first)->identity().starts(), 1u);
}

// Safety rule 23: whose a directory is does not change by a flag.
TEST(DataDirectory, AnotherNodesIsRefusedNamingBoth) {
  TempDir dir;
  {
    auto opened = DataDirectory::Open(dir.path(), "n1:1");
    ASSERT_TRUE(opened.ok());
    auto identity = (*opened)->identity();
    identity.set_cluster_id(std::string(16, 'c'));
    identity.set_node_id(1);
    ASSERT_TRUE((*opened)->Save(identity).ok());
  }
  auto other = DataDirectory::Open(dir.path(), "n2:1");
  EXPECT_EQ(other.status().code(), absl::StatusCode::kFailedPrecondition);
  for (const char* part : {"node 1", "n1:1", "n2:1", "63636363"}) {
    EXPECT_THAT(std::string(other.status().message()), HasSubstr(part));
  }
  EXPECT_TRUE(DataDirectory::Open(dir.path(), "n1:1").ok());
}

TEST(DataDirectory, AnAddressMayChangeUntilThereIsAPledge) {
  TempDir dir;
  ASSERT_TRUE(DataDirectory::Open(dir.path(), "n1:1").ok());
  auto moved = DataDirectory::Open(dir.path(), "n2:1");
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ((*moved)->identity().address(), "n2:1");
}

TEST(DataDirectory, DataWithoutIdentityIsRefused) {
  TempDir dir;
  std::filesystem::create_directories(dir.path() + "/store");
  auto opened = DataDirectory::Open(dir.path(), "n1:1");
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("store"));
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/identity")) << "nothing is changed";
}

TEST(DataDirectory, EveryDamageToTheIdentityIsFound) {
  TempDir dir;
  ASSERT_TRUE(DataDirectory::Open(dir.path(), "n1:1").ok());
  std::string file = dir.path() + "/identity";
  std::string good = Read(file);
  ASSERT_FALSE(good.empty());
  for (size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ 0x10);
    EXPECT_FALSE(DecodeIdentity(bad).ok()) << "byte " << byte;
    EXPECT_FALSE(DecodeIdentity(good.substr(0, byte)).ok()) << "cut to " << byte;
  }
  Write(file, good.substr(0, good.size() - 1));
  auto opened = DataDirectory::Open(dir.path(), "n1:1");
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr(dir.path()));
  Write(file, "");
  EXPECT_FALSE(DataDirectory::Open(dir.path(), "n1:1").ok());
}

TEST(DataDirectory, ACrashWhileWritingLeavesTheOldIdentity) {
  TempDir dir;
  std::string id;
  {
    auto opened = DataDirectory::Open(dir.path(), "n1:1");
    ASSERT_TRUE(opened.ok());
    id = (*opened)->identity().directory_id();
  }
  Write(dir.path() + "/identity.new", "half of an ident");
  auto opened = DataDirectory::Open(dir.path(), "n1:1");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ((*opened)->identity().directory_id(), id);
}

TEST(DataDirectory, WhatIsNoDirectoryIsRefused) {
  TempDir dir;
  Write(dir.path() + "/file", "x");
  auto opened = DataDirectory::Open(dir.path() + "/file", "n1:1");
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("/file"));
}

}  // namespace
}  // namespace trireme::broker
