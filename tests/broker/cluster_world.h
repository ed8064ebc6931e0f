// Whole nodes but for gRPC and RocksDB, over simulated time: the cluster's logic with real hosts and replicas.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/cluster/cluster.h"
#include "broker/cluster/member_plan.h"
#include "broker/cluster/metadata_codec.h"
#include "tests/broker/fake_host.h"
#include "tests/broker/fake_peers.h"
#include "tests/broker/fake_shard.h"
#include "tests/broker/temp_dir.h"

namespace trireme::broker {

namespace v1 = trireme::v1;

inline constexpr size_t kShards = 2;

// A queue whose content is of no interest here.
class IdleMachine final : public raft::StateMachine {
 public:
  absl::Status Check(const raft::Entry&) const override { return absl::OkStatus(); }
  absl::Status Apply(const raft::Entry& entry) override {
    applied_ = entry.index;
    return absl::OkStatus();
  }
  void RoleChanged(const raft::RoleChange&, bool) override {}
  raft::Bytes Snapshot() const override { return raft::Bytes::Copy("idle"); }
  absl::Status CheckSnapshot(const raft::Bytes&, raft::Index) const override { return absl::OkStatus(); }
  absl::Status Restore(const raft::Bytes&, raft::Index index) override {
    applied_ = index;
    return absl::OkStatus();
  }
  uint64_t Digest() const override { return applied_.value(); }
  Liveness Live() const override { return {applied_, {}}; }

 private:
  raft::Index applied_;
};

// What outlives a node's process.
struct Disk {
  explicit Disk(FakeTime* time) : store(time) {}
  MemoryStore store;
};

class TestNode final : public ReplicaHosting {
 public:
  TestNode(std::string address, std::vector<std::string> join, const std::string& path, Disk* disk, FakeTime* time,
           FakePeers* peers, FakeNetwork* network)
      : address_(std::move(address)), disk_(disk), time_(time), network_(network), peers_(peers) {
    auto opened = DataDirectory::Open(path, address_);
    EXPECT_TRUE(opened.ok()) << opened.status();
    directory_ = *std::move(opened);
    std::vector<raft::Shard*> shards;
    for (raft::ShardId id = 0; id < kShards; ++id) {
      shards_.push_back(std::make_shared<FakeShard>(id, time));
      shards.push_back(shards_.back().get());
    }
    home_ = shards_[ShardOf(kMetadataGroup, kShards)].get();
    caller_ = std::make_shared<FakePeerCaller>(address_, home_, peers);
    Cluster::Options options;
    options.formation.join = std::move(join);
    cluster = std::make_unique<Cluster>(options, directory_.get(), shards, caller_.get(), this, disk->store.Recover());
    auto asked = [this] { return Asked{home_, home_->Now() + std::chrono::seconds(30)}; };
    Cluster* c = cluster.get();
    handlers_.pledge = [c, asked](auto request, auto done) { c->Pledge(std::move(request), asked(), std::move(done)); };
    handlers_.join = [c, asked](auto request, auto done) { c->Join(std::move(request), asked(), std::move(done)); };
    handlers_.init = [c, asked](auto request, auto done) { c->Init(std::move(request), asked(), std::move(done)); };
    handlers_.barrier = [c, asked](auto r, auto done) { c->Barrier(std::move(r), asked(), std::move(done)); };
    handlers_.create = [c, asked](auto r, auto done) { c->CreateHere(std::move(r), asked(), std::move(done)); };
    handlers_.remove = [c, asked](auto r, auto done) { c->DeleteHere(std::move(r), asked(), std::move(done)); };
    handlers_.change_members = [c, asked](auto r, auto done) {
      c->ChangeMembersHere(std::move(r), asked(), std::move(done));
    };
    handlers_.change_routing = [c, asked](auto r, auto done) {
      c->ChangeRoutingHere(std::move(r), asked(), std::move(done));
    };
    peers->nodes[address_] = {home_, &handlers_};
    cluster->Start();
  }
  // As SIGKILL.
  ~TestNode() override {
    peers_->nodes.erase(address_);
    for (auto& shard : shards_) shard->Stop();
    hosts_.clear();
    transports_.clear();
    cluster.reset();
    for (auto& shard : shards_) {
      shard->Clear();
      time_->Keep(std::move(shard));
    }
    time_->Keep(std::move(caller_));
  }

