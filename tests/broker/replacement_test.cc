// Nodes and replicas that are lost, and those that take their place: the cluster's logic with real hosts.
#include "tests/broker/cluster_world.h"

namespace trireme::broker {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

class ReplacementTest : public ClusterTest {
 protected:
  absl::StatusOr<v1::ReplaceNodeResponse> ReplaceNode(const std::string& at, uint64_t lost,
                                                      const std::string& address = "") {
    v1::ReplaceNodeRequest request;
    request.set_node_id(lost);
    request.set_address(address);
    return Ask<v1::ReplaceNodeResponse>(at, [&](Cluster& c, Asked asked, Answer<v1::ReplaceNodeResponse> answer) {
      c.ReplaceNode(request, asked, std::move(answer));
    });
  }
  absl::StatusOr<v1::ReplaceReplicaResponse> ReplaceReplica(const std::string& at, const std::string& queue,
                                                            uint64_t node) {
    v1::ReplaceReplicaRequest request;
    request.set_queue(queue);
    request.set_node_id(node);
    return Ask<v1::ReplaceReplicaResponse>(at, [&](Cluster& c, Asked asked, Answer<v1::ReplaceReplicaResponse> answer) {
      c.ReplaceReplica(request, asked, std::move(answer));
    });
  }
  raft::Group* Leader(raft::GroupId group) {
    for (auto& [name, node] : nodes_) {
      raft::Group* here = node->Find(group);
      if (here != nullptr && here->leading()) return here;
    }
    return nullptr;
  }
  // Commits `entries` of them, so that there is a log to catch up on.
  void Write(raft::GroupId group, int entries) {
    for (int i = 0; i < entries; ++i) {
      ASSERT_TRUE(time_.Run(seconds(10), [&] { return Leader(group) != nullptr; }));
      ASSERT_FALSE(Leader(group)->Propose({raft::Bytes::Copy("x")}, false).error.has_value());
      time_.Run(std::chrono::milliseconds(20));
    }
  }
  bool Settled(const std::string& at) {
    auto status = Status(at);
    if (!status.ok()) return false;
    for (const v1::NodeInfo& info : status->nodes()) {
      if (info.catching_up() != 0 || info.condition() != v1::NODE_CONDITION_UP) return false;
    }
    return true;
  }
  bool AwaitSettled(const std::string& at) {
    for (int i = 0; i < 60; ++i) {
      if (Settled(at)) return true;
      time_.Run(seconds(1));
    }
    return false;
  }
  static std::vector<uint64_t> VotersOf(const raft::Membership& membership) {
    std::vector<uint64_t> nodes;
    for (const raft::Member& member : membership.members) {
      if (member.standing == raft::Standing::kVoter) nodes.push_back(member.node.value());
    }
    std::sort(nodes.begin(), nodes.end());
    return nodes;
  }
};

TEST_F(ReplacementTest, AWipedNodeComesBackUnderAnotherIdAndStandsInForTheNextThatDies) {
  StartThree();
  std::vector<QueuePtr> queues;
  for (int i = 0; i < 6; ++i) {
    auto created = Create("a", "q" + std::to_string(i));
    ASSERT_TRUE(created.ok()) << created.status();
    queues.push_back(created->queue);
  }
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return node("c").started.size() == queues.size(); }));
  // One whose log is short, and one that has compacted it.
  Write(queues[0]->group, 3);
  Write(queues[1]->group, 120);
  EXPECT_EQ(ReplaceNode("a", 3).status().code(), absl::StatusCode::kFailedPrecondition) << "it is up";
  EXPECT_EQ(ReplaceNode("a", 9).status().code(), absl::StatusCode::kNotFound);

  Kill("c");
  Wipe("c");
  time_.Run(seconds(5));
  EXPECT_EQ(ReplaceNode("b", 3, "a:1").status().code(), absl::StatusCode::kAlreadyExists);
  auto replaced = ReplaceNode("b", 3);
  ASSERT_TRUE(replaced.ok()) << replaced.status();
  EXPECT_EQ(replaced->node_id(), 4u);
  EXPECT_EQ(replaced->address(), "c:1");
  auto repeated = ReplaceNode("a", 3);
  ASSERT_TRUE(repeated.ok()) << repeated.status();
  EXPECT_EQ(repeated->node_id(), 4u);
  time_.Run(seconds(3));
  for (const QueuePtr& queue : queues) {
    ASSERT_NE(Leader(queue->group), nullptr);
    EXPECT_EQ(VotersOf(Leader(queue->group)->membership()), (std::vector<uint64_t>{1, 2, 3}))
        << "the lost one counts until the other has caught up";
  }

  Start("c");
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return AllBorn(); }));
  ASSERT_TRUE(AwaitSettled("a"));
  EXPECT_EQ(node("c").cluster->self(), raft::NodeId(4));
  for (const QueuePtr& before : queues) {
    const raft::Group* leader = Leader(before->group);
    ASSERT_NE(leader, nullptr);
    EXPECT_EQ(VotersOf(leader->membership()), (std::vector<uint64_t>{1, 2, 4}));
    auto now = Lookup("c", before->name);
    ASSERT_TRUE(now.ok());
    EXPECT_TRUE((*now)->leaving.empty());
    EXPECT_FALSE((*now)->changing);
    EXPECT_GT((*now)->ReplicaOn(raft::NodeId(4)), before->ReplicaOn(raft::NodeId(3))) << "Safety rule 11";
  }

  // Now it counts: with another one gone all goes on, and over restarts of those who are left.
  Kill("a");
  ASSERT_TRUE(time_.Run(seconds(30), [&] {
    for (const QueuePtr& queue : queues) {
      if (Leader(queue->group) == nullptr) return false;
    }
    return !MetadataLeader().empty();
  }));
  ASSERT_TRUE(Create("c", "later", 2).ok());
  const raft::Index had = Leader(queues[1]->group)->applied_index();
  EXPECT_GE(had, raft::Index(120));
  for (const char* name : {"b", "c"}) Kill(name);
  for (const char* name : {"b", "c"}) Start(name);
  ASSERT_TRUE(time_.Run(seconds(60), [&] {
    for (const QueuePtr& queue : queues) {
      if (Leader(queue->group) == nullptr) return false;
    }
    return AllBorn();
  }));
  EXPECT_GE(Leader(queues[1]->group)->applied_index(), had);
  EXPECT_EQ(VotersOf(Leader(queues[1]->group)->membership()), (std::vector<uint64_t>{1, 2, 4}));
}

