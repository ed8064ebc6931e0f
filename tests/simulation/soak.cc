// Runs seeds until the time is up, or one seed, and says how to replay what failed.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "tests/simulation/simulation.h"

namespace {

// A caller tells a crash from a broken promise from a cluster that does not come back.
constexpr int kExitCrash = 127;
constexpr int kExitStuck = 128;
constexpr int kExitUnsafe = 129;

volatile uint64_t current_seed = 0;

// A failed check has said what failed; add how to see it again.
void OnAbort(int) {
  char text[96];
  int n = std::snprintf(text, sizeof text, "crashed; replay: build/dev/bin/soak --seed %llu --trace\n",
                        static_cast<unsigned long long>(current_seed));
  if (write(STDERR_FILENO, text, static_cast<size_t>(n)) < 0) _exit(kExitCrash);
  _exit(kExitCrash);
}

}  // namespace

int main(int argc, char** argv) {
  using trireme::simulation::RunOptions;
  using trireme::simulation::RunResult;

  CLI::App app{"Simulates Raft groups under faults, one after another, each from its own seed"};
  double minutes = 0;
  uint64_t seed = 1, count = 1;
  bool trace = false;
  app.add_option("--minutes", minutes, "Run consecutive seeds for this long");
  app.add_option("--seed", seed, "The first seed");
  app.add_option("--count", count, "How many seeds, without --minutes");
  app.add_flag("--trace", trace, "Print what happens");
  app.footer("Exit codes: 0 clean, 127 crash, 128 the healed cluster made no progress, 129 a property was violated");
  CLI11_PARSE(app, argc, argv);

  for (int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGBUS}) std::signal(signal, OnAbort);
  auto end = std::chrono::steady_clock::now() + std::chrono::duration<double, std::ratio<60>>(minutes);
  RunResult total;
  uint64_t runs = 0;
  for (;; ++seed) {
    if (minutes > 0 ? std::chrono::steady_clock::now() >= end : runs == count) break;
    current_seed = seed;
    RunResult result = trireme::simulation::RunSeed({.seed = seed, .print = trace});
    ++runs;
    total.committed += result.committed;
    total.terms += result.terms;
    total.crashes += result.crashes;
    total.partitions += result.partitions;
    total.reads_served += result.reads_served;
    if (count == 1 && minutes == 0) std::printf("trace hash %016llx\n", (unsigned long long)result.trace_hash);
    if (result.outcome != RunResult::Outcome::kClean) {
      std::printf("seed %llu at %.3f s: %s\nreplay: build/dev/bin/soak --seed %llu --trace\n", (unsigned long long)seed,
                  static_cast<double>(result.at) / 1e6, result.what.c_str(), (unsigned long long)seed);
      return result.outcome == RunResult::Outcome::kStuck ? kExitStuck : kExitUnsafe;
    }
  }
  std::printf("%llu seeds clean: %llu entries committed, %llu terms, %llu crashes, %llu partitions, %llu reads\n",
              (unsigned long long)runs, (unsigned long long)total.committed, (unsigned long long)total.terms,
              (unsigned long long)total.crashes, (unsigned long long)total.partitions,
              (unsigned long long)total.reads_served);
  return 0;
}
