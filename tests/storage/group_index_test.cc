// The index against a dumb twin that knows each entry by itself.
#include "storage/group_index.h"

#include <map>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trireme::storage {
namespace {

using raft::Index;
using raft::IndexRange;
using raft::Term;
using raft::TermRun;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

Ranges R(std::initializer_list<std::pair<uint64_t, uint64_t>> list) {
  Ranges ranges;
  for (auto [a, b] : list) ranges.push_back({Index(a), Index(b)});
  return ranges;
}

TEST(RangesTest, SetOperations) {
  EXPECT_EQ(Unite(R({{1, 3}, {8, 9}}), R({{4, 5}, {9, 12}})), R({{1, 5}, {8, 12}}));
  EXPECT_EQ(Intersect(R({{1, 10}, {20, 30}}), R({{5, 22}, {30, 40}})), R({{5, 10}, {20, 22}, {30, 30}}));
  EXPECT_EQ(Subtract(R({{1, 10}, {20, 30}}), R({{5, 22}, {30, 40}})), R({{1, 4}, {23, 29}}));
  EXPECT_EQ(Subtract(R({{1, 10}}), R({{1, 10}})), R({}));
  EXPECT_TRUE(Contains(R({{3, 5}}), Index(5)));
  EXPECT_FALSE(Contains(R({{3, 5}}), Index(6)));
  EXPECT_TRUE(Intersects(R({{3, 5}}), {Index(5), Index(9)}));
  EXPECT_FALSE(Intersects(R({{3, 5}}), {Index(6), Index(9)}));
}

class Twin {
 public:
  struct Place {
    Term term;
    RecordRef record;  // kNoSlot: in RocksDB
    bool alive = true;
  };
  std::map<uint64_t, Place> log;
  uint64_t snapshot = 0;

  uint64_t last() const { return log.empty() ? snapshot : std::max(snapshot, log.rbegin()->first); }
  std::map<SlotId, uint64_t> Live() const {
    std::map<SlotId, uint64_t> live;
    for (const auto& [i, p] : log) {
      if (p.alive && p.record.slot != kNoSlot) ++live[p.record.slot];
    }
    return live;
  }
  Ranges Old() const {
    Ranges old;
    for (const auto& [i, p] : log) {
      if (p.alive && p.record.slot == kNoSlot) AddRange(old, {Index(i), Index(i)});
    }
    return old;
  }
  std::vector<TermRun> Terms() const {
    std::vector<TermRun> terms;
    for (const auto& [i, p] : log) {
      if (i > snapshot && (terms.empty() || terms.back().term != p.term)) terms.push_back({Index(i), p.term});
    }
    return terms;
  }
};

TEST(GroupIndexTest, LikeItsDumbTwin) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    auto below = [&](uint64_t n) { return n == 0 ? 0 : random() % n; };
    GroupIndex index;
    Twin twin;
    std::map<SlotId, uint64_t> live;
    auto release_slot = [&](SlotId slot, uint64_t n) {
      ASSERT_GE(live[slot], n);
      if ((live[slot] -= n) == 0) live.erase(slot);
    };
    SlotId slot = 0;
    uint32_t offset = 0;
    for (int step = 0; step < 120; ++step) {
      uint64_t what = below(10);
      if (what < 5) {
        uint64_t first = twin.last() + 1;
        if (below(5) == 0) first -= below(first - twin.snapshot);
        auto count = static_cast<uint32_t>(1 + below(6));
        RecordRef record{slot, offset += 100, 90};
        if (below(6) == 0) ++slot;
        std::vector<Term> terms;
        bool cut_old = false;
        for (auto it = twin.log.lower_bound(first); it != twin.log.end(); ++it) {
          cut_old |= it->second.alive && it->second.record.slot == kNoSlot;
        }
        twin.log.erase(twin.log.lower_bound(first), twin.log.end());
        Term term(step / 10 + below(2));
        for (uint32_t i = 0; i < count; ++i) {
          terms.push_back(term);
          twin.log[first + i] = {term, record, true};
        }
        live[record.slot] += count;
        EXPECT_EQ(index.Append({Index(first), count, record}, terms, release_slot), cut_old);
      } else if (what < 6) {
        twin.snapshot += below(twin.last() - twin.snapshot + 1);
        index.SetSnapshot(Index(twin.snapshot));
      } else if (what < 8) {
        uint64_t upto = below(twin.snapshot + 1);
        Ranges keep;
        for (const auto& [i, p] : twin.log) {
          if (i <= upto && p.alive && below(3) == 0) AddRange(keep, {Index(i), Index(i)});
        }
        Ranges dead_old;
        for (auto& [i, p] : twin.log) {
          if (i > upto || !p.alive || Contains(keep, Index(i))) continue;
          p.alive = false;
          if (p.record.slot == kNoSlot) AddRange(dead_old, {Index(i), Index(i)});
        }
        Ranges dead = index.Compact(Index(upto), keep, release_slot);
        // What lies between may be counted in, if it was not alive.
        EXPECT_EQ(dead, dead_old);
      } else if (!index.runs().empty()) {
        // Moves the first record.
        RecordRef record = index.runs().front().record;
        Ranges moved;
        for (auto& [i, p] : twin.log) {
          if (p.record != record) continue;
          if (p.alive) AddRange(moved, {Index(i), Index(i)});
        }
        EXPECT_EQ(index.LiveIn(record, {moved.front().first, moved.back().last}), moved);
        for (auto& [i, p] : twin.log) {
          if (p.record == record) p.record = RecordRef();
        }
        EXPECT_EQ(index.MovedToOld(record, moved, release_slot), moved);
      }
      ASSERT_EQ(index.last_index(), Index(twin.last()));
      ASSERT_EQ(index.old(), twin.Old());
      ASSERT_EQ(live, twin.Live());
      ASSERT_EQ(index.terms(), twin.Terms());
      ASSERT_TRUE(index.Complete());
      for (const auto& [i, p] : twin.log) {
        const storage::Run* run = index.FindRun(Index(i));
        bool young = p.alive && p.record.slot != kNoSlot;
        ASSERT_EQ(run != nullptr, young) << i;
        if (young) {
          ASSERT_EQ(run->record, p.record);
        }
      }
    }
    index.Clear(release_slot);
    EXPECT_THAT(live, IsEmpty());
  }
}

TEST(GroupIndexTest, AGapAboveTheSnapshotIsNoticed) {
  GroupIndex index;
  auto ignore = [](SlotId, uint64_t) {};
  index.Append({Index(5), 2, {0, 0, 10}}, {Term(1), Term(1)}, ignore);
  EXPECT_FALSE(index.Complete());
  index.SetSnapshot(Index(4));
  EXPECT_TRUE(index.Complete());
  EXPECT_THAT(index.terms(), ElementsAre(TermRun{Index(5), Term(1)}));
}

}  // namespace
}  // namespace trireme::storage
