// Several scenarios, one after the other, and a table of what became of each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/failover/run.h"

namespace trireme::failover {

struct SuiteItem {
  std::string_view scenario;
  double minutes = 1;
};

struct Suite {
  std::string_view name;
  std::string_view what;
  std::vector<SuiteItem> items;
};

const std::vector<Suite>& Suites();
// Null: no such suite.
const Suite* FindSuite(std::string_view name);

// Each run is a process of its own with a report of its own, in a folder of `options.report` named for the scenario;
// table.md is beside them. `minutes` above 0 replaces those of the suite. `options` is as for Run, without its
// scenario. What this machine cannot run is left out, and it says so. The exit code is the worst of the runs'.
int RunSuite(const Suite& suite, const RunOptions& options, double minutes);

}  // namespace trireme::failover
