// All checkers, told of all that happens, by whoever drives production replicas: the simulator, the scenarios' driver.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/checker.h"

namespace trireme::simulation {

class Suite {
 public:
  explicit Suite(const raft::Membership& birth);

  const World& world() const { return world_; }
  // The first violation, if there was any.
  const std::optional<std::string>& failure() const { return failure_; }

  // A replica starts with this on its disk: the last index, and the index that its state machine is restored at. One
  // that was never seen joins the group.
  void Started(const raft::Replica& replica, raft::Index last, raft::Index applied);
  // For a log that did not come about by writes.
  void Preloaded(raft::ReplicaId id, LogView log);
  void Stopped(raft::ReplicaId id);
  // An output was taken from `replica`.
  void Took(const raft::Replica& replica, const raft::Output& output);
  // These entries are durable now (overwriting from `first` on).
  void Synced(raft::ReplicaId id, const std::vector<raft::Entry>& entries);
  // A snapshot was installed: synced, and the state machine restored from it.
  void Installed(raft::ReplicaId id, const raft::SnapshotMeta& snapshot, uint64_t state);
  void Applied(raft::ReplicaId id, raft::Index index, uint64_t state);
  void ReadAsked(uint64_t context);
  // Each context is used once.
  void ReadServed(uint64_t context, raft::Index index);
  uint64_t reads_served() const { return reads_served_; }

 private:
  template <typename Event>
  void Tell(Event event) {
    for (auto& checker : checkers_) {
      event(*checker);
      if (!failure_ && checker->failure()) failure_ = checker->failure();
    }
  }

  World world_;
  std::vector<std::unique_ptr<Checker>> checkers_;
  std::optional<std::string> failure_;
  uint64_t reads_served_ = 0;
};

}  // namespace trireme::simulation
