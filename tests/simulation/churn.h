// What a cluster's operators do while things go wrong: members come, go, and change their standing, the leader among
// them; leadership is handed over.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tests/simulation/node.h"

namespace trireme::simulation {

// How often; a run draws its own. 0 = never.
struct ChurnMix {
  Micros change_every = 0;
  Micros transfer_every = 0;
  size_t replicas_max = 0;  // that ever live

  static ChurnMix Draw(Chance& chance, size_t voters);
};

class Churn {
 public:
  // Makes and starts an empty replica, of an identity that was never used (Safety rule 11).
  using Join = std::function<raft::ReplicaId()>;

  // All outlive it, and it the run.
  Churn(const ChurnMix& mix, const Surroundings& around, std::vector<std::unique_ptr<Node>>* nodes, Join join);

  void Begin();
  void End() { over_ = true; }

  uint64_t changes() const { return changes_; }      // begun
  uint64_t transfers() const { return transfers_; }  // begun

 private:
  void Every(Micros interval, void (Churn::*act)());
  Node* Leader();
  void Change();
  void Transfer();
  // One step away from `members`, at random; the core refuses what is not sound.
  void Alter(std::vector<raft::Member>* members);

  const ChurnMix mix_;
  const Surroundings around_;
  std::vector<std::unique_ptr<Node>>* nodes_;
  const Join join_;
  bool over_ = false;
  uint64_t changes_ = 0;
  uint64_t transfers_ = 0;
};

}  // namespace trireme::simulation
