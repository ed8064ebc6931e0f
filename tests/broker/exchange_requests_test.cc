// Exchanges and bindings as they are asked for, on any node, while leaders change and answers are lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "broker/cluster/routing_changes.h"
#include "broker/ops/error.h"
#include "tests/broker/cluster_world.h"

namespace trireme::broker {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

v1::Binding Binding(const std::string& exchange, const std::string& queue, const std::string& key = "") {
  v1::Binding binding;
  binding.set_exchange(exchange);
  binding.set_queue(queue);
  binding.set_routing_key(key);
  return binding;
}

v1::Binding Chain(const std::string& exchange, const std::string& to) {
  v1::Binding binding;
  binding.set_exchange(exchange);
  binding.set_to_exchange(to);
  return binding;
}

class ExchangeRequestsTest : public ClusterTest {
 protected:
  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(const std::string& at, void (Cluster::*act)(Request, Asked, Answer<Response>),
                                Request request) {
    return Ask<Response>(
        at, [&](Cluster& c, Asked asked, Answer<Response> answer) { (c.*act)(request, asked, std::move(answer)); });
  }
  auto CreateExchange(const std::string& at, const std::string& name, v1::ExchangeType type = v1::EXCHANGE_TYPE_TOPIC,
                      const std::string& alternate = "") {
    v1::CreateExchangeRequest request;
    request.set_name(name);
    request.mutable_settings()->set_type(type);
    request.mutable_settings()->set_alternate(alternate);
    return Call(at, &Cluster::CreateExchange, request);
  }
  auto DeleteExchange(const std::string& at, const std::string& name, bool if_unused = false) {
    v1::DeleteExchangeRequest request;
    request.set_name(name);
    request.set_if_unused(if_unused);
    return Call(at, &Cluster::DeleteExchange, request);
  }
  auto Describe(const std::string& at, const std::string& name) {
    v1::DescribeExchangeRequest request;
    request.set_name(name);
    return Call(at, &Cluster::DescribeExchange, request);
  }
  auto Bind(const std::string& at, const v1::Binding& binding) {
    v1::CreateBindingRequest request;
    *request.mutable_binding() = binding;
    return Call(at, &Cluster::CreateBinding, request);
  }
  auto Unbind(const std::string& at, const v1::Binding& binding) {
    v1::DeleteBindingRequest request;
    *request.mutable_binding() = binding;
    return Call(at, &Cluster::DeleteBinding, request);
  }
  std::vector<std::string> Bound(const std::string& at, v1::ListBindingsRequest request = {}) {
    auto listed = Call(at, &Cluster::ListBindings, request);
    EXPECT_TRUE(listed.ok()) << listed.status();
    std::vector<std::string> shown;
    for (const v1::Binding& b : listed->bindings()) {
      shown.push_back(b.exchange() + ">" + (b.has_queue() ? b.queue() : b.to_exchange()) + ":" + b.routing_key());
    }
    return shown;
  }
};

TEST_F(ExchangeRequestsTest, AnyNodeDefinesAndEachShardIsTold) {
  StartThree();
  std::set<std::string> told;
  for (raft::ShardId id = 0; id < kShards; ++id) {
    node("c").cluster->Follow(id, [&, id](const MetadataChange& change) {
      for (const MetadataItem& item : change.items) {
        if (const auto* binding = std::get_if<BindingPtr>(&item.what)) {
          told.insert(std::to_string(id) + (*binding)->routing_key() + (item.exists ? "+" : "-"));
        }
      }
    });
  }
  ASSERT_TRUE(Create("a", "q").ok());
  auto made = CreateExchange("b", "events");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(made->created());
  EXPECT_EQ(made->exchange().id(), 1u);
  auto again = CreateExchange("c", "events");
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->created());
  EXPECT_GE(again->metadata_index(), made->metadata_index());

