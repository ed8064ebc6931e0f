#include "broker/cluster/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/broker/cluster_world.h"

namespace trireme::broker {
namespace {

namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

TEST_F(ClusterTest, ThreeNodesElectAMetadataLeader) {
  StartThree();
  EXPECT_EQ(MetadataLeader(), "a") << "the initiator is preferred";
  auto status = Status("b");
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->cluster_id(), std::string(16, 'x'));
  EXPECT_EQ(status->node_id(), 2u);
  ASSERT_EQ(status->nodes_size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(status->nodes(i).node_id(), static_cast<uint64_t>(i + 1));
    EXPECT_EQ(status->nodes(i).condition(), v1::NODE_CONDITION_UP);
    EXPECT_EQ(status->nodes(i).metadata_leader(), i == 0);
  }
}

TEST_F(ClusterTest, OneNodeAloneIsACluster) {
  join_ = {"a:1"};
  Start("a");
  Init("a");
  ASSERT_TRUE(time_.Run(seconds(20), [this] { return AllBorn(); }));
  auto created = Create("a", "q");
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->queue->replicas.size(), 1u);
  EXPECT_EQ(Create("a", "r", 2).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ClusterTest, BeforeInitEverythingIsUnavailable) {
  Start("a");
  EXPECT_EQ(Create("a", "q", 0, seconds(2)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Lookup("a", "q", seconds(2)).status().code(), absl::StatusCode::kUnavailable);
  auto status = Status("a");
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->cluster_id(), "");
  EXPECT_EQ(status->node_id(), 0u);
}

TEST_F(ClusterTest, AnyNodeCreatesAndAllKnow) {
  StartThree();
  uint64_t group = 2;
  for (const char* at : {"a", "b", "c"}) {
    std::string name = std::string("from-") + at;
    auto created = Create(at, name);
    ASSERT_TRUE(created.ok()) << created.status();
    EXPECT_TRUE(created->created);
    EXPECT_EQ(created->queue->group.value(), group++);
    EXPECT_EQ(created->queue->replicas.size(), 3u);
    EXPECT_NE(node(at).cluster->view(0).FindQueue(name), nullptr) << "whoever is told of a queue finds it";
    time_.Run(seconds(1));
    for (auto& [n, each] : nodes_) {
      for (raft::ShardId id = 0; id < kShards; ++id) {
        EXPECT_EQ(each->cluster->view(id).FindQueue(name)->group, created->queue->group) << n;
      }
      EXPECT_EQ(each->started[created->queue->group], name);
      raft::Group* replica = each->Find(created->queue->group);
      ASSERT_NE(replica, nullptr);
      EXPECT_EQ(replica->leader_node(), created->queue->replicas[0].node) << "the first replica is preferred";
    }
  }
}

TEST_F(ClusterTest, CreatingIsRepeatableAndRefusesWhatDiffers) {
  StartThree();
  ASSERT_TRUE(Create("a", "q").ok());
  for (const char* at : {"a", "b"}) {
    for (uint32_t replicas : {0u, 3u}) {
      auto again = Create(at, "q", replicas);
      ASSERT_TRUE(again.ok()) << again.status();
      EXPECT_FALSE(again->created);
      EXPECT_EQ(again->queue->group, raft::GroupId(2));
    }
    auto other = Create(at, "q", 1);
    EXPECT_EQ(other.status().code(), absl::StatusCode::kAlreadyExists);
    EXPECT_THAT(std::string(other.status().message()), HasSubstr("q"));
    auto many = Create(at, "r", 4);
    EXPECT_EQ(many.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(many.status().message()), testing::AllOf(HasSubstr("4"), HasSubstr("3")));
    EXPECT_EQ(Create(at, "-bad").status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(Lookup(at, "r").status().code(), absl::StatusCode::kNotFound);
  }
  EXPECT_EQ(node("a").metadata()->state().queues().size(), 1u);
}

TEST_F(ClusterTest, DeletedQueuesLeaveNothingBehindAndIdsAreNew) {
  StartThree();
  auto first = Create("b", "q");
  ASSERT_TRUE(first.ok());
  time_.Run(seconds(1));
  auto deleted = Delete("c", "q");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(node("c").cluster->view(0).FindQueue("q"), nullptr);
  EXPECT_EQ(Lookup("a", "q").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Delete("a", "q").status().code(), absl::StatusCode::kNotFound);
  time_.Run(seconds(1));
  for (auto& [name, disk] : disks_) EXPECT_FALSE(disk->store.Has(first->queue->group)) << name;
  auto second = Create("a", "q");
  ASSERT_TRUE(second.ok());
  EXPECT_GT(second->queue->group, first->queue->group);
  EXPECT_GT(second->queue->replicas[0].replica, first->queue->replicas[2].replica);
}

// Its log ends before what is left of the others', so it gets the state as it is now (Safety rule 13).
TEST_F(ClusterTest, ANodeThatWasAwayForLongGetsTheWholeState) {
  StartThree();
  ASSERT_TRUE(Create("a", "gone").ok());
  ASSERT_TRUE(Create("a", "stays").ok());
  auto recreated = Create("a", "recreated");
  ASSERT_TRUE(recreated.ok());
  time_.Run(seconds(1));
  Kill("c");
  ASSERT_TRUE(Delete("a", "gone").ok());
  ASSERT_TRUE(Delete("a", "recreated").ok());
  ASSERT_TRUE(Create("a", "recreated").ok());
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(Create("a", "passing").ok());
    ASSERT_TRUE(Delete("a", "passing").ok());
  }
  ASSERT_TRUE(Create("a", "late").ok());
  time_.Run(seconds(3));
  Start("c");
  time_.Run(seconds(10));
  EXPECT_EQ(node("c").metadata()->applied_index(), node("a").metadata()->applied_index());
  EXPECT_EQ(node("c").metadata()->state().Snapshot(), node("a").metadata()->state().Snapshot());
  EXPECT_GE(node("c").installed(), 1u);
  EXPECT_EQ(node("c").started, node("a").started);
  for (raft::ShardId id = 0; id < kShards; ++id) {
    const MetadataView& view = node("c").cluster->view(id);
    EXPECT_EQ(view.queues(), 3u);
    EXPECT_EQ(view.FindQueue("gone"), nullptr);
    EXPECT_EQ(view.FindQueue("recreated")->group, node("a").cluster->view(0).FindQueue("recreated")->group);
    EXPECT_NE(view.FindQueue("late"), nullptr);
  }
  EXPECT_FALSE(disks_.at("c")->store.Has(recreated->queue->group));
}

TEST_F(ClusterTest, RequestsWaitOutAnElection) {
  StartThree();
  ASSERT_TRUE(Create("a", "before").ok());
  Kill(MetadataLeader());
  std::string at = nodes_.begin()->first;
  auto created = Create(at, "after");
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_TRUE(Lookup(at, "before").ok());
  EXPECT_EQ(Lookup(at, "never").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Delete(at, "before").ok());
}

// Safety rule 21: a node that is cut off does not say "no such queue".
TEST_F(ClusterTest, ANodeThatMayBeBehindDoesNotSayNotFound) {
  StartThree();
  std::string behind = Follower();
  Cut(behind);
  time_.Run(seconds(5));
  std::string at = MetadataLeader() == behind ? Follower() : MetadataLeader();
  ASSERT_TRUE(Create(at, "new").ok());
  EXPECT_EQ(Lookup(behind, "new", seconds(3)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Lookup(behind, "never", seconds(3)).status().code(), absl::StatusCode::kUnavailable);
  Heal();
  auto found = Lookup(behind, "new");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->name, "new");
}

TEST_F(ClusterTest, ARefreshedViewIsAsNewAsTheGroupWas) {
  StartThree();
  std::string leader = MetadataLeader(), follower = Follower();
  for (int i = 0; i < 20; ++i) {
    std::string name = "q" + std::to_string(i);
    ASSERT_TRUE(Create(leader, name).ok());
    auto index = Ask<raft::Index>(
        follower, [](Cluster& c, Asked asked, Answer<raft::Index> answer) { c.Refresh(asked, std::move(answer)); });
    ASSERT_TRUE(index.ok()) << index.status();
    const MetadataView& view = node(follower).cluster->view(0);
    EXPECT_GE(view.index(), *index);
    EXPECT_NE(view.FindQueue(name), nullptr);
  }
  Cut(follower);
  auto stale = Ask<raft::Index>(
      follower, [](Cluster& c, Asked asked, Answer<raft::Index> answer) { c.Refresh(asked, std::move(answer)); },
      seconds(3));
  EXPECT_FALSE(stale.ok());
}

// Safety rule 21 again: a leader that does not know yet that it was deposed.
TEST_F(ClusterTest, ADeposedLeaderDoesNotSayNotFoundEither) {
  StartThree();
  std::string old = MetadataLeader();
  Cut(old);
  auto lookup = Lookup(old, "never", milliseconds(300));
  EXPECT_TRUE(absl::IsUnavailable(lookup.status()) || absl::IsDeadlineExceeded(lookup.status())) << lookup.status();
  auto create = Create(old, "q", 0, milliseconds(2000));
  EXPECT_FALSE(create.ok());
  EXPECT_TRUE(absl::IsUnavailable(create.status()) || absl::IsDeadlineExceeded(create.status()))
      << "unknown is never reported as failed: " << create.status();
}

TEST_F(ClusterTest, EverythingIsThereAfterAllWereKilled) {
  StartThree();
  std::vector<raft::GroupId> groups;
  for (int i = 0; i < 30; ++i) {  // past a snapshot of the metadata
    auto created = Create(i % 2 == 0 ? "a" : "b", "q" + std::to_string(i));
    ASSERT_TRUE(created.ok());
    groups.push_back(created->queue->group);
  }
  ASSERT_TRUE(Delete("a", "q3").ok());
  time_.Run(seconds(2));
  for (const char* n : {"a", "b", "c"}) Kill(n);
  for (const char* n : {"a", "b", "c"}) Start(n);
  ASSERT_TRUE(time_.Run(seconds(20), [this] { return AllBorn(); }));
  time_.Run(seconds(3));
  for (const char* n : {"a", "b", "c"}) {
    EXPECT_EQ(node(n).started.size(), 29u);
    EXPECT_EQ(node(n).adopted, 29);
    EXPECT_TRUE(node(n).fatal.ok());
    for (raft::GroupId group : groups) {
      // Safety rule 11: each was born here once, ever.
      EXPECT_EQ(disks_[n]->store.created[group], 1) << n << " group " << group;
    }
  }
  EXPECT_TRUE(Lookup("c", "q29").ok());
  EXPECT_EQ(Lookup("c", "q3").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Create("c", "next")->queue->group, groups.back() + 1);
}

TEST_F(ClusterTest, ALateNodeJoinsAndAWipedOneIsRefused) {
  Start("a");
  Start("b");
  Init("a");
  ASSERT_TRUE(time_.Run(seconds(20), [this] { return AllBorn(); }));
  auto status = Status("a");
  EXPECT_EQ(status->nodes(2).condition(), v1::NODE_CONDITION_EXPECTED);
  ASSERT_TRUE(Create("b", "q").ok()) << "a majority is enough";
  Start("c");
  ASSERT_TRUE(time_.Run(seconds(20), [this] { return AllBorn() && node("c").started.size() == 1; }));
  EXPECT_EQ(node("c").cluster->self(), raft::NodeId(3));
  std::string directory = node("c").directory().identity().directory_id();
  time_.Run(seconds(1));
  for (const char* n : {"a", "b", "c"}) {
    EXPECT_EQ(node(n).known[2].directory_id, directory);
    for (const auto& member : node(n).directory().identity().members()) {
      if (member.id() != 3) continue;
      EXPECT_EQ(member.directory_id(), directory) << "kept over a restart of " << n;
    }
  }
  // Safety rule 12.
  Kill("c");
  Wipe("c");
  Start("c");
  time_.Run(seconds(5));
  EXPECT_EQ(node("c").fatal.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(node("c").cluster->self(), raft::NodeId(0));
  EXPECT_EQ(disks_["c"]->store.size(), 0u) << "nothing was born";
}

TEST_F(ClusterTest, OtherClustersAndNonLeadersAreRefusedByPeerCalls) {
  StartThree();
  std::string leader = MetadataLeader(), follower = Follower();
  auto barrier = [&](const std::string& at, const std::string& id) {
    peer::BarrierRequest request;
    request.set_cluster_id(id);
    return Ask<peer::BarrierResponse>(at, [&](Cluster& c, Asked asked, Answer<peer::BarrierResponse> answer) {
      c.Barrier(request, asked, std::move(answer));
    });
  };
  EXPECT_TRUE(barrier(leader, std::string(16, 'x')).ok());
  EXPECT_EQ(barrier(leader, std::string(16, 'y')).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(barrier(follower, std::string(16, 'x')).status().code(), absl::StatusCode::kUnavailable);
  peer::CreateQueueRequest create;
  create.set_cluster_id(std::string(16, 'y'));
  create.mutable_request()->set_name("q");
  auto created = Ask<v1::CreateQueueResponse>(leader, [&](Cluster& c, Asked asked, Answer<v1::CreateQueueResponse> a) {
    c.CreateHere(create, asked, std::move(a));
  });
  EXPECT_EQ(created.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(created.status().message()), HasSubstr("79797979"));
  EXPECT_EQ(Lookup(leader, "q").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ClusterTest, ADeleteWhoseAnswerWasLostIsStillAnsweredAsDone) {
  StartThree();
  ASSERT_TRUE(Create("a", "q").ok());
  time_.Run(seconds(1));
  std::string follower = Follower();
  std::string leader = MetadataLeader() + ":1";
  peers_.mute = {{follower + ":1", leader}};
  // The first attempt does it, and its answer is lost.
  time_.Add(seconds(1), [this] { peers_.mute.clear(); });
  auto deleted = Delete(follower, "q");
  EXPECT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(Lookup(follower, "q").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ClusterTest, ManyQueuesAreSpread) {
  StartThree();
  std::map<raft::NodeId, int> leads;
  for (int i = 0; i < 30; ++i) ++leads[Create("b", "q" + std::to_string(i))->queue->replicas[0].node];
  for (uint64_t n = 1; n <= 3; ++n) EXPECT_EQ(leads[raft::NodeId(n)], 10);
}

}  // namespace
}  // namespace trireme::broker
