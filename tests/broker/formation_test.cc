#include "broker/cluster/formation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"
#include "tests/broker/fake_peers.h"
#include "tests/broker/fake_shard.h"
#include "tests/broker/temp_dir.h"

namespace trireme::broker {
namespace {

namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

std::string Id(char c) {
  return std::string(16, c);
}

// Nodes that wait, pledge and join: the production classes, each on a real data directory.
class FormationTest : public testing::Test {
 protected:
  struct Node {
    std::string address;
    std::vector<std::string> join;
    std::unique_ptr<FakeShard> shard;
    std::unique_ptr<DataDirectory> directory;
    std::unique_ptr<FakePeerCaller> caller;
    PeerHandlers handlers;
    std::unique_ptr<Formation> formation;
    int member = 0;
    absl::Status refused;
  };

  ~FormationTest() override {
    for (auto& [address, node] : nodes_) Stop(address);
  }

  // Three nodes a, b, c that run.
  void StartThree() {
    for (const char* n : {"a:1", "b:1", "c:1"}) Start(n);
  }

  Node& Start(const std::string& address, std::vector<std::string> join = {"a:1", "b:1", "c:1"}) {
    auto& node = nodes_[address];
    node = std::make_unique<Node>();
    node->address = address;
    node->join = join;
    node->shard = std::make_unique<FakeShard>(0, &time_);
    auto opened = DataDirectory::Open(Path(address), address);
    EXPECT_TRUE(opened.ok()) << opened.status();
    node->directory = *std::move(opened);
    node->caller = std::make_unique<FakePeerCaller>(address, node->shard.get(), &peers_);
    FormationOptions options;
    options.join = std::move(join);
    Node* n = node.get();
    node->formation = std::make_unique<Formation>(
        options, node->directory.get(), node->shard.get(), node->caller.get(),
        Formation::Events{[n] { ++n->member; }, [n](absl::Status status) { n->refused = std::move(status); }});
    node->handlers.pledge = [n](const peer::PledgeRequest& request, Answer<peer::PledgeResponse> done) {
      done(n->formation->Pledge(request));
    };
    node->handlers.init = [n](const v1::InitRequest& request, Answer<v1::InitResponse> done) {
      n->formation->Init(request, std::move(done));
    };
    node->handlers.join = [this, n](const peer::JoinRequest& request, Answer<peer::JoinResponse> done) {
      if (auto answer = n->formation->Join(request)) return done(*std::move(answer));
      done(JoinMetadata(*n, request));
    };
    peers_.nodes[address] = {node->shard.get(), &node->handlers};
    node->shard->Post([n] { n->formation->Start(); });
    return *node;
  }

  // As SIGKILL: only what was saved is left.
  void Stop(const std::string& address) {
    auto& node = nodes_[address];
    if (node == nullptr) return;
    peers_.nodes.erase(address);
    node->shard->Stop();
    node->formation.reset();
    retired_.push_back(std::move(node->shard));
    callers_.push_back(std::move(node->caller));
    node.reset();
  }
  void Wipe(const std::string& address) { std::filesystem::remove_all(Path(address)); }
  std::string Path(const std::string& address) { return dir_.path() + "/" + address.substr(0, 1); }

  // What the metadata group would say: the first directory of an address is the one.
  absl::StatusOr<peer::JoinResponse> JoinMetadata(const Node& member, const peer::JoinRequest& request) {
    if (!metadata_leader_) return absl::UnavailableError("no metadata leader");
    const auto& identity = member.directory->identity();
    peer::JoinResponse response;
    response.set_cluster_id(identity.cluster_id());
    for (const auto& node : identity.members()) {
      auto* out = response.add_members();
      out->set_node_id(node.id());
      out->set_address(node.address());
      out->set_metadata_replica_id(node.metadata_replica_id());
      out->set_directory_id(node.directory_id());
      if (node.address() != request.address()) continue;
      const std::string& known = node.directory_id().empty() ? request.directory_id() : node.directory_id();
      auto it = written_down_.emplace(request.address(), known).first;
      auto record = node;
      record.set_directory_id(it->second);
      if (it->second != request.directory_id()) return OtherDirectory(record, request.directory_id());
      out->set_directory_id(it->second);
      response.set_node_id(node.id());
    }
    if (response.node_id() == 0) return absl::NotFoundError("no member has that address");
    return response;
  }

