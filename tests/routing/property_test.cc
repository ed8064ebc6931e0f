// The routing table against its twin, under random definitions that come and go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "broker/routing/routing_table.h"
#include "tests/routing/twin.h"

namespace trireme::broker {
namespace {

namespace v1 = trireme::v1;
using Random = std::mt19937_64;

uint64_t Pick(Random& random, uint64_t n) {
  return random() % n;
}

std::string RandomKey(Random& random, bool pattern) {
  const std::vector<std::string> words = {"a", "b", "", "c", "*", "#", "#", "*"};
  std::string key;
  for (uint64_t n = Pick(random, 5); n > 0; --n) {
    key += words[Pick(random, pattern ? 8 : Pick(random, 6) == 0 ? 6 : 4)];
    if (n > 1) key += ".";
  }
  return key;
}

v1::Value RandomValue(Random& random) {
  v1::Value value;
  switch (Pick(random, 6)) {
    case 0:
      value.set_text(Pick(random, 2) == 0 ? "1" : "x");
      break;
    case 1:
      value.set_integer(static_cast<int64_t>(Pick(random, 2)));
      break;
    case 2:
      value.set_real(Pick(random, 2) == 0 ? 1.0 : 0.5);
      break;
    case 3:
      value.set_boolean(Pick(random, 2) == 0);
      break;
    case 4:
      value.set_binary("1");
      break;
    default:
      break;
  }
  return value;
}

message::OwnedValue Owned(const v1::Value& value) {
  message::Value read;
  const std::string bytes = value.SerializeAsString();
  EXPECT_TRUE(message::ReadValue(bytes, &read));
  return message::OwnedValue(read);
}

bool Same(const Binding& a, const Binding& b) {
  auto key = [](const Binding& binding) {
    std::string headers;
    for (const HeaderCondition& condition : binding.headers) {
      headers += condition.name + std::to_string(condition.value.view().index());
      if (const message::Value v = condition.value.view(); !message::IsNull(v)) {
        if (const auto* text = std::get_if<std::string_view>(&v)) headers += *text;
        if (const auto* integer = std::get_if<int64_t>(&v)) headers += std::to_string(*integer);
        if (const auto* real = std::get_if<double>(&v)) headers += std::to_string(*real);
        if (const auto* boolean = std::get_if<bool>(&v)) headers += *boolean ? "t" : "f";
      }
    }
    return std::tuple(binding.exchange, binding.kind, binding.to, binding.routing_key, binding.all, headers);
  };
  return key(a) == key(b);
}

class World {
 public:
  explicit World(uint64_t seed) : random(seed) {}

  // One random change, as the metadata would let it through.
  void Change() {
    const std::string queue = "q" + std::to_string(Pick(random, 6));
    const std::string exchange = "e" + std::to_string(Pick(random, 5));
    switch (Pick(random, 16)) {
      case 0:
        return ChangeQueue(queue);
      case 1:
        return ChangeExchange(exchange);
      case 2:
      case 3:
        return RemoveBinding([](const Binding&) { return true; }, 1);
      default:
        return AddBinding(exchange, queue);
    }
  }

  void Compare() {
    v1::Message message;
    for (uint64_t n = Pick(random, 4); n > 0; --n) {
      (*message.mutable_headers())["h" + std::to_string(Pick(random, 3))] = RandomValue(random);
    }
    const std::string bytes = message.SerializeAsString();
    for (int e = -1; e < 5; ++e) {
      const std::string exchange = e < 0 ? "" : "e" + std::to_string(e);
      const std::string key = e < 0 ? "q" + std::to_string(Pick(random, 6)) : RandomKey(random, /*pattern=*/false);
      const std::vector<std::string> reached = Names(table, table.Route(exchange, key, bytes));
      const std::set<std::string> once(reached.begin(), reached.end());
      ASSERT_EQ(once.size(), reached.size()) << "one of them twice";
      ASSERT_EQ(once, twin.Route(exchange, key, message)) << exchange << " by " << key << "\n" << message.DebugString();
      ++(reached.empty() ? unroutable : routed);
    }
  }

