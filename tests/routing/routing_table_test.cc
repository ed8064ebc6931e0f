#include "broker/routing/routing_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "trireme/v1/message.pb.h"

namespace trireme::broker {
namespace {

namespace v1 = trireme::v1;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kQueue = Target::Kind::kQueue;
constexpr auto kExchange = Target::Kind::kExchange;

class RoutingTableTest : public testing::Test {
 protected:
  RoutingTableTest() {
    for (const char* name : {"a", "b", "c", "d"}) table.AddQueue(name);
  }
  void Bind(const std::string& exchange, const std::string& queue, const std::string& key = "") {
    table.Bind({.exchange = exchange, .kind = kQueue, .to = queue, .routing_key = key});
  }
  void Chain(const std::string& from, const std::string& to, const std::string& key = "") {
    table.Bind({.exchange = from, .kind = kExchange, .to = to, .routing_key = key});
  }
  std::vector<std::string> Route(const std::string& exchange, const std::string& key, const v1::Message& message = {}) {
    std::vector<std::string> names;
    for (uint32_t handle : table.Route(exchange, key, message.SerializeAsString())) {
      names.push_back(table.queue_name(handle));
    }
    return names;
  }

  RoutingTable table;
};

TEST_F(RoutingTableTest, TheDefaultExchangeKnowsEachQueueByItsName) {
  EXPECT_THAT(Route("", "b"), ElementsAre("b"));
  EXPECT_THAT(Route("", "nobody"), IsEmpty());
  table.RemoveQueue("b");
  EXPECT_THAT(Route("", "b"), IsEmpty());
  table.AddQueue("b");
  EXPECT_THAT(Route("", "b"), ElementsAre("b"));
}

TEST_F(RoutingTableTest, DirectIsByTheWholeKey) {
  table.AddExchange("e", ExchangeType::kDirect, "");
  Bind("e", "b", "red");
  Bind("e", "a", "red");
  Bind("e", "a", "blue");
  Bind("e", "c", "");
  EXPECT_THAT(Route("e", "red"), ElementsAre("a", "b"));
  EXPECT_THAT(Route("e", "blue"), ElementsAre("a"));
  EXPECT_THAT(Route("e", ""), ElementsAre("c"));
  EXPECT_THAT(Route("e", "re"), IsEmpty());
  table.Unbind({.exchange = "e", .to = "a", .routing_key = "red"});
  EXPECT_THAT(Route("e", "red"), ElementsAre("b"));
  EXPECT_THAT(Route("e", "blue"), ElementsAre("a"));
}

TEST_F(RoutingTableTest, FanoutTakesAnyKeyAndEachQueueOnce) {
  table.AddExchange("e", ExchangeType::kFanout, "");
  Bind("e", "c", "one");
  Bind("e", "c", "two");
  Bind("e", "a");
  EXPECT_THAT(Route("e", "what.ever"), ElementsAre("a", "c"));
  table.Unbind({.exchange = "e", .to = "c", .routing_key = "one"});
  EXPECT_THAT(Route("e", ""), ElementsAre("a", "c")) << "the other binding is still there";
  table.Unbind({.exchange = "e", .to = "c", .routing_key = "two"});
  EXPECT_THAT(Route("e", ""), ElementsAre("a"));
}

TEST_F(RoutingTableTest, TopicsReachAQueueOnceHoweverManyPatternsMatch) {
  table.AddExchange("e", ExchangeType::kTopic, "");
  Bind("e", "a", "*.orange.*");
  Bind("e", "b", "*.*.rabbit");
  Bind("e", "b", "lazy.#");
  EXPECT_THAT(Route("e", "quick.orange.fox"), ElementsAre("a"));
  EXPECT_THAT(Route("e", "lazy.pink.rabbit"), ElementsAre("b"));
  EXPECT_THAT(Route("e", "quick.brown.fox"), IsEmpty());
  std::vector<std::string> both = Route("e", "lazy.orange.rabbit");
  EXPECT_THAT(both, testing::UnorderedElementsAre("a", "b"));
}

v1::Message WithHeaders(std::initializer_list<std::pair<const char*, int64_t>> headers) {
  v1::Message message;
  for (auto [name, value] : headers) (*message.mutable_headers())[name].set_integer(value);
  return message;
}

HeaderCondition Is(const std::string& name, message::Value value) {
  return {name, message::OwnedValue(value)};
}

TEST_F(RoutingTableTest, HeadersMatchAllOrAny) {
  table.AddExchange("e", ExchangeType::kHeaders, "");
  const Binding all{.exchange = "e", .to = "a", .all = true, .headers = {Is("x", int64_t{1}), Is("y", int64_t{2})}};
  const Binding any{.exchange = "e", .to = "b", .all = false, .headers = {Is("x", int64_t{1}), Is("y", int64_t{2})}};
  const Binding there{.exchange = "e", .to = "c", .all = true, .headers = {Is("z", {})}};
  const Binding always{.exchange = "e", .to = "d", .all = true, .headers = {}};
  const Binding never{.exchange = "e", .to = "a", .all = false, .headers = {}};
  for (const Binding& binding : {all, any, there, never}) table.Bind(binding);
  EXPECT_THAT(Route("e", "", WithHeaders({{"x", 1}, {"y", 2}})), ElementsAre("a", "b"));
  EXPECT_THAT(Route("e", "", WithHeaders({{"x", 1}, {"y", 3}})), ElementsAre("b"));
  EXPECT_THAT(Route("e", "", WithHeaders({{"x", 2}, {"w", 1}})), IsEmpty());
  EXPECT_THAT(Route("e", "", WithHeaders({{"z", 9}})), ElementsAre("c"));
  EXPECT_THAT(Route("e", ""), IsEmpty());
  table.Bind(always);
  EXPECT_THAT(Route("e", ""), ElementsAre("d"));
  table.Unbind(always);
  table.Unbind(all);
  EXPECT_THAT(Route("e", "", WithHeaders({{"x", 1}, {"y", 2}})), ElementsAre("b"));
}

TEST_F(RoutingTableTest, HeadersCompareAsFiltersDo) {
  table.AddExchange("e", ExchangeType::kHeaders, "");
  const Binding whole{.exchange = "e", .to = "a", .headers = {Is("x", 1.0)}};
  const Binding integer{.exchange = "e", .to = "a", .headers = {Is("x", int64_t{1})}};
  const Binding text{.exchange = "e", .to = "b", .headers = {Is("x", std::string_view("1"))}};
  table.Bind(whole);
  table.Bind(integer);
  table.Bind(text);
  EXPECT_THAT(Route("e", "", WithHeaders({{"x", 1}})), ElementsAre("a"));
  v1::Message as_text;
  (*as_text.mutable_headers())["x"].set_text("1");
  EXPECT_THAT(Route("e", "", as_text), ElementsAre("b"));
  // The two for "a" ask for the same, and are two bindings.
  table.Unbind(whole);
  EXPECT_THAT(Route("e", "", WithHeaders({{"x", 1}})), ElementsAre("a"));
  table.Unbind(integer);
  EXPECT_THAT(Route("e", "", WithHeaders({{"x", 1}})), IsEmpty());
}

TEST_F(RoutingTableTest, AHeaderThatIsThereTwiceCountsAsTheLast) {
  table.AddExchange("e", ExchangeType::kHeaders, "");
  table.Bind({.exchange = "e", .to = "a", .headers = {Is("x", int64_t{1})}});
  auto routes = [&](const v1::Message& first, const v1::Message& second) {
    return table.Route("e", "", first.SerializeAsString() + second.SerializeAsString()).size();
  };
  EXPECT_EQ(routes(WithHeaders({{"x", 2}}), WithHeaders({{"x", 1}})), 1u);
  EXPECT_EQ(routes(WithHeaders({{"x", 1}}), WithHeaders({{"x", 2}})), 0u);
  table.Bind({.exchange = "e", .to = "b", .headers = {Is("y", int64_t{1}), Is("z", int64_t{1})}});
  EXPECT_EQ(routes(WithHeaders({{"y", 1}}), WithHeaders({{"y", 1}})), 0u) << "one of two conditions, twice";
}

TEST_F(RoutingTableTest, ExchangesLeadToExchangesAndCyclesEnd) {
  table.AddExchange("in", ExchangeType::kTopic, "");
  table.AddExchange("mid", ExchangeType::kDirect, "");
  table.AddExchange("out", ExchangeType::kFanout, "");
  Chain("in", "mid", "order.#");
  Chain("mid", "out", "order.new");
  Chain("out", "in");  // and round again
  Chain("out", "out");
  Bind("out", "b");
  Bind("mid", "a", "order.new");
  Bind("in", "b", "#");
  EXPECT_THAT(Route("in", "order.new"), testing::UnorderedElementsAre("a", "b"));
  EXPECT_THAT(Route("in", "order.old"), ElementsAre("b"));
  EXPECT_THAT(Route("out", "order.new"), testing::UnorderedElementsAre("a", "b"));
}

TEST_F(RoutingTableTest, AnAlternateTakesWhatNoBindingMatches) {
  table.AddExchange("e", ExchangeType::kDirect, "rest");  // not there yet
  Bind("e", "a", "known");
  EXPECT_THAT(Route("e", "unknown"), IsEmpty());
  table.AddExchange("rest", ExchangeType::kDirect, "last");
  Bind("rest", "b", "unknown");
  table.AddExchange("last", ExchangeType::kFanout, "e");
  Bind("last", "c");
  EXPECT_THAT(Route("e", "known"), ElementsAre("a"));
  EXPECT_THAT(Route("e", "unknown"), ElementsAre("b"));
  EXPECT_THAT(Route("e", "third"), ElementsAre("c"));
  // A binding that leads to an exchange matches, though nothing comes of it there.
  table.AddExchange("void", ExchangeType::kFanout, "");
  Chain("e", "void", "lost");
  EXPECT_THAT(Route("e", "lost"), IsEmpty());
}

TEST_F(RoutingTableTest, AnAlternateIsReachedFromAnExchangeOnTheWay) {
  table.AddExchange("top", ExchangeType::kFanout, "");
  table.AddExchange("e", ExchangeType::kDirect, "rest");
  table.AddExchange("rest", ExchangeType::kFanout, "");
  Chain("top", "e");
  Bind("top", "a");
  Bind("rest", "b");
  EXPECT_THAT(Route("top", "x"), ElementsAre("a", "b"));
}

TEST_F(RoutingTableTest, WhatIsRemovedMayComeBackAsSomethingElse) {
  table.AddExchange("e", ExchangeType::kFanout, "");
  table.AddExchange("f", ExchangeType::kDirect, "e");
  Bind("e", "a");
  EXPECT_THAT(Route("f", "x"), ElementsAre("a"));
  table.Unbind({.exchange = "e", .to = "a"});
  table.RemoveExchange("e");
  EXPECT_FALSE(table.HasExchange("e"));
  EXPECT_THAT(Route("e", "x"), IsEmpty());
  EXPECT_THAT(Route("f", "x"), IsEmpty());
  table.AddExchange("e", ExchangeType::kDirect, "");
  Bind("e", "b", "x");
  EXPECT_THAT(Route("f", "x"), ElementsAre("b"));
}

}  // namespace
}  // namespace trireme::broker
