// A replica that has fallen too far behind gets a snapshot (Safety rule 13), on simulated nodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "raft/host/hosted_group.h"
#include "tests/host/world.h"

namespace trireme::raft::testing {
namespace {

class SnapshotTest : public ::testing::Test {
 protected:
  void SetUp() override {
    world_.options.snapshot_entries = 20;
    world_.options.lag_entries = 30;
  }
  void Up() {
    world_.StartAll();
    world_.AddEverywhere(1);
    ASSERT_TRUE(world_.AwaitLeader(1));
  }
  // Each is committed before the next is proposed; returns the last one's text.
  std::string Publish(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      text = absl::StrCat("message ", ++published_);
      Proposed proposed = world_.Propose(1, text);
      EXPECT_FALSE(proposed.error.has_value());
      EXPECT_TRUE(world_.RunUntil([&] {
        Group* leader = world_.Leader(1);
        return leader != nullptr && leader->applied_index() >= proposed.first;
      }));
    }
    return text;
  }
  uint64_t LeaderId() { return world_.Leader(1)->spec().self.value() / 1000; }
  uint64_t FollowerId() { return LeaderId() % 3 + 1; }
  bool AwaitSame(milliseconds time = milliseconds(60'000)) {
    return world_.RunUntil(
        [&] {
          for (uint64_t id = 1; id <= 3; ++id) {
            if (!world_.node(id).up() || world_.Applied(id, 1).size() != static_cast<size_t>(published_)) return false;
          }
          return world_.Applied(1, 1) == world_.Applied(2, 1) && world_.Applied(1, 1) == world_.Applied(3, 1);
        },
        time);
  }
  uint64_t Installed(uint64_t id) { return world_.node(id).host->figures().snapshots_installed; }
  // Tells every node's machine that these, and all above the last, are alive. (A machine would say so by itself.)
  void SetLive(std::vector<IndexRange> live) {
    for (uint64_t id = 1; id <= 3; ++id) {
      TextMachine::Log& log = world_.node(id).logs[GroupId(1)];
      log.live = live;
      log.floor = Index(1'000'000);
    }
  }
  // Writes on until the leader's log no longer has what the node that is down lacks.
  void LeaveBehind(uint64_t id) {
    world_.Kill(id);
    ASSERT_TRUE(world_.AwaitLeader(1));
    Publish(100);
    world_.Run(milliseconds(3000));
    ASSERT_GT(world_.node(LeaderId()).store->durable(GroupId(1)).compacted, Index(60));
  }
  // All are up, and one of them, which is given back, has just come back and needs a snapshot.
  uint64_t UpWithAFollowerBehind(const std::vector<IndexRange>& live = {}) {
    Up();
    Publish(10);
    SetLive(live);
    const uint64_t down = FollowerId();
    LeaveBehind(down);
    world_.Start(down);
    SetLive(live);  // what its machine was told ended with it
    return down;
  }

  World world_{7};
  int published_ = 0;
};

TEST_F(SnapshotTest, AShortLagKeepsTheLog) {
  Up();
  Publish(5);
  world_.Run(milliseconds(500));
  const uint64_t down = FollowerId();
  world_.Kill(down);
  Publish(25);
  world_.Run(milliseconds(3000));
  world_.Start(down);
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(Installed(down), 0u);
}

TEST_F(SnapshotTest, ALongLagIsMadeUpByASnapshotAndTheLogBehindIt) {
  const uint64_t down = UpWithAFollowerBehind();
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(Installed(down), 1u);
  // It is a full member again: with it and one other all goes on, and what it has outlives its restart.
  const uint64_t leader = LeaderId();
  world_.Kill(leader);
  ASSERT_TRUE(world_.AwaitLeader(1));
  Publish(10);
  world_.Kill(down);
  world_.Start(leader);
  world_.Start(down);
  ASSERT_TRUE(AwaitSame());
}

TEST_F(SnapshotTest, LiveEntriesGoAlongAndDeadOnesStayBehind) {
  const uint64_t down = UpWithAFollowerBehind({{Index(4), Index(6)}, {Index(50), Index(50)}});
  ASSERT_TRUE(AwaitSame());
  ASSERT_EQ(Installed(down), 1u);
  const SimStore::Stored& there = world_.node(down).store->durable(GroupId(1));
  const SimStore::Stored& here = world_.node(LeaderId()).store->durable(GroupId(1));
  std::vector<Index> live;
  for (const auto& [index, entry] : there.log) {
    if (index > there.snapshot_index) continue;
    live.push_back(index);
    EXPECT_EQ(entry, here.log.at(index));
  }
  EXPECT_EQ(live, (std::vector<Index>{Index(4), Index(5), Index(6), Index(50)}));
}

// An entry may be as large as a frame may be: it does not share its part with others.
TEST_F(SnapshotTest, ALargeEntryGoesInAPartOfItsOwn) {
  constexpr size_t kPart = size_t{1} << 20;
  world_.options.max_uncommitted_bytes = size_t{32} << 20;
  Up();
  Publish(10);
  ASSERT_FALSE(world_.Propose(1, std::string(15 * kPart, 'x')).error.has_value());
  ++published_;
  SetLive({{Index(2), Index(12)}});
  const uint64_t down = FollowerId();
  ASSERT_TRUE(AwaitSame());
  SetLive({{Index(2), Index(12)}});
  LeaveBehind(down);
  size_t largest = 0, shared = 0;
  world_.on_send = [&](NodeId, NodeId, Frame& frame) {
    for (const SnapshotChunk& chunk : frame.chunks) {
      size_t bytes = 0;
      for (const Entry& entry : chunk.entries) bytes += entry.data.size();
      largest = std::max(largest, bytes);
      if (bytes > kPart) shared = std::max(shared, chunk.entries.size());
    }
  };
  world_.Start(down);
  SetLive({{Index(2), Index(12)}});
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(Installed(down), 1u);
  EXPECT_EQ(largest, 15 * kPart);
  EXPECT_EQ(shared, 1u);
}

TEST_F(SnapshotTest, SmallPartsOverALossyNetwork) {
  world_.options.snapshot_bytes_per_second = 2000;  // 100 bytes a tick
  Up();
  Publish(10);
  SetLive({{Index(2), Index(9)}});
  const uint64_t down = FollowerId();
  LeaveBehind(down);
  world_.loss_percent = 20;
  world_.Start(down);
  SetLive({{Index(2), Index(9)}});
  ASSERT_TRUE(world_.RunUntil([&] { return Installed(down) > 0; }, milliseconds(300'000)));
  world_.loss_percent = 0;
  ASSERT_TRUE(AwaitSame());
}

// The connection breaks in the midst; what has arrived is not sent again.
TEST_F(SnapshotTest, ABreakIsResumed) {
  world_.options.snapshot_bytes_per_second = 2000;
  const uint64_t down = UpWithAFollowerBehind();
  uint64_t farthest = 0;
  bool went_back = false;
  world_.on_send = [&](NodeId, NodeId, Frame& frame) {
    for (const SnapshotChunk& chunk : frame.chunks) {
      went_back |= chunk.at.state_bytes < farthest;
      farthest = std::max(farthest, chunk.at.state_bytes);
    }
  };
  ASSERT_TRUE(world_.RunUntil([&] { return farthest > 500; }, milliseconds(60'000)));
  world_.cut.insert({NodeId(LeaderId()), NodeId(down)});
  world_.Run(milliseconds(40'000));
  world_.cut.clear();
  ASSERT_TRUE(AwaitSame());
  EXPECT_FALSE(went_back);
}

// The leader takes snapshots of its own meanwhile, and has yet to keep the log behind the one that it sends.
TEST_F(SnapshotTest, TheLogBehindItIsKeptWhileItIsSent) {
  world_.options.snapshot_bytes_per_second = 2000;
  const uint64_t down = UpWithAFollowerBehind();
  ASSERT_TRUE(world_.RunUntil([&] { return world_.node(down).host->figures().snapshots_receiving > 0; }));
  const Index compacted = world_.node(LeaderId()).store->durable(GroupId(1)).compacted;
  Publish(80);
  ASSERT_EQ(Installed(down), 0u);
  EXPECT_GT(world_.node(LeaderId()).store->durable(GroupId(1)).snapshot_index, compacted + 60);
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(Installed(down), 1u);
}

// However much is published while it is sent: what the follower has would be of no use without the log behind it, and
// it would get another one, and another.
TEST_F(SnapshotTest, ADeepOneIsSentOnceThoughTheLogBehindItGrows) {
  world_.options.snapshot_bytes_per_second = 400;
  world_.options.lag_bytes = 100;
  const uint64_t down = UpWithAFollowerBehind();
  ASSERT_TRUE(world_.RunUntil([&] { return world_.node(down).host->figures().snapshots_receiving > 0; }));
  while (Installed(down) == 0 && published_ < 5000) {
    Publish(50);
    world_.Run(milliseconds(50));
  }
  EXPECT_GT(published_, 800);
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(Installed(down), 1u);
}

// Only where the disk is nearly full its log is as bounded as ever.
TEST_F(SnapshotTest, OnALowDiskTheLogBehindItIsBounded) {
  world_.options.snapshot_bytes_per_second = 400;
  world_.options.lag_bytes = 100;
  bool low = false;
  world_.options.disk_low = [&low] { return low; };
  const uint64_t down = UpWithAFollowerBehind();
  ASSERT_TRUE(world_.RunUntil([&] { return world_.node(down).host->figures().snapshots_receiving > 0; }));
  const Index compacted = world_.node(LeaderId()).store->durable(GroupId(1)).compacted;
  Publish(200);
  world_.Run(milliseconds(1500));
  EXPECT_LE(world_.node(LeaderId()).store->durable(GroupId(1)).compacted, compacted + 20);
  low = true;
  Publish(100);
  world_.Run(milliseconds(1500));
  EXPECT_GT(world_.node(LeaderId()).store->durable(GroupId(1)).compacted, compacted + 100);
  low = false;
  ASSERT_TRUE(AwaitSame());
}

TEST(LagMarksTest, BytesBehindAreKnownAsWellFarBackAsNear) {
  LagMarks lag;
  constexpr uint64_t kMarks = 20'000, kBytes = 1000;
  for (uint64_t i = 1; i <= kMarks; ++i) {
    lag.applied_bytes += kBytes;
    lag.Mark(Index(i));
  }
  EXPECT_LE(lag.marks.size(), 64u);
  for (uint64_t back : {1, 3, 10, 50, 100, 1000, 5000, 15'000}) {
    const uint64_t behind = lag.BytesBehind(Index(kMarks - back));
    EXPECT_GE(behind, back * kBytes) << back;
    EXPECT_LE(behind, back * kBytes * 3 / 2 + 2 * kBytes) << back;
  }
}

// Installing takes its time, and the leader takes snapshots of its own meanwhile: the follower gets the log behind the
// one that it has, not another one.
TEST_F(SnapshotTest, TheLogBehindItIsKeptUntilItIsInstalledAndFollowed) {
  const uint64_t down = UpWithAFollowerBehind();
  ASSERT_TRUE(world_.RunUntil([&] { return world_.node(down).host->figures().snapshots_receiving > 0; }));
  world_.node(down).store->stalled = true;
  Publish(90);
  world_.Run(milliseconds(2500));
  Publish(10);
  ASSERT_EQ(Installed(down), 0u);
  world_.node(down).store->stalled = false;
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(Installed(down), 1u);
}

// A part takes longer than the time after which it is sent again.
TEST_F(SnapshotTest, ASlowLinkMovesIt) {
  Up();
  Publish(10);
  SetLive({});
  const uint64_t down = FollowerId();
  LeaveBehind(down);
  world_.net_latency_max = std::chrono::microseconds(1);
  world_.Start(down);
  SetLive({});
  int chunks = 0;
  world_.on_send = [&](NodeId from, NodeId to, Frame& frame) {
    if (frame.chunks.empty() || chunks < 0) return;
    ++chunks;
    auto late = std::make_shared<Frame>(frame);
    frame.chunks.clear();
    world_.clock().In(milliseconds(700), [this, from, to, late, &chunks] {
      const int count = std::exchange(chunks, -1);
      world_.Deliver(from, to, *late);
      chunks = count;
    });
  };
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(Installed(down), 1u);
  EXPECT_LT(chunks, 8);
}

// Nothing is known of what comes with it but that this program cannot read it: the old state stays.
TEST_F(SnapshotTest, AStateThatCannotBeReadIsRefusedBeforeItReplacesAnything) {
  const uint64_t down = UpWithAFollowerBehind();
  world_.node(LeaderId()).logs[GroupId(1)].applied[0] = "unknown";
  world_.Run(milliseconds(5000));
  EXPECT_EQ(Installed(down), 0u);
  EXPECT_TRUE(world_.node(down).host->Find(GroupId(1))->halted().ok());
  EXPECT_EQ(world_.Applied(down, 1).front(), "message 1");
  EXPECT_EQ(world_.node(down).store->durable(GroupId(1)).snapshot_index, Index());
}

TEST_F(SnapshotTest, ADamagedPartIsSentAgain) {
  Up();
  Publish(10);
  const uint64_t down = FollowerId();
  LeaveBehind(down);
  int damaged = 0;
  world_.on_send = [&](NodeId, NodeId, Frame& frame) {
    for (SnapshotChunk& chunk : frame.chunks) {
      if (damaged >= 3 || chunk.entries.empty()) continue;
      ++damaged;
      chunk.entries.back().data = Bytes::Copy("damaged on the way");
    }
  };
  world_.Start(down);
  ASSERT_TRUE(AwaitSame());
  EXPECT_EQ(damaged, 3);
  EXPECT_EQ(Installed(down), 1u);
}

// Its checksum covers the state, of which the parts know nothing: the whole is refused, and sent anew.
TEST_F(SnapshotTest, ADamagedStateIsRefused) {
  Up();
  Publish(10);
  SetLive({});
  const uint64_t down = FollowerId();
  LeaveBehind(down);
  bool damaged = false;
  world_.on_send = [&](NodeId, NodeId, Frame& frame) {
    for (SnapshotChunk& chunk : frame.chunks) {
      if (damaged || chunk.state.empty()) continue;
      damaged = true;
      std::string bytes(chunk.state.view());
      bytes[bytes.size() / 2] ^= 1;
      chunk.state = Bytes::Copy(bytes);
    }
  };
  world_.Start(down);
  SetLive({});
  ASSERT_TRUE(AwaitSame());
  EXPECT_TRUE(damaged);
  EXPECT_EQ(Installed(down), 1u);
}

TEST_F(SnapshotTest, PartsFromAnImpostorAreDropped) {
  Up();
  Publish(10);
  const uint64_t down = FollowerId();
  const uint64_t other = 6 - LeaderId() - down;
  LeaveBehind(down);
  world_.Start(down);
  Frame frame{0};
  frame.incarnation = world_.node(other).starts;
  SnapshotChunk chunk{.group = GroupId(1), .header = {}, .number = 1, .at = {}};
  chunk.header.type = MessageType::kSnapshot;
  chunk.header.from = World::Replica(LeaderId(), 1);  // the leader's name, from another node
  chunk.header.to = World::Replica(down, 1);
  chunk.header.term = chunk.header.log_term = Term(90);
  chunk.header.log_index = Index(9000);
  chunk.header.membership = std::make_shared<const Membership>(Membership{world_.Spec(1, 1).members});
  chunk.last = true;
  frame.chunks = {chunk, chunk};
  frame.chunks[1].header.to = World::Replica(other, 1);  // and for another replica
  const uint64_t dropped = world_.node(down).host->figures().messages_dropped;
  world_.Deliver(NodeId(other), NodeId(down), frame);
  world_.Run(milliseconds(10));
  EXPECT_GE(world_.node(down).host->figures().messages_dropped, dropped + 2);
  ASSERT_TRUE(AwaitSame());
}

// A later term's leader takes over in the midst.
TEST_F(SnapshotTest, TheNextLeaderSendsItsOwn) {
  world_.options.snapshot_bytes_per_second = 2000;
  const uint64_t down = UpWithAFollowerBehind();
  ASSERT_TRUE(world_.RunUntil([&] { return world_.node(down).host->figures().snapshots_receiving > 0; }));
  world_.Run(milliseconds(300));
  ASSERT_EQ(Installed(down), 0u);
  const uint64_t leader = LeaderId();
  world_.Leader(1)->StepDown();
  world_.Pause(leader, milliseconds(1500));
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr && LeaderId() != leader; }));
  ASSERT_TRUE(AwaitSame(milliseconds(120'000)));
  EXPECT_GE(Installed(down), 1u);
}

// Whatever crashes whenever: a disk holds the old state or the new one, whole (Safety rule 13), and in the end all have
// the same.
TEST_F(SnapshotTest, CrashesAtAnyPoint) {
  uint64_t installed = 0, cut_short = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    World world(seed);
    world.options.snapshot_entries = 20;
    world.options.lag_entries = 30;
    world.options.snapshot_bytes_per_second = 20'000;
    std::mt19937_64 random(seed);
    world.StartAll();
    world.AddEverywhere(1);
    int published = 0;
    auto publish = [&](int count) {
      for (int i = 0; i < count; ++i) {
        if (!world.AwaitLeader(1)) return;
        if (!world.Propose(1, absl::StrCat("message ", ++published)).error.has_value()) world.Run(milliseconds(2));
      }
    };
    ASSERT_TRUE(world.AwaitLeader(1));
    publish(10);
    for (int round = 0; round < 6; ++round) {
      const uint64_t down = 1 + random() % 3;
      world.Kill(down);
      publish(70);
      world.Run(milliseconds(1500));
      world.Start(down);
      world.Run(milliseconds(random() % 1500));
      const uint64_t next = 1 + random() % 3;
      for (uint64_t id = 1; id <= 3; ++id) {
        const Host::Figures figures = world.node(id).host->figures();
        installed += figures.snapshots_installed;
        cut_short += figures.snapshots_receiving;
      }
      world.Kill(next);
      for (uint64_t id = 1; id <= 3; ++id) {
        const SimStore::Stored& stored = world.node(id).store->durable(GroupId(1));
        // No gap between the snapshot and the log behind it.
        Index expected = stored.snapshot_index + 1;
        for (const auto& [index, entry] : stored.log) {
          if (index <= stored.snapshot_index) continue;
          ASSERT_EQ(index, expected);
          ++expected;
        }
      }
      world.Run(milliseconds(random() % 500));
      world.Start(next);
    }
    ASSERT_TRUE(world.AwaitLeader(1));
    ASSERT_FALSE(world.Propose(1, "the end").error.has_value());
    ASSERT_TRUE(world.RunUntil(
        [&] {
          for (uint64_t id = 1; id <= 3; ++id) {
            const auto& applied = world.Applied(id, 1);
            if (applied.empty() || applied.back() != "the end") return false;
          }
          return true;
        },
        milliseconds(60'000)));
    EXPECT_EQ(world.Applied(1, 1), world.Applied(2, 1));
    EXPECT_EQ(world.Applied(1, 1), world.Applied(3, 1));
    EXPECT_TRUE(world.add_errors.empty());
  }
  EXPECT_GE(installed, 40u);
  EXPECT_GE(cut_short, 5u);
}

}  // namespace
}  // namespace trireme::raft::testing
