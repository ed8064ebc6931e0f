// One run from one seed: a queue on one to five nodes, hosts and core and machine and dispatcher as they are in
// production, its clients, and faults; then a healed cluster in which everything that was confirmed has to come out.
#pragma once

#include "tests/simulation/queue/plant.h"
#include "tests/simulation/simulation.h"

namespace trireme::queue_simulation {

struct RunOptions {
  uint64_t seed = 1;
  Plant plant = Plant::kNone;
  bool print = false;
};

simulation::RunResult RunSeed(const RunOptions& options);

}  // namespace trireme::queue_simulation
