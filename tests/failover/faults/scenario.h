// Named plans: which faults, at whom, for how long, how many at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/failover/faults/fault.h"

namespace trireme::failover {

struct FaultUse {
  std::string_view kind;
  Aim aim = Aim::kAnyone;
  // How long it lasts; drawn between the two.
  std::chrono::milliseconds least{2'000}, most{8'000};
};

struct Scenario {
  std::string_view name;
  std::string_view what;
  std::vector<FaultUse> faults;
  // Each in turn, instead of one drawn at random.
  bool in_turn = false;
  // Up to so many together.
  int at_once = 1;
  // Between the cluster's recovery and the next fault.
  std::chrono::milliseconds calm{4'000};
  // For the brokers.
  std::vector<std::string> arguments = {};
  uint64_t disk_mb = 0;
  bool remember_writes = false;
  // How far nodes' clocks may be apart, as far as it concerns leases that are deadlines.
  std::chrono::milliseconds lease_slack{0};
};

const std::vector<Scenario>& Scenarios();
// Null: no such scenario.
const Scenario* FindScenario(std::string_view name);
// What all of its faults need together.
Needs NeedsOf(const Scenario& scenario);
// Whether some of its faults can be had with these means.
bool CanRun(const Scenario& scenario, bool network, bool mounts, bool other_broker);

// What ought to be tried, too, and needs a command that the broker does not have.
struct MissingScenario {
  std::string_view name;
  std::string_view what;
  std::string_view needs;
};
const std::vector<MissingScenario>& MissingScenarios();

}  // namespace trireme::failover
