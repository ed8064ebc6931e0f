// What goes wrong around a queue's nodes, drawn from the seed.
#pragma once

#include <cstdint>
#include <string>

#include "tests/broker/queue_cluster.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/queue/cluster.h"
#include "tests/simulation/trace.h"

namespace trireme::queue_simulation {

class Faults {
 public:
  // All outlive it. Nodes 1 to `nodes` are there from the beginning.
  Faults(QueueWorld* queue, Cluster* cluster, Chance* chance, const Trace* trace, uint64_t nodes);

  // Perhaps something.
  void Step();
  // Everything is repaired and nothing happens any more.
  void End();

  bool low_disk() const { return low_disk_; }
  uint64_t kills() const { return kills_; }
  uint64_t partitions() const { return partitions_; }
  uint64_t write_failures() const { return write_failures_; }
  uint64_t damaged() const { return damaged_; }

 private:
  uint64_t Anyone() { return cluster_->nodes()[chance_->Below(cluster_->nodes().size())]; }
  uint64_t LeaderOrAnyone();
  void Say(uint64_t node, const std::string& what) const;
  void Kill(uint64_t node);
  // Nodes that are down, but for those that would find their logs damaged.
  void StartAll();
  bool MayKill() const;
  void Partition();
  void Cut(uint64_t from, uint64_t to, bool one_way);
  void Heal();
  void Disk(uint64_t node);
  void FailWrites(uint64_t node);
  void Damage();
  void PassOn();
  void StepWallClock(uint64_t node);

  QueueWorld* const queue_;
  Cluster* const cluster_;
  Chance* const chance_;
  const Trace* const trace_;
  int64_t percent_;  // of the steps
  // All of the damage is on one disk: more might take what no other has.
  uint64_t bad_disk_ = 0;
  int flaps_left_ = 0;
  bool low_disk_ = false;
  uint64_t kills_ = 0, partitions_ = 0, write_failures_ = 0, damaged_ = 0;
};

}  // namespace trireme::queue_simulation
