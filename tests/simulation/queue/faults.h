// What goes wrong around a queue's nodes, drawn from the seed.
#pragma once

#include <cstdint>

#include "tests/broker/queue_cluster.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/queue/clients.h"

namespace trireme::queue_simulation {

class Faults {
 public:
  // All outlive it.
  Faults(QueueWorld* queue, Clients* clients, Chance* chance);

  // Perhaps something.
  void Step();
  // Everything is repaired and nothing happens any more.
  void End();

  bool low_disk() const { return low_disk_; }
  uint64_t kills() const { return kills_; }
  uint64_t partitions() const { return partitions_; }

 private:
  uint64_t Anyone() { return 1 + chance_->Below(kNodes); }
  uint64_t LeaderOrAnyone();
  void Kill(uint64_t node);
  void StartAll();
  void Partition();
  void Heal();
  void Disk(uint64_t node);
  void StepWallClock(uint64_t node);

  static constexpr uint64_t kNodes = 3;

  QueueWorld* const queue_;
  Clients* const clients_;
  Chance* const chance_;
  int64_t percent_;  // of the steps
  int flaps_left_ = 0;
  bool low_disk_ = false;
  uint64_t kills_ = 0, partitions_ = 0;
};

}  // namespace trireme::queue_simulation
