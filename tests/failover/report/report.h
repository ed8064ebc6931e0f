// A history and its judgement as report.json, for programs, and report.html, for people: one file, nothing to load.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "tests/failover/checkers/checker.h"
#include "tests/failover/report/figures.h"

namespace trireme::failover {

std::string ReportJson(const RunFigures& figures, const Judgement& judgement);
std::string ReportHtml(const RunFigures& figures, const Judgement& judgement);

// Both into the folder.
absl::Status WriteReport(const std::string& folder, const RunFigures& figures, const Judgement& judgement);

}  // namespace trireme::failover