  auto bound = Bind("c", Binding("events", "q", "a.*"));
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_TRUE(bound->created());
  EXPECT_GT(bound->metadata_index(), made->metadata_index());
  EXPECT_FALSE(Bind("a", Binding("events", "q", "a.*"))->created());
  EXPECT_THAT(Bound("b"), testing::ElementsAre("events>q:a.*"));
  auto described = Describe("a", "events");
  ASSERT_TRUE(described.ok());
  EXPECT_EQ(described->exchange().bindings(), 1u);
  EXPECT_GE(described->metadata_index(), bound->metadata_index());

  ASSERT_TRUE(Delete("b", "q").ok());
  EXPECT_THAT(Bound("c"), testing::IsEmpty()) << "a queue takes its bindings along";
  time_.Run(seconds(1));
  EXPECT_THAT(told, testing::ElementsAre("0a.*+", "0a.*-", "1a.*+", "1a.*-"));
}

TEST_F(ExchangeRequestsTest, WhatCannotBeIsRefusedWithItsReason) {
  StartThree();
  ASSERT_TRUE(Create("a", "q").ok());
  ASSERT_TRUE(CreateExchange("a", "e", v1::EXCHANGE_TYPE_DIRECT).ok());
  for (const char* at : {"a", "b"}) {
    auto refused = [&](const absl::Status& status, absl::StatusCode code, const std::string& reason,
                       const std::string& says) {
      EXPECT_EQ(status.code(), code) << status << " at " << at;
      // The reason crosses from the leader's node only where calls carry it; here they do.
      EXPECT_EQ(FactsOf(status).reason, reason) << at;
      EXPECT_THAT(std::string(status.message()), HasSubstr(says));
    };
    using Code = absl::StatusCode;
    refused(CreateExchange(at, "e", v1::EXCHANGE_TYPE_TOPIC).status(), Code::kAlreadyExists, "EXCHANGE_EXISTS",
            "it is of type direct; asked for was type topic");
    refused(CreateExchange(at, "e", v1::EXCHANGE_TYPE_DIRECT, "f").status(), Code::kAlreadyExists, "EXCHANGE_EXISTS",
            "with alternate f");
    refused(CreateExchange(at, "-e").status(), Code::kInvalidArgument, "BAD_EXCHANGE_NAME", "starts with '-'");
    refused(CreateExchange(at, "f", v1::EXCHANGE_TYPE_UNSPECIFIED).status(), Code::kInvalidArgument,
            "BAD_EXCHANGE_TYPE", "direct, fanout, topic or headers");
    refused(CreateExchange(at, "f", v1::EXCHANGE_TYPE_TOPIC, "f").status(), Code::kInvalidArgument, "BAD_ALTERNATE",
            "its own alternate");
    refused(CreateExchange(at, "f", v1::EXCHANGE_TYPE_TOPIC, "none").status(), Code::kNotFound, "EXCHANGE_NOT_FOUND",
            "\"none\"");
    refused(Describe(at, "none").status(), Code::kNotFound, "EXCHANGE_NOT_FOUND", "\"none\"");
    refused(DeleteExchange(at, "none").status(), Code::kNotFound, "EXCHANGE_NOT_FOUND", "\"none\"");
    refused(Bind(at, Binding("none", "q")).status(), Code::kNotFound, "EXCHANGE_NOT_FOUND", "\"none\"");
    refused(Bind(at, Binding("e", "none")).status(), Code::kNotFound, "QUEUE_NOT_FOUND", "\"none\"");
    refused(Bind(at, Chain("e", "none")).status(), Code::kNotFound, "EXCHANGE_NOT_FOUND", "\"none\"");
    v1::Binding nowhere;
    nowhere.set_exchange("e");
    refused(Bind(at, nowhere).status(), Code::kInvalidArgument, "BAD_BINDING", "leads to nothing");
    v1::Binding with_headers = Binding("e", "q");
    (*with_headers.mutable_headers())["h"];
    refused(Bind(at, with_headers).status(), Code::kInvalidArgument, "BAD_BINDING", "is of type direct");
    refused(Unbind(at, Binding("e", "q", "k")).status(), Code::kNotFound, "BINDING_NOT_FOUND",
            "no binding from exchange e to queue q by \"k\"");
  }
}

