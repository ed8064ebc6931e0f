#include "broker/cluster/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "broker/cluster/metadata_codec.h"
#include "broker/cluster/metadata_view.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace v1 = trireme::v1;
using Kind = MetadataOutcome::Kind;
using testing::HasSubstr;

std::string Id(char c) {
  return std::string(16, c);
}

meta::Command Born(int nodes, bool last_joined = true) {
  meta::Command command;
  auto* born = command.mutable_cluster_born();
  born->set_cluster_id(Id('c'));
  for (int i = 1; i <= nodes; ++i) {
    auto* node = born->add_nodes();
    node->set_id(i);
    node->set_address("n" + std::to_string(i) + ":1");
    if (i < nodes || last_joined) node->set_directory_id(Id(static_cast<char>('0' + i)));
    node->set_metadata_replica_id(i);
  }
  return command;
}

meta::Command Created(const std::string& name, std::vector<uint64_t> nodes = {1, 2, 3}) {
  meta::Command command;
  command.mutable_queue_created()->set_name(name);
  command.mutable_queue_created()->set_created_at_ms(17);
  for (uint64_t n : nodes) command.mutable_queue_created()->add_node_ids(n);
  return command;
}

meta::Command Deleted(const std::string& name, uint64_t group) {
  meta::Command command;
  command.mutable_queue_deleted()->set_name(name);
  command.mutable_queue_deleted()->set_group_id(group);
  return command;
}

meta::Command Joined(const std::string& address, const std::string& directory) {
  meta::Command command;
  command.mutable_node_joined()->set_address(address);
  command.mutable_node_joined()->set_directory_id(directory);
  return command;
}

meta::Command ExchangeCreated(const std::string& name, v1::ExchangeType type = v1::EXCHANGE_TYPE_TOPIC,
                              const std::string& alternate = "") {
  meta::Command command;
  command.mutable_exchange_created()->set_name(name);
  command.mutable_exchange_created()->mutable_settings()->set_type(type);
  command.mutable_exchange_created()->mutable_settings()->set_alternate(alternate);
  command.mutable_exchange_created()->set_created_at_ms(18);
  return command;
}

meta::Command ExchangeDeleted(const std::string& name, uint64_t id, bool if_unused = false) {
  meta::Command command;
  command.mutable_exchange_deleted()->set_name(name);
  command.mutable_exchange_deleted()->set_id(id);
  command.mutable_exchange_deleted()->set_if_unused(if_unused);
  return command;
}

meta::Binding ToQueue(const std::string& exchange, const std::string& queue, const std::string& key = "") {
  meta::Binding binding;
  binding.set_exchange(exchange);
  binding.set_queue(queue);
  binding.set_routing_key(key);
  return binding;
}

meta::Binding ToExchange(const std::string& exchange, const std::string& to, const std::string& key = "") {
  meta::Binding binding;
  binding.set_exchange(exchange);
  binding.set_to_exchange(to);
  binding.set_routing_key(key);
  return binding;
}

meta::Command Bound(const meta::Binding& binding, uint64_t exchange_id, uint64_t destination_id) {
  meta::Command command;
  *command.mutable_binding_created()->mutable_binding() = binding;
  command.mutable_binding_created()->set_exchange_id(exchange_id);
  command.mutable_binding_created()->set_destination_id(destination_id);
  return command;
}

meta::Command Unbound(const meta::Binding& binding, uint64_t exchange_id) {
  meta::Command command;
  *command.mutable_binding_deleted()->mutable_binding() = binding;
  command.mutable_binding_deleted()->set_exchange_id(exchange_id);
  return command;
}

raft::Entry EntryOf(uint64_t index, const meta::Command& command) {
  return {raft::Term(1), raft::Index(index), raft::EntryType::kCommand,
          raft::Bytes::Take(EncodeMetadataCommand(command))};
}

TEST(MetadataState, GroupsCountFromTwoAndReplicasBehindTheMetadataGroups) {
  MetadataState state;
  ASSERT_EQ(state.Apply(Born(3)).kind, Kind::kDone);
  MetadataOutcome outcome = state.Apply(Created("q", {2, 3, 1}));
  ASSERT_EQ(outcome.kind, Kind::kDone);
  EXPECT_EQ(outcome.queue->group, raft::GroupId(2));
  ASSERT_EQ(outcome.queue->replicas.size(), 3u);
  EXPECT_EQ(outcome.queue->replicas[0].node, raft::NodeId(2));
  EXPECT_EQ(outcome.queue->replicas[0].replica, raft::ReplicaId(4));
  EXPECT_EQ(outcome.queue->settings.replicas(), 3u);
  EXPECT_EQ(outcome.queue->ReplicaOn(raft::NodeId(1)), raft::ReplicaId(6));
  EXPECT_EQ(outcome.queue->ReplicaOn(raft::NodeId(9)), raft::ReplicaId());
}

