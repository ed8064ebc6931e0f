// Each checker is tested by the bug that it exists to find: planted in a node, it has to be found within a few seeds,
// and by that checker first, in at least one of them.
#include <gtest/gtest.h>

#include <map>
#include <ostream>
#include <string>

#include "tests/simulation/simulation.h"

namespace trireme::simulation {
namespace {

struct Case {
  Plant plant;
  const char* checker;
};

void PrintTo(const Case& c, std::ostream* os) {
  *os << "the bug that " << c.checker << " is for";
}

class PlantedBug : public ::testing::TestWithParam<Case> {};

TEST_P(PlantedBug, IsFoundByItsChecker) {
  std::map<std::string, int> found;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    RunResult result = RunSeed({.seed = seed, .plant = GetParam().plant});
    if (result.outcome != RunResult::Outcome::kUnsafe) continue;
    std::string checker = result.what.substr(0, result.what.find(':'));
    ++found[checker];
    if (checker == GetParam().checker) return;
  }
  FAIL() << "not found by " << GetParam().checker << "; found by: " << ::testing::PrintToString(found);
}

INSTANTIATE_TEST_SUITE_P(Each, PlantedBug,
                         ::testing::Values(Case{Plant::kForgetsVotes, "election safety"},
                                           Case{Plant::kRewritesAsLeader, "leader append-only"},
                                           Case{Plant::kCorruptsEntries, "log matching"},
                                           Case{Plant::kVotesForAnyone, "leader completeness"},
                                           Case{Plant::kAppliesTwice, "state machine safety"},
                                           Case{Plant::kSendsBeforeSync, "durability"},
                                           Case{Plant::kLyingDisk, "durability"},
                                           Case{Plant::kServesReadsAtOnce, "linearizable reads"},
                                           Case{Plant::kLeaseByTicks, "linearizable reads"},
                                           Case{Plant::kSkipsRestore, "state machine safety"},
                                           Case{Plant::kOverstatesAllMatch, "all match"}));

}  // namespace
}  // namespace trireme::simulation