// Safety rule 12: without the operator's word it is refused, and the word lets in one under another id only.
TEST_F(ReplacementTest, WithoutTheOperatorsWordItIsRefused) {
  StartThree();
  Kill("c");
  Wipe("c");
  time_.Run(seconds(3));
  Start("c");
  ASSERT_TRUE(time_.Run(seconds(10), [&] { return !node("c").fatal.ok(); }));
  EXPECT_THAT(std::string(node("c").fatal.message()), HasSubstr("trireme cluster replace-node 3"));
  Kill("c");
  ASSERT_TRUE(ReplaceNode("a", 3).ok());
  Start("c");
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return AllBorn(); }));
  EXPECT_EQ(node("c").cluster->self(), raft::NodeId(4));
  EXPECT_TRUE(AwaitSettled("b"));
}

TEST_F(ReplacementTest, TheMetadataLeaderItselfIsReplaced) {
  StartThree();
  auto created = Create("b", "q");
  ASSERT_TRUE(created.ok());
  const std::string lost = MetadataLeader();
  const uint64_t id = node(lost).cluster->self().value();
  Kill(lost);
  Wipe(lost);
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return !MetadataLeader().empty(); }));
  ASSERT_TRUE(ReplaceNode(nodes_.begin()->first, id).ok());
  Start(lost);
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return AllBorn(); }));
  ASSERT_TRUE(AwaitSettled(lost));
  // And once more, as if it were any other.
  Kill(lost);
  Wipe(lost);
  time_.Run(seconds(5));
  ASSERT_TRUE(ReplaceNode(nodes_.begin()->first, 4).ok());
  Start(lost);
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return AllBorn(); }));
  ASSERT_TRUE(AwaitSettled(nodes_.begin()->first));
  EXPECT_EQ(node(lost).cluster->self(), raft::NodeId(5));
}

// The node lives, and one of its replicas is not to be trusted.
TEST_F(ReplacementTest, OneReplicaIsBuiltAnewOnItsNode) {
  StartThree();
  auto created = Create("a", "q");
  ASSERT_TRUE(created.ok());
  const raft::GroupId group = created->queue->group;
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return node("c").started.size() == 1; }));
  Write(group, 60);
  EXPECT_EQ(ReplaceReplica("a", "none", 3).status().code(), absl::StatusCode::kNotFound);
  // The two others would have to be the queue.
  Kill("b");
  ASSERT_TRUE(time_.Run(seconds(20), [&] { return !node("a").Up(raft::NodeId(2)); }));
  const absl::Status refused = ReplaceReplica("a", "q", 3).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("node 2 is down"));
  Start("b");
  ASSERT_TRUE(AwaitSettled("a"));
  auto replaced = ReplaceReplica("a", "q", 3);
  ASSERT_TRUE(replaced.ok()) << replaced.status();
  ASSERT_TRUE(AwaitSettled("a"));
  EXPECT_EQ(node("c").Find(group)->spec().self.value(), replaced->replica_id());
  EXPECT_GE(node("c").deleted, 1);
  EXPECT_GE(node("c").Find(group)->applied_index(), raft::Index(60));
  EXPECT_EQ(VotersOf(Leader(group)->membership()), (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(Leader(group)->membership().Find(created->queue->ReplicaOn(raft::NodeId(3))), nullptr);
}

}  // namespace
}  // namespace trireme::broker