  void BecomeMember(const trireme::meta::v1::Identity& identity, absl::AnyInvocable<void()> done) override {
    for (auto& shard : shards_) {
      raft::HostOptions options;
      options.node = raft::NodeId(identity.node_id());
      options.seed = identity.node_id() * 1000 + identity.starts() * 10 + shard->id();
      options.snapshot_entries = 20;
      options.lag_entries = 40;
      transports_.push_back(std::make_unique<FakeTransport>(options.node, shard.get(), network_));
      hosts_.push_back(std::make_unique<raft::Host>(options, shard.get(), &disk_->store, &disk_->store, nullptr,
                                                    transports_.back().get()));
    }
    for (auto& shard : shards_) KeepMembersOf(shard.get());
    home_->Post([done = std::move(done)]() mutable { done(); });
  }
  void KeepMembersOf(FakeShard* shard) {
    shard->After(std::chrono::seconds(1), [this, shard] {
      KeepMembersOf(shard);
      KeepMembers(
          cluster->view(shard->id()), [this, shard](raft::GroupId group) { return hosts_[shard->id()]->Find(group); },
          [this](raft::GroupId group, const auto& members) { cluster->ReportMembers(group, members); });
    });
  }
  absl::StatusOr<raft::Group*> StartMetadata(const raft::GroupSpec& spec, std::unique_ptr<raft::StateMachine> machine,
                                             std::optional<raft::StoredGroup> stored) override {
    metadata_ = static_cast<MetadataMachine*>(machine.get());
    return hosts_[home_->id()]->Add(spec, std::move(machine), std::move(stored));
  }
  void StartReplica(QueuePtr queue, const raft::GroupSpec& spec, std::optional<raft::StoredGroup> stored) override {
    raft::ShardId shard = ShardOf(spec.group, kShards);
    EXPECT_EQ(started.count(spec.group), 0u) << "started twice: " << spec.group;
    started[spec.group] = queue->name;
    if (stored.has_value()) ++adopted;
    shards_[shard]->Post([this, shard, spec, stored = std::move(stored)]() mutable {
      auto group = hosts_[shard]->Add(spec, std::make_unique<IdleMachine>(), std::move(stored));
      EXPECT_TRUE(group.ok()) << group.status();
    });
  }
  void InformReplica(const QueueInfo& queue) override {
    raft::ShardId shard = ShardOf(queue.group, kShards);
    shards_[shard]->Post([this, shard, group = queue.group, listed = queue.Listed()]() mutable {
      hosts_[shard]->Inform(group, std::move(listed));
    });
  }
  void DeleteReplica(raft::GroupId group, bool running) override {
    ++deleted;
    started.erase(group);
    raft::ShardId shard = ShardOf(group, kShards);
    shards_[shard]->Post([this, shard, group, running] {
      if (running) return hosts_[shard]->Remove(group);
      disk_->store.DeleteGroup(group, [] {});
    });
  }
  void NodesChanged(const std::string& id, const std::vector<NodeRecord>& nodes) override {
    cluster_id = id;
    known = nodes;
  }
  bool Up(raft::NodeId node) const override { return !transports_.empty() && transports_[home_->id()]->Up(node); }
  void CountLeaders(absl::AnyInvocable<void(std::map<raft::NodeId, uint32_t>)> done) override {
    std::map<raft::NodeId, uint32_t> counts;
    ++counts[cluster->leader()];
    done(counts);
  }
  void Fatal(absl::Status status) override { fatal = std::move(status); }

  FakeShard* home() { return home_; }
  FakeShard* shard(size_t n) { return shards_[n].get(); }
  // Null before it is a member, too.
  raft::Group* Find(raft::GroupId group) {
    return hosts_.size() < kShards ? nullptr : hosts_[ShardOf(group, kShards)]->Find(group);
  }
  const DataDirectory& directory() const { return *directory_; }
  const MetadataMachine* metadata() const { return metadata_; }
  // Snapshots that the metadata group's shard has taken from others.
  uint64_t installed() const { return hosts_[home_->id()]->figures().snapshots_installed; }

  std::unique_ptr<Cluster> cluster;
  std::map<raft::GroupId, std::string> started;
  int adopted = 0, deleted = 0;
  std::string cluster_id;
  std::vector<NodeRecord> known;
  absl::Status fatal;

 private:
  const std::string address_;
  Disk* const disk_;
  FakeTime* const time_;
  FakeNetwork* const network_;
  FakePeers* const peers_;
  std::unique_ptr<DataDirectory> directory_;
  std::vector<std::shared_ptr<FakeShard>> shards_;
  FakeShard* home_ = nullptr;
  std::shared_ptr<FakePeerCaller> caller_;
  PeerHandlers handlers_;
  std::vector<std::unique_ptr<FakeTransport>> transports_;
  std::vector<std::unique_ptr<raft::Host>> hosts_;
  MetadataMachine* metadata_ = nullptr;
};

class ClusterTest : public testing::Test {
 protected:
  void Start(const std::string& name) {
    if (!disks_.contains(name)) disks_[name] = std::make_unique<Disk>(&time_);
    nodes_[name] = std::make_unique<TestNode>(name + ":1", join_, dir_.path() + "/" + name, disks_[name].get(), &time_,
                                              &peers_, &network_);
  }
  // The process ends at once.
  void Kill(const std::string& name) { nodes_.erase(name); }
  void Wipe(const std::string& name) {
    disks_.erase(name);
    std::filesystem::remove_all(dir_.path() + "/" + name);
  }
  TestNode& node(const std::string& name) { return *nodes_.at(name); }

