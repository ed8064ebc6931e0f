#include "broker/routing/leaders.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/broker/fake_shard.h"

namespace trireme::broker {
namespace {

namespace v1 = trireme::v1;
using std::chrono::milliseconds;
using std::chrono::seconds;

class StubGroup final : public raft::Group {
 public:
  raft::GroupId id() const override { return spec_.group; }
  const raft::GroupSpec& spec() const override { return spec_; }
  raft::Proposed Propose(std::vector<raft::Bytes>, bool) override { return {}; }
  void ReadBarrier(absl::AnyInvocable<void(absl::Status)>) override {}
  const raft::Entry* TailEntry(raft::Index) const override { return nullptr; }
  void ScanRows(std::string, std::string, size_t, raft::IndexRows::ScanDone done) override { done(raft::RowPage()); }
  void ReadEntries(raft::Index, raft::Index, size_t, raft::LogStore::ReadDone) override {}
  bool leading() const override { return false; }
  raft::Term term() const override { return raft::Term(7); }
  raft::NodeId leader_node() const override { return leader; }
  raft::Index applied_index() const override { return {}; }
  size_t uncommitted_bytes() const override { return 0; }
  size_t max_uncommitted_bytes() const override { return 0; }
  bool disk_low() const override { return false; }
  void StepDown() override {}
  void WantLeader() override { ++wanted; }
  std::optional<raft::TransferError> HandOver() override { return raft::TransferError::kNotLeader; }
  bool handing_over() const override { return false; }
  bool cut_off() const override { return cut; }
  const absl::Status& halted() const override { return ok_; }
  const raft::Membership& membership() const override { return membership_; }
  bool membership_committed() const override { return true; }
  std::optional<raft::MembershipError> ProposeMembers(std::vector<raft::Member>) override {
    return raft::MembershipError::kNotLeader;
  }

  raft::NodeId leader;
  int wanted = 0;
  bool cut = false;

 private:
  raft::GroupSpec spec_;
  absl::Status ok_;
  raft::Membership membership_;
};

class StubAsker final : public LeaderAsker {
 public:
  explicit StubAsker(FakeShard* shard) : shard_(shard) {}
  void Resolve(const std::string& address, const std::string& queue, milliseconds, Done done) override {
    asked.push_back(address + " " + queue);
    auto shared = std::make_shared<Done>(std::move(done));
    shard_->After(milliseconds(5), [this, shared, address] {
      auto found = answers.find(address);
      (*shared)(found == answers.end() ? absl::StatusOr<v1::Leader>(absl::UnavailableError("down")) : found->second);
    });
  }

  std::vector<std::string> asked;
  std::map<std::string, absl::StatusOr<v1::Leader>> answers;

 private:
  FakeShard* const shard_;
};

class LeadersTest : public testing::Test {
 protected:
  LeadersTest() {
    MetadataChange change;
    std::vector<NodeRecord> nodes;
    for (uint64_t n = 1; n <= 5; ++n) {
      nodes.push_back({raft::NodeId(n), "n" + std::to_string(n) + ":1", "", raft::ReplicaId(n)});
    }
    change.nodes = std::make_shared<std::vector<NodeRecord>>(nodes);
    view_.Take(change);
    auto queue = std::make_shared<QueueInfo>();
    queue->name = "q";
    queue->group = raft::GroupId(9);
    for (uint64_t n = 2; n <= 4; ++n) queue->replicas.push_back({raft::ReplicaId(10 + n), raft::NodeId(n)});
    queue_ = queue;
  }

  static v1::Leader Leader(uint64_t node, uint64_t group = 9) {
    v1::Leader leader;
    leader.set_node_id(node);
    leader.set_address("n" + std::to_string(node) + ":1");
    leader.set_group_id(group);
    return leader;
  }
  absl::StatusOr<v1::Leader> Find(milliseconds patience) {
    std::optional<absl::StatusOr<v1::Leader>> result;
    shard_.Post([&] {
      leaders_.Find(queue_, shard_.Now() + patience, [&](absl::StatusOr<v1::Leader> l) { result = std::move(l); });
    });
    EXPECT_TRUE(time_.Run(seconds(60), [&] { return result.has_value(); }));
    return result.has_value() ? *result : absl::InternalError("never answered");
  }

