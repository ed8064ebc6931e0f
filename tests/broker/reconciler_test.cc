#include "broker/cluster/reconciler.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "broker/cluster/placement.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;

meta::Command Born(int nodes, int joined) {
  meta::Command command;
  command.mutable_cluster_born()->set_cluster_id(std::string(16, 'c'));
  for (int i = 1; i <= nodes; ++i) {
    auto* node = command.mutable_cluster_born()->add_nodes();
    node->set_id(i);
    node->set_address("n" + std::to_string(i) + ":1");
    if (i <= joined) node->set_directory_id(std::string(16, 'd'));
    node->set_metadata_replica_id(i);
  }
  return command;
}

QueuePtr Create(MetadataState& state, const std::string& name, const std::vector<raft::NodeId>& nodes) {
  meta::Command command;
  command.mutable_queue_created()->set_name(name);
  for (raft::NodeId n : nodes) command.mutable_queue_created()->add_node_ids(n.value());
  return state.Apply(command).queue;
}

void Delete(MetadataState& state, const QueuePtr& queue) {
  meta::Command command;
  command.mutable_queue_deleted()->set_name(queue->name);
  command.mutable_queue_deleted()->set_group_id(queue->group.value());
  state.Apply(command);
}

raft::StoredGroup Stored(const QueuePtr& queue, raft::NodeId node) {
  raft::StoredGroup stored;
  stored.group = queue->group;
  stored.replica = queue->ReplicaOn(node);
  return stored;
}

constexpr raft::NodeId kA{1}, kB{2}, kC{3};

TEST(Reconciler, StartsWhatIsListedHereOnce) {
  MetadataState state;
  state.Apply(Born(3, 3));
  Reconciler reconciler(kA, {});
  QueuePtr here = Create(state, "here", {kB, kA});
  Create(state, "elsewhere", {kB, kC});
  auto actions = reconciler.Reconcile(state, /*births=*/true);
  ASSERT_EQ(actions.size(), 1u);
  auto* start = std::get_if<Reconciler::Start>(&actions[0]);
  ASSERT_NE(start, nullptr);
  EXPECT_EQ(start->queue, here);
  EXPECT_EQ(start->replica, here->ReplicaOn(kA));
  EXPECT_FALSE(start->stored.has_value());
  EXPECT_TRUE(reconciler.Reconcile(state, true).empty());
  EXPECT_FALSE(reconciler.ReconcileQueue(state, here->group, true).has_value());

  Delete(state, here);
  auto action = reconciler.ReconcileQueue(state, here->group, true);
  ASSERT_TRUE(action.has_value());
  EXPECT_TRUE(std::get<Reconciler::Delete>(*action).running);
  EXPECT_TRUE(reconciler.Reconcile(state, true).empty());
}

TEST(Reconciler, AdoptsWhatIsStoredWithoutWaiting) {
  MetadataState state;
  state.Apply(Born(3, 3));
  QueuePtr queue = Create(state, "q", {kA, kB, kC});
  Reconciler reconciler(kA, {Stored(queue, kA)});
  EXPECT_EQ(reconciler.unclaimed(), 1u);
  auto actions = reconciler.Reconcile(state, /*births=*/false);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_TRUE(std::get<Reconciler::Start>(actions[0]).stored.has_value());
  EXPECT_EQ(reconciler.unclaimed(), 0u);
}

// Safety rule 11, broken on purpose in three ways.
TEST(Reconciler, NothingIsDeletedThatTheMetadataDoesNotKnowYet) {
  MetadataState now;
  now.Apply(Born(3, 3));
  QueuePtr queue = Create(now, "q", {kA, kB, kC});
  MetadataState behind;
  behind.Apply(Born(3, 3));
  Reconciler reconciler(kA, {Stored(queue, kA)});
  EXPECT_TRUE(reconciler.Reconcile(behind, true).empty()) << "the queue's creation is not applied yet";
  EXPECT_TRUE(reconciler.Reconcile(MetadataState(), true).empty());
  auto actions = reconciler.Reconcile(now, false);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<Reconciler::Start>(actions[0]));
}

TEST(Reconciler, NothingIsBornFromOldEntries) {
  MetadataState state;
  state.Apply(Born(3, 3));
  Reconciler reconciler(kA, {});  // it had the queue once, and deleted it
  QueuePtr queue = Create(state, "q", {kA, kB, kC});
  EXPECT_TRUE(reconciler.Reconcile(state, /*births=*/false).empty());
  EXPECT_FALSE(reconciler.ReconcileQueue(state, queue->group, false).has_value());
  Delete(state, queue);
  EXPECT_TRUE(reconciler.Reconcile(state, /*births=*/true).empty());
}