// Safety rule 2: what no longer fits is ignored, and says so.
TEST(MetadataState, CommandsAreConditional) {
  MetadataState state;
  EXPECT_EQ(state.Apply(Created("q")).kind, Kind::kNotBorn);
  EXPECT_EQ(state.Apply(Joined("n1:1", Id('x'))).kind, Kind::kNotBorn);
  state.Apply(Born(3, /*last_joined=*/false));
  std::string before = state.Snapshot();
  EXPECT_EQ(state.Apply(Born(2)).kind, Kind::kAlreadySo);
  EXPECT_EQ(state.Apply(Created("q", {1, 4})).kind, Kind::kNoSuchNode);
  EXPECT_EQ(state.Apply(Created("q", {1, 1})).kind, Kind::kInvalid);
  EXPECT_EQ(state.Apply(Created("q", {})).kind, Kind::kInvalid);
  EXPECT_EQ(state.Apply(Created("-q")).kind, Kind::kInvalid);
  EXPECT_EQ(state.Apply(Deleted("q", 2)).kind, Kind::kNoSuchQueue);
  EXPECT_EQ(state.Apply(Joined("n9:1", Id('x'))).kind, Kind::kNoSuchNode);
  EXPECT_EQ(state.Apply(Joined("n1:1", "short")).kind, Kind::kInvalid);
  EXPECT_EQ(state.Apply(Joined("n1:1", Id('1'))).kind, Kind::kAlreadySo);
  EXPECT_EQ(state.Snapshot(), before);

  ASSERT_EQ(state.Apply(Created("q")).kind, Kind::kDone);
  MetadataOutcome again = state.Apply(Created("q", {1}));
  EXPECT_EQ(again.kind, Kind::kAlreadySo);
  EXPECT_EQ(again.queue->group, raft::GroupId(2));
  // A delete that was decided for an earlier queue of that name.
  ASSERT_EQ(state.Apply(Deleted("q", 2)).kind, Kind::kDone);
  ASSERT_EQ(state.Apply(Created("q")).queue->group, raft::GroupId(3));
  EXPECT_EQ(state.Apply(Deleted("q", 2)).kind, Kind::kNoSuchQueue);
  EXPECT_NE(state.FindQueue("q"), nullptr);
}

// Safety rule 12: a wiped node does not come back as itself.
TEST(MetadataState, ADirectoryIsWrittenDownOnce) {
  MetadataState state;
  state.Apply(Born(3, /*last_joined=*/false));
  EXPECT_EQ(state.Apply(Joined("n3:1", Id('x'))).kind, Kind::kDone);
  EXPECT_EQ(state.Apply(Joined("n3:1", Id('x'))).kind, Kind::kAlreadySo);
  EXPECT_EQ(state.Apply(Joined("n3:1", Id('y'))).kind, Kind::kOtherDirectory);
  EXPECT_EQ(state.Apply(Joined("n1:1", Id('y'))).kind, Kind::kOtherDirectory);
  EXPECT_EQ(state.FindAddress("n3:1")->directory_id, Id('x'));
}

// Safety rule 11: removed = given once and not listed any more.
TEST(MetadataState, ReplicasAreRemovedOnlyOnceGivenAndUnlisted) {
  MetadataState state;
  state.Apply(Born(3));
  EXPECT_FALSE(state.ReplicaRemoved(raft::ReplicaId(4))) << "not given yet";
  state.Apply(Created("q"));
  EXPECT_FALSE(state.ReplicaRemoved(raft::ReplicaId(4)));
  EXPECT_FALSE(state.ReplicaRemoved(raft::ReplicaId(1))) << "the metadata group's own";
  EXPECT_FALSE(state.ReplicaRemoved(raft::ReplicaId(0)));
  state.Apply(Deleted("q", 2));
  EXPECT_TRUE(state.ReplicaRemoved(raft::ReplicaId(4)));
  EXPECT_FALSE(state.ReplicaRemoved(raft::ReplicaId(7)));
}

// Ids of exchanges and groups are small here, so that commands often find what they were decided for, and often do not.
meta::Command RandomRoutingCommand(std::mt19937_64& random) {
  auto pick = [&](uint64_t n) { return random() % n; };
  const std::string exchange = "e" + std::to_string(pick(4)), other = "e" + std::to_string(pick(4));
  meta::Binding binding = pick(3) == 0 ? ToExchange(exchange, other) : ToQueue(exchange, "q" + std::to_string(pick(6)));
  binding.set_routing_key(pick(2) == 0 ? "a.*" : "");
  if (pick(4) == 0) {
    binding.set_any_header(pick(2) == 0);
    binding.add_headers()->set_name(pick(10) == 0 ? "z" : "a");
    binding.add_headers()->set_name("b");
    binding.mutable_headers(1)->mutable_value()->set_integer(static_cast<int64_t>(pick(2)));
  }
  switch (pick(6)) {
    case 0:
    case 1:
      return ExchangeCreated(exchange, static_cast<v1::ExchangeType>(pick(5)), pick(3) == 0 ? other : "");
    case 2:
      return ExchangeDeleted(exchange, 1 + pick(12), pick(2) == 0);
    case 3:
      return Unbound(binding, 1 + pick(12));
    default:
      return Bound(binding, 1 + pick(12), 1 + pick(12));
  }
}

