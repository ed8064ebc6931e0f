// What goes wrong in a simulated cluster, drawn from the seed. What its operators do is in churn.h.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/simulation/node.h"

namespace trireme::simulation {

// How often and how badly; a run draws its own.
struct FaultMix {
  NetworkFaults network{};
  DiskFaults disk{};
  // Between two of a kind; 0 = never.
  Micros crash_every = 0;
  Micros down_max = 400'000;  // before it starts again
  Micros partition_every = 0;
  Micros pause_every = 0;
  Micros stall_every = 0;
  Micros flap_every = 0;
  Micros write_failure_every = 0;  // a sync fails, or there is no room for a while
  Micros damage_every = 0;         // a bit flips in what a disk holds
  Micros disturb_every = 0;        // connections close and open, replicas campaign or step down for no reason

  static FaultMix Draw(Chance& chance);
};

class Nemesis {
 public:
  // All outlive it, and it the run.
  Nemesis(const FaultMix& mix, const Surroundings& around, std::vector<std::unique_ptr<Node>>* nodes);

  void Begin();
  // A node that came later.
  void Meet(Node& node);
  // Everything is repaired and nothing happens any more.
  void End();

  struct Counts {
    uint64_t crashes = 0, partitions = 0, write_failures = 0;
    uint64_t pauses = 0, stalls = 0, flaps = 0, flips = 0, closed = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  void Every(Micros interval, void (Nemesis::*strike)());
  Node& Anyone() { return *(*nodes_)[around_.chance->Below(nodes_->size())]; }
  void CrashOne();
  void Partition();
  void PauseOne();
  void StallOne();
  void Flap();
  void FlapAgain(raft::ReplicaId a, raft::ReplicaId b, int left);
  void FailWrite();
  void DamageOne();
  void StartLater(Node* node);
  void Disturb();
  void CloseOne(Node* node, raft::ReplicaId peer);

  const FaultMix mix_;
  const Surroundings around_;
  std::vector<std::unique_ptr<Node>>* nodes_;
  bool over_ = false;
  Counts counts_;
};

}  // namespace trireme::simulation
