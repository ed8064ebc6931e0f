// What the parts of a queue's leader use of the replica that they belong to, for one term.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "broker/queue/dispatchers.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"
#include "broker/replica/settling.h"
#include "broker/replica/waiters.h"
#include "raft/host/host.h"
#include "raft/host/shard.h"

namespace trireme::broker {

// Outlives them. On the group's shard only.
struct LeaderPort {
  const queue::Machine* machine = nullptr;
  raft::Group* group = nullptr;
  raft::Shard* shard = nullptr;
  queue::Dispatchers* dispatchers = nullptr;
  Settling* settling = nullptr;
  // Has a fact appended, with whatever else this turn brings.
  std::function<void(queue::Fact, Waiter)> add;
  // Has the dispatchers decide at the end of this turn.
  std::function<void()> flush_soon;
  // A live entry cannot be read here.
  std::function<void(const absl::Status&)> damaged;
};

}  // namespace trireme::broker
