// What an idle queue's replica takes, with its host and its consensus.
#include <gtest/gtest.h>
#include <malloc.h>

#include <map>
#include <memory>
#include <utility>

#include "broker/replica/queue_replica.h"
#include "tests/broker/queue_world.h"

namespace trireme::broker {
namespace {

using raft::testing::SimNode;
using raft::testing::World;
using std::chrono::milliseconds;

TEST(IdleMemory, AnIdleReplicaIsSmall) {
  constexpr uint64_t kGroups = 900;
  World world(5);
  std::map<std::pair<uint64_t, uint64_t>, QueueReplica*> replicas;
  world.make_machine = [&](SimNode& n, uint64_t group) {
    auto replica = std::make_unique<QueueReplica>(n.shard.get(), ReplicaLimits(), "idle-" + std::to_string(group));
    replicas[{n.id.value(), group}] = replica.get();
    return replica;
  };
  world.on_added = [&](SimNode& n, raft::Group* group) { replicas[{n.id.value(), group->id().value()}]->Start(group); };
  auto active = [&] {
    uint64_t sum = 0;
    for (uint64_t id = 1; id <= 3; ++id) sum += world.node(id).host->figures().active;
    return sum;
  };
  world.StartAll();
  world.AddEverywhere(1);
  ASSERT_TRUE(world.AwaitLeader(1));
  ASSERT_TRUE(world.RunUntil([&] { return active() == 0; }));
  const size_t before = mallinfo2().uordblks;
  for (uint64_t g = 2; g <= kGroups; ++g) world.AddEverywhere(g);
  for (uint64_t g = 2; g <= kGroups; ++g) ASSERT_TRUE(world.AwaitLeader(g));
  ASSERT_TRUE(world.RunUntil([&] { return active() == 0; }));
  world.Run(milliseconds(2000));
  // A third of the replicas leads. The simulated disk's share is in it.
  const size_t per_replica = (mallinfo2().uordblks - before) / (3 * (kGroups - 1));
  RecordProperty("bytes_per_idle_replica", static_cast<int>(per_replica));
  std::printf("%zu bytes per idle replica\n", per_replica);
  EXPECT_LE(per_replica, 6800u) << "bytes; 8 KiB is the budget for all that a node keeps of it";
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GT(per_replica, 1000u) << "bytes: the measurement itself is broken";
#endif
  for (uint64_t id = 1; id <= 3; ++id) {
    for (auto& [key, replica] : replicas) {
      if (key.first == id) replica->Stop(CutReason::kNotLeader);
    }
    world.Kill(id);
  }
}

}  // namespace
}  // namespace trireme::broker