  absl::StatusOr<v1::InitResponse> Init(const std::string& at, const std::string& id, seconds span = seconds(10)) {
    v1::InitRequest request;
    request.set_cluster_id(id);
    std::optional<absl::StatusOr<v1::InitResponse>> result;
    Node* node = nodes_[at].get();
    node->shard->Post([&, node] {
      node->formation->Init(request, [&](absl::StatusOr<v1::InitResponse> answer) { result = std::move(answer); });
    });
    EXPECT_TRUE(time_.Run(span, [&] { return result.has_value(); })) << "init was not answered";
    return result.has_value() ? *result : absl::InternalError("no answer");
  }

  bool Members(std::vector<std::string> of, milliseconds within = seconds(20)) {
    return time_.Run(within, [&] {
      for (const auto& address : of) {
        if (nodes_[address] == nullptr || !nodes_[address]->formation->member()) return false;
      }
      return true;
    });
  }
  const trireme::meta::v1::Identity& identity(const std::string& address) {
    return nodes_[address]->directory->identity();
  }

  TempDir dir_;
  FakeTime time_;
  FakePeers peers_{&time_};
  std::map<std::string, std::unique_ptr<Node>> nodes_;
  std::map<std::string, std::string> written_down_;
  bool metadata_leader_ = true;
  std::vector<std::unique_ptr<FakeShard>> retired_;
  std::vector<std::unique_ptr<FakePeerCaller>> callers_;
};

TEST_F(FormationTest, NothingHappensBeforeInit) {
  StartThree();
  time_.Run(seconds(60));
  for (const char* n : {"a:1", "b:1", "c:1"}) {
    EXPECT_FALSE(nodes_[n]->formation->member());
    EXPECT_EQ(identity(n).cluster_id(), "");
  }
}

TEST_F(FormationTest, InitMakesAllThreeMembers) {
  StartThree();
  auto answer = Init("b:1", Id('x'));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->nodes_size(), 3);
  ASSERT_TRUE(Members({"a:1", "b:1", "c:1"}, milliseconds(50))) << "told, not found by asking";
  for (const char* n : {"a:1", "b:1", "c:1"}) {
    const auto& id = identity(n);
    EXPECT_EQ(id.cluster_id(), Id('x'));
    EXPECT_EQ(id.node_id(), static_cast<uint64_t>(1 + n[0] - 'a')) << "ids follow the order of the join list";
    ASSERT_EQ(id.members_size(), 3);
    EXPECT_EQ(id.members(0).address(), "b:1") << "the initiator leads at first";
    EXPECT_EQ(id.members(0).id(), 2u);
    EXPECT_EQ(id.members(0).metadata_replica_id(), 2u);
    for (const auto& member : id.members()) {
      EXPECT_EQ(member.directory_id(), identity(member.address()).directory_id());
    }
    EXPECT_EQ(nodes_[n]->member, 1);
  }
}

TEST_F(FormationTest, OneNodeAlone) {
  Start("a:1", {"a:1"});
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  EXPECT_EQ(identity("a:1").node_id(), 1u);
}

TEST_F(FormationTest, InitIsRepeatableAnywhere) {
  StartThree();
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  ASSERT_TRUE(Members({"a:1", "b:1", "c:1"}));
  for (const char* n : {"a:1", "b:1", "c:1"}) {
    auto again = Init(n, Id('x'));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->nodes_size(), 3);
    auto other = Init(n, Id('y'));
    EXPECT_EQ(other.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(other.status().message()), HasSubstr(ToHex(Id('x'))));
  }
  EXPECT_EQ(nodes_["a:1"]->member, 1);
}

