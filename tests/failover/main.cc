// The program trireme-failover.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "tests/failover/verdict_text.h"

namespace trireme::failover {
namespace {

constexpr int kCannot = 2;

int Check(const std::string& path) {
  absl::StatusOr<Judgement> judgement = Judge(path);
  if (!judgement.ok()) {
    std::fprintf(stderr, "trireme-failover: %s\n", std::string(judgement.status().message()).c_str());
    return kCannot;
  }
  std::fputs(VerdictText(*judgement).c_str(), stdout);
  return ExitCode(*judgement);
}

int Main(int argc, char** argv) {
  CLI::App app("Breaks a cluster in every way, and proves from what its clients saw that nothing was lost.");
  app.require_subcommand(1);
  std::string history;
  CLI::App* check = app.add_subcommand("check", "judges a recorded history again");
  check->add_option("HISTORY", history, "the file that a run has left")->required();
  check->footer("Exit codes: 0 every promise was held, 1 some were broken, 2 no history, 3 undecided.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kCannot;
  }
  return Check(history);
}

}  // namespace
}  // namespace trireme::failover

int main(int argc, char** argv) {
  return trireme::failover::Main(argc, argv);
}
