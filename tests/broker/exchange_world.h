// Queues on three simulated nodes behind an exchange: the production publisher, feeds, replicas, host and core. What
// stands between them is a network that breaks.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/replica/queue_replica.h"
#include "broker/routing/exchange_publisher.h"
#include "tests/host/world.h"
#include "trireme/v1/message.pb.h"

namespace trireme::broker::testing {

using raft::testing::SimNode;
using raft::testing::SimShard;
using raft::testing::World;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// An encoded MessageBatch of these (routing key, body).
inline raft::Bytes RoutedBatch(const std::vector<std::pair<std::string, std::string>>& messages) {
  trireme::v1::MessageBatch batch;
  for (const auto& [key, body] : messages) {
    auto* message = batch.add_messages();
    message->set_routing_key(key);
    message->set_body(body);
  }
  return raft::Bytes::Take(batch.SerializeAsString());
}

// Queue number g is group g and is called "q" and that number.
class ExchangeWorld {
 public:
  ExchangeWorld(uint64_t seed, uint64_t queues) : world(seed), shard(&world.clock(), &no_error_) {
    world.make_machine = [this](SimNode& n, uint64_t group) {
      ReplicaLimits limits;
      limits.low_disk = [this, group] { return low_disk.contains(group); };
      auto replica = std::make_unique<QueueReplica>(n.shard.get(), limits, "q" + std::to_string(group));
      made_[{n.id.value(), group}] = replica.get();
      return replica;
    };
    world.on_added = [this](SimNode& n, raft::Group* group) {
      const auto key = std::make_pair(n.id.value(), group->id().value());
      replicas[key] = made_[key];
      replicas[key]->Start(group);
    };
    world.StartAll();
    for (uint64_t group = 1; group <= queues; ++group) {
      world.AddEverywhere(group);
      auto info = std::make_shared<QueueInfo>();
      info->name = "q" + std::to_string(group);
      info->group = raft::GroupId(group);
      queue.push_back(std::move(info));
    }
  }
  ~ExchangeWorld() {
    for (uint64_t id = 1; id <= 3; ++id) {
      if (world.node(id).up()) Kill(id);
    }
  }

  void Kill(uint64_t id) {
    std::erase_if(replicas, [&](const auto& replica) { return replica.first.first == id; });
    ++lives[id];
    world.Kill(id);
  }
  // The node that serves a queue; 0 = none.
  uint64_t Leader(uint64_t group) {
    uint64_t leader = 0;
    for (auto& [key, replica] : replicas) {
      if (key.second != group || !replica->serving()) continue;
      if (leader == 0 || replica->group()->term() > replicas[{leader, group}]->group()->term()) leader = key.first;
    }
    return leader;
  }
  QueueReplica* Serving(uint64_t group) {
    const uint64_t leader = Leader(group);
    return leader == 0 ? nullptr : replicas[{leader, group}];
  }
  // The bodies that a queue holds, in their order; they are taken.
  std::vector<std::string> TakeAll(uint64_t group) {
    std::vector<std::string> bodies;
    while (true) {
      if (!world.RunUntil([&] { return Serving(group) != nullptr; })) ADD_FAILURE() << "no leader of " << group;
      std::optional<std::vector<DeliveredRun>> got;
      Serving(group)->Receive("default", 1'000, milliseconds(0), milliseconds(3'600'000),
                              [&](absl::StatusOr<Received> given) { got = std::move(given->runs); });
      if (!world.RunUntil([&] { return got.has_value(); })) ADD_FAILURE() << "no answer of " << group;
      if (!got || got->empty()) return bodies;
      for (const DeliveredRun& run : *got) {
        trireme::v1::MessageBatch batch;
        EXPECT_TRUE(batch.ParseFromArray(run.batch.data(), static_cast<int>(run.batch.size())));
        for (const auto& message : batch.messages()) bodies.push_back(message.body());
      }
    }
  }

  const raft::testing::ClockError no_error_ = {};
  World world;
  // The publisher's, on a machine of its own.
  SimShard shard;
  std::vector<QueuePtr> queue;
  std::map<std::pair<uint64_t, uint64_t>, QueueReplica*> replicas;  // by node and group, of nodes that are up
  std::map<uint64_t, uint64_t> lives;                               // of nodes
  std::set<uint64_t> low_disk;                                      // groups
  std::set<uint64_t> unreachable;                                   // groups

 private:
  std::map<std::pair<uint64_t, uint64_t>, QueueReplica*> made_;
};

// Ways to the replicas of an ExchangeWorld that take some time and break when a node dies.
class SimLinks final : public QueueLinks {
 public:
  SimLinks(ExchangeWorld* world, std::string producer) : world_(world), producer_(std::move(producer)) {}

  std::shared_ptr<QueueLink> Open(const Wanted& wanted, std::weak_ptr<QueueLink::Owner> owner) override {
    auto link = std::make_shared<Link>(world_, producer_, wanted, std::move(owner));
    link->Later([](Link& l) { l.Look(); });
    return link;
  }

