// What cannot be said as a scenario of a few lines: sizes, and bytes.
#include "broker/queue/machine.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <string>

#include "broker/queue/dispatchers.h"
#include "tests/queue/log.h"
#include "tests/queue/sealed.h"
#include "tests/queue/text.h"

namespace trireme::queue {
namespace {

// Whether the allocator tells what is in use.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHeapIsMeasured = false;
#else
constexpr bool kHeapIsMeasured = true;
#endif

size_t HeapBytes() {
  return mallinfo2().uordblks;
}

void Apply(Machine& machine, const raft::Bytes& entry) {
  auto effects = machine.Apply(machine.applied() + 1, entry);
  ASSERT_TRUE(effects.ok()) << effects.status();
}
void Apply(Machine& machine, const std::string& fact) {
  Apply(machine, FactsEntry({ParseFact(script::Split(fact), machine.subscription(0).next)}));
}

// Safety rule 1: what waits is not recorded, however much it is, in however many entries.
TEST(MachineTest, ABacklogOfAMillionAddsNothingToTheState) {
  Machine machine;
  Apply(machine, "attach a epoch=1");
  Apply(machine, "open p epoch=1");
  Apply(machine, PublishedEntry(2, "p", 1, 1));
  Apply(machine, "checkout a@1 waiting=3:0+1");
  const size_t snapshot_before = machine.Snapshot().size();
  const size_t heap_before = HeapBytes();

  const raft::Bytes one = PublishedEntry(1), hundred = PublishedEntry(100);
  for (int i = 0; i < 500'000; ++i) Apply(machine, one);
  for (int i = 0; i < 5'000; ++i) Apply(machine, hundred);

  EXPECT_EQ(machine.subscription(0).waiting, 1'000'001u);
  // Three numbers have become longer: messages published, messages waiting, the index applied.
  EXPECT_LE(machine.Snapshot().size(), snapshot_before + 3 * 2);
  EXPECT_EQ(machine.subscription(0).exceptions(), 1u);
  if (kHeapIsMeasured) {
    EXPECT_LT(HeapBytes(), heap_before + 4096);
    // The measurement itself: a few exceptions are seen.
    for (int i = 0; i < 500; ++i) Apply(machine, one);
    const size_t before_exceptions = HeapBytes();
    for (uint32_t i = 0; i < 200; ++i) Apply(machine, "checkout a@1 waiting=" + std::to_string(i + 5) + ":0+1");
    EXPECT_GT(HeapBytes(), before_exceptions + 200 * sizeof(InFlight) / 2);
  }
}

// Safety rule 1, for what a producer leaves behind: its window does not grow with what it has published.
TEST(MachineTest, AProducersMillionMessagesLeaveAWindow) {
  Machine machine;
  Apply(machine, "open p epoch=1");
  size_t full = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    Apply(machine, PublishedEntry(10, "p", 1, 1 + 10 * i));
    if (i == 2 * ProducerWindow::kRanges) full = machine.Snapshot().size();
  }
  EXPECT_EQ(machine.producers().at("p").window.highest(), 1'000'000u);
  EXPECT_LE(machine.Snapshot().size(), full + 16);
}

// Producers that open and vanish are known for a while; each must be cheap until it publishes.
TEST(MachineTest, AProducerThatOnlyOpenedIsSmall) {
  Machine machine;
  const size_t before = HeapBytes();
  constexpr size_t kProducers = 10'000;
  for (size_t i = 0; i < kProducers; ++i) Apply(machine, "open " + std::to_string(i) + " epoch=1");
  if (kHeapIsMeasured) {
    EXPECT_LT((HeapBytes() - before) / kProducers, 256u);
    EXPECT_GT((HeapBytes() - before) / kProducers, 32u);  // the measurement itself
  }
}

// Safety rule 1, for the leader: what its dispatcher knows of the backlog is bounded by its read-ahead.
TEST(MachineTest, ABacklogOfAMillionDoesNotGrowTheDispatcher) {
  Machine machine;
  const raft::Bytes one = PublishedEntry(1);
  Dispatchers dispatcher(&machine, 0, 0, {.read_ahead = 256});
  auto publish = [&](int n) {
    for (int i = 0; i < n; ++i) {
      dispatcher.Appended(machine.applied() + 1, ShapeOf(one));
      Apply(machine, one);
    }
  };
  publish(1'000);
  const size_t before = HeapBytes();
  publish(1'000'000);
  if (kHeapIsMeasured) {
    EXPECT_LT(HeapBytes(), before + 4096);
  }
  EXPECT_EQ(machine.subscription(0).waiting, 1'001'000u);
}

// Safety rule 3: the same log gives the same bytes in every process, on every machine: neither the order of a hash map,
// which differs from process to process, nor an address reaches them. When what facts mean or how a snapshot is laid
// out is changed on purpose, this number changes, and a version must be raised: kFactVersion for the one, the
// snapshot's for the other.
TEST(MachineTest, TheSameLogGivesTheSameBytesInEveryProcess) {
  Machine machine;
  for (int i = 0; i < 40; ++i) {
    const std::string n = std::to_string(i * 7919 % 1000);
    Apply(machine, "open producer-" + n + " epoch=" + std::to_string(1 + i % 3));
    Apply(machine, PublishedEntry(3, "producer-" + n, 1 + i % 3, 5 + static_cast<uint64_t>(i), 1000 + i));
    Apply(machine, "attach session-" + n + " epoch=" + std::to_string(1 + i) + " timeout=1000 consumer=c");
    const std::string m = std::to_string(machine.applied() - 1);
    Apply(machine, "checkout session-" + n + "@" + std::to_string(1 + i) + " waiting=" + m + ":0+2");
    Apply(machine, "settle requeue " + m + ":1+1@" + std::to_string(machine.applied()));
    Apply(machine, "checkout until=" + std::to_string(5000 + i) + " waiting=" + m + ":2+1");
  }
  Apply(machine, "forget producer-0 epoch=1 last=7");
  Apply(machine, "detach session-0 epoch=1");
  Apply(machine, PublishedEntry(3, "producer-0", 1, 8));  // refused
  EXPECT_EQ(machine.Snapshot().size(), 2'527u);
  EXPECT_EQ(machine.Digest(), 2'439'335'733u);
}

// Safety rule 3: a snapshot of a layout that is not known is refused, with the version that it has.
TEST(MachineTest, ASnapshotOfAnotherVersionIsRefused) {
  Machine machine;
  Apply(machine, PublishedEntry(2));
  const raft::Bytes snapshot = machine.Snapshot();
  std::string body(snapshot.view().substr(0, snapshot.size() - 4));
  ASSERT_TRUE(Machine().Restore(SealedSnapshot(body)).ok());
  constexpr int kOldest = Machine::SnapshotVersion(kFirstFactVersion), kNewest = Machine::SnapshotVersion(kFactVersion);
  for (int version = 0; version < 256; ++version) {
    if (version == kOldest) continue;
    body[0] = static_cast<char>(version);
    Machine restored;
    Apply(restored, PublishedEntry(7));
    const absl::Status status = restored.Restore(SealedSnapshot(body));
    const bool known = version > kOldest && version <= kNewest;  // but its facts are those of the first
    ASSERT_EQ(status.code(), known ? absl::StatusCode::kDataLoss : absl::StatusCode::kUnimplemented) << version;
    EXPECT_NE(status.message().find("version " + std::to_string(version)), std::string::npos) << status;
    // It is as new, not half of either.
    EXPECT_EQ(restored.Snapshot(), Machine().Snapshot());
  }
}

// Safety rule 3: until a VersionRaised says otherwise, this program writes what the one before it wrote, so that
// replicas of both agree in their bytes, and either may follow the other. A fact of the second version does not come
// before it.
TEST(MachineTest, TheVersionComesFromTheLog) {
  Machine machine;
  Apply(machine, PublishedEntry(2));
  EXPECT_EQ(machine.version(), kFirstFactVersion);
  EXPECT_EQ(machine.Snapshot().view().substr(0, 2), "\2\1");
  const raft::Bytes before = machine.Snapshot();
  auto early = machine.Apply(2, FactsEntry({fact::Purged{}, fact::SubscriptionDeleted{0}}));
  EXPECT_EQ(early.status().code(), absl::StatusCode::kDataLoss) << early.status();
  EXPECT_EQ(machine.Snapshot(), before);
  // In the entry that raises it, it may.
  auto raised = machine.Apply(2, FactsEntry({fact::VersionRaised{2}, fact::SubscriptionDeleted{0}}));
  ASSERT_TRUE(raised.ok()) << raised.status();
  EXPECT_EQ(machine.Snapshot().view().substr(0, 2), "\3\2");
  Machine restored;
  ASSERT_TRUE(restored.Restore(machine.Snapshot()).ok());
  EXPECT_EQ(restored.version(), 2u);
  EXPECT_TRUE(restored.subscriptions().empty());
}

// The same for one that holds facts of a version to come, which is its second number.
TEST(MachineTest, ASnapshotWithFactsOfALaterVersionIsRefused) {
  const raft::Bytes snapshot = Machine().Snapshot();
  std::string body(snapshot.view().substr(0, snapshot.size() - 4));
  body[1] = static_cast<char>(kFactVersion + 1);
  const absl::Status status = Machine().Restore(SealedSnapshot(body));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("version " + std::to_string(kFactVersion + 1)), std::string::npos) << status;
}

}  // namespace
}  // namespace trireme::queue