TEST_F(FormationTest, BadClusterIdsAreRefused) {
  StartThree();
  for (const std::string& id : {std::string(), std::string(15, 'x'), std::string(17, 'x')}) {
    EXPECT_EQ(Init("a:1", id).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(identity("a:1").cluster_id(), "");
}

// Safety rule 23: a majority of the join list.
TEST_F(FormationTest, WithoutAMajorityNothingIsBornAndARepeatFinishesIt) {
  Start("a:1");
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("majority"));
  EXPECT_FALSE(nodes_["a:1"]->formation->member());
  // Another id is too late here; the message says with which one to go on.
  answer = Init("a:1", Id('y'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr(ToHex(Id('x'))));
  Start("b:1");
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  EXPECT_TRUE(Members({"a:1", "b:1"}));
}

TEST_F(FormationTest, WhoWasAbsentJoinsThroughTheMetadataGroup) {
  Start("a:1");
  Start("b:1");
  auto answer = Init("a:1", Id('x'));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->nodes(2).condition(), v1::NODE_CONDITION_EXPECTED);
  ASSERT_TRUE(Members({"a:1", "b:1"}));
  metadata_leader_ = false;
  Start("c:1");
  EXPECT_FALSE(Members({"c:1"}, seconds(10))) << "its directory is not written down yet";
  metadata_leader_ = true;
  ASSERT_TRUE(Members({"c:1"}, seconds(5)));
  EXPECT_EQ(written_down_["c:1"], identity("c:1").directory_id());
  EXPECT_EQ(identity("c:1").node_id(), 3u);
  EXPECT_EQ(identity("c:1").cluster_id(), Id('x'));
}

TEST_F(FormationTest, WhoMissedRoundTwoAsksUntilOneKnows) {
  StartThree();
  // c pledges, but is not told.
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  Stop("c:1");  // before round 2 arrives
  Start("c:1");
  EXPECT_EQ(identity("c:1").cluster_id(), Id('x')) << "the pledge is durable";
  EXPECT_FALSE(nodes_["c:1"]->formation->member());
  metadata_leader_ = false;  // not needed: the members name its directory
  EXPECT_TRUE(Members({"c:1"}, seconds(5)));
}

// The one with an undecided voter: no metadata leader can exist until b is a member.
TEST_F(FormationTest, AMajorityIsReachedByAskingWhenTheInitiatorDiesAfterDeciding) {
  StartThree();
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  for (const char* n : {"a:1", "b:1", "c:1"}) Stop(n);  // nobody was told
  metadata_leader_ = false;
  StartThree();
  EXPECT_TRUE(nodes_["a:1"]->directory->identity().node_id() != 0) << "decided durably before it was answered";
  EXPECT_TRUE(Members({"a:1", "b:1", "c:1"}, seconds(5)));
}

TEST_F(FormationTest, InitElsewhereIsPassedToTheInitiator) {
  StartThree();
  peers_.cut = {{"a:1", "b:1"}};   // a reaches c alone
  peers_.mute = {{"a:1", "c:1"}};  // whose answer is lost
  EXPECT_EQ(Init("a:1", Id('x')).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(identity("c:1").initiator(), "a:1");
  peers_.cut.clear();
  peers_.mute.clear();
  // One node decides on the members: c passes it on.
  auto answer = Init("c:1", Id('x'));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(Members({"a:1", "b:1", "c:1"}));
  EXPECT_EQ(identity("c:1").members(0).address(), "a:1");
}

TEST_F(FormationTest, TheFirstClusterIdWins) {
  StartThree();
  peers_.cut = {{"b:1", "a:1"}, {"b:1", "c:1"}};
  EXPECT_FALSE(Init("b:1", Id('y')).ok());
  peers_.cut.clear();
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("b:1"));
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr(ToHex(Id('y'))));
  EXPECT_FALSE(nodes_["a:1"]->formation->member());
  // Emptied, b takes part; what was begun is finished.
  Stop("b:1");
  Wipe("b:1");
  Start("b:1");
  EXPECT_TRUE(Init("a:1", Id('x')).ok());
  EXPECT_TRUE(Members({"a:1", "b:1", "c:1"}));
}

