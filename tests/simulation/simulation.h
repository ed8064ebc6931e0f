// One run from one seed: a phase of faults in which nothing may go wrong, then a healed cluster in which all must go
// right.
#pragma once

#include <cstdint>
#include <string>

#include "tests/simulation/node.h"

namespace trireme::simulation {

struct RunOptions {
  uint64_t seed = 1;
  Plant plant = Plant::kNone;
  bool print = false;
};

struct RunResult {
  enum class Outcome : uint8_t { kClean, kUnsafe, kStuck };
  Outcome outcome = Outcome::kClean;
  std::string what{};       // what was violated, or what did not come about
  uint64_t trace_hash = 0;  // equal for equal runs
  // To see that runs are worth something.
  uint64_t committed = 0, terms = 0, crashes = 0, partitions = 0, reads_served = 0;
  uint64_t lease_reads = 0, installs = 0, changes = 0, transfers = 0, write_failures = 0;
  uint64_t messages = 0, old_tokens = 0, figures = 0, queue_installs = 0, digests_compared = 0;  // of a queue
  uint64_t ordered_messages = 0;                                                                 // by their keys
  uint64_t lapses = 0, damaged = 0;                                                              // of sessions; entries
  uint64_t queue_changes = 0, nodes_lost = 0, replicas_deleted = 0;                              // of a queue's members

  // Takes in another run's figures.
  void Count(const RunResult& run);
  Micros at = 0;  // simulated time at the end
};

RunResult RunSeed(const RunOptions& options);

}  // namespace trireme::simulation