meta::Command RandomCommand(std::mt19937_64& random) {
  auto pick = [&](uint64_t n) { return random() % n; };
  std::string name = "q" + std::to_string(pick(6));
  if (pick(2) == 0) return RandomRoutingCommand(random);
  switch (pick(8)) {
    case 0:
      return Born(static_cast<int>(1 + pick(4)), pick(2) == 0);
    case 1:
      return Joined("n" + std::to_string(1 + pick(5)) + ":1", Id(static_cast<char>('a' + pick(3))));
    case 2:
    case 3:
      return Deleted(name, 2 + pick(20));
    default: {
      std::vector<uint64_t> nodes;
      for (uint64_t n = 1; n <= 4; ++n) {
        if (pick(2) == 0) nodes.push_back(n);
      }
      return Created(pick(20) == 0 ? "?" : name, nodes);
    }
  }
}

// No binding and no alternate leads to nothing, and those who count bindings agree.
void CheckRouting(const MetadataState& state) {
  const ExchangeState& routing = state.routing();
  for (const auto& [identity, binding] : routing.bindings()) {
    ASSERT_NE(routing.Find(identity.exchange), nullptr);
    ASSERT_TRUE(identity.to_exchange ? routing.Find(identity.to) != nullptr : state.FindQueue(identity.to) != nullptr)
        << identity.exchange << " to " << identity.to;
    ASSERT_EQ(BindingIdentity::Of(*binding), identity);
  }
  for (const auto& [name, exchange] : routing.exchanges()) {
    const std::string& alternate = exchange->settings.alternate();
    ASSERT_TRUE(alternate.empty() || routing.Find(alternate) != nullptr);
    size_t from = 0, to = 0;
    for (const auto& [identity, binding] : routing.bindings()) {
      from += identity.exchange == name ? 1 : 0;
      to += identity.to_exchange && identity.to == name ? 1 : 0;
    }
    ASSERT_EQ(routing.CountFrom(name), from);
    ASSERT_EQ(routing.CountTo(name), to);
  }
}

class MetadataHistories : public testing::TestWithParam<uint64_t> {};