// Two operators at once: every node keeps its first pledge, none of the inits gets on, and each is told who stands
// against it. With what one of them says to do, that one ends.
TEST_F(FormationTest, TwoInitsAtOnceAreEndedByHand) {
  const std::vector<std::string> five = {"a:1", "b:1", "c:1", "d:1", "e:1"};
  for (const std::string& n : five) Start(n, five);
  // d hears of a's first, e of b's, c is down: no cluster id has a majority.
  Stop("c:1");
  peers_.cut = {{"a:1", "e:1"}, {"b:1", "d:1"}};
  std::map<std::string, absl::Status> answers;
  for (const auto& [at, id] : std::map<std::string, char>{{"a:1", 'x'}, {"b:1", 'y'}}) {
    v1::InitRequest request;
    request.set_cluster_id(Id(id));
    nodes_[at]->shard->Post([this, &answers, at = at, request] {
      nodes_[at]->formation->Init(request, [&answers, at](auto answer) { answers[at] = answer.status(); });
    });
  }
  ASSERT_TRUE(time_.Run(seconds(10), [&] { return answers.size() == 2; }));
  peers_.cut.clear();
  Start("c:1", five);
  time_.Run(seconds(60));
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(FactsOf(answer.status()).reason, "PLEDGED_ELSEWHERE");
  const std::string said(answer.status().message());
  for (const std::string& part :
       {absl::StrCat("the node at b:1 is pledged to cluster ", ToHex(Id('y')), ", begun at b:1"),
        absl::StrCat("the node at e:1 is pledged to cluster ", ToHex(Id('y')), ", begun at b:1"),
        std::string("stop b:1, then e:1, empty their data directories"),
        absl::StrCat("repeat init at a:1 with --cluster-id ", ToHex(Id('x')))}) {
    EXPECT_THAT(said, HasSubstr(part));
  }
  for (const std::string& n : five) {
    EXPECT_FALSE(nodes_[n]->formation->member());
    EXPECT_EQ(identity(n).cluster_id(), Id(n == "b:1" || n == "e:1" ? 'y' : 'x')) << n;
  }
  // The other one is told the same about a's.
  answer = Init("b:1", Id('y'));
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("stop a:1, then c:1, then d:1, empty"));

  for (const char* n : {"b:1", "e:1"}) {
    Stop(n);
    Wipe(n);
    Start(n, five);
  }
  answer = Init("a:1", Id('x'));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(Members(five));
}

// One that cannot be asked may have decided: it comes first.
TEST_F(FormationTest, APledgeToAnInitiatorThatIsAwayIsNotGivenUpUnasked) {
  StartThree();
  peers_.cut = {{"b:1", "a:1"}};
  peers_.mute = {{"b:1", "c:1"}};
  EXPECT_FALSE(Init("b:1", Id('y')).ok());
  EXPECT_EQ(identity("c:1").cluster_id(), Id('y'));
  Stop("b:1");
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()),
              HasSubstr("make sure that no cluster was born at b:1 (trireme cluster status --server b:1 says so)"));
}

// The same id said to two nodes at once: a pledge is to one that decides, too.
TEST_F(FormationTest, OneIdAtTwoInitiatorsIsNamed) {
  StartThree();
  peers_.cut = {{"b:1", "a:1"}, {"b:1", "c:1"}};
  EXPECT_FALSE(Init("b:1", Id('x')).ok());
  peers_.cut.clear();
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()),
              HasSubstr(absl::StrCat("the node at b:1 is pledged to cluster ", ToHex(Id('x')), ", begun at b:1")));
  EXPECT_FALSE(nodes_["a:1"]->formation->member());
}

// The heart of Safety rule 23: whoever is asked, whatever is lost, there is one cluster with one list of members.
class FormationChaos : public FormationTest, public testing::WithParamInterface<uint64_t> {};

