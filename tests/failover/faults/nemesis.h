// Draws faults from a scenario and a seed, lets them happen and heals them, until the time is up.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/failover/faults/fault.h"
#include "tests/failover/faults/scenario.h"
#include "tests/failover/live.h"

namespace trireme::failover {

class Nemesis {
 public:
  // tick(): what else has to be done now and then; an error ends the run. say(): a line for people.
  Nemesis(const Scenario& scenario, World world, HistoryWriter& history, Live& live, std::function<absl::Status()> tick,
          std::function<void(const std::string&)> say);

  // The error of a tick, or of a fault that could not be undone.
  absl::Status Run(std::chrono::milliseconds time);

  // Passes time, with ticks.
  absl::Status Wait(std::chrono::milliseconds time);
  // Until every queue confirms and delivers; whether it did before the time was up.
  absl::StatusOr<bool> WaitForProgress(std::chrono::milliseconds most);

 private:
  struct Active {
    uint32_t number = 0;
    std::unique_ptr<Fault> fault;
  };

  // Those that this machine can have.
  std::vector<FaultUse> Possible() const;
  std::vector<int> Choose(const FaultUse& use);
  int Leader(Aim aim);
  // Writes down who leads what.
  void NoteLeaders();
  absl::Status Round(const std::vector<FaultUse>& uses);
  absl::Status Begin(const FaultUse& use, std::vector<Active>& active);

  const Scenario& scenario_;
  World world_;
  HistoryWriter& history_;
  Live& live_;
  const std::function<absl::Status()> tick_;
  const std::function<void(const std::string&)> say_;
  uint32_t next_fault_ = 1;
  int next_anyone_ = 1;
};

}  // namespace trireme::failover
