// Two hundred seeds, as many as fit in every test run; `soak` has the rest.
#include <gtest/gtest.h>

#include "tests/simulation/queue/run.h"

namespace trireme::queue_simulation {
namespace {

using simulation::RunResult;

constexpr uint64_t kSeeds = 200;

TEST(QueueSimulation, SeedsAreCleanAndWorthTheirTime) {
  RunResult total;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    RunResult result = RunSeed({.seed = seed});
    ASSERT_EQ(result.outcome, RunResult::Outcome::kClean)
        << result.what << "\nreplay: build/dev/bin/soak --what queue --seed " << seed;
    total.Count(result);
  }
  EXPECT_GT(total.messages, 100 * kSeeds);
  EXPECT_GT(total.crashes, kSeeds);
  EXPECT_GT(total.partitions, kSeeds);
  EXPECT_GT(total.old_tokens, kSeeds);
  EXPECT_GT(total.figures, 10 * kSeeds);
  EXPECT_GT(total.lapses, kSeeds);
  EXPECT_GT(total.write_failures, kSeeds / 10);
  EXPECT_GT(total.damaged, kSeeds / 10);
  EXPECT_GT(total.queue_installs, kSeeds / 10);
  EXPECT_GT(total.digests_compared, 10 * kSeeds);
  EXPECT_GT(total.queue_changes, kSeeds);
  EXPECT_GT(total.nodes_lost, kSeeds / 10);
  EXPECT_GT(total.replicas_deleted, kSeeds / 2);
  EXPECT_GT(total.ordered_messages, 10 * kSeeds);
}

TEST(QueueSimulation, ASeedReplaysExactly) {
  for (uint64_t seed : {3, 4, 5}) {
    EXPECT_EQ(RunSeed({.seed = seed}).trace_hash, RunSeed({.seed = seed}).trace_hash) << "seed " << seed;
  }
  EXPECT_NE(RunSeed({.seed = 3}).trace_hash, RunSeed({.seed = 4}).trace_hash);
}

// Each checker is tested by the bug that it exists to find: planted, it has to be found by that checker first, in at
// least one of a few seeds.
struct Case {
  Plant plant;
  const char* checker;
};

void PrintTo(const Case& c, std::ostream* os) {
  *os << "the bug that " << c.checker << " is for";
}

class PlantedQueueBug : public ::testing::TestWithParam<Case> {};

TEST_P(PlantedQueueBug, IsFoundByItsChecker) {
  std::map<std::string, int> found;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    RunResult result = RunSeed({.seed = seed, .plant = GetParam().plant});
    if (result.outcome != RunResult::Outcome::kUnsafe) continue;
    std::string checker = result.what.substr(0, result.what.find(':'));
    ++found[checker];
    if (checker == GetParam().checker) return;
  }
  FAIL() << "not found by " << GetParam().checker << "; found by: " << ::testing::PrintToString(found);
}

INSTANTIATE_TEST_SUITE_P(
    Each, PlantedQueueBug,
    ::testing::Values(Case{Plant::kConfirmsEarly, "confirmed is kept"}, Case{Plant::kMixesSessions, "one holder"},
                      Case{Plant::kKeepsTooLong, "one holder"}, Case{Plant::kRepeatsSettled, "settled stays"},
                      Case{Plant::kTakesOldTokens, "old token"}, Case{Plant::kMiscounts, "delivery count"},
                      Case{Plant::kSwapsRuns, "producer order"}, Case{Plant::kOldFigures, "current figures"},
                      Case{Plant::kDiverges, "replicas agree"}, Case{Plant::kLosesOfSnapshots, "snapshot is replay"},
                      Case{Plant::kDeletesEarly, "members"}, Case{Plant::kInstallsHalf, "live is kept"},
                      Case{Plant::kVotesAfterLoss, "replicas agree"}, Case{Plant::kForgetsKeys, "in order of keys"}));

}  // namespace
}  // namespace trireme::queue_simulation
