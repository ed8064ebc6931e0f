// The program trireme-failover.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/failover/report/report.h"
#include "tests/failover/report/table.h"
#include "tests/failover/run.h"
#include "tests/failover/suites.h"
#include "tests/failover/verdict_text.h"
#include "tests/failover/workload/worker.h"

namespace trireme::failover {
namespace {

constexpr int kCannot = 2;

int Cannot(const absl::Status& status) {
  std::fprintf(stderr, "trireme-failover: %s\n", std::string(status.message()).c_str());
  return kCannot;
}

int Check(const std::string& path, const std::string& report) {
  RunFigures figures;
  Observer* const others[] = {&figures};
  absl::StatusOr<Judgement> judgement = Judge(path, others);
  if (!judgement.ok()) return Cannot(judgement.status());
  figures.Finish();
  std::fputs(VerdictText(*judgement).c_str(), stdout);
  if (!report.empty()) {
    std::error_code ignored;
    std::filesystem::create_directories(report, ignored);
    if (absl::Status written = WriteReport(report, figures, *judgement); !written.ok()) return Cannot(written);
  }
  return ExitCode(*judgement);
}

std::string NeedsText(const Scenario& scenario) {
  const Needs needs = NeedsOf(scenario);
  std::string text;
  if (needs.small_disks) text += " [root]";
  if (needs.other_broker) text += " [--other-broker]";
  if (needs.network) text += " [network: root]";
  return text;
}

// Folders of runs, or of suites, whose runs lie in folders of their own.
int PrintTable(const std::vector<std::string>& folders) {
  std::vector<std::string> histories;
  for (const std::string& folder : folders) {
    std::error_code ignored;
    if (std::filesystem::exists(folder + "/history", ignored)) histories.push_back(folder + "/history");
    std::vector<std::string> inner;
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
      if (std::filesystem::exists(entry.path() / "history", ignored)) inner.push_back(entry.path() / "history");
    }
    std::sort(inner.begin(), inner.end());
    histories.insert(histories.end(), inner.begin(), inner.end());
  }
  if (histories.empty()) return Cannot(absl::NotFoundError("there is no history in these folders"));
  std::vector<TableRow> rows;
  for (const std::string& history : histories) {
    absl::StatusOr<TableRow> row = ReadRow(history);
    if (!row.ok())
      return Cannot(absl::Status(row.status().code(), absl::StrCat(history, ": ", row.status().message())));
    rows.push_back(*std::move(row));
  }
  // As 'list' has them; others behind.
  const auto place = [](const TableRow& row) {
    const auto& all = Scenarios();
    return std::find_if(all.begin(), all.end(), [&](const Scenario& one) { return one.name == row.scenario; });
  };
  std::stable_sort(rows.begin(), rows.end(),
                   [&](const TableRow& one, const TableRow& other) { return place(one) < place(other); });
  std::fputs(TableText(rows).c_str(), stdout);
  return 0;
}

int List() {
  std::printf("suites\n");
  for (const Suite& suite : Suites()) {
    std::printf("  %-24s %s\n", std::string(suite.name).c_str(), std::string(suite.what).c_str());
  }
  std::printf("\nscenarios\n");
  for (const Scenario& scenario : Scenarios()) {
    std::printf("  %-24s %s%s\n", std::string(scenario.name).c_str(), std::string(scenario.what).c_str(),
                NeedsText(scenario).c_str());
  }
  std::printf("\nscenarios that cannot be had yet\n");
  for (const MissingScenario& missing : MissingScenarios()) {
    std::printf("  %-24s %s [%s]\n", std::string(missing.name).c_str(), std::string(missing.what).c_str(),
                std::string(missing.needs).c_str());
  }
  std::printf("\nfaults that they are made of\n");
  for (const FaultKind& kind : FaultKinds()) {
    std::printf("  %-24s %s\n", std::string(kind.name).c_str(), std::string(kind.what).c_str());
  }
  return 0;
}

int Worker(const std::string& text) {
  absl::StatusOr<WorkerSpec> spec = DecodeWorker(text);
  if (!spec.ok()) return Cannot(spec.status());
  if (absl::Status ran = RunWorker(*spec); !ran.ok()) return Cannot(ran);
  return 0;
}

std::string Temporary() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/tmp";
}