  FakeTime time_;
  FakeShard shard_{0, &time_};
  StubAsker asker_{&shard_};
  StubGroup group_;
  bool local_ = false;
  MetadataView view_;
  QueuePtr queue_;
  Leaders leaders_{raft::NodeId(1), &shard_, &view_, [this](raft::GroupId) { return local_ ? &group_ : nullptr; },
                   &asker_};
};

TEST_F(LeadersTest, TheLocalReplicaSays) {
  local_ = true;
  group_.leader = raft::NodeId(3);
  auto leader = Find(seconds(1));
  ASSERT_TRUE(leader.ok());
  EXPECT_EQ(leader->node_id(), 3u);
  EXPECT_EQ(leader->address(), "n3:1");
  EXPECT_EQ(leader->term(), 7u);
  EXPECT_EQ(leader->group_id(), 9u);
  EXPECT_TRUE(asker_.asked.empty());
  EXPECT_EQ(group_.wanted, 0);
}

TEST_F(LeadersTest, WaitsOutAnElection) {
  local_ = true;
  shard_.After(milliseconds(700), [this] { group_.leader = raft::NodeId(2); });
  auto leader = Find(seconds(5));
  ASSERT_TRUE(leader.ok()) << leader.status();
  EXPECT_EQ(leader->node_id(), 2u);
  EXPECT_GT(group_.wanted, 0) << "it does not wait its turn among those that nobody asks for";
  group_.leader = raft::NodeId();
  raft::MonotonicTime before = time_.now();
  EXPECT_EQ(Find(seconds(2)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_GE(time_.now() - before, seconds(2));
  EXPECT_LT(time_.now() - before, seconds(3));
  EXPECT_TRUE(asker_.asked.empty());
}

TEST_F(LeadersTest, ANodeThatIsCutOffSaysSoAtOnce) {
  local_ = true;
  shard_.After(milliseconds(300), [this] { group_.cut = true; });
  raft::MonotonicTime before = time_.now();
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = Find(seconds(5)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(SaysCutOff(status));
  }
  EXPECT_LT(time_.now() - before, milliseconds(400));
  EXPECT_FALSE(SaysCutOff(absl::UnavailableError("no leader")));
  EXPECT_FALSE(SaysCutOff(absl::OkStatus()));
}

TEST_F(LeadersTest, WithoutAReplicaTheOthersAreAskedAndTheAnswerIsKept) {
  asker_.answers["n3:1"] = Leader(4);
  auto leader = Find(seconds(5));
  ASSERT_TRUE(leader.ok()) << leader.status();
  EXPECT_EQ(leader->node_id(), 4u);
  size_t asked = asker_.asked.size();
  EXPECT_LE(asked, 3u);
  EXPECT_EQ(Find(seconds(5))->node_id(), 4u);
  EXPECT_EQ(asker_.asked.size(), asked);
  leaders_.Wrong(raft::GroupId(9), raft::NodeId(3));
  EXPECT_EQ(Find(seconds(5))->node_id(), 4u);
  EXPECT_EQ(asker_.asked.size(), asked) << "another node was not the one kept";
  leaders_.Wrong(raft::GroupId(9), raft::NodeId(4));
  asker_.answers["n3:1"] = Leader(2);
  EXPECT_EQ(Find(seconds(5))->node_id(), 2u);
  leaders_.Forget(raft::GroupId(9));
  EXPECT_EQ(leaders_.Known(*queue_).node_id(), 0u);
}

TEST_F(LeadersTest, ManyWhoWaitShareOneSearch) {
  int answered = 0;
  for (int i = 0; i < 1000; ++i) {
    leaders_.Find(queue_, shard_.Now() + seconds(i % 2 == 0 ? 1 : 10), [&](absl::StatusOr<v1::Leader> l) {
      ++answered;
      EXPECT_EQ(l.ok(), answered > 500) << "those in a hurry have given up before";
    });
  }
  shard_.After(seconds(5), [this] { asker_.answers["n2:1"] = Leader(2); });
  time_.Run(seconds(20));
  EXPECT_EQ(answered, 1000);
  EXPECT_LT(asker_.asked.size(), 500u);
}

TEST_F(LeadersTest, ADeletedQueueIsNotWaitedFor) {
  asker_.answers["n3:1"] = absl::NotFoundError("no queue");
  asker_.answers["n2:1"] = v1::Leader();
  EXPECT_EQ(Find(seconds(30)).status().code(), absl::StatusCode::kNotFound);
  asker_.answers["n3:1"] = Leader(3, /*group=*/12);  // another queue of that name
  EXPECT_EQ(Find(seconds(30)).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(leaders_.Known(*queue_).node_id(), 0u);
}

}  // namespace
}  // namespace trireme::broker
