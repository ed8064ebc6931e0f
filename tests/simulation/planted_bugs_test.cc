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
  const char* says;  // a part of what it says, so that each of its rules is seen to hold
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
    ++found[result.what];
    if (checker == GetParam().checker && result.what.find(GetParam().says) != std::string::npos) return;
  }
  FAIL() << "not found by " << GetParam().checker << ", which says that somebody " << GetParam().says
         << "; found by: " << ::testing::PrintToString(found);
}

INSTANTIATE_TEST_SUITE_P(
    Each, PlantedBug,
    ::testing::Values(Case{Plant::kForgetsVotes, "election safety", "both led term"},
                      Case{Plant::kRewritesAsLeader, "leader append-only", "and wrote from"},
                      Case{Plant::kCorruptsEntries, "log matching", "has another entry at"},
                      Case{Plant::kVotesForAnyone, "leader completeness", "without the entry committed at"},
                      Case{Plant::kAppliesTwice, "state machine safety", "has another state than others had"},
                      Case{Plant::kAltersCommitted, "state machine safety", "was committed before"},
                      Case{Plant::kSendsBeforeSync, "durability", "which no majority's disks hold"},
                      Case{Plant::kLyingDisk, "durability", "lost the committed entry"},
                      Case{Plant::kRewritesCommitted, "durability", "overwrote the committed entry"},
                      Case{Plant::kServesReadsAtOnce, "linearizable reads", "is served as of"},
                      Case{Plant::kLeaseByTicks, "linearizable reads", "is served as of"},
                      Case{Plant::kSkipsRestore, "state machine safety", "another state than others had"},
                      Case{Plant::kOverstatesAllMatch, "all match", "says that all have"}));

}  // namespace
}  // namespace trireme::simulation
