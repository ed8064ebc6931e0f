// A process of the workload: some actors, over one history. It is killed, paused and cut off as one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/failover/workload/actor.h"

namespace trireme::failover {

struct WorkerSpec {
  // Its number in the run; never used again for another process.
  uint32_t worker = 0;
  uint64_t seed = 0;
  // By commas.
  std::string servers;
  std::string history;
  uint64_t epoch_us = 0;
  std::vector<ActorSpec> actors;
};

// As one argument of a command line, and back. INVALID_ARGUMENT: not one.
std::string EncodeWorker(const WorkerSpec& spec);
absl::StatusOr<WorkerSpec> DecodeWorker(const std::string& text);

// Runs the actors until standard input ends.
absl::Status RunWorker(const WorkerSpec& spec);

}  // namespace trireme::failover
