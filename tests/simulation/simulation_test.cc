// Two hundred seeds, as many as fit in every test run; `soak` has the rest.
#include "tests/simulation/simulation.h"

#include <gtest/gtest.h>

namespace trireme::simulation {
namespace {

constexpr uint64_t kSeeds = 200;

TEST(Simulation, SeedsAreCleanAndWorthTheirTime) {
  RunResult total;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    RunResult result = RunSeed({.seed = seed});
    ASSERT_EQ(result.outcome, RunResult::Outcome::kClean)
        << result.what << "\nreplay: build/dev/bin/soak --seed " << seed << " --trace";
    total.Count(result);
  }
  // A simulator in which nothing happens finds nothing.
  EXPECT_GT(total.committed, 200 * kSeeds);
  EXPECT_GT(total.terms, 4 * kSeeds);
  EXPECT_GT(total.crashes, 3 * kSeeds);
  EXPECT_GT(total.partitions, 3 * kSeeds);
  EXPECT_GT(total.reads_served, 20 * kSeeds);
  EXPECT_GT(total.lease_reads, 5 * kSeeds);
  EXPECT_GT(total.sleeps, 10 * kSeeds);
  EXPECT_GT(total.installs, kSeeds / 2);
  EXPECT_GT(total.changes, 2 * kSeeds);
  EXPECT_GT(total.transfers, kSeeds);
  EXPECT_GT(total.write_failures, kSeeds / 2);
  // Every kind of fault occurs.
  EXPECT_GT(total.pauses, kSeeds);
  EXPECT_GT(total.stalls, kSeeds);
  EXPECT_GT(total.flaps, kSeeds / 2);
  EXPECT_GT(total.closed, kSeeds);
  EXPECT_GT(total.torn, kSeeds / 10);
  EXPECT_GT(total.no_room, kSeeds / 10);
  EXPECT_GT(total.flips, kSeeds / 4);
  EXPECT_GT(total.lost, 20 * kSeeds);
  EXPECT_GT(total.duplicates, 20 * kSeeds);
  EXPECT_GT(total.reordered, 20 * kSeeds);
}

TEST(Simulation, ASeedReplaysExactly) {
  for (uint64_t seed : {3, 4, 5, 6}) {
    RunResult first = RunSeed({.seed = seed});
    RunResult second = RunSeed({.seed = seed});
    EXPECT_EQ(first.trace_hash, second.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.committed, second.committed) << "seed " << seed;
  }
  EXPECT_NE(RunSeed({.seed = 3}).trace_hash, RunSeed({.seed = 4}).trace_hash);
}

}  // namespace
}  // namespace trireme::simulation
