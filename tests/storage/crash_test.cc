// The power goes at every step of a script that goes through all that the store does: append, truncate, snapshot,
// compact, move to RocksDB, reuse of segments, creation and deletion of groups, restart. Afterwards everything that was
// completed is there, and nothing torn is believed.
#include <cstdlib>

#include "gtest/gtest.h"
#include "tests/storage/raw_rocksdb.h"
#include "tests/storage/store_harness.h"

namespace trireme::storage {
namespace {

using raft::Bytes;
using raft::Entry;
using raft::EntryType;
using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::IndexRange;
using raft::LogWrite;
using raft::ReplicaId;
using raft::Term;
using Survival = FaultFileSystem::Survival;

StoreOptions SmallOptions() {
  StoreOptions options;
  options.segment_bytes = 64 << 10;
  options.young_budget_bytes = 2 * options.segment_bytes;
  options.headroom_segments = 2;
  options.batch_cap_bytes = 16 << 10;
  options.pack_bytes = 4 << 10;
  options.reclaim_bytes = 64 << 10;
  return options;
}

std::vector<Entry> Entries(uint64_t first, uint64_t count, uint64_t term, size_t size) {
  std::vector<Entry> entries;
  for (uint64_t i = first; i < first + count; ++i) {
    std::string data(size, static_cast<char>('a' + (i * 7 + term) % 26));
    data.replace(0, std::min<size_t>(8, size), std::to_string(i * 1000 + term).substr(0, size));
    entries.push_back({Term(term), Index(i), EntryType::kCommand, Bytes::Copy(data)});
  }
  return entries;
}

void Append(StoreHarness& h, uint64_t group, std::vector<Entry> entries, std::optional<HardState> state = {}) {
  std::vector<LogWrite> writes;
  writes.push_back({GroupId(group), state, std::move(entries)});
  h.Write(std::move(writes));
  h.Await();
}

// Returns what went wrong. Stops where the store fails.
std::string Script(StoreHarness& h) {
  std::string wrong = h.Open();
  if (!wrong.empty() || h.store() == nullptr) return wrong;
  constexpr uint64_t kIdle = 1, kBacklog = 2, kFast = 3, kShort = 4;
  h.Create(GroupId(kIdle), "the idle one");
  h.Create(GroupId(kBacklog), "the deep one");
  h.Create(GroupId(kFast), "the quick one");
  h.Await();
  Append(h, kIdle, Entries(1, 3, 1, 100), HardState{Term(1), ReplicaId(5), Index(2)});
  h.Save(GroupId(kIdle), 2, "idle state");
  h.Await();
  uint64_t backlog = 1, fast = 1, term = 2;
  for (int round = 0; round < 8 && !h.failed(); ++round) {
    for (int i = 0; i < 6; ++i) {
      Append(h, kBacklog, Entries(backlog, 4, term, 1500));
      backlog += 4;
      Append(h, kFast, Entries(fast, 3, term, 900), HardState{Term(term), ReplicaId(), Index(fast)});
      fast += 3;
    }
    if (round % 2 == 1) {
      // The tail is overwritten, also what may have moved already.
      ++term;
      backlog -= round == 5 ? 60 : 7;
      Append(h, kBacklog, Entries(backlog, 2, term, 700), HardState{Term(term), ReplicaId(2), Index(0)});
      backlog += 2;
    }
    h.Save(GroupId(kFast), fast - 2, "fast " + std::to_string(round) + std::string(20'000, 'x'));
    h.Await();
    if (h.failed()) break;
    h.Compact(GroupId(kFast), fast - 2, {{Index(fast - 9), Index(fast - 8)}});
    if (round == 3) {
      h.Create(GroupId(kShort), "the short-lived one");
      h.Await();
      Append(h, kShort, Entries(1, 20, 3, 1000), HardState{Term(3), ReplicaId(), Index(1)});
    }
    if (round == 6) {
      h.Delete(GroupId(kShort));
      h.Await();
      h.Save(GroupId(kBacklog), backlog - 20, "deep state");
      h.Await();
      if (h.failed()) break;
      h.Compact(GroupId(kBacklog), backlog - 20, {{Index(10), Index(11)}, {Index(40), Index(40)}});
    }
    if (round == 4) {
      wrong = h.Open();
      if (!wrong.empty() || h.store() == nullptr) return wrong;
    }
    if (h.store() != nullptr) wrong = h.Settle();
    if (!wrong.empty()) return wrong;
  }
  if (h.failed() || h.store() == nullptr) return "";
  wrong = h.CheckAll();
  h.Close();
  return wrong;
}

// A snapshot of another replica is staged, in part twice, and installed, while another group fills the log; and again.
std::string InstallScript(StoreHarness& h) {
  std::string wrong = h.Open();
  if (!wrong.empty() || h.store() == nullptr) return wrong;
  constexpr GroupId kBehind(1), kBusy(2);
  h.Create(kBehind, "the one that fell behind");
  h.Create(kBusy, "the busy one");
  h.Await();
  Append(h, 1, Entries(1, 40, 1, 900), HardState{Term(1), ReplicaId(5), Index(20)});
  h.Save(kBehind, 20, "its own state");
  h.Await();
  if (h.failed()) return "";
  h.Compact(kBehind, 20, {{Index(5), Index(6)}});
  uint64_t busy = 1;
  auto fill = [&] {
    for (int i = 0; i < 20; ++i) {
      Append(h, 2, Entries(busy, 5, 1, 1500));
      busy += 5;
    }
  };
  auto live = [](std::vector<IndexRange> ranges, uint64_t term) {
    std::vector<Entry> all;
    for (const IndexRange& r : ranges) {
      std::vector<Entry> some = Entries(r.first.value(), r.last - r.first + 1, term, 700);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  for (uint64_t round = 0; round < 3 && !h.failed(); ++round) {
    uint64_t index = 60 * (round + 1), term = 2 * (round + 1);
    ModelGroup::Installed snapshot{
        .snapshot = {Index(index), Term(term), raft::VotersOnly({ReplicaId(3), ReplicaId(4 + round)})},
        .bytes = "the leader's state " + std::to_string(round) + std::string(9'000 * round, 'y'),
        .hard_state = {Term(term + 1), ReplicaId(round), Index(index)},
        .live = live({{Index(3), Index(3)}, {Index(10), Index(14)}, {Index(index - 9), Index(index - round)}}, term)};
    h.Stage(kBehind, Index(index), Term(term), {snapshot.live.begin(), snapshot.live.begin() + 5});
    if (round == 1) {
      // What was staged goes with the restart, and comes again.
      wrong = h.Open();
      if (!wrong.empty() || h.store() == nullptr) return wrong;
    }
    if (round > 0) fill();
    h.Install(kBehind, snapshot, 4);
    Append(h, 1, Entries(index + 1, 20, term + 1, 800), HardState{Term(term + 1), ReplicaId(), Index(index + 2)});
    if (round == 0) fill();
    h.Save(kBehind, index + 10, "state since " + std::to_string(round));
    h.Await();
    if (h.failed()) break;
    h.Compact(kBehind, index + 10, {{Index(10), Index(11)}, {Index(index - 3), Index(index - round)}});
    wrong = h.Settle();
    if (!wrong.empty()) return wrong;
  }
  if (h.failed() || h.store() == nullptr) return "";
  wrong = h.CheckAll();
  h.Close();
  return wrong;
}

// Every so many steps: all would take minutes, and under a sanitizer each takes many times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kStride = 61;
#else
constexpr uint64_t kStride = 7;
#endif

uint64_t Stride() {
  const char* stride = std::getenv("TRIREME_CRASH_STRIDE");
  return stride == nullptr ? kStride : std::strtoull(stride, nullptr, 10);
}

using ScriptToRun = std::string (*)(StoreHarness&);

void CrashEverywhere(Survival survival, ScriptToRun script = Script, uint64_t stride = Stride()) {
  uint64_t steps = 0;
  {
    StoreHarness h(SmallOptions());
    ASSERT_EQ(script(h), "");
    steps = h.disk().steps();
    ASSERT_EQ(h.Open(), "");
    EXPECT_GT(h.store()->figures().segments, 2u);
  }
  ASSERT_GT(steps, 150u);
  uint64_t only = 0;
  if (const char* step = std::getenv("TRIREME_CRASH_STEP")) only = std::strtoull(step, nullptr, 10);
  for (uint64_t step = only > 0 ? only : 1 + static_cast<uint64_t>(survival) % stride; step <= steps;
       step += only > 0 ? steps : stride) {
    SCOPED_TRACE("replay: TRIREME_CRASH_STEP=" + std::to_string(step) + " of " + std::to_string(steps));
    StoreHarness h(SmallOptions());
    h.disk().CrashAt(step);
    ASSERT_EQ(script(h), "");
    h.Close();
    h.disk().Restart(survival, step);
    ASSERT_EQ(h.Open(), "");
    // And it goes on from there, through another restart.
    uint64_t id = 50;
    h.Create(GroupId(id), "after the crash");
    h.Await();
    Append(h, id, Entries(1, 30, 9, 2000), HardState{Term(9), ReplicaId(1), Index(1)});
    ASSERT_EQ(h.Settle(), "");
    ASSERT_EQ(h.CheckAll(), "");
    ASSERT_EQ(h.Open(), "");
  }
}

TEST(CrashTest, AtEveryStepTornSectorBySector) {
  CrashEverywhere(Survival::kTorn);
}
TEST(CrashTest, AtEveryStepLosingAllThatWasNotSynced) {
  CrashEverywhere(Survival::kNothing);
}
TEST(CrashTest, AtEveryStepLosingNothing) {
  CrashEverywhere(Survival::kAll);
}

// Safety rule 13: at each step the old state is there, or the new one, and none in between.
TEST(CrashTest, AtEveryStepOfAnInstallTornSectorBySector) {
  CrashEverywhere(Survival::kTorn, InstallScript);
}
TEST(CrashTest, AtEveryStepOfAnInstallLosingAllThatWasNotSynced) {
  CrashEverywhere(Survival::kNothing, InstallScript);
}
TEST(CrashTest, AtEveryStepOfAnInstallLosingNothing) {
  CrashEverywhere(Survival::kAll, InstallScript);
}

// Snapshots that are too large for the log, between others that are not, of a group that goes and comes back.
std::string LargeSnapshotScript(StoreHarness& h) {
  std::string wrong = h.Open();
  if (!wrong.empty() || h.store() == nullptr) return wrong;
  constexpr uint64_t kLarge = 1, kBusy = 2;
  h.Create(GroupId(kBusy), "the busy one");
  h.Create(GroupId(kLarge), "the large one");
  h.Await();
  uint64_t next = 1, busy = 1;
  for (uint64_t round = 0; round < 6 && !h.failed(); ++round) {
    Append(h, kLarge, Entries(next, 10, 1 + round, 300), HardState{Term(1 + round), ReplicaId(5), Index(next)});
    next += 10;
    const size_t size = round % 3 == 1 ? 500 : 50'000;
    h.Save(GroupId(kLarge), next - 3, std::string(size, static_cast<char>('a' + round)));
    h.Await();
    if (h.failed()) break;
    h.Compact(GroupId(kLarge), next - 3, {{Index(next - 8), Index(next - 7)}});
    if (round == 3) {
      h.Delete(GroupId(kLarge));
      h.Await();
      h.Create(GroupId(kLarge), "the large one again");
      h.Await();
      next = 1;
    }
    for (int i = 0; i < 6; ++i) {
      Append(h, kBusy, Entries(busy, 5, 1, 1500));
      busy += 5;
    }
    if (round == 1 || round == 4) {
      wrong = h.Open();
      if (!wrong.empty() || h.store() == nullptr) return wrong;
    }
  }
  if (h.failed() || h.store() == nullptr) return "";
  wrong = h.Settle();
  if (wrong.empty()) wrong = h.CheckAll();
  h.Close();
  return wrong;
}

TEST(CrashTest, AtEveryStepOfLargeSnapshotsTornSectorBySector) {
  CrashEverywhere(Survival::kTorn, LargeSnapshotScript);
}
TEST(CrashTest, AtEveryStepOfLargeSnapshotsLosingAllThatWasNotSynced) {
  CrashEverywhere(Survival::kNothing, LargeSnapshotScript);
}

// Index rows that come with every entry, given in pieces of several sizes, of a group that is snapshotted, restarted,
// gets another replica's snapshot, and is deleted and made anew, while another one fills the log.
std::string RowScript(StoreHarness& h) {
  std::string wrong = h.Open();
  if (!wrong.empty() || h.store() == nullptr) return wrong;
  constexpr GroupId kRows(1), kBusy(2);
  h.Create(kBusy, "the busy one");
  h.Create(kRows, "the one with rows");
  h.Await();
  uint64_t next = 1, busy = 1;
  for (uint64_t round = 0; round < 9 && !h.failed(); ++round) {
    const uint64_t term = round + 1;
    for (uint64_t i = 0; i < 6 && !h.failed(); ++i) {
      Append(h, 1, Entries(next, 7, term, 300), HardState{Term(term), ReplicaId(5), Index(next)});
      next += 7;
      Append(h, 2, Entries(busy, 5, 1, 1500));
      busy += 5;
      if (h.failed()) return "";
      h.GiveRows(kRows, next - 1 - i, 1 + round);
      if (i == 2) wrong = h.CheckRows(kRows);
      if (!wrong.empty()) return wrong;
    }
    // What was given behind the snapshot's index is there, too, or made again.
    h.Save(kRows, next - 8, "state " + std::to_string(round) + std::string(round == 4 ? 40'000 : 10, 's'));
    if (round % 2 == 0) h.GiveRows(kRows, next - 1);
    h.Await();
    if (h.failed()) return "";
    h.Compact(kRows, next - 8, {{Index(next - 12), Index(next - 11)}});
    if (round == 2 || round == 5) wrong = h.Open();
    if (!wrong.empty() || h.store() == nullptr) return wrong;
    if (round == 3) {
      const Index as_of(next + 50);
      h.StageRows(kRows, as_of, Term(term), 11);
      h.Install(kRows,
                {.snapshot = {as_of, Term(term), raft::VotersOnly({ReplicaId(3)})},
                 .bytes = "the leader's state",
                 .hard_state = {Term(term), ReplicaId(), as_of},
                 .live = Entries(next + 20, 3, term, 400)},
                2);
      if (h.failed()) return "";
      h.groups().at(kRows).rows = as_of.value();
      next = as_of.value() + 1;
    }
    if (round == 6) {
      h.Delete(kRows);
      h.Await();
      h.Create(kRows, "the one with rows again");
      h.Await();
      next = 1;
    }
    if (!h.failed()) wrong = h.Settle();
    if (!wrong.empty()) return wrong;
  }
  if (h.failed() || h.store() == nullptr) return "";
  wrong = h.CheckAll();
  h.Close();
  return wrong;
}

// Safety rule 14: rows are those of their mark, which is not before the snapshot; what follows is made again.
TEST(CrashTest, AtEveryStepOfIndexRowsTornSectorBySector) {
  CrashEverywhere(Survival::kTorn, RowScript);
}
TEST(CrashTest, AtEveryStepOfIndexRowsLosingAllThatWasNotSynced) {
  CrashEverywhere(Survival::kNothing, RowScript);
}
TEST(CrashTest, AtEveryStepOfIndexRowsLosingNothing) {
  CrashEverywhere(Survival::kAll, RowScript);
}

// Safety rule 16: whatever write or sync fails, nothing completes afterwards, and what completed before is there.
TEST(CrashTest, AFailedWriteOrSyncEndsIt) {
  uint64_t steps = 0;
  {
    StoreHarness h(SmallOptions());
    ASSERT_EQ(Script(h), "");
    steps = h.disk().steps();
  }
  int mattered = 0;
  for (uint64_t step = 1; step <= steps; step += Stride() * 2) {
    SCOPED_TRACE("failing step " + std::to_string(step));
    StoreHarness h(SmallOptions());
    h.disk().FailAt(step);
    std::string wrong = Script(h);
    // Where opening failed, it said so.
    const bool refused = wrong.find("input/output error") != std::string::npos;
    if (refused) wrong = "";
    ASSERT_EQ(wrong, "");
    h.Close();
    const std::string call = h.disk().failed_call();
    // A file that is not wanted any more and stays is no write that was lost.
    const bool removal = call.starts_with("remove");
    for (const char* needed : {"/wal/", ".sst", ".blob", "MANIFEST"}) {
      if (removal || call.find(needed) == std::string::npos) continue;
      EXPECT_TRUE(h.ever_failed() || refused) << "the store went on after a failed " << call;
      ++mattered;
    }
    h.disk().Restart(Survival::kTorn, step);
    ASSERT_EQ(h.Open(), "");
  }
  EXPECT_GT(mattered, 0);
}

// Entries so small that RocksDB is flushed in the middle of a move, the first of all, whose end the process does not
// live to see; what was overwritten meanwhile is moved later, in packs with other bounds.
TEST(CrashTest, NothingIsLeftOfAFirstMoveThatWasCutShort) {
  StoreOptions options;
  options.segment_bytes = 3 << 20;
  options.young_budget_bytes = 2 * options.segment_bytes;
  options.batch_cap_bytes = 256 << 10;
  options.pack_bytes = 2 * sizeof(Entry);
  StoreHarness h(options);
  constexpr uint64_t kTiny = 1, kLarge = 2, kOverwritten = 1000;
  ASSERT_EQ(h.Open(), "");
  h.Create(GroupId(kTiny), "tiny");
  h.Create(GroupId(kLarge), "large");
  h.Await();
  for (uint64_t i = 1; i < 98'000; i += 1000) Append(h, kTiny, Entries(i, 1000, 1, 1));
  h.disk().Hold("/disk/store/old/MANIFEST");
  uint64_t large = 1;
  for (; large <= 35; ++large) Append(h, kLarge, Entries(large, 1, 1, 200'000));
  ASSERT_TRUE(h.disk().AwaitHeld());
  Append(h, kTiny, Entries(kOverwritten, 50, 2, 200));
  ASSERT_EQ(h.store()->figures().bytes_moved, 0u);
  // The flush that is held is the move's first; its last begins behind it.
  h.disk().CrashAt(h.disk().steps() + 8);
  h.disk().Release();
  ASSERT_EQ(h.Settle(), "");
  h.Close();
  h.disk().Restart(Survival::kNothing, 1);
  ASSERT_GT(RawRocksDb(&h.disk()).GenerationsOf(GroupId(kTiny)).size(), 0u) << "nothing was flushed";

  ASSERT_EQ(h.Open(), "");
  for (; large <= 80; ++large) Append(h, kLarge, Entries(large, 1, 1, 200'000));
  ASSERT_EQ(h.Settle(), "");
  ASSERT_GT(h.store()->figures().bytes_moved, 6'000'000u);
  EXPECT_EQ(h.CheckAll(), "");
}

}  // namespace
}  // namespace trireme::storage
