// Runs side by side: one line for each, as Markdown has tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/failover/checkers/checker.h"
#include "tests/failover/report/figures.h"

namespace trireme::failover {

struct TableRow {
  std::string scenario;
  uint64_t length_us = 0;
  uint64_t faults = 0;
  // Longest gaps between two confirms of a queue around a fault, ascending: where the fault hit the queue's leader or
  // several nodes, and where it hit another node. Faults that came together count with all of them.
  std::vector<uint64_t> hit_us, spared_us;
  // "held", or which promises were broken or are undecided.
  std::string verdict;
  // For what is not to be seen in a history.
  std::string command, version, machine, date;
};

TableRow MakeRow(const RunFigures& figures, const Judgement& judgement);
// Of a recorded history. The errors of Judge.
absl::StatusOr<TableRow> ReadRow(const std::string& history);

// With a line before it that says where and with what the first was run.
std::string TableText(const std::vector<TableRow>& rows);

}  // namespace trireme::failover