int Main(int argc, char** argv) {
  CLI::App app("Breaks a cluster in every way, and proves from what its clients saw that nothing was lost.");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "help for every command");

  RunOptions options;
  options.self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string programs = std::filesystem::path(options.self).parent_path();
  options.broker = programs + "/trireme-broker";
  options.preload = programs + "/libtrireme-failover-preload.so";
  options.data = Temporary();
  for (int i = 0; i < argc; ++i)
    absl::StrAppend(&options.command, i == 0 ? "trireme-failover" : argv[i], i + 1 < argc ? " " : "");
  std::string scenario;
  const auto add_run_options = [&](CLI::App* to) {
    to->add_option("--nodes", options.nodes, "brokers")->check(CLI::Range(1, 15))->capture_default_str();
    to->add_option("--seed", options.seed, "draws workload and faults")->capture_default_str();
    to->add_option("--report", options.report, "the folder for report, history and logs")->required();
    to->add_option("--broker", options.broker, "the broker's program (default: beside this one)");
    to->add_option("--other-broker", options.other_broker, "another version of it, for rolling-upgrade");
    to->add_option("--data", options.data, "where the brokers' data is kept for the time of the run")
        ->capture_default_str();
    to->add_flag("--loopback", options.loopback, "no hosts of their own, so no faults of the network");
    to->add_option("--load", options.scale, "multiplies the workload's rates")
        ->check(CLI::Range(0.01, 100.0))
        ->capture_default_str();
    to->footer("Exit codes: 0 every promise was held, 1 some were broken, 2 it could not be run, 3 undecided.");
  };
  const CLI::Range minutes_range(0.05, 10'000.0);
  CLI::App* run = app.add_subcommand("run", "runs a scenario against a cluster of its own");
  run->add_option("SCENARIO", scenario, "one of those that 'list' names")->required();
  run->add_option("--minutes", options.minutes, "how long faults are made; starting and draining come on top")
      ->check(minutes_range)
      ->capture_default_str();
  run->add_flag("--keep-data", options.keep_data, "do not remove the brokers' data");
  add_run_options(run);

  std::string suite_name;
  double suite_minutes = 0;
  CLI::App* suite = app.add_subcommand("suite", "runs several scenarios, one after the other");
  suite->add_option("SUITE", suite_name, "short or long")->required();
  suite->add_option("--minutes", suite_minutes, "for each of them, instead of what the suite says")
      ->check(minutes_range);
  add_run_options(suite);

  std::vector<std::string> folders;
  CLI::App* table = app.add_subcommand("table", "prints a table of runs");
  table->add_option("FOLDER", folders, "reports of runs, or of suites")->required();

  CLI::App* list = app.add_subcommand("list", "names the scenarios and the faults");

  std::string history, report;
  CLI::App* check = app.add_subcommand("check", "judges a recorded history again");
  check->add_option("HISTORY", history, "the file that a run has left")->required();
  check->add_option("--report", report, "writes the report into this folder, too");
  check->footer("Exit codes: 0 every promise was held, 1 some were broken, 2 no history, 3 undecided.");

  std::string worker_spec;
  CLI::App* worker = app.add_subcommand("worker", "a process of the workload; 'run' starts it")->group("");
  worker->add_option("SPEC", worker_spec)->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kCannot;
  }
  if (*worker) return Worker(worker_spec);
  if (*list) return List();
  if (*check) return Check(history, report);
  if (*table) return PrintTable(folders);
  options.report = std::filesystem::absolute(options.report);
  if (*suite) {
    const Suite* found = FindSuite(suite_name);
    if (found == nullptr) return Cannot(absl::NotFoundError(absl::StrCat("no suite is named ", suite_name)));
    return RunSuite(*found, options, suite_minutes);
  }
  options.scenario = FindScenario(scenario);
  if (options.scenario == nullptr) {
    return Cannot(absl::NotFoundError(absl::StrCat("no scenario is named ", scenario, "; 'list' names them")));
  }
  return Run(options);
}

}  // namespace
}  // namespace trireme::failover

int main(int argc, char** argv) {
  return trireme::failover::Main(argc, argv);
}