TEST_P(FormationChaos, OneListOfMembersPerClusterAndOneCluster) {
  SCOPED_TRACE(absl::StrCat("seed ", GetParam()));
  std::mt19937_64 random(GetParam());
  const std::vector<std::string> names = {"a:1", "b:1", "c:1", "d:1", "e:1"};
  size_t n = 2 + random() % 4;
  std::vector<std::string> join(names.begin(), names.begin() + static_cast<long>(n));
  for (const auto& name : join) Start(name, join);
  std::vector<std::string> decided;  // the member lists ever seen, serialized
  auto look = [&] {
    for (const auto& name : join) {
      if (nodes_[name] == nullptr || !nodes_[name]->formation->member()) continue;
      std::string all = identity(name).cluster_id();
      for (const auto& m : identity(name).members()) {
        // A directory may be filled in by a join, and never changes.
        absl::StrAppend(&all, "|", m.id(), m.address(), m.metadata_replica_id());
        if (!m.directory_id().empty()) {
          auto [it, first] = written_down_.emplace(m.address(), m.directory_id());
          EXPECT_EQ(it->second, m.directory_id()) << m.address();
        }
      }
      decided.push_back(all);
      EXPECT_EQ(all, decided.front());
    }
  };
  for (int step = 0; step < 40; ++step) {
    const std::string& name = join[random() % n];
    switch (random() % 5) {
      case 0:
        if (nodes_[name] != nullptr) {
          Stop(name);
        } else {
          Start(name, join);
        }
        break;
      case 1:
        peers_.cut.insert({name, join[random() % n]});
        break;
      case 2:
        peers_.mute.insert({name, join[random() % n]});
        break;
      case 3:
        peers_.cut.clear();
        peers_.mute.clear();
        break;
      default:
        if (nodes_[name] != nullptr) {
          v1::InitRequest request;
          request.set_cluster_id(Id(random() % 4 == 0 ? 'y' : 'x'));
          Node* node = nodes_[name].get();
          node->shard->Post([node, request] { node->formation->Init(request, [](auto) {}); });
        }
    }
    time_.Run(milliseconds(random() % 3000));
    look();
  }
  // Once one was born, all that pledged to it, or to nothing, come to it.
  peers_.cut.clear();
  peers_.mute.clear();
  for (const auto& name : join) {
    if (nodes_[name] == nullptr) Start(name, join);
  }
  time_.Run(seconds(30));
  look();
  if (decided.empty()) return;
  std::string born = decided.front().substr(0, kIdBytes);
  for (const auto& name : join) {
    bool mine = identity(name).cluster_id() == born;
    EXPECT_EQ(nodes_[name]->formation->member(), mine) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, FormationChaos, testing::Range<uint64_t>(1, 121));

TEST_F(FormationTest, JoinListsThatDifferAreRefusedNamingBoth) {
  Start("a:1");
  Start("b:1", {"a:1", "b:1", "d:1"});
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("a:1,b:1,c:1"));
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("a:1,b:1,d:1"));
  EXPECT_EQ(identity("b:1").cluster_id(), "");
}

TEST_F(FormationTest, JoinListsInAnotherOrderAreTheSame) {
  Start("a:1");
  Start("b:1", {"c:1", "b:1", "a:1"});
  ASSERT_TRUE(Init("b:1", Id('x')).ok());
  ASSERT_TRUE(Members({"a:1", "b:1"}));
  EXPECT_EQ(identity("a:1").node_id(), 3u) << "the initiator's order counts";
}

// Safety rule 12.
TEST_F(FormationTest, AWipedMemberIsRefusedEverywhere) {
  StartThree();
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  ASSERT_TRUE(Members({"a:1", "b:1", "c:1"}));
  std::string old = identity("c:1").directory_id();
  Stop("c:1");
  Wipe("c:1");
  Node& c = Start("c:1");
  EXPECT_FALSE(Members({"c:1"}, seconds(5)));
  EXPECT_EQ(c.refused.code(), absl::StatusCode::kAlreadyExists);
  for (const std::string& part :
       {std::string("node 3"), std::string("c:1"), ToHex(old), ToHex(identity("c:1").directory_id())}) {
    EXPECT_THAT(std::string(c.refused.message()), HasSubstr(part));
  }
}

TEST_F(FormationTest, AWipedNodeThatJoinedLateIsRefused) {
  Start("a:1");
  Start("b:1");
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  Start("c:1");
  ASSERT_TRUE(Members({"a:1", "b:1", "c:1"}));
  Stop("c:1");
  Wipe("c:1");
  EXPECT_FALSE(Members({"c:1"}, milliseconds(1)));
  Node& c = Start("c:1");
  EXPECT_FALSE(Members({"c:1"}, seconds(5)));
  EXPECT_EQ(c.refused.code(), absl::StatusCode::kAlreadyExists);
}

