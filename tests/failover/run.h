// One run: a cluster, a workload, faults, a history, a report.
#pragma once

#include <cstdint>
#include <string>

#include "tests/failover/faults/scenario.h"

namespace trireme::failover {

struct RunOptions {
  const Scenario* scenario = nullptr;
  int nodes = 3;
  double minutes = 1;
  uint64_t seed = 1;
  // Made; what is in it from another run is replaced.
  std::string report;
  // This program, and the broker's.
  std::string self;
  std::string broker;
  std::string other_broker;
  // The library that is loaded into brokers whose clocks and disks are to fail.
  std::string preload;
  // Where the nodes' data is kept while it runs.
  std::string data;
  bool keep_data = false;
  // Without namespaces even if there could be some.
  bool loopback = false;
  double scale = 1;
  // The command line, for the report.
  std::string command;
};

// The exit code: 0 every promise was held, 1 some were broken, 2 it could not be run, 3 undecided.
int Run(const RunOptions& options);

}  // namespace trireme::failover
