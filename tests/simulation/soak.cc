// Runs seeds until the time is up, or one seed, and says how to replay what failed.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/simulation/queue/run.h"
#include "tests/simulation/simulation.h"

namespace {

using trireme::simulation::RunResult;

// A caller tells a crash from a cluster that does not come back from a broken promise.
constexpr int kExitCrash = 127;
constexpr int kExitStuck = 128;
constexpr int kExitUnsafe = 129;

// How to see again what is running.
std::string current;

// A failed check has said what failed; add how to see it again.
void OnAbort(int) {
  if (write(STDERR_FILENO, current.data(), current.size()) < 0) _exit(kExitCrash);
  _exit(kExitCrash);
}

std::string Replay(const std::string& what, uint64_t seed, const std::string& plant) {
  std::string command = "tests/simulation/soak --what " + what + " --seed " + std::to_string(seed);
  if (!plant.empty()) command += " --plant " + plant;
  return command + " --trace";
}

trireme::simulation::Plant PlantOf(const std::string& name) {
  for (const trireme::simulation::NamedPlant& known : trireme::simulation::kNamedPlants) {
    if (name == known.name) return known.plant;
  }
  return trireme::simulation::Plant::kNone;
}

std::vector<std::string> PlantNames() {
  std::vector<std::string> names;
  for (const trireme::simulation::NamedPlant& known : trireme::simulation::kNamedPlants) names.emplace_back(known.name);
  return names;
}

unsigned long long Wide(uint64_t n) {
  return n;
}

RunResult Run(const std::string& what, uint64_t seed, const std::string& plant, bool trace) {
  if (what == "core") return trireme::simulation::RunSeed({.seed = seed, .plant = PlantOf(plant), .print = trace});
  return trireme::queue_simulation::RunSeed({.seed = seed, .print = trace});
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Simulates groups and queues under faults, one after another, each from its own seed"};
  double minutes = 0;
  uint64_t seed = 1, count = 1;
  bool trace = false;
  std::string what = "all", plant;
  app.add_option("--minutes", minutes, "Run consecutive seeds for this long");
  app.add_option("--seed", seed, "The first seed");
  app.add_option("--count", count, "How many seeds, without --minutes");
  app.add_option("--what", what, "core: Raft groups; queue: a queue with its hosts and clients; all: both in turn")
      ->check(CLI::IsMember({"core", "queue", "all"}));
  app.add_option("--plant", plant, "A bug to plant in the core's runs, to see it found")
      ->check(CLI::IsMember(PlantNames()));
  app.add_flag("--trace", trace, "Print what happens");
  app.footer("Exit codes: 0 clean, 127 crash, 128 the healed cluster made no progress, 129 a property was violated");
  CLI11_PARSE(app, argc, argv);

  // In order with what is logged.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  for (int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGBUS}) std::signal(signal, OnAbort);
  auto end = std::chrono::steady_clock::now() + std::chrono::duration<double, std::ratio<60>>(minutes);
  RunResult total;
  uint64_t seeds = 0;
  for (;; ++seed, ++seeds) {
    if (minutes > 0 ? std::chrono::steady_clock::now() >= end : seeds == count) break;
    for (const char* one : {"core", "queue"}) {
      if (what != "all" && what != one) continue;
      current = "crashed; replay: " + Replay(one, seed, plant) + "\n";
      const RunResult result = Run(one, seed, plant, trace);
      total.Count(result);
      if (count == 1 && minutes == 0) std::printf("%s: trace hash %016llx\n", one, Wide(result.trace_hash));
      if (result.outcome == RunResult::Outcome::kClean) continue;
      const bool stuck = result.outcome == RunResult::Outcome::kStuck;
      std::printf("%s seed %llu at %.3f s: %s: %s\ntrace hash %016llx\nreplay: %s\n", one, Wide(seed),
                  static_cast<double>(result.at) / 1e6, stuck ? "stuck" : "violated", result.what.c_str(),
                  Wide(result.trace_hash), Replay(one, seed, plant).c_str());
      return stuck ? kExitStuck : kExitUnsafe;
    }
  }
  std::printf("%llu seeds clean, %.1f simulated hours: %llu crashes, %llu partitions, %llu failed writes\n",
              Wide(seeds), static_cast<double>(total.at) / 3.6e9, Wide(total.crashes), Wide(total.partitions),
              Wide(total.write_failures));
  std::printf(
      "groups: %llu entries committed, %llu terms, %llu reads (%llu by a lease), %llu changes of members, "
      "%llu transfers, %llu snapshots installed, %llu times quiet\n",
      Wide(total.committed), Wide(total.terms), Wide(total.reads_served), Wide(total.lease_reads), Wide(total.changes),
      Wide(total.transfers), Wide(total.installs), Wide(total.sleeps));
  std::printf(
      "queues: %llu messages settled, %llu old tokens refused, %llu figures read, %llu snapshots installed, "
      "%llu digests compared\n",
      Wide(total.messages), Wide(total.old_tokens), Wide(total.figures), Wide(total.queue_installs),
      Wide(total.digests_compared));
  std::printf(
      "        %llu sessions lapsed, %llu entries damaged, %llu changes of members, %llu nodes lost, %llu replicas "
      "deleted\n",
      Wide(total.lapses), Wide(total.damaged), Wide(total.queue_changes), Wide(total.nodes_lost),
      Wide(total.replicas_deleted));
  return 0;
}
