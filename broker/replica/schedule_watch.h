// Sees to it that a queue with messages for later has a leader when one is due, however quiet its group is.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "broker/queue/machine.h"
#include "raft/host/host.h"
#include "raft/host/shard.h"

namespace trireme::broker {

// Safety rule 8: what is due is released by whoever leads. A group whose leader is gone may wait its turn to elect
// another one, or for somebody who asks; a replica that follows asks shortly before something is due, and again for as
// long as that is not released. Shard-owned.
class ScheduleWatch {
 public:
  // Both outlive it.
  ScheduleWatch(raft::Shard* shard, const queue::Machine* machine) : shard_(shard), machine_(machine) {}

  // Entries were applied, or the role is another one. `group` is null where this replica leads, or is none.
  void Look(raft::Group* group);

 private:
  void Wait();

  raft::Shard* const shard_;
  const queue::Machine* const machine_;
  raft::Group* group_ = nullptr;
  std::optional<int64_t> at_ms_;  // wall clock: the next timer
  std::shared_ptr<bool> alive_;   // null before the first one
};

}  // namespace trireme::broker