// Safety rules 3 and 11: every prefix, and every snapshot in it, leads to the same bytes; no id is ever given twice.
TEST_P(MetadataHistories, SnapshotsAndReplaysAgreeAndIdsAreNeverReused) {
  SCOPED_TRACE("replay: broker_test --gtest_filter=*MetadataHistories* (seed " + std::to_string(GetParam()) + ")");
  std::mt19937_64 random(GetParam());
  std::vector<raft::Entry> log;
  std::vector<std::string> snapshots;
  MetadataMachine machine(nullptr);
  std::set<uint64_t> groups, replicas, exchanges;
  for (uint64_t i = 1; i <= 240; ++i) {
    log.push_back(EntryOf(i, RandomCommand(random)));
    const ExchangesByName exchanges_before = machine.state().routing().exchanges();
    std::set<std::string> names;
    for (const auto& [name, queue] : machine.state().queues())
      names.insert(name + std::to_string(queue->group.value()));
    ASSERT_TRUE(machine.Check(log.back()).ok());
    ASSERT_TRUE(machine.Apply(log.back()).ok());
    for (const auto& [name, queue] : machine.state().queues()) {
      if (names.contains(name + std::to_string(queue->group.value()))) continue;
      EXPECT_TRUE(groups.insert(queue->group.value()).second) << "group given twice: " << queue->group;
      for (const auto& member : queue->replicas) {
        EXPECT_TRUE(replicas.insert(member.replica.value()).second) << "replica given twice: " << member.replica;
      }
    }
    for (const auto& [name, exchange] : machine.state().routing().exchanges()) {
      auto before = exchanges_before.find(name);
      if (before != exchanges_before.end() && before->second == exchange) continue;
      EXPECT_TRUE(exchanges.insert(exchange->id).second) << "exchange id given twice: " << exchange->id;
    }
    CheckRouting(machine.state());
    snapshots.push_back(std::string(machine.Snapshot().view()));
  }
  for (size_t cut = 0; cut < log.size(); cut += 7) {
    MetadataMachine other(nullptr);
    ASSERT_TRUE(other.Restore(raft::Bytes::Copy(snapshots[cut]), log[cut].index).ok());
    EXPECT_EQ(other.Snapshot().view(), snapshots[cut]);
    for (size_t i = cut + 1; i < log.size(); ++i) {
      ASSERT_TRUE(other.Apply(log[i]).ok());
      ASSERT_EQ(other.Snapshot().view(), snapshots[i]) << "snapshot at " << cut + 1 << ", diverged at " << i + 1;
      // Lookups that are derived agree as well.
      for (const auto& [name, queue] : other.state().queues()) {
        ASSERT_EQ(other.state().FindGroup(queue->group), queue);
        ASSERT_FALSE(other.state().ReplicaRemoved(queue->replicas[0].replica));
      }
    }
    EXPECT_EQ(other.Live().floor, other.applied_index());
    EXPECT_TRUE(other.Live().live.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, MetadataHistories, testing::Range<uint64_t>(1, 31));

TEST(MetadataRouting, ExchangesAreConditionalOnTheirIds) {
  MetadataState state;
  EXPECT_EQ(state.Apply(ExchangeCreated("e")).kind, Kind::kNotBorn);
  state.Apply(Born(3));
  EXPECT_EQ(state.Apply(ExchangeCreated("e", v1::EXCHANGE_TYPE_UNSPECIFIED)).kind, Kind::kInvalid);
  EXPECT_EQ(state.Apply(ExchangeCreated("", v1::EXCHANGE_TYPE_TOPIC)).kind, Kind::kInvalid);
  EXPECT_EQ(state.Apply(ExchangeCreated("e", v1::EXCHANGE_TYPE_TOPIC, "e")).kind, Kind::kInvalid);
  EXPECT_EQ(state.Apply(ExchangeCreated("e", v1::EXCHANGE_TYPE_TOPIC, "rest")).kind, Kind::kNoSuchExchange);
  EXPECT_FALSE(state.routing().used());
  ASSERT_EQ(state.Apply(ExchangeCreated("e")).exchange->id, 1u);
  MetadataOutcome again = state.Apply(ExchangeCreated("e", v1::EXCHANGE_TYPE_FANOUT));
  EXPECT_EQ(again.kind, Kind::kAlreadySo);
  EXPECT_EQ(again.exchange->settings.type(), v1::EXCHANGE_TYPE_TOPIC) << "a type does not change";

  // A delete that was decided for an earlier exchange of that name.
  EXPECT_EQ(state.Apply(ExchangeDeleted("e", 2)).kind, Kind::kNoSuchExchange);
  ASSERT_EQ(state.Apply(ExchangeDeleted("e", 1)).kind, Kind::kDone);
  ASSERT_EQ(state.Apply(ExchangeCreated("e")).exchange->id, 2u);
  EXPECT_EQ(state.Apply(ExchangeDeleted("e", 1)).kind, Kind::kNoSuchExchange);

  // One that is another's alternate stays, and who has it is named.
  ASSERT_EQ(state.Apply(ExchangeCreated("f", v1::EXCHANGE_TYPE_DIRECT, "e")).kind, Kind::kDone);
  MetadataOutcome in_use = state.Apply(ExchangeDeleted("e", 2));
  EXPECT_EQ(in_use.kind, Kind::kInUse);
  EXPECT_EQ(in_use.exchange->name, "f");
}

TEST(MetadataRouting, BindingsAreConditionalOnBothTheirEnds) {
  MetadataState state;
  state.Apply(Born(3));
  state.Apply(Created("q"));  // group 2
  state.Apply(ExchangeCreated("e"));
  state.Apply(ExchangeCreated("h", v1::EXCHANGE_TYPE_HEADERS));
  const meta::Binding binding = ToQueue("e", "q", "a.*");
  EXPECT_EQ(state.Apply(Bound(binding, 2, 2)).kind, Kind::kNoSuchExchange) << "another exchange of that name";
  EXPECT_EQ(state.Apply(Bound(binding, 1, 3)).kind, Kind::kNoSuchQueue) << "another queue of that name";
  EXPECT_EQ(state.Apply(Bound(binding, 1, 0)).kind, Kind::kNoSuchQueue);
  EXPECT_EQ(state.Apply(Bound(ToQueue("e", "none"), 1, 0)).kind, Kind::kNoSuchQueue);
  EXPECT_EQ(state.Apply(Bound(ToExchange("e", "h"), 1, 1)).kind, Kind::kNoSuchExchange);
  meta::Binding with_headers = binding;
  with_headers.add_headers()->set_name("a");
  EXPECT_EQ(state.Apply(Bound(with_headers, 1, 2)).kind, Kind::kInvalid) << "a topic exchange has no use for them";
  with_headers.set_exchange("h");
  EXPECT_EQ(state.Apply(Bound(with_headers, 2, 2)).kind, Kind::kDone);
  with_headers.add_headers()->set_name("a");
  EXPECT_EQ(state.Apply(Bound(with_headers, 2, 2)).kind, Kind::kInvalid) << "one header twice";
  EXPECT_EQ(state.routing().bindings().size(), 1u);

  MetadataOutcome bound = state.Apply(Bound(binding, 1, 2));
  ASSERT_EQ(bound.kind, Kind::kDone);
  ASSERT_EQ(bound.bindings.size(), 1u);
  EXPECT_EQ(state.Apply(Bound(binding, 1, 2)).kind, Kind::kAlreadySo);
  EXPECT_EQ(state.Apply(Unbound(ToQueue("e", "q", "a.b"), 1)).kind, Kind::kNoSuchBinding);
  EXPECT_EQ(state.Apply(Unbound(binding, 7)).kind, Kind::kNoSuchExchange);
  MetadataOutcome unbound = state.Apply(Unbound(binding, 1));
  EXPECT_EQ(unbound.kind, Kind::kDone);
  EXPECT_EQ(unbound.bindings, bound.bindings);
  EXPECT_EQ(state.Apply(Unbound(binding, 1)).kind, Kind::kNoSuchBinding);
}

TEST(MetadataRouting, WhatGoesTakesItsBindingsAlong) {
  MetadataState state;
  state.Apply(Born(3));
  state.Apply(Created("q"));  // group 2
  state.Apply(Created("r"));  // group 3
  state.Apply(ExchangeCreated("e"));
  state.Apply(ExchangeCreated("f"));
  ASSERT_EQ(state.Apply(Bound(ToQueue("e", "q", "x"), 1, 2)).kind, Kind::kDone);
  ASSERT_EQ(state.Apply(Bound(ToQueue("f", "q"), 2, 2)).kind, Kind::kDone);
  ASSERT_EQ(state.Apply(Bound(ToQueue("e", "r"), 1, 3)).kind, Kind::kDone);
  ASSERT_EQ(state.Apply(Bound(ToExchange("f", "e"), 2, 1)).kind, Kind::kDone);

  EXPECT_EQ(state.Apply(Deleted("q", 2)).bindings.size(), 2u);
  EXPECT_EQ(state.routing().bindings().size(), 2u);
  state.Apply(Created("q"));  // group 4: the old one's bindings are not its own
  EXPECT_EQ(state.routing().bindings().size(), 2u);
  EXPECT_EQ(state.Apply(Bound(ToQueue("e", "q"), 1, 2)).kind, Kind::kNoSuchQueue);

  EXPECT_EQ(state.Apply(ExchangeDeleted("e", 1, /*if_unused=*/true)).kind, Kind::kInUse);
  EXPECT_EQ(state.Apply(ExchangeDeleted("e", 1)).bindings.size(), 2u) << "from it, and to it";
  EXPECT_TRUE(state.routing().bindings().empty());
  EXPECT_EQ(state.Apply(ExchangeDeleted("f", 2, /*if_unused=*/true)).kind, Kind::kDone);
}

// ---------------------------------------------------------------- replacements

meta::Command NodeReplaced(uint64_t node, const std::string& address = "") {
  meta::Command command;
  command.mutable_node_replaced()->set_node_id(node);
  command.mutable_node_replaced()->set_address(address);
  return command;
}
meta::Command ReplicaReplaced(uint64_t group, uint64_t replica) {
  meta::Command command;
  command.mutable_replica_replaced()->set_group_id(group);
  command.mutable_replica_replaced()->set_replica_id(replica);
  return command;
}
meta::Command MembersChanged(uint64_t group, const std::vector<uint64_t>& members) {
  meta::Command command;
  command.mutable_members_changed()->set_group_id(group);
  for (uint64_t member : members) command.mutable_members_changed()->add_members(member);
  return command;
}
std::vector<uint64_t> Ids(const std::vector<raft::Member>& members) {
  std::vector<uint64_t> ids;
  for (const raft::Member& member : members) ids.push_back(member.replica.value());
  return ids;
}

// Safety rules 11 and 12: who comes has new ids throughout, and those of the lost one stay listed until the groups'
// leaders have said that they are out.
TEST(MetadataReplacements, ANodeTakesThePlaceOfALostOne) {
  MetadataState state;
  state.Apply(Born(3));
  QueuePtr all = state.Apply(Created("all")).queue;  // replicas 4, 5, 6
  state.Apply(Created("elsewhere", {1, 2}));         // 7, 8
  EXPECT_EQ(state.Apply(NodeReplaced(9)).kind, Kind::kNoSuchNode);
  EXPECT_EQ(state.Apply(NodeReplaced(3, "n1:1")).kind, Kind::kInUse);
  MetadataOutcome outcome = state.Apply(NodeReplaced(3));
  ASSERT_EQ(outcome.kind, Kind::kDone);
  EXPECT_EQ(outcome.node, raft::NodeId(4));
  EXPECT_EQ(outcome.queues.size(), 1u);
  EXPECT_EQ(state.Apply(NodeReplaced(3)).kind, Kind::kAlreadySo);
  EXPECT_EQ(state.Apply(NodeReplaced(3)).node, raft::NodeId(4));
  EXPECT_EQ(state.FindNode(raft::NodeId(3)), nullptr);
  const NodeRecord* comes = state.FindNode(raft::NodeId(4));
  ASSERT_NE(comes, nullptr);
  EXPECT_EQ(comes->address, "n3:1");
  EXPECT_EQ(comes->directory_id, "");
  EXPECT_EQ(comes->metadata_replica, raft::ReplicaId(9));
  EXPECT_EQ(comes->replaces, raft::NodeId(3));

  QueuePtr now = state.FindQueue("all");
  EXPECT_EQ(Ids(now->replicas), (std::vector<uint64_t>{4, 5, 10}));
  EXPECT_EQ(Ids(now->leaving), (std::vector<uint64_t>{6}));
  EXPECT_TRUE(now->changing);
  EXPECT_FALSE(state.ReplicaRemoved(raft::ReplicaId(6)));
  EXPECT_EQ(state.LoadOf(raft::NodeId(3)).replicas, 0u);
  EXPECT_EQ(state.LoadOf(raft::NodeId(4)).replicas, 1u);
  // One that was never started is born with those whom the group was made of; the new one knows nobody.
  EXPECT_FALSE(now->SpecOf(raft::ReplicaId(5)).joins);
  EXPECT_EQ(Ids(now->SpecOf(raft::ReplicaId(5)).members), (std::vector<uint64_t>{4, 5, 6}));
  EXPECT_TRUE(now->SpecOf(raft::ReplicaId(10)).joins);

  // Safety rule 2: a report of before, from one that did not know.
  EXPECT_EQ(state.Apply(MembersChanged(all->group.value(), {4, 5, 6})).kind, Kind::kAlreadySo);
  EXPECT_EQ(state.Apply(MembersChanged(99, {4})).kind, Kind::kNoSuchQueue);
  EXPECT_EQ(state.Apply(MembersChanged(all->group.value(), {4, 5, 6, 10})).kind, Kind::kAlreadySo);
  outcome = state.Apply(MembersChanged(all->group.value(), {4, 5, 10}));
  EXPECT_EQ(outcome.kind, Kind::kDone);
  EXPECT_TRUE(state.ReplicaRemoved(raft::ReplicaId(6)));
  now = state.FindQueue("all");
  EXPECT_TRUE(now->leaving.empty());
  EXPECT_FALSE(now->changing);
  EXPECT_TRUE(now->SpecOf(raft::ReplicaId(5)).joins) << "the group lives: its log says who belongs to it";

  EXPECT_EQ(state.Apply(Joined("n3:1", Id('z'))).kind, Kind::kDone);
  EXPECT_EQ(state.Apply(Joined("n3:1", Id('y'))).kind, Kind::kOtherDirectory);
  // Ids are never given again.
  EXPECT_EQ(state.Apply(NodeReplaced(4)).node, raft::NodeId(5));
}

TEST(MetadataReplacements, AReplicaOnItsOwnNode) {
  MetadataState state;
  state.Apply(Born(3));
  QueuePtr queue = state.Apply(Created("q")).queue;  // replicas 4, 5, 6
  const uint64_t group = queue->group.value();
  EXPECT_EQ(state.Apply(ReplicaReplaced(group, 99)).kind, Kind::kNoSuchReplica);
  MetadataOutcome outcome = state.Apply(ReplicaReplaced(group, 5));
  ASSERT_EQ(outcome.kind, Kind::kDone);
  EXPECT_EQ(outcome.replica, raft::ReplicaId(7));
  EXPECT_EQ(state.Apply(ReplicaReplaced(group, 5)).kind, Kind::kAlreadySo);
  EXPECT_EQ(Ids(state.FindQueue("q")->replicas), (std::vector<uint64_t>{4, 7, 6}));
  // It goes before the other comes.
  ASSERT_EQ(state.Apply(MembersChanged(group, {4, 6})).kind, Kind::kDone);
  EXPECT_TRUE(state.ReplicaRemoved(raft::ReplicaId(5)));
  EXPECT_TRUE(state.FindQueue("q")->changing);
  ASSERT_EQ(state.Apply(MembersChanged(group, {4, 6, 7})).kind, Kind::kDone);
  EXPECT_FALSE(state.FindQueue("q")->changing);
  state.Apply(Deleted("q", group));
  for (uint64_t replica : {4, 5, 6, 7}) EXPECT_TRUE(state.ReplicaRemoved(raft::ReplicaId(replica)));
}

TEST(MetadataReplacements, ASnapshotKeepsThem) {
  auto version_of = [](const std::string& bytes) { return static_cast<int>(bytes[0]); };
  EXPECT_EQ(version_of(EncodeMetadataCommand(NodeReplaced(3))), 3);
  EXPECT_EQ(version_of(EncodeMetadataCommand(ReplicaReplaced(2, 3))), 3);
  EXPECT_EQ(version_of(EncodeMetadataCommand(MembersChanged(2, {3}))), 3);
  MetadataState state;
  state.Apply(Born(3));
  state.Apply(Created("q"));
  EXPECT_EQ(version_of(state.Snapshot()), 1);
  state.Apply(NodeReplaced(2));
  state.Apply(ReplicaReplaced(2, 4));
  EXPECT_EQ(version_of(state.Snapshot()), 3);
  MetadataState restored;
  ASSERT_TRUE(restored.Restore(state.Snapshot()).ok());
  EXPECT_EQ(restored.Snapshot(), state.Snapshot());
  EXPECT_EQ(Ids(restored.FindQueue("q")->leaving), (std::vector<uint64_t>{5, 4}));
  EXPECT_FALSE(restored.ReplicaRemoved(raft::ReplicaId(5)));
  EXPECT_EQ(restored.Apply(NodeReplaced(3)).node, state.Apply(NodeReplaced(3)).node);
}

// ---------------------------------------------------------------- versions

// Safety rule 3: a program from before exchanges must not take a snapshot that has some as if it had none.
TEST(MetadataRouting, VersionsAreRaisedByWhatNeedsThem) {
  auto version_of = [](const std::string& bytes) { return static_cast<int>(bytes[0]); };
  MetadataState state;
  state.Apply(Born(3));
  state.Apply(Created("q"));
  EXPECT_EQ(version_of(EncodeMetadataCommand(Created("q"))), 1);
  EXPECT_EQ(version_of(state.Snapshot()), 1);
  EXPECT_EQ(version_of(EncodeMetadataCommand(ExchangeCreated("e"))), 2);
  EXPECT_EQ(version_of(EncodeMetadataCommand(Unbound(ToQueue("e", "q"), 1))), 2);
  state.Apply(ExchangeCreated("e"));
  EXPECT_EQ(version_of(state.Snapshot()), 2);
  // Once there was one, its id is never given again: that has to be remembered, too.
  state.Apply(ExchangeDeleted("e", 1));
  EXPECT_EQ(version_of(state.Snapshot()), 2);
  MetadataState restored;
  ASSERT_TRUE(restored.Restore(state.Snapshot()).ok());
  EXPECT_EQ(restored.Apply(ExchangeCreated("e")).exchange->id, 2u);
}

TEST(MetadataRouting, LimitsHold) {
  MetadataState state;
  state.Apply(Born(3));
  state.Apply(Created("q"));
  for (size_t i = 1; i <= kMaxExchanges; ++i) {
    ASSERT_EQ(state.Apply(ExchangeCreated("e" + std::to_string(i))).kind, Kind::kDone);
  }
  EXPECT_EQ(state.Apply(ExchangeCreated("more")).kind, Kind::kTooMany);
  EXPECT_EQ(state.Apply(ExchangeCreated("e1")).kind, Kind::kAlreadySo);
  for (size_t i = 0; i < kMaxBindings; ++i) {
    ASSERT_EQ(state.Apply(Bound(ToQueue("e1", "q", std::to_string(i)), 1, 2)).kind, Kind::kDone);
  }
  EXPECT_EQ(state.Apply(Bound(ToQueue("e1", "q", "more"), 1, 2)).kind, Kind::kTooMany);
  EXPECT_EQ(state.Apply(Deleted("q", 2)).bindings.size(), kMaxBindings);

  meta::Binding binding = ToQueue("e1", "q", std::string(kMaxRoutingKeyBytes, 'k'));
  EXPECT_TRUE(ValidateBinding(binding).ok());
  binding.mutable_routing_key()->push_back('k');
  EXPECT_THAT(std::string(ValidateBinding(binding).message()), HasSubstr("256 bytes; the limit is 255"));
  binding = ToQueue("e1", "q");
  for (int i = 0; i < kMaxBindingHeaders; ++i) binding.add_headers()->set_name("h" + std::to_string(100 + i));
  EXPECT_TRUE(ValidateBinding(binding).ok());
  binding.mutable_headers(0)->mutable_value()->set_text(std::string(kMaxBindingHeaderBytes, 't'));
  EXPECT_THAT(std::string(ValidateBinding(binding).message()), HasSubstr("the limit is 4096"));
  binding.mutable_headers(0)->clear_value();
  binding.add_headers()->set_name("z");
  EXPECT_THAT(std::string(ValidateBinding(binding).message()), HasSubstr("33 headers; the limit is 32"));
}

TEST(MetadataRouting, SnapshotsThatContradictThemselvesAreRefused) {
  MetadataState state;
  auto restores = [&](auto change) {
    meta::Snapshot snapshot;
    snapshot.set_cluster_id(Id('c'));
    snapshot.set_next_group_id(3);
    snapshot.set_next_replica_id(2);
    snapshot.set_next_exchange_id(2);
    auto* queue = snapshot.add_queues();
    queue->set_name("q");
    queue->set_group_id(2);
    queue->add_replicas()->set_replica_id(1);
    auto* exchange = snapshot.add_exchanges();
    exchange->set_name("e");
    exchange->set_id(1);
    *snapshot.add_bindings() = ToQueue("e", "q");
    change(snapshot);
    return state.Restore(EncodeFramed(snapshot, kVersionOfExchanges)).code();
  };
  EXPECT_EQ(restores([](meta::Snapshot&) {}), absl::StatusCode::kOk);
  constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
  EXPECT_EQ(restores([](meta::Snapshot& s) { s.mutable_queues(0)->clear_replicas(); }), kDataLoss);
  EXPECT_EQ(restores([](meta::Snapshot& s) { s.set_next_exchange_id(1); }), kDataLoss);
  EXPECT_EQ(restores([](meta::Snapshot& s) { *s.add_exchanges() = s.exchanges(0); }), kDataLoss);
  EXPECT_EQ(restores([](meta::Snapshot& s) { *s.add_bindings() = s.bindings(0); }), kDataLoss);
  EXPECT_EQ(restores([](meta::Snapshot& s) { s.clear_queues(); }), kDataLoss);
  EXPECT_EQ(restores([](meta::Snapshot& s) { *s.add_bindings() = ToExchange("e", "none"); }), kDataLoss);
  EXPECT_EQ(restores([](meta::Snapshot& s) { s.mutable_bindings(0)->set_exchange("none"); }), kDataLoss);
}

// Safety rule 17: no flipped bit passes.
TEST(MetadataMachine, CheckFindsEveryFlippedBit) {
  MetadataMachine machine(nullptr);
  std::string good = EncodeMetadataCommand(Created("orders"));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    raft::Entry entry{raft::Term(1), raft::Index(1), raft::EntryType::kCommand, raft::Bytes::Copy(bad)};
    EXPECT_EQ(machine.Check(entry).code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    EXPECT_FALSE(machine.Apply(entry).ok()) << "bit " << bit;
  }
  for (size_t size = 0; size < good.size(); ++size) {
    raft::Entry entry{raft::Term(1), raft::Index(1), raft::EntryType::kCommand,
                      raft::Bytes::Copy(std::string_view(good).substr(0, size))};
    EXPECT_FALSE(machine.Check(entry).ok()) << "cut to " << size;
  }
  EXPECT_FALSE(machine.state().born());
}

// Safety rule 3: stops at what it does not know, and says which version it needs.
TEST(MetadataMachine, ALaterVersionOrKindHalts) {
  MetadataMachine machine(nullptr);
  raft::Entry later{raft::Term(1), raft::Index(5), raft::EntryType::kCommand,
                    raft::Bytes::Take(EncodeFramed(Created("q"), kMetadataVersion + 1))};
  EXPECT_TRUE(machine.Check(later).ok()) << "it is whole, so it may be stored";
  absl::Status status = machine.Apply(later);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 4"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("index 5"));
  EXPECT_EQ(machine.applied_index(), raft::Index(0));
  EXPECT_EQ(machine.Apply(EntryOf(5, meta::Command())).code(), absl::StatusCode::kUnimplemented);
}

TEST(MetadataMachine, DamagedSnapshotsAreRefusedAndChangeNothing) {
  MetadataMachine machine(nullptr);
  ASSERT_TRUE(machine.Apply(EntryOf(1, Born(3))).ok());
  std::string before(machine.Snapshot().view());
  std::string bad = before;
  bad[bad.size() / 2] ^= 1;
  EXPECT_EQ(machine.Restore(raft::Bytes::Copy(bad), raft::Index(9)).code(), absl::StatusCode::kDataLoss);
  meta::Snapshot contradiction;
  contradiction.set_next_group_id(2);
  contradiction.set_next_replica_id(100);
  contradiction.add_queues()->set_group_id(2);
  EXPECT_FALSE(machine.Restore(raft::Bytes::Take(EncodeFramed(contradiction, 1)), raft::Index(9)).ok());
  EXPECT_EQ(machine.Snapshot().view(), before);
  EXPECT_EQ(machine.applied_index(), raft::Index(1));
}

TEST(MetadataView, FollowsChangesAndLists) {
  MetadataState state;
  state.Apply(Born(3));
  MetadataView view;
  EXPECT_FALSE(view.born());
  MetadataChange first;
  first.whole = true;
  first.cluster_id = state.cluster_id();
  first.nodes = std::make_shared<std::vector<NodeRecord>>(state.nodes());
  first.index = raft::Index(1);
  view.Take(first);
  EXPECT_TRUE(view.born());
  EXPECT_EQ(view.AddressOf(raft::NodeId(2)), "n2:1");
  EXPECT_EQ(view.AddressOf(raft::NodeId(4)), "");

  QueuePtr a = state.Apply(Created("a")).queue, b1 = state.Apply(Created("b/1")).queue,
           b2 = state.Apply(Created("b/2")).queue;
  state.Apply(Deleted("a", a->group.value()));
  QueuePtr a2 = state.Apply(Created("a")).queue;
  MetadataChange change;
  change.index = raft::Index(6);
  change.items = {{a, true}, {b1, true}, {b2, true}, {a, false}, {a2, true}};
  view.Take(change);
  EXPECT_EQ(view.FindQueue("a"), a2);
  EXPECT_EQ(view.FindGroup(a->group), nullptr);
  EXPECT_EQ(view.FindGroup(a2->group), a2);
  EXPECT_EQ(view.index(), raft::Index(6));
  EXPECT_EQ(view.cluster_id(), state.cluster_id());
  EXPECT_THAT(view.List("", "", 10), testing::ElementsAre(a2, b1, b2));
  EXPECT_THAT(view.List("b/", "", 10), testing::ElementsAre(b1, b2));
  EXPECT_THAT(view.List("b/", "b/1", 10), testing::ElementsAre(b2));
  EXPECT_THAT(view.List("b/", "a", 1), testing::ElementsAre(b1));
  EXPECT_THAT(view.List("c", "b", 10), testing::IsEmpty());
  // A late word of an earlier queue of that name harms nothing.
  MetadataChange late;
  late.items = {{a, false}};
  view.Take(late);
  EXPECT_EQ(view.FindQueue("a"), a2);
}

}  // namespace
}  // namespace trireme::broker