// A wiped initiator must not decide a second time.
TEST_F(FormationTest, AWipedInitiatorCannotDecideAgain) {
  StartThree();
  v1::InitRequest request;
  request.set_cluster_id(Id('x'));
  nodes_["a:1"]->shard->Post([&] { nodes_["a:1"]->formation->Init(request, [](auto) {}); });
  ASSERT_TRUE(time_.Run(seconds(1),
                        [&] { return identity("b:1").initiator() == "a:1" && identity("c:1").initiator() == "a:1"; }));
  peers_.cut = {{"a:1", "b:1"}, {"a:1", "c:1"}};  // both have pledged, and are not told
  ASSERT_TRUE(Members({"a:1"}, seconds(1)));
  Stop("a:1");
  Wipe("a:1");
  peers_.cut.clear();
  Start("a:1");
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("another data directory"));
  EXPECT_FALSE(nodes_["a:1"]->formation->member());
  EXPECT_FALSE(nodes_["b:1"]->formation->member());
}

TEST_F(FormationTest, AskedByAnotherNameIsRefused) {
  StartThree();
  peer::PledgeRequest request;
  request.set_cluster_id(Id('x'));
  request.set_address("other:1");
  auto answer = nodes_["a:1"]->formation->Pledge(request);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("other:1"));
  request.set_address("a:1");
  request.set_cluster_id("short");
  EXPECT_EQ(nodes_["a:1"]->formation->Pledge(request).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(identity("a:1").cluster_id(), "");
}

// Safety rule 16: a promise that could not be written is not given, and the node ends.
TEST_F(FormationTest, AnIdentityThatCannotBeWrittenEndsTheNode) {
  StartThree();
  Wipe("b:1");  // the directory is gone under the running node
  auto answer = Init("a:1", Id('x'));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(nodes_["b:1"]->refused.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(identity("b:1").cluster_id(), "");
  EXPECT_FALSE(nodes_["a:1"]->formation->member());
}

TEST_F(FormationTest, MalformedMembersAreRefused) {
  Start("b:1");
  peer::PledgeRequest request;
  request.set_cluster_id(Id('x'));
  request.set_address("b:1");
  request.set_initiator("a:1");
  request.set_initiator_directory_id(Id('a'));
  for (const char* n : {"a:1", "b:1", "c:1"}) request.add_join(n);
  ASSERT_TRUE(nodes_["b:1"]->formation->Pledge(request).ok());
  for (int twice = 0; twice < 2; ++twice) {
    auto* member = request.add_members();
    member->set_node_id(1);
    member->set_address("b:1");
    member->set_metadata_replica_id(1);
    member->set_directory_id(identity("b:1").directory_id());
  }
  EXPECT_FALSE(nodes_["b:1"]->formation->Pledge(request).ok());
  EXPECT_FALSE(nodes_["b:1"]->formation->member());
  request.mutable_members(1)->set_address("a:1");
  request.mutable_members(1)->set_node_id(2);
  EXPECT_FALSE(nodes_["b:1"]->formation->Pledge(request).ok()) << "one replica id twice";
  request.mutable_members(1)->set_metadata_replica_id(2);
  EXPECT_TRUE(nodes_["b:1"]->formation->Pledge(request).ok());
  EXPECT_TRUE(nodes_["b:1"]->formation->member());
}

TEST_F(FormationTest, ANodeOfAnotherClusterIsNotWrittenDown) {
  Start("a:1");
  Start("b:1");
  Start("c:1");
  peers_.cut = {{"c:1", "a:1"}, {"c:1", "b:1"}, {"a:1", "c:1"}};
  EXPECT_FALSE(Init("c:1", Id('y')).ok());
  ASSERT_TRUE(Init("a:1", Id('x')).ok());
  peers_.cut.clear();
  EXPECT_FALSE(Members({"c:1"}, seconds(10)));
  EXPECT_EQ(written_down_.count("c:1"), 0u);
  EXPECT_TRUE(nodes_["c:1"]->refused.ok()) << "it waits, and says why in its log";
}

}  // namespace
}  // namespace trireme::broker