  void StartThree() {
    for (const char* n : {"a", "b", "c"}) Start(n);
    Init("a");
    ASSERT_TRUE(time_.Run(std::chrono::seconds(20), [this] { return AllBorn(); }));
  }
  void Init(const std::string& at) {
    v1::InitRequest request;
    request.set_cluster_id(std::string(16, 'x'));
    auto done = Ask<v1::InitResponse>(at, [&](Cluster& c, Asked asked, Answer<v1::InitResponse> answer) {
      c.Init(request, asked, std::move(answer));
    });
    ASSERT_TRUE(done.ok()) << done.status();
  }
  bool AllBorn() {
    for (auto& [name, node] : nodes_) {
      for (raft::ShardId id = 0; id < kShards; ++id) {
        if (!node->cluster->view(id).born()) return false;
      }
      if (node->cluster->leader().value() == 0) return false;
    }
    return true;
  }

  template <typename T, typename Act>
  absl::StatusOr<T> Ask(const std::string& at, Act act, std::chrono::milliseconds patience = std::chrono::seconds(30)) {
    auto result = std::make_shared<std::optional<absl::StatusOr<T>>>();
    // From the other shard than the cluster's own.
    FakeShard* shard = node(at).shard(0);
    Answer<T> answer = [shard, result](absl::StatusOr<T> r) {
      EXPECT_TRUE(shard->OnThisThread()) << "answered on another shard";
      EXPECT_FALSE(result->has_value()) << "answered twice";
      *result = std::move(r);
    };
    Cluster* cluster = node(at).cluster.get();
    act(*cluster, Asked{shard, time_.now() + patience}, std::move(answer));
    EXPECT_TRUE(time_.Run(patience + std::chrono::seconds(5), [&] { return result->has_value(); })) << "never answered";
    return result->has_value() ? **result : absl::InternalError("never answered");
  }
  absl::StatusOr<CreatedQueue> Create(const std::string& at, const std::string& name, uint32_t replicas = 0,
                                      std::chrono::milliseconds patience = std::chrono::seconds(30)) {
    v1::CreateQueueRequest request;
    request.set_name(name);
    request.mutable_settings()->set_replicas(replicas);
    return Ask<CreatedQueue>(
        at,
        [&](Cluster& c, Asked asked, Answer<CreatedQueue> answer) { c.CreateQueue(request, asked, std::move(answer)); },
        patience);
  }
  absl::StatusOr<raft::Index> Delete(const std::string& at, const std::string& name) {
    return Ask<raft::Index>(at, [&](Cluster& c, Asked asked, Answer<raft::Index> answer) {
      c.DeleteQueue(name, asked, std::move(answer));
    });
  }
  absl::StatusOr<QueuePtr> Lookup(const std::string& at, const std::string& name,
                                  std::chrono::milliseconds patience = std::chrono::seconds(30)) {
    return Ask<QueuePtr>(
        at, [&](Cluster& c, Asked asked, Answer<QueuePtr> answer) { c.Lookup(name, asked, std::move(answer)); },
        patience);
  }
  absl::StatusOr<v1::StatusResponse> Status(const std::string& at) {
    return Ask<v1::StatusResponse>(
        at, [](Cluster& c, Asked asked, Answer<v1::StatusResponse> answer) { c.Status({}, asked, std::move(answer)); });
  }
  std::string MetadataLeader() {
    for (auto& [name, node] : nodes_) {
      if (node->cluster->leader() == node->cluster->self() && node->cluster->self().value() != 0) return name;
    }
    return "";
  }
  std::string Follower() {
    for (auto& [name, node] : nodes_) {
      if (name != MetadataLeader()) return name;
    }
    return "";
  }
  void Cut(const std::string& name) {
    raft::NodeId self = node(name).cluster->self();
    for (uint64_t n = 1; n <= join_.size(); ++n) {
      network_.cut.insert({self, raft::NodeId(n)});
      network_.cut.insert({raft::NodeId(n), self});
    }
    for (const std::string& other : join_) {
      peers_.cut.insert({name + ":1", other});
      peers_.cut.insert({other, name + ":1"});
    }
  }
  void Heal() {
    network_.cut.clear();
    peers_.cut.clear();
  }

  TempDir dir_;
  FakeTime time_;
  FakePeers peers_{&time_};
  FakeNetwork network_;
  std::vector<std::string> join_ = {"a:1", "b:1", "c:1"};
  std::map<std::string, std::unique_ptr<Disk>> disks_;
  std::map<std::string, std::unique_ptr<TestNode>> nodes_;
};

}  // namespace trireme::broker