TEST_F(ExchangeRequestsTest, AnExchangeInUseStays) {
  StartThree();
  ASSERT_TRUE(CreateExchange("a", "rest").ok());
  ASSERT_TRUE(CreateExchange("b", "e", v1::EXCHANGE_TYPE_FANOUT, "rest").ok());
  ASSERT_TRUE(CreateExchange("b", "f").ok());
  ASSERT_TRUE(Bind("c", Chain("f", "e")).ok());
  auto in_use = DeleteExchange("c", "rest");
  EXPECT_EQ(in_use.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(in_use.status().message()), HasSubstr("the alternate of exchange e"));
  auto has_bindings = DeleteExchange("c", "e", /*if_unused=*/true);
  EXPECT_THAT(std::string(has_bindings.status().message()), HasSubstr("has 1 bindings"));
  auto gone = DeleteExchange("c", "e");
  ASSERT_TRUE(gone.ok()) << gone.status();
  EXPECT_EQ(gone->bindings(), 1u);
  EXPECT_TRUE(DeleteExchange("a", "rest", /*if_unused=*/true).ok());
}

TEST_F(ExchangeRequestsTest, ADeleteWhoseAnswerWasLostIsAnsweredAsDone) {
  StartThree();
  ASSERT_TRUE(Create("a", "q").ok());
  ASSERT_TRUE(CreateExchange("a", "e").ok());
  ASSERT_TRUE(Bind("a", Binding("e", "q")).ok());
  time_.Run(seconds(1));
  const std::string follower = Follower(), leader = MetadataLeader() + ":1";
  auto mute = [&] {
    peers_.mute = {{follower + ":1", leader}};
    time_.Add(seconds(1), [this] { peers_.mute.clear(); });
  };
  mute();
  auto unbound = Unbind(follower, Binding("e", "q"));
  ASSERT_TRUE(unbound.ok()) << unbound.status();
  EXPECT_THAT(Bound(leader.substr(0, 1)), testing::IsEmpty());
  mute();
  auto deleted = DeleteExchange(follower, "e");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_GT(deleted->metadata_index(), unbound->metadata_index());
  // But one that never was there is not "deleted", however late its answer is.
  mute();
  EXPECT_EQ(DeleteExchange(follower, "e").status().code(), absl::StatusCode::kNotFound);
  // And neither is something missing that a creation needs.
  mute();
  EXPECT_EQ(Bind(follower, Binding("e", "q")).status().code(), absl::StatusCode::kNotFound);
}

// Safety rule 21: a node that has fallen behind does not say from its own copy that there is none.
TEST_F(ExchangeRequestsTest, ANodeThatIsBehindDoesNotSayNotFound) {
  StartThree();
  const std::string leader = MetadataLeader(), follower = Follower();
  Cut(follower);
  ASSERT_TRUE(CreateExchange(leader, "e").ok());
  EXPECT_EQ(node(follower).metadata()->state().routing().Find("e"), nullptr);
  time_.Add(seconds(2), [this] { Heal(); });
  auto described = Describe(follower, "e");
  ASSERT_TRUE(described.ok()) << described.status();
  EXPECT_EQ(described->exchange().name(), "e");
}

TEST_F(ExchangeRequestsTest, DefinitionsOutliveLeadersAndRestarts) {
  StartThree();
  ASSERT_TRUE(Create("a", "q").ok());
  ASSERT_TRUE(CreateExchange("a", "e").ok());
  ASSERT_TRUE(Bind("b", Binding("e", "q", "#")).ok());
  const std::string leader = MetadataLeader();
  Kill(leader);
  const std::string other = leader == "a" ? "b" : "a";
  ASSERT_TRUE(CreateExchange(other, "f", v1::EXCHANGE_TYPE_FANOUT, "e").ok()) << "waits out the election";
  ASSERT_TRUE(Bind(other, Chain("f", "e")).ok());
  Start(leader);
  ASSERT_TRUE(time_.Run(seconds(20), [this] { return AllBorn(); }));
  EXPECT_THAT(Bound(leader), testing::ElementsAre("e>q:#", "f>e:"));
  // Enough to have everyone take a snapshot and start from it.
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(CreateExchange(leader, "x" + std::to_string(i)).ok());
  for (const char* n : {"a", "b", "c"}) Kill(n);
  for (const char* n : {"a", "b", "c"}) Start(n);
  ASSERT_TRUE(time_.Run(seconds(20), [this] { return AllBorn(); }));
  EXPECT_THAT(Bound("c"), testing::ElementsAre("e>q:#", "f>e:"));
  EXPECT_EQ(Describe("c", "x29")->exchange().id(), 32u);
}