 private:
  class Link;
  class Sink final : public PublishSink {
   public:
    explicit Sink(std::weak_ptr<Link> link) : link_(std::move(link)) {}
    void Confirmed(uint32_t, PublishOutcome outcome, size_t) override {
      if (auto link = link_.lock()) link->Confirmed(std::move(outcome));
    }
    void Cut(uint32_t, CutReason, const std::string& text) override {
      if (auto link = link_.lock()) link->Later([text](Link& l) { l.Ended(QueueLink::End::kBroken, text); });
    }

   private:
    const std::weak_ptr<Link> link_;
  };

  class Link final : public QueueLink, public std::enable_shared_from_this<Link> {
   public:
    Link(ExchangeWorld* world, std::string producer, Wanted wanted, std::weak_ptr<Owner> owner)
        : world_(world), producer_(std::move(producer)), wanted_(std::move(wanted)), owner_(std::move(owner)) {}

    // In order: the clock keeps what is due at one time in the order in which it was asked for.
    void Later(std::function<void(Link&)> act, microseconds delay = microseconds(100)) {
      world_->world.clock().In(delay, [weak = weak_from_this(), act = std::move(act)] {
        auto link = weak.lock();
        if (link != nullptr && !link->closed_) act(*link);
      });
    }
    void Look() {
      const uint64_t group = wanted_.queue->group.value();
      node_ = world_->Leader(group);
      if (node_ == 0 || world_->unreachable.contains(group)) {
        if (world_->shard.Now() >= wanted_.deadline) return Ended(End::kBroken, "no leader");
        return Later([](Link& l) { l.Look(); }, milliseconds(10));
      }
      life_ = world_->lives[node_];
      Watch();
      sink_ = std::make_shared<Sink>(weak_from_this());
      if (producer_.empty()) return Later([](Link& l) { l.Bound(0); });
      auto opened = [weak = weak_from_this()](absl::StatusOr<QueueReplica::OpenedProducer> producer) {
        auto link = weak.lock();
        if (link == nullptr) return;
        link->Later([producer](Link& l) {
          if (producer.ok()) return l.Bound(producer->epoch);
          const bool fenced = producer.status().code() == absl::StatusCode::kAborted;
          l.Ended(fenced ? End::kFenced : End::kBroken, std::string(producer.status().message()));
        });
      };
      QueueReplica* replica = Replica();
      if (wanted_.join) return replica->JoinProducer(producer_, wanted_.epoch, 1, std::move(opened));
      replica->OpenProducer(producer_, wanted_.epoch, std::move(opened));
    }
    void Send(uint64_t number, raft::Bytes batch) override {
      Later([number, batch](Link& l) {
        QueueReplica* replica = l.Replica();
        if (replica == nullptr || l.Unreachable()) return;
        replica->Publish({l.sink_, 0, l.producer_, l.epoch_, number, batch, !l.wanted_.join});
      });
    }
    void Close() override { closed_ = true; }
    void Ended(End how, const std::string& reason) {
      closed_ = true;
      if (auto owner = owner_.lock()) owner->OnEnd(how, reason);
    }
    void Confirmed(PublishOutcome outcome) {
      if (Unreachable()) return;
      if (outcome.kind == PublishOutcome::Kind::kMoved && !producer_.empty()) return;
      Later([this, outcome = std::move(outcome)](Link&) {
        Answer answer{outcome.first_sequence, producer_.empty() ? 1 : outcome.count, QueueOutcome::kUnknown,
                      outcome.reason};
        if (outcome.kind == PublishOutcome::Kind::kOk) answer.outcome = QueueOutcome::kStored;
        if (outcome.kind == PublishOutcome::Kind::kDuplicate) answer.outcome = QueueOutcome::kDuplicate;
        if (outcome.kind == PublishOutcome::Kind::kFenced) answer.outcome = QueueOutcome::kFenced;
        if (outcome.kind == PublishOutcome::Kind::kRefused || outcome.kind == PublishOutcome::Kind::kMoved) {
          answer.outcome = QueueOutcome::kRefused;
        }
        if (auto owner = owner_.lock()) owner->OnAnswer(answer);
      });
    }

   private:
    QueueReplica* Replica() {
      auto found = world_->replicas.find({node_, wanted_.queue->group.value()});
      return found == world_->replicas.end() || world_->lives[node_] != life_ ? nullptr : found->second;
    }
    bool Unreachable() const { return world_->unreachable.contains(wanted_.queue->group.value()); }
    void Bound(uint64_t epoch) {
      epoch_ = epoch;
      if (auto owner = owner_.lock()) owner->OnBound(epoch);
    }
    // The connection closes when the node's process dies.
    void Watch() {
      if (Replica() == nullptr) return Ended(End::kBroken, "the node died");
      Later([](Link& l) { l.Watch(); }, milliseconds(5));
    }

    ExchangeWorld* const world_;
    const std::string producer_;
    const Wanted wanted_;
    const std::weak_ptr<Owner> owner_;
    std::shared_ptr<Sink> sink_;
    uint64_t node_ = 0, life_ = 0, epoch_ = 0;
    bool closed_ = false;
  };

  ExchangeWorld* const world_;
  const std::string producer_;
};

}  // namespace trireme::broker::testing
