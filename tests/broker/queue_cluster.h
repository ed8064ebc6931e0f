// A queue on simulated nodes: the production replica, host and core, with producers and consumers that are
// scripts.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "broker/message/message.h"
#include "broker/queue/batch.h"
#include "broker/replica/queue_replica.h"
#include "raft/core/coding.h"
#include "tests/host/world.h"

namespace trireme::broker::testing {

using raft::testing::SimNode;
using raft::testing::World;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// An encoded MessageBatch with these bodies, each to be delivered after so long.
inline raft::Bytes BatchOf(const std::vector<std::string>& bodies, int64_t delay_ms = 0) {
  raft::Writer batch;
  for (const std::string& body : bodies) {
    raft::Writer message;
    message.Byte(1 << 3 | 2);
    message.Counted(body);
    if (delay_ms != 0) {
      message.Byte(message::kDelayMs << 3);
      message.Varint(static_cast<uint64_t>(delay_ms));
    }
    batch.Byte(1 << 3 | 2);
    batch.Counted(message.bytes());
  }
  return raft::Bytes::Take(batch.Take());
}

inline std::vector<std::string> BodiesOf(const raft::Bytes& batch) {
  std::vector<std::string> bodies;
  for (queue::BatchWalker walker(batch.view()); walker.Next();) {
    raft::Reader in(walker.message());
    in.Byte();
    bodies.emplace_back(in.Counted());
  }
  return bodies;
}

// Nodes are killed and started through this, so that clients hear of it.
class QueueWorld {
 public:
  explicit QueueWorld(uint64_t seed, uint64_t queue_group = 1, int nodes = 3) : group(queue_group), world(seed, nodes) {
    world.make_machine = [this](SimNode& n, uint64_t) {
      auto replica = std::make_unique<QueueReplica>(n.shard.get(), limits, "q");
      made_[n.id.value()] = replica.get();
      return replica;
    };
    world.on_added = [this](SimNode& n, raft::Group* group) {
      replicas[n.id.value()] = made_[n.id.value()];
      replicas[n.id.value()]->Start(group);
    };
  }
  ~QueueWorld() {
    for (uint64_t id = 1; id <= world.nodes(); ++id) {
      if (world.node(id).up()) Kill(id);
    }
  }

  // False if nobody came to lead.
  bool Up() {
    world.StartAll();
    world.AddEverywhere(group.value());
    return world.RunUntil([&] { return Leader() != 0; });
  }
  void Kill(uint64_t id) {
    replicas.erase(id);
    world.Kill(id);
  }
  // What is stored of the queue there goes, and what runs of it.
  void Remove(uint64_t id) {
    if (auto found = replicas.find(id); found != replicas.end()) {
      found->second->Stop(CutReason::kNotLeader);
      replicas.erase(found);
    }
    world.node(id).stopped.erase(group);
    world.node(id).host->Remove(group);
  }
  // Simulated time since this was made.
  int64_t Elapsed() { return std::chrono::duration_cast<microseconds>(world.clock().now() - began_).count(); }
  // 0 = none serves. With two that think so, the one of the later term.
  uint64_t Leader() {
    uint64_t leader = 0;
    for (auto& [id, replica] : replicas) {
      if (!replica->serving()) continue;
      if (leader == 0 || replica->group()->term() > replicas[leader]->group()->term()) leader = id;
    }
    return leader;
  }
  QueueReplica* Serving() { return Leader() == 0 ? nullptr : replicas[Leader()]; }

  const raft::GroupId group;
  World world;
  ReplicaLimits limits;
  std::map<uint64_t, QueueReplica*> replicas;  // by node, of those that are up

 private:
  const raft::MonotonicTime began_ = world.clock().now();
  std::map<uint64_t, QueueReplica*> made_;
};

// Notes what a replica answers.
class NotingPublishSink final : public PublishSink {
 public:
  void Confirmed(uint32_t, PublishOutcome outcome, size_t bytes) override {
    outcomes.push_back(outcome);
    freed += bytes;
  }
  void Cut(uint32_t, CutReason reason, const std::string&) override { cut = reason; }
  std::vector<PublishOutcome> outcomes;
  size_t freed = 0;
  std::optional<CutReason> cut;
};

class NotingConsumerSink final : public ConsumerSink {
 public:
  void Attached(const Opened& opened) override {
    attached = true;
    resumed = opened.resumed;
    epoch = opened.epoch;
    standby = opened.standby;
  }
  void Stands(bool by) override { standby = by; }
  void Deliver(std::vector<DeliveredRun> more) override {
    for (DeliveredRun& run : more) runs.push_back(std::move(run));
  }
  void Receipt(uint64_t receipt, std::vector<queue::Token> l) override {
    if (receipt != 0) receipts.insert(receipt);
    lost.insert(lost.end(), l.begin(), l.end());
  }
  void Cut(CutReason reason, const std::string&) override { cut = reason; }

  uint64_t messages() const {
    uint64_t n = 0;
    for (const DeliveredRun& run : runs) n += run.slots.count;
    return n;
  }
  bool attached = false, resumed = false, standby = false;
  uint64_t epoch = 0;
  std::vector<DeliveredRun> runs;
  std::set<uint64_t> receipts;
  std::vector<queue::Token> lost;
  std::optional<CutReason> cut;
};

inline queue::Token TokenOf(const DeliveredRun& run) {
  return {run.slots, run.checkout_index};
}

}  // namespace trireme::broker::testing
