// The program trireme-failover.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/failover/report/report.h"
#include "tests/failover/run.h"
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

int List() {
  std::printf("scenarios\n");
  for (const Scenario& scenario : Scenarios()) {
    std::printf("  %-22s %s%s\n", std::string(scenario.name).c_str(), std::string(scenario.what).c_str(),
                NeedsText(scenario).c_str());
  }
  std::printf("\nfaults that they are made of\n");
  for (const FaultKind& kind : FaultKinds()) {
    std::printf("  %-22s %s\n", std::string(kind.name).c_str(), std::string(kind.what).c_str());
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
  CLI::App* run = app.add_subcommand("run", "runs a scenario against a cluster of its own");
  run->add_option("SCENARIO", scenario, "one of those that 'list' names")->required();
  run->add_option("--nodes", options.nodes, "brokers")->check(CLI::Range(1, 15))->capture_default_str();
  run->add_option("--minutes", options.minutes, "how long faults are made; starting and draining come on top")
      ->check(CLI::Range(0.05, 10'000.0))
      ->capture_default_str();
  run->add_option("--seed", options.seed, "draws workload and faults")->capture_default_str();
  run->add_option("--report", options.report, "the folder for report, history and logs")->required();
  run->add_option("--broker", options.broker, "the broker's program (default: beside this one)");
  run->add_option("--other-broker", options.other_broker, "another version of it, for rolling-upgrade");
  run->add_option("--data", options.data, "where the brokers' data is kept for the time of the run")
      ->capture_default_str();
  run->add_flag("--keep-data", options.keep_data, "do not remove the brokers' data");
  run->add_flag("--loopback", options.loopback, "no hosts of their own, so no faults of the network");
  run->add_option("--load", options.scale, "multiplies the workload's rates")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  run->footer("Exit codes: 0 every promise was held, 1 some were broken, 2 it could not be run, 3 undecided.");

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
  options.scenario = FindScenario(scenario);
  if (options.scenario == nullptr) {
    return Cannot(absl::NotFoundError(absl::StrCat("no scenario is named ", scenario, "; 'list' names them")));
  }
  options.report = std::filesystem::absolute(options.report);
  return Run(options);
}

}  // namespace
}  // namespace trireme::failover

int main(int argc, char** argv) {
  return trireme::failover::Main(argc, argv);
}
