// What operators do while things go wrong: replicas come, go and are replaced, the leader's among them; nodes are lost,
// or forget, and others take their place.
#pragma once

#include <cstdint>
#include <optional>

#include "tests/simulation/queue/cluster.h"

namespace trireme::queue_simulation {

class Operator {
 public:
  // Both outlive it. `replacements`: nodes that may come in the place of lost ones.
  Operator(QueueWorld* queue, Cluster* cluster, Chance* chance, uint64_t replacements);

  // Perhaps something.
  void Step();
  // Only what must be: a lost node is replaced.
  void Mend();

  uint64_t changes() const { return changes_; }
  uint64_t losses() const { return losses_; }

 private:
  struct Copy {
    uint64_t node = 0;
    uint64_t starts = 0;
    raft::testing::SimStore::Image image;
  };

  void Change();
  // One step away from `members`.
  void Alter(std::vector<raft::Member>* members);
  void LoseOne();
  void Remember();
  raft::Member* LeaderOrAny(std::vector<raft::Member>* members);

  QueueWorld* const queue_;
  Cluster* const cluster_;
  Chance* const chance_;
  uint64_t replacements_;
  int64_t change_per_mille_ = 0, loss_per_mille_ = 0;  // of the steps
  std::optional<Copy> copy_;
  uint64_t changes_ = 0, losses_ = 0;
};

}  // namespace trireme::queue_simulation
