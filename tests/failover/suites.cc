#include "tests/failover/suites.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "tests/failover/cluster/process.h"
#include "tests/failover/report/table.h"

namespace trireme::failover {
namespace {

constexpr int kHeld = 0, kBroken = 1, kCannot = 2, kUndecided = 3;
// A run removes what it has made when it is interrupted.
constexpr std::chrono::seconds kCleaningTime{60};

std::atomic<int> interrupted{0};

void OnInterrupt(int number) {
  interrupted = number;
}

int Worse(int one, int other) {
  constexpr int kOrder[] = {kHeld, kUndecided, kBroken, kCannot};
  const auto rank = [&](int code) { return std::find(std::begin(kOrder), std::end(kOrder), code); };
  return rank(one) < rank(other) ? other : one;
}

Command CommandOf(const SuiteItem& item, const RunOptions& options, double minutes, const std::string& folder) {
  Command command;
  command.arguments = {options.self,
                       "run",
                       std::string(item.scenario),
                       "--nodes",
                       absl::StrCat(options.nodes),
                       "--minutes",
                       absl::StrCat(minutes > 0 ? minutes : item.minutes),
                       "--seed",
                       absl::StrCat(options.seed),
                       "--load",
                       absl::StrCat(options.scale),
                       "--data",
                       options.data,
                       "--broker",
                       options.broker,
                       "--report",
                       folder};
  if (!options.other_broker.empty()) {
    command.arguments.insert(command.arguments.end(), {"--other-broker", options.other_broker});
  }
  if (options.loopback) command.arguments.push_back("--loopback");
  command.log = folder + "/output";
  return command;
}

// The run's exit code; nothing when it was interrupted.
std::optional<int> RunOne(const Command& command) {
  absl::StatusOr<std::unique_ptr<Process>> process = Process::Start(command);
  if (!process.ok()) {
    std::fprintf(stderr, "trireme-failover: %s\n", std::string(process.status().message()).c_str());
    return kCannot;
  }
  std::optional<std::string> ended;
  while (!ended.has_value()) {
    ended = (*process)->WaitEnded(std::chrono::milliseconds(100));
    if (interrupted == 0) continue;
    (*process)->Signal(SIGTERM);
    (*process)->WaitEnded(kCleaningTime);
    return std::nullopt;
  }
  for (int code : {kHeld, kBroken, kUndecided}) {
    if (*ended == absl::StrCat("exit code ", code)) return code;
  }
  std::fprintf(stderr, "trireme-failover: the run ended with %s; its words are in %s\n", ended->c_str(),
               command.log.c_str());
  return kCannot;
}

}  // namespace

const std::vector<Suite>& Suites() {
  static const std::vector<Suite> kSuites = [] {
    Suite all{"long", "every scenario; --minutes 5 takes hours", {}};
    for (const Scenario& scenario : Scenarios()) all.items.push_back({scenario.name, 1});
    return std::vector<Suite>{{"short",
                               "the scenarios that find most; about ten minutes",
                               {{"quick", 0.6},
                                {"stop", 0.5},
                                {"restart-storm", 0.4},
                                {"processes", 0.7},
                                {"one-way", 0.5},
                                {"partitions", 0.8},
                                {"bad-wires", 0.7},
                                {"slow-disks", 0.6},
                                {"failing-disks", 0.4},
                                {"power-loss", 0.5},
                                {"bit-flips", 0.3},
                                {"wiped", 0.4},
                                {"clocks", 0.5},
                                {"mixed", 1}}},
                              std::move(all)};
  }();
  return kSuites;
}

const Suite* FindSuite(std::string_view name) {
  const auto& suites = Suites();
  const auto found = std::find_if(suites.begin(), suites.end(), [&](const Suite& one) { return one.name == name; });
  return found == suites.end() ? nullptr : &*found;
}

int RunSuite(const Suite& suite, const RunOptions& options, double minutes) {
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  for (int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
  const bool root = ::geteuid() == 0;
  std::vector<TableRow> rows;
  int worst = kHeld;
  for (const SuiteItem& item : suite.items) {
    const std::string name(item.scenario);
    if (!CanRun(*FindScenario(item.scenario), root && !options.loopback, root, !options.other_broker.empty())) {
      std::printf("%-24s left out: it needs what 'list' says\n", name.c_str());
      continue;
    }
    const std::string folder = absl::StrCat(options.report, "/", name);
    std::error_code error;
    std::filesystem::remove_all(folder, error);
    std::filesystem::create_directories(folder, error);
    if (error) {
      std::fprintf(stderr, "trireme-failover: cannot make %s: %s\n", folder.c_str(), error.message().c_str());
      return kCannot;
    }
    std::printf("%-24s ", name.c_str());
    std::fflush(stdout);
    const std::optional<int> code = RunOne(CommandOf(item, options, minutes, folder));
    if (!code.has_value()) {
      std::printf("interrupted\n");
      return kCannot;
    }
    worst = Worse(worst, *code);
    absl::StatusOr<TableRow> row =
        *code == kCannot ? absl::CancelledError("could not be run") : ReadRow(folder + "/history");
    std::printf("%s\n", row.ok() ? row->verdict.c_str() : std::string(row.status().message()).c_str());
    if (!row.ok()) continue;
    rows.push_back(*std::move(row));
    std::ofstream(options.report + "/table.md", std::ios::trunc) << TableText(rows);
  }
  std::printf("\n%s\ntable: %s/table.md\n", TableText(rows).c_str(), options.report.c_str());
  return worst;
}

}  // namespace trireme::failover
