// Index rows under the host: written as entries are applied, before any snapshot that relies on them, and sent along
// with those that other replicas get (Safety rules 13 and 14).
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/host/row_machine.h"
#include "tests/host/world.h"

namespace trireme::raft::testing {
namespace {

// One group on three nodes.
class Rows {
 public:
  explicit Rows(uint64_t seed) : world(seed), random_(seed) {
    world.options.snapshot_entries = 20;
    world.options.lag_entries = 30;
    world.make_machine = [this](SimNode& n, uint64_t) {
      RowMachine::State& state = states[n.id];
      state = RowMachine::State();
      state.on_apply = on_apply;
      return std::make_unique<RowMachine>(&state);
    };
  }
  void Up() {
    world.StartAll();
    world.AddEverywhere(1);
    ASSERT_TRUE(world.AwaitLeader(1));
  }
  // Few keys, so that they come again.
  std::string Command() {
    const uint64_t kind = random_() % 10;
    const std::string key = absl::StrCat("key", absl::Dec(random_() % 60, absl::kZeroPad2));
    if (kind < 6) return absl::StrCat("put ", key, " ", random_() % 1000, std::string(random_() % 300, 'v'));
    if (kind < 9) return absl::StrCat("erase ", key);
    return absl::StrCat("erase ", key, " ", key.substr(0, 4), "9");
  }
  void Publish(int count) {
    for (int i = 0; i < count; ++i) {
      if (!world.AwaitLeader(1)) return;
      if (!world.Propose(1, Command()).error.has_value()) world.Run(milliseconds(2));
    }
  }
  uint64_t LeaderId() { return world.Leader(1)->spec().self.value() / 1000; }
  uint64_t FollowerId() { return LeaderId() % 3 + 1; }
  bool Same() {
    for (uint64_t id = 1; id <= 3; ++id) {
      if (!world.node(id).up() || states[NodeId(id)].applied != states[NodeId(1)].applied) return false;
    }
    return true;
  }
  bool AwaitSame() {
    return world.RunUntil([this] { return Same(); }, milliseconds(120'000));
  }
  // On each node that is up the store has what its machine has made.
  std::string Check() {
    for (uint64_t id = 1; id <= 3; ++id) {
      SimNode& node = world.node(id);
      if (!node.up()) continue;
      const SimStore::Stored& stored = node.store->seen(GroupId(1));
      if (stored.rows != states[node.id].rows) {
        return absl::StrCat("node ", id, " has ", stored.rows.size(), " rows, as of ", stored.rows_mark.value(),
                            ", its machine ", states[node.id].rows.size(), " as of ", states[node.id].applied.value());
      }
    }
    return "";
  }
  // Writes on until the leader's log no longer has what the node that is down lacks.
  void LeaveBehind(uint64_t id) {
    world.Kill(id);
    Publish(120);
    world.Run(milliseconds(3000));
    ASSERT_GT(world.node(LeaderId()).store->durable(GroupId(1)).compacted, states[NodeId(id)].applied);
  }
  uint64_t Installed(uint64_t id) { return world.node(id).host->figures().snapshots_installed; }

  World world;
  std::map<NodeId, RowMachine::State> states;
  std::function<void(Index)> on_apply = [](Index) {};

 private:
  std::mt19937_64 random_;
};

TEST(HostRowsTest, AreWrittenAsEntriesAreApplied) {
  Rows rows(1);
  rows.Up();
  rows.Publish(200);
  ASSERT_TRUE(rows.AwaitSame());
  EXPECT_EQ(rows.Check(), "");
  EXPECT_GT(rows.states[NodeId(1)].rows.size(), 5u);
}

TEST(HostRowsTest, AScanBeginsAndEndsWhereItIsTold) {
  Rows rows(2);
  rows.Up();
  for (const char* key : {"b", "a", "c"}) (void)rows.world.Propose(1, absl::StrCat("put ", key, " value"));
  ASSERT_TRUE(rows.AwaitSame());
  ASSERT_TRUE(rows.world.RunUntil([&] { return rows.states[NodeId(1)].rows.size() == 3; }));
  std::optional<RowPage> page;
  rows.world.Leader(1)->ScanRows("b", "c", 1000, [&](absl::StatusOr<RowPage> got) { page = *got; });
  ASSERT_TRUE(rows.world.RunUntil([&] { return page.has_value(); }));
  EXPECT_EQ(page->rows, (std::vector<IndexRow>{{"b", "value"}}));
  EXPECT_FALSE(page->more);
  EXPECT_LE(page->mark, rows.world.Leader(1)->applied_index());
}

// Safety rule 14: what a snapshot relies on was given before it.
TEST(HostRowsTest, WhatIsRestoredHasItsRows) {
  Rows rows(3);
  rows.Up();
  for (int round = 0; round < 6; ++round) {
    rows.Publish(45);
    ASSERT_TRUE(rows.AwaitSame());
    for (uint64_t id = 1; id <= 3; ++id) rows.world.Kill(id);
    rows.world.StartAll();
    ASSERT_TRUE(rows.world.AwaitLeader(1));
    ASSERT_TRUE(rows.AwaitSame());
    EXPECT_EQ(rows.Check(), "") << "round " << round;
  }
}

// Safety rule 13.
TEST(HostRowsTest, GoAlongWithASnapshot) {
  Rows rows(4);
  rows.world.options.snapshot_bytes_per_second = 20'000;
  uint64_t chunks = 0;
  rows.world.on_send = [&](NodeId, NodeId, Frame& frame) {
    for (const SnapshotChunk& chunk : frame.chunks) {
      chunks += chunk.rows.empty() ? 0 : 1;
      EXPECT_TRUE(chunk.rows.empty() || (chunk.entries.empty() && chunk.state.empty()));
    }
  };
  rows.Up();
  rows.Publish(100);
  const uint64_t down = rows.FollowerId();
  rows.LeaveBehind(down);
  rows.world.Start(down);
  // They change while they are sent.
  rows.Publish(60);
  ASSERT_TRUE(rows.AwaitSame());
  EXPECT_EQ(rows.Installed(down), 1u);
  EXPECT_GT(chunks, 3u);
  EXPECT_EQ(rows.Check(), "");
}

TEST(HostRowsTest, DamagedRowsAreNotTakenIn) {
  Rows rows(5);
  uint64_t damaged = 0;
  rows.world.on_send = [&](NodeId, NodeId, Frame& frame) {
    for (SnapshotChunk& chunk : frame.chunks) {
      if (chunk.rows.empty() || ++damaged > 2) continue;
      std::string bytes(chunk.rows.view());
      bytes.back() ^= 1;
      chunk.rows = Bytes::Take(std::move(bytes));
    }
  };
  rows.Up();
  const uint64_t down = rows.FollowerId();
  rows.LeaveBehind(down);
  rows.world.Start(down);
  ASSERT_TRUE(rows.AwaitSame());
  EXPECT_EQ(rows.Installed(down), 1u);
  EXPECT_GT(damaged, 2u) << "it comes again";
  EXPECT_EQ(rows.Check(), "");
}

TEST(HostRowsTest, ImpossibleRowsAreRefused) {
  const std::vector<IndexRow> some{{"a", "1"}, {"b", ""}};
  const std::string bytes(EncodeRows(some).view());
  EXPECT_EQ(DecodeRows(bytes, ""), some);
  EXPECT_EQ(DecodeRows("", "a"), std::vector<IndexRow>());
  EXPECT_EQ(DecodeRows(bytes, "a"), std::nullopt) << "not behind what was there";
  EXPECT_EQ(DecodeRows(bytes + bytes, ""), std::nullopt) << "not ascending";
  EXPECT_EQ(DecodeRows(EncodeRows({{"", "1"}}).view(), ""), std::nullopt);
  EXPECT_EQ(DecodeRows(EncodeRows({{"a", std::string(kRowBytesMax, 'v')}}).view(), ""), std::nullopt);
  for (size_t size = 1; size < bytes.size(); ++size) {
    // Only where the first row ends.
    EXPECT_EQ(DecodeRows(bytes.substr(0, size), "").has_value(), size == 4) << size;
  }
}

// Whatever crashes whenever, and however much of what was not synced is lost: in the end each store has the rows that
// its machine made.
TEST(HostRowsTest, CrashesAtAnyPoint) {
  uint64_t installed = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rows rows(seed);
    std::mt19937_64 random(seed);
    rows.world.options.snapshot_bytes_per_second = 10'000 + random() % 100'000;
    rows.world.loss_percent = static_cast<int>(random() % 5);
    for (uint64_t id = 1; id <= 3; ++id) rows.world.node(id).store->survives_percent = 50;
    rows.Up();
    rows.Publish(10);
    for (int round = 0; round < 6; ++round) {
      const uint64_t down = 1 + random() % 3;
      rows.world.Kill(down, random() % 2 == 0);
      rows.Publish(static_cast<int>(random() % 90));
      rows.world.Start(down);
      rows.Publish(static_cast<int>(random() % 30));
      rows.world.Run(milliseconds(random() % 2000));
      for (uint64_t id = 1; id <= 3; ++id) installed += rows.Installed(id);
    }
    rows.world.loss_percent = 0;
    rows.Publish(5);
    ASSERT_TRUE(rows.AwaitSame());
    ASSERT_EQ(rows.Check(), "");
  }
  EXPECT_GT(installed, 40u);
}

}  // namespace
}  // namespace trireme::raft::testing
