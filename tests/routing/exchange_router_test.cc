// The router follows the metadata: told of each change, or of the whole, it routes alike.
#include "broker/routing/exchange_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "trireme/v1/message.pb.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace v1 = trireme::v1;
using Random = std::mt19937_64;

uint64_t Pick(Random& random, uint64_t n) {
  return random() % n;
}

meta::Command Born() {
  meta::Command command;
  command.mutable_cluster_born()->set_cluster_id(std::string(16, 'c'));
  meta::Node* node = command.mutable_cluster_born()->add_nodes();
  node->set_id(1);
  node->set_address("n1:1");
  node->set_metadata_replica_id(1);
  return command;
}

// A command that fits the state more often than not.
meta::Command RandomCommand(Random& random, const MetadataState& state) {
  const std::string queue = "q" + std::to_string(Pick(random, 4)), exchange = "e" + std::to_string(Pick(random, 3)),
                    other = "e" + std::to_string(Pick(random, 3));
  const QueuePtr there = state.FindQueue(queue);
  const ExchangePtr from = state.routing().Find(exchange), to = state.routing().Find(other);
  meta::Command command;
  meta::Binding binding;
  binding.set_exchange(exchange);
  const bool chain = Pick(random, 3) == 0;
  chain ? binding.set_to_exchange(other) : binding.set_queue(queue);
  binding.set_routing_key(Pick(random, 2) == 0 ? "a.#" : "a.b");
  if (from != nullptr && from->settings.type() == v1::EXCHANGE_TYPE_HEADERS) {
    binding.set_any_header(Pick(random, 2) == 0);
    binding.add_headers()->set_name("h");
    if (Pick(random, 2) == 0) binding.mutable_headers(0)->mutable_value()->set_integer(1);
  }
  switch (Pick(random, 9)) {
    case 0:
      command.mutable_queue_deleted()->set_name(queue);
      command.mutable_queue_deleted()->set_group_id(there == nullptr ? 0 : there->group.value());
      break;
    case 1:
    case 2:
      command.mutable_queue_created()->set_name(queue);
      command.mutable_queue_created()->add_node_ids(1);
      break;
    case 3:
      command.mutable_exchange_deleted()->set_name(exchange);
      command.mutable_exchange_deleted()->set_id(from == nullptr ? 0 : from->id);
      break;
    case 4:
      command.mutable_exchange_created()->set_name(exchange);
      command.mutable_exchange_created()->mutable_settings()->set_type(
          static_cast<v1::ExchangeType>(1 + Pick(random, 4)));
      if (other != exchange && Pick(random, 2) == 0) {
        command.mutable_exchange_created()->mutable_settings()->set_alternate(other);
      }
      break;
    case 5:
      command.mutable_replica_replaced()->set_group_id(there == nullptr ? 0 : there->group.value());
      command.mutable_replica_replaced()->set_replica_id(there == nullptr ? 0
                                                                          : there->replicas.front().replica.value());
      break;
    case 6:
      *command.mutable_binding_deleted()->mutable_binding() = binding;
      command.mutable_binding_deleted()->set_exchange_id(from == nullptr ? 0 : from->id);
      break;
    default:
      *command.mutable_binding_created()->mutable_binding() = binding;
      command.mutable_binding_created()->set_exchange_id(from == nullptr ? 0 : from->id);
      command.mutable_binding_created()->set_destination_id(chain ? (to == nullptr ? 0 : to->id)
                                                                  : (there == nullptr ? 0 : there->group.value()));
  }
  return command;
}

// Where messages go, as group ids: a queue that was deleted and made again is another.
std::vector<uint64_t> Groups(ExchangeRouter& router, const std::string& exchange, const std::string& message) {
  std::vector<uint64_t> groups;
  for (uint32_t handle : router.Route(exchange, message)) groups.push_back(router.queue(handle)->group.value());
  return groups;
}

class Routers : public testing::TestWithParam<uint64_t> {};

TEST_P(Routers, RouteAlikeHoweverTheyLearned) {
  Random random(GetParam());
  MetadataState state;
  state.Apply(Born());
  ExchangeRouter following;
  MetadataChange change;
  int routed = 0;
  for (int i = 0; i < 400; ++i) {
    const meta::Command command = RandomCommand(random, state);
    const MetadataOutcome outcome = state.Apply(command);
    if (outcome.kind == MetadataOutcome::Kind::kDone) AddItems(command, outcome, &change.items);
    // Several commands may come as one change.
    if (Pick(random, 3) == 0) continue;
    if (Pick(random, 20) == 0) {
      change = {};
      change.whole = true;
      change.items = ItemsOf(state);
    }
    following.Take(change);
    change = {};

    ExchangeRouter told;
    MetadataChange whole;
    whole.whole = true;
    whole.items = ItemsOf(state);
    told.Take(whole);
    for (const char* exchange : {"", "e0", "e1", "e2"}) {
      ASSERT_EQ(following.Has(exchange), *exchange == '\0' || state.routing().Find(exchange) != nullptr);
      v1::Message message;
      message.set_routing_key(*exchange == '\0'      ? "q" + std::to_string(Pick(random, 4))
                              : Pick(random, 2) == 0 ? "a.b"
                                                     : "a");
      if (Pick(random, 2) == 0) (*message.mutable_headers())["h"].set_integer(static_cast<int64_t>(Pick(random, 2)));
      const std::string bytes = message.SerializeAsString();
      const std::vector<uint64_t> groups = Groups(following, exchange, bytes);
      ASSERT_EQ(groups, Groups(told, exchange, bytes)) << exchange << " after " << i;
      for (uint64_t group : groups) ASSERT_NE(state.FindGroup(raft::GroupId(group)), nullptr);
      // With the replicas that they have by now.
      for (uint32_t handle : following.Route(exchange, bytes)) {
        ASSERT_EQ(following.queue(handle), state.FindGroup(following.queue(handle)->group));
      }
      routed += groups.empty() ? 0 : 1;
    }
  }
  EXPECT_GT(routed, 100);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Routers, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace trireme::broker