TEST_F(ExchangeRequestsTest, ListsComeInPages) {
  StartThree();
  ASSERT_TRUE(Create("a", "q").ok());
  ASSERT_TRUE(Create("a", "r").ok());
  for (const char* name : {"e", "f", "g"}) ASSERT_TRUE(CreateExchange("a", name).ok());
  for (const char* key : {"1", "2", "3"}) {
    ASSERT_TRUE(Bind("a", Binding("e", "q", key)).ok());
    ASSERT_TRUE(Bind("a", Binding("f", "r", key)).ok());
  }
  ASSERT_TRUE(Bind("a", Chain("f", "e")).ok());

  v1::ListExchangesRequest exchanges;
  exchanges.set_limit(2);
  auto page = Call("b", &Cluster::ListExchanges, exchanges);
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->exchanges_size(), 2);
  EXPECT_TRUE(page->more());
  EXPECT_EQ(page->exchanges(0).bindings(), 3u);
  EXPECT_EQ(page->exchanges(0).bindings_to(), 1u);
  exchanges.set_after("f");
  page = Call("b", &Cluster::ListExchanges, exchanges);
  EXPECT_EQ(page->exchanges_size(), 1);
  EXPECT_FALSE(page->more());
  exchanges.set_limit(10'001);
  EXPECT_EQ(Call("b", &Cluster::ListExchanges, exchanges).status().code(), absl::StatusCode::kInvalidArgument);

  v1::ListBindingsRequest bindings;
  bindings.set_limit(3);
  std::vector<std::string> all;
  for (int pages = 0; pages < 5; ++pages) {
    auto some = Call("c", &Cluster::ListBindings, bindings);
    ASSERT_TRUE(some.ok()) << some.status();
    for (const v1::Binding& b : some->bindings()) all.push_back(b.exchange() + b.queue() + b.routing_key());
    if (some->next().empty()) break;
    bindings.set_after(some->next());
  }
  EXPECT_THAT(all, testing::ElementsAre("eq1", "eq2", "eq3", "fr1", "fr2", "fr3", "f"));
  bindings.set_after("nonsense");
  EXPECT_EQ(Call("c", &Cluster::ListBindings, bindings).status().code(), absl::StatusCode::kInvalidArgument);
  v1::ListBindingsRequest to;
  to.set_queue("r");
  EXPECT_EQ(Bound("a", to).size(), 3u);
  to.set_exchange("e");
  EXPECT_THAT(Bound("a", to), testing::IsEmpty());
  to.Clear();
  to.set_to_exchange("e");
  EXPECT_THAT(Bound("a", to), testing::ElementsAre("f>e:"));
}

TEST(Bindings, AreTheSameAfterTheWayThereAndBack) {
  v1::Binding binding = Binding("e", "q", "k");
  binding.set_header_match(v1::HEADER_MATCH_ANY);
  (*binding.mutable_headers())["b"].set_integer(1);
  (*binding.mutable_headers())["a"];
  const trireme::meta::v1::Binding stored = StoredBinding(binding);
  ASSERT_EQ(stored.headers_size(), 2);
  EXPECT_EQ(stored.headers(0).name(), "a");
  const v1::Binding shown = PublicBinding(stored);
  EXPECT_EQ(BindingIdentity::Of(StoredBinding(shown)), BindingIdentity::Of(stored));
  EXPECT_EQ(shown.header_match(), v1::HEADER_MATCH_ANY);
  EXPECT_EQ(shown.headers().at("b").integer(), 1);
}

}  // namespace
}  // namespace trireme::broker
