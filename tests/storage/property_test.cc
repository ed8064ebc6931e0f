// Random histories, with crashes, against the dumb model. Each seed draws its own parameters. Threads make a run differ
// in detail from the next with the same seed, so a failure may need a few runs to show again.
#include <cstdlib>
#include <random>

#include "gtest/gtest.h"
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

class History {
 public:
  explicit History(uint64_t seed) : random_(seed), harness_(Options()), crashes_(Chance(3, 4)) {}

  std::string Run() {
    if (std::string wrong = Restart(); !wrong.empty()) return wrong;
    uint64_t steps = 100 + Below(200);
    for (uint64_t i = 0; i < steps; ++i) {
      if (harness_.failed()) {
        if (std::string wrong = Restart(); !wrong.empty()) return wrong;
      }
      if (std::string wrong = Step(); !wrong.empty()) return "step " + std::to_string(i) + ": " + wrong;
    }
    if (std::string wrong = Restart(); !wrong.empty()) return wrong;
    harness_.disk().CrashAt(0);
    if (std::string wrong = harness_.Settle(); !wrong.empty()) return wrong;
    return harness_.CheckAll();
  }

 private:
  uint64_t Below(uint64_t n) { return n == 0 ? 0 : random_() % n; }
  bool Chance(uint64_t n, uint64_t of) { return Below(of) < n; }

  StoreOptions Options() {
    StoreOptions options;
    options.segment_bytes = (64 + 16 * Below(5)) << 10;
    options.young_budget_bytes = options.segment_bytes * (2 + Below(3)) + Below(1000);
    options.headroom_segments = static_cast<uint32_t>(1 + Below(3));
    options.batch_cap_bytes = 4096 << Below(4);
    options.pack_bytes = 1 << (8 + Below(8));
    options.reclaim_bytes = 32768 << Below(5);
    return options;
  }

  // Until it is open.
  std::string Restart() {
    for (int attempt = 0; attempt < 20; ++attempt) {
      harness_.Close();
      if (harness_.disk().crashed() || Chance(1, 3)) {
        harness_.disk().Restart(static_cast<Survival>(Below(3)), random_());
      }
      // Sometimes it dies again while it opens, but not for ever.
      uint64_t now = harness_.disk().steps();
      harness_.disk().CrashAt(crashes_ ? now + 1 + Below(attempt < 10 ? 400 : 4000) : 0);
      std::string wrong = harness_.Open();
      if (!wrong.empty()) return wrong;
      if (harness_.store() != nullptr) return "";
    }
    return "it does not open";
  }

  GroupId AnyGroup() {
    std::vector<GroupId> ids;
    for (const auto& [id, group] : harness_.groups()) {
      if (group.submitted.exists) ids.push_back(id);
    }
    return ids.empty() ? GroupId(0) : ids[Below(ids.size())];
  }

  std::string Data(size_t size) {
    std::string data(size, '\0');
    for (size_t i = 0; i < size; i += 8) {
      uint64_t word = random_();
      data.replace(i, std::min<size_t>(8, size - i), reinterpret_cast<char*>(&word), std::min<size_t>(8, size - i));
    }
    return data;
  }

