// Temporary queues of one shard on simulated time, with clients that are scripts.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/temporary/temporary_queues.h"
#include "tests/broker/fake_shard.h"
#include "tests/broker/queue_cluster.h"

namespace trireme::broker::testing {

// One process of a node.
class TemporaryWorld {
 public:
  explicit TemporaryWorld(TemporaryQueues::Limits limits = {}, uint64_t incarnation = 7)
      : place{raft::NodeId(2), incarnation, 1},
        queues(&shard, limits,
               {.added = [this](raft::GroupId group, QueueReplica* replica) { replicas[group] = replica; },
                .removed = [this](raft::GroupId group) { replicas.erase(group); }}) {}

  // On the shard's thread, with its turn's end.
  template <typename Act>
  void Do(Act act) {
    shard.Post(std::move(act));
    Run(milliseconds(0));
  }
  void Run(milliseconds time) { time_.Run(time); }

  absl::StatusOr<QueuePtr> TryMake(TemporaryQueues::Wish wish = {}) {
    absl::StatusOr<QueuePtr> made;
    Do([&] { made = queues.Create(place, std::move(wish)); });
    return made;
  }
  QueuePtr Make(const trireme::v1::TemporarySettings& settings = {}) {
    absl::StatusOr<QueuePtr> made = TryMake({.settings = settings});
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *made : nullptr;
  }
  QueueReplica* Replica(const QueuePtr& queue) { return replicas.at(queue->group); }
  bool There(const QueuePtr& queue) {
    const bool found = queues.Find(place, *ParseTemporaryName(queue->name)).ok();
    EXPECT_EQ(found, replicas.contains(queue->group));
    return found;
  }

  // Without a producer's name, as one entry.
  PublishOutcome Publish(const QueuePtr& queue, const std::vector<std::string>& bodies) {
    auto sink = std::make_shared<NotingPublishSink>();
    Do([&] { Replica(queue)->Publish({sink, 0, "", 0, 1, BatchOf(bodies)}); });
    EXPECT_EQ(sink->outcomes.size(), 1u);
    return sink->outcomes.empty() ? PublishOutcome{} : sink->outcomes[0];
  }
  std::shared_ptr<NotingConsumerSink> Attach(const QueuePtr& queue, const std::string& session,
                                             std::vector<queue::Token> held = {}, uint32_t timeout_ms = 10'000) {
    auto sink = std::make_shared<NotingConsumerSink>();
    Do([&] {
      Replica(queue)->Attach({session, "test", timeout_ms, {queue->group, std::move(held)}, 1'000, 1 << 20}, sink);
    });
    EXPECT_TRUE(sink->attached);
    return sink;
  }
  void Settle(const QueuePtr& queue, const std::string& session, const std::shared_ptr<NotingConsumerSink>& sink,
              const DeliveredRun& run, queue::Disposition how = queue::Disposition::kAcknowledge) {
    Do([&] { Replica(queue)->Settle({session, sink.get()}, how, {queue->group, {TokenOf(run)}}, 1); });
    Run(milliseconds(10));  // settlements wait for company
  }
  void Detach(const QueuePtr& queue, const std::string& session, const std::shared_ptr<NotingConsumerSink>& sink,
              bool graceful) {
    Do([&] { Replica(queue)->Detach({session, sink.get()}, graceful); });
  }

 private:
  FakeTime time_;

 public:
  const TemporaryQueues::Place place;
  FakeShard shard{0, &time_};
  absl::flat_hash_map<raft::GroupId, QueueReplica*> replicas;
  TemporaryQueues queues;
};

}  // namespace trireme::broker::testing
