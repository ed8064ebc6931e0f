// The workers of a run: which there are, and what they do.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/failover/cluster/process.h"
#include "tests/failover/history/history.h"
#include "tests/failover/network/host.h"
#include "tests/failover/workload/worker.h"

namespace trireme::failover {

struct WorkloadOptions {
  // This program.
  std::string self;
  std::string servers;
  std::string history;
  std::string logs;
  uint64_t seed = 0;
  // For all rates; 1 is a load that two processors carry beside three brokers.
  double scale = 1;
  // One for each of kClientHosts; empty = ours.
  std::vector<const Host*> hosts = {};
};

// For the thread that lives longest (see Process).
class Workload {
 public:
  // Producers; quick consumers; slow consumers and receivers; consumers that die.
  static constexpr int kClientHosts = 4;
  static constexpr int kSteady = 0, kQuick = 1, kSlow = 2, kDying = 3;

  Workload(WorkloadOptions options, HistoryWriter& history);

  // The queues, which have to be made before Start. The first is the busiest.
  static const std::vector<std::string>& Queues();

  absl::Status Start();
  // Kills and replaces the worker that dies now and then. To be called often.
  absl::Status Tick();
  // The process on that host stands still, as one does whose machine swaps.
  void Pause(int host);
  void Resume(int host);
  // Waits for what they have begun.
  absl::Status StopProducers();
  absl::Status StopConsumers();

 private:
  struct Worker {
    WorkerSpec spec;
    std::unique_ptr<Process> process;
  };

  WorkerSpec Spec(int host) const;
  absl::Status Launch(int host, WorkerSpec spec);
  absl::Status Stop(int host);

  const WorkloadOptions options_;
  HistoryWriter& history_;
  std::mt19937_64 chance_;
  uint32_t next_worker_ = 1;
  std::vector<Worker> workers_;  // by host
  bool dying_ = false;
  std::chrono::steady_clock::time_point dies_at_;
};

}  // namespace trireme::failover