  LogWrite MakeWrite(GroupId id) {
    const ModelGroup& group = harness_.groups()[id];
    const ModelState& state = group.submitted;
    LogWrite write{.group = id, .hard_state = {}, .entries = {}};
    if (Chance(1, 3)) write.hard_state = HardState{Term(random_() % 100), ReplicaId(Below(5)), Index(Below(50))};
    uint64_t next = state.last() + 1;
    // One who overwrites has a new term, as in Raft: that tells the model which write is there after a crash.
    if (Chance(1, 8)) {
      next -= Below(next - state.snapshot_index);
      ++term_;
    }
    uint64_t count = Below(10);
    for (uint64_t i = 0; i < count; ++i) {
      size_t size = Chance(1, 30) ? Below(30'000) : Chance(1, 4) ? Below(4000) : Below(200);
      write.entries.push_back({Term(term_), Index(next + i), Chance(1, 10) ? EntryType::kNoop : EntryType::kCommand,
                               Bytes::Take(Data(size))});
      if (size == 0) write.entries.back().data = Bytes();
      if (Chance(1, 20)) {
        write.entries.back().type = EntryType::kConfig;
        write.entries.back().data = raft::EncodeMembership(raft::VotersOnly({ReplicaId(1 + Below(9))}));
      }
    }
    return write;
  }

  std::string Step() {
    auto& groups = harness_.groups();
    uint64_t what = Below(100);
    GroupId id = AnyGroup();
    if (id == GroupId(0) || (what < 4 && groups.size() < 6)) {
      // Sometimes one that was here before: a replica of a group may come back to a node that it has left.
      GroupId fresh(next_group_);
      if (GroupId before(1 + Below(next_group_)); Chance(1, 3) && groups.count(before) == 0) fresh = before;
      next_group_ = std::max(next_group_, fresh.value() + 1);
      harness_.Create(fresh, Data(Below(100)));
      return "";
    }
    if (what < 50) {
      std::vector<LogWrite> writes;
      writes.push_back(MakeWrite(id));
      if (GroupId other = AnyGroup(); other != id && Chance(1, 2)) writes.push_back(MakeWrite(other));
      harness_.Write(std::move(writes));
      return "";
    }
    ModelGroup& group = groups[id];
    if (what < 58) {
      uint64_t floor = group.submitted.snapshot_index;
      harness_.Save(id, floor + Below(group.submitted.last() - floor + 1),
                    Data(Chance(1, 5) ? Below(30'000) : Below(500)));
      return "";
    }
    if (what < 61) {
      harness_.Await();
      if (harness_.failed() || groups.count(id) == 0) return "";
      TakeSnapshot(id);
      return "";
    }
    if (what < 70) {
      harness_.Await();
      if (harness_.failed() || groups.count(id) == 0) return "";
      Compact(id, groups[id]);
      return "";
    }
    if (what < 72) {
      harness_.Delete(id);
      return "";
    }
    if (what < 85) {
      uint64_t first = 1 + Below(group.submitted.last() + 1);
      return harness_.failed()
                 ? ""
                 : harness_.CheckRead(id, first, first + Below(60), Chance(1, 2) ? Below(20'000) : 1 << 20);
    }
    if (what < 95) {
      harness_.Await();
      return "";
    }
    if (what < 98) {
      return harness_.Settle();
    }
    return Restart();
  }

  // Of another replica, whose log goes on beyond this one's, or ends elsewhere.
  void TakeSnapshot(GroupId id) {
    const ModelState& state = harness_.groups()[id].submitted;
    ++term_;
    Index index(state.snapshot_index + 1 + Below(state.last() - state.snapshot_index + 20));
    ModelGroup::Installed snapshot{
        .snapshot = {index, Term(term_), raft::VotersOnly({ReplicaId(1 + Below(9)), ReplicaId(10 + Below(9))})},
        .bytes = Data(Chance(1, 5) ? Below(30'000) : Below(500)),
        .hard_state = {Term(term_ + Below(5)), ReplicaId(Below(5)), index},
        .live = {}};
    uint64_t of = 1 + Below(5);
    for (Index i(1); i <= index && snapshot.live.size() < 60; ++i) {
      if (Chance(1, of)) {
        snapshot.live.push_back(
            {Term(term_), i, EntryType::kCommand, Bytes::Take(Data(Chance(1, 8) ? Below(6000) : 1 + Below(200)))});
      }
    }
    // Some are begun, go on or not, are dropped, or left to the next restart.
    if (Chance(1, 2)) {
      std::vector<Entry> some(snapshot.live.begin(),
                              snapshot.live.begin() + static_cast<ptrdiff_t>(Below(snapshot.live.size() + 1)));
      harness_.Stage(id, index, Term(term_), std::move(some));
      if (Chance(1, 4) && !harness_.failed()) harness_.store()->Drop(id);
      if (Chance(1, 3)) return;
      if (Chance(1, 2)) harness_.Write(std::vector<LogWrite>(1, MakeWrite(id)));
      harness_.Await();
      // What was written meanwhile may have ended behind it.
      if (harness_.failed() || harness_.groups()[id].submitted.snapshot_index >= index.value()) return;
    }
    harness_.Install(id, snapshot, 1 + Below(20));
  }

  void Compact(GroupId id, const ModelGroup& group) {
    uint64_t snapshot = group.durable.snapshot_index;
    if (snapshot <= group.compacted && Chance(1, 2)) return;
    uint64_t upto = group.compacted + Below(snapshot - std::min(snapshot, group.compacted) + 1);
    uint64_t keep = Below(4);  // of 4: none to most
    std::vector<IndexRange> live;
    for (const auto& [index, entry] : group.submitted.log) {
      if (index > upto) break;
      if (!group.Alive(index) || !Chance(keep, 4)) continue;
      if (!live.empty() && live.back().last + 1 == Index(index)) {
        live.back().last = Index(index);
      } else {
        live.push_back({Index(index), Index(index)});
      }
    }
    harness_.Compact(id, upto, std::move(live));
  }

  std::mt19937_64 random_;
  StoreHarness harness_;
  const bool crashes_;
  uint64_t next_group_ = 1;
  uint64_t term_ = 1;
};

TEST(PropertyTest, RandomHistories) {
  uint64_t first = 1, count = 60;
  if (const char* seed = std::getenv("TRIREME_SEED")) first = std::strtoull(seed, nullptr, 10), count = 1;
  if (const char* seeds = std::getenv("TRIREME_SEEDS")) count = std::strtoull(seeds, nullptr, 10);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    ASSERT_EQ(History(seed).Run(), "") << "replay: TRIREME_SEED=" << seed << " build/dev/tests/storage_property_test";
  }
}

}  // namespace
}  // namespace trireme::storage