// One that was away may lag behind the change by which its leader became a member.
TEST(Reconciler, WhoRunsIsToldOfOthersThatCome) {
  MetadataState state;
  state.Apply(Born(3, 3));
  QueuePtr queue = Create(state, "q", {kA, kB, kC});
  Reconciler reconciler(kA, {});
  ASSERT_EQ(reconciler.Reconcile(state, true).size(), 1u);
  meta::Command command;
  command.mutable_replica_replaced()->set_group_id(queue->group.value());
  command.mutable_replica_replaced()->set_replica_id(queue->ReplicaOn(kC).value());
  QueuePtr changed = state.Apply(command).queue;
  auto action = reconciler.ReconcileQueue(state, queue->group, true);
  ASSERT_TRUE(action.has_value());
  EXPECT_EQ(std::get<Reconciler::Inform>(*action).queue, changed);
  EXPECT_FALSE(reconciler.ReconcileQueue(state, queue->group, true).has_value());
}

TEST(Reconciler, StoredAndRemovedMeanwhileIsDeleted) {
  MetadataState state;
  state.Apply(Born(3, 3));
  QueuePtr queue = Create(state, "q", {kA});
  Delete(state, queue);
  Reconciler reconciler(kA, {Stored(queue, kA)});
  auto actions = reconciler.Reconcile(state, false);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_FALSE(std::get<Reconciler::Delete>(actions[0]).running);
  EXPECT_EQ(std::get<Reconciler::Delete>(actions[0]).group, queue->group);
}

// A node that restarts while one of its replicas is being replaced: the old one may be needed for a quorum still.
TEST(Reconciler, WhoIsToGoRunsUntilItHasGone) {
  MetadataState state;
  state.Apply(Born(3, 3));
  QueuePtr before = Create(state, "q", {kA, kB, kC});
  meta::Command replace;
  replace.mutable_replica_replaced()->set_group_id(before->group.value());
  replace.mutable_replica_replaced()->set_replica_id(before->ReplicaOn(kA).value());
  QueuePtr queue = state.Apply(replace).queue;
  ASSERT_NE(queue->ReplicaOn(kA), before->ReplicaOn(kA));

  Reconciler reconciler(kA, {Stored(before, kA)});
  auto actions = reconciler.Reconcile(state, true);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(std::get<Reconciler::Start>(actions[0]).replica, before->ReplicaOn(kA));
  EXPECT_TRUE(std::get<Reconciler::Start>(actions[0]).stored.has_value());
  EXPECT_EQ(std::get<Reconciler::Start>(actions[0]).Spec().members, queue->Listed()) << "the new one may lead it";

  meta::Command report;
  report.mutable_members_changed()->set_group_id(queue->group.value());
  for (raft::NodeId node : {kB, kC}) report.mutable_members_changed()->add_members(queue->ReplicaOn(node).value());
  state.Apply(report);
  actions = reconciler.Reconcile(state, true);
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_TRUE(std::get<Reconciler::Delete>(actions[0]).running);
  EXPECT_EQ(std::get<Reconciler::Start>(actions[1]).replica, queue->ReplicaOn(kA));
}

// ---------------------------------------------------------------- placement

bool AllUp(raft::NodeId) {
  return true;
}

TEST(Placement, DefaultIsThreeOrAsManyAsThereAre) {
  for (int nodes = 1; nodes <= 5; ++nodes) {
    MetadataState state;
    state.Apply(Born(nodes, nodes));
    auto placed = PlaceReplicas(state, 0, AllUp);
    ASSERT_TRUE(placed.ok());
    EXPECT_EQ(placed->size(), static_cast<size_t>(std::min(nodes, 3)));
  }
}

// Safety rule 23.
TEST(Placement, MoreThanThereAreNodesIsRefusedNamingBothNumbers) {
  MetadataState state;
  state.Apply(Born(2, 2));
  auto placed = PlaceReplicas(state, 3, AllUp);
  EXPECT_EQ(placed.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(placed.status().message().find("3 replicas"), absl::string_view::npos);
  EXPECT_NE(placed.status().message().find("2 nodes"), absl::string_view::npos);
  EXPECT_EQ(PlaceReplicas(state, 4'000'000'000u, AllUp).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Placement, SpreadsReplicasAndLeadersEvenly) {
  MetadataState state;
  state.Apply(Born(5, 5));
  std::map<uint64_t, int> replicas, leads;
  for (int i = 0; i < 100; ++i) {
    auto placed = PlaceReplicas(state, 3, AllUp);
    ASSERT_TRUE(placed.ok());
    ++leads[placed->front().value()];
    for (raft::NodeId n : *placed) ++replicas[n.value()];
    ASSERT_NE(Create(state, "q" + std::to_string(i), *placed), nullptr);
  }
  for (uint64_t n = 1; n <= 5; ++n) {
    EXPECT_EQ(replicas[n], 60);
    EXPECT_NEAR(leads[n], 20, 1);
  }
}

TEST(Placement, NodesThatAreAwayComeLast) {
  MetadataState state;
  state.Apply(Born(3, 2));  // the third has not joined
  for (int i = 0; i < 10; ++i) {
    auto placed = PlaceReplicas(state, 3, [](raft::NodeId n) { return n != kA; });
    ASSERT_TRUE(placed.ok());
    EXPECT_EQ(placed->front(), kB);
    auto one = PlaceReplicas(state, 1, [](raft::NodeId n) { return n != kA; });
    EXPECT_EQ(one->front(), kB);
    Create(state, "q" + std::to_string(i), *placed);
  }
}

}  // namespace
}  // namespace trireme::broker