  // The same definitions, told in another order, give the same answers in the same order.
  void CompareWithRebuilt() {
    RoutingTable other;
    std::vector<std::string> queues(twin.queues.begin(), twin.queues.end());
    std::shuffle(queues.begin(), queues.end(), random);
    for (const std::string& queue : queues) other.AddQueue(queue);
    std::vector<std::pair<std::string, RoutingTwin::Exchange>> exchanges(twin.exchanges.begin(), twin.exchanges.end());
    std::shuffle(exchanges.begin(), exchanges.end(), random);
    for (const auto& [name, exchange] : exchanges) other.AddExchange(name, exchange.type, exchange.alternate);
    std::vector<Binding> bindings = twin.bindings;
    std::shuffle(bindings.begin(), bindings.end(), random);
    for (const Binding& binding : bindings) other.Bind(binding);
    for (int i = 0; i < 20; ++i) {
      const std::string exchange = "e" + std::to_string(Pick(random, 5)), key = RandomKey(random, false);
      ASSERT_EQ(Names(table, table.Route(exchange, key, "")), Names(other, other.Route(exchange, key, "")));
    }
  }

  Random random;
  RoutingTable table;
  RoutingTwin twin;
  int routed = 0, unroutable = 0;

 private:
  static std::vector<std::string> Names(const RoutingTable& of, absl::Span<const uint32_t> handles) {
    std::vector<std::string> names;
    for (uint32_t handle : handles) names.push_back(of.queue_name(handle));
    return names;
  }

  template <typename Which>
  void RemoveBinding(Which which, size_t most) {
    for (size_t i = 0; i < twin.bindings.size() && most > 0;) {
      if (!which(twin.bindings[i]) || (most == 1 && Pick(random, 3) != 0)) {
        ++i;
        continue;
      }
      table.Unbind(twin.bindings[i]);
      twin.bindings.erase(twin.bindings.begin() + static_cast<ptrdiff_t>(i));
      --most;
    }
  }

  void ChangeQueue(const std::string& queue) {
    if (twin.queues.insert(queue).second) {
      table.AddQueue(queue);
      return;
    }
    RemoveBinding([&](const Binding& b) { return b.kind == Target::Kind::kQueue && b.to == queue; }, SIZE_MAX);
    table.RemoveQueue(queue);
    twin.queues.erase(queue);
  }

  void ChangeExchange(const std::string& name) {
    if (!twin.exchanges.contains(name)) {
      std::string alternate = Pick(random, 2) == 0 ? "e" + std::to_string(Pick(random, 5)) : "";
      if (alternate == name) alternate.clear();
      const auto type = static_cast<ExchangeType>(Pick(random, 4));
      twin.exchanges[name] = {type, alternate};
      table.AddExchange(name, type, alternate);
      return;
    }
    RemoveBinding(
        [&](const Binding& b) { return b.exchange == name || (b.kind == Target::Kind::kExchange && b.to == name); },
        SIZE_MAX);
    table.RemoveExchange(name);
    twin.exchanges.erase(name);
  }

  void AddBinding(const std::string& exchange, const std::string& queue) {
    if (!twin.exchanges.contains(exchange)) return;
    Binding binding{.exchange = exchange, .to = queue, .routing_key = RandomKey(random, /*pattern=*/true)};
    if (Pick(random, 3) == 0) {
      binding.kind = Target::Kind::kExchange;
      binding.to = "e" + std::to_string(Pick(random, 5));
    }
    const bool there =
        binding.kind == Target::Kind::kQueue ? twin.queues.contains(binding.to) : twin.exchanges.contains(binding.to);
    if (!there) return;
    if (twin.exchanges[exchange].type == ExchangeType::kHeaders) {
      binding.all = Pick(random, 2) == 0;
      for (int h = 0; h < 3; ++h) {
        if (Pick(random, 2) == 0) binding.headers.push_back({"h" + std::to_string(h), Owned(RandomValue(random))});
      }
    }
    for (const Binding& other : twin.bindings) {
      if (Same(binding, other)) return;
    }
    twin.bindings.push_back(binding);
    table.Bind(binding);
  }
};

class RoutingHistories : public testing::TestWithParam<uint64_t> {};

TEST_P(RoutingHistories, GoAsTheTwinSays) {
  SCOPED_TRACE("replay: routing_property_test --gtest_filter=*RoutingHistories* (seed " + std::to_string(GetParam()) +
               ")");
  World world(GetParam());
  for (int i = 0; i < 400 && !HasFatalFailure(); ++i) {
    world.Change();
    world.Compare();
    if (i % 40 == 39) world.CompareWithRebuilt();
  }
  EXPECT_GT(world.routed, 200);
  EXPECT_GT(world.unroutable, 200);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RoutingHistories, testing::Range<uint64_t>(1, 41));

}  // namespace
}  // namespace trireme::broker
