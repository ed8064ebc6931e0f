// Random histories against the model, and their replay. QUEUE_SEEDS=N runs N seeds, QUEUE_SEED=S only seed S.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/queue/history.h"

namespace trireme::queue {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

// A replica that replays the log from `snapshot` (of index `from`) on must have the same bytes after every entry.
void Replays(const History& history, uint64_t from) {
  Machine machine;
  if (from > 0) {
    ASSERT_TRUE(machine.Restore(history.snapshots()[from - 1]).ok());
    ASSERT_EQ(machine.Snapshot(), history.snapshots()[from - 1]) << "restored at " << from;
  }
  for (uint64_t index = from + 1; index <= history.snapshots().size(); ++index) {
    const raft::Bytes& entry = history.log().at(index);
    if (entry.empty()) {
      machine.ApplyNoop(index);
    } else {
      ASSERT_TRUE(machine.Apply(index, entry).ok());
    }
    ASSERT_EQ(machine.Snapshot(), history.snapshots()[index - 1]) << "from " << from << ", after entry " << index;
  }
}

TEST(QueuePropertyTest, RandomHistoriesAgreeWithTheModelAndReplay) {
  const uint64_t one = FromEnvironment("QUEUE_SEED", 0);
  const uint64_t seeds = one != 0 ? one : FromEnvironment("QUEUE_SEEDS", 200);
  for (uint64_t seed = one != 0 ? one : 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("replay: QUEUE_SEED=" + std::to_string(seed) + " build/dev/tests/queue_property_test");
    History history(seed);
    auto problem = history.Run(400);
    ASSERT_FALSE(problem.has_value()) << *problem;
    Replays(history, 0);
    for (uint64_t point = 1; point < 8 && !HasFatalFailure(); ++point)
      Replays(history, history.snapshots().size() * point / 8);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace trireme::queue
