// The host on simulated shards, disks and network: three nodes in one thread.
#include "raft/host/host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/host/world.h"

namespace trireme::raft::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> Texts(const std::vector<Entry>& entries) {
  std::vector<std::string> texts;
  for (const Entry& entry : entries) texts.emplace_back(entry.data.view());
  return texts;
}

class HostTest : public ::testing::Test {
 protected:
  void Up(uint64_t groups = 1) {
    world_.StartAll();
    for (uint64_t g = 1; g <= groups; ++g) world_.AddEverywhere(g);
    for (uint64_t g = 1; g <= groups; ++g) ASSERT_TRUE(world_.AwaitLeader(g));
  }
  // Every node that is up has applied this last.
  bool AwaitApplied(const std::string& text, uint64_t group = 1) {
    return world_.RunUntil([&] {
      for (uint64_t id = 1; id <= 3; ++id) {
        if (!world_.node(id).up()) continue;
        const auto& applied = world_.Applied(id, group);
        if (applied.empty() || applied.back() != text) return false;
      }
      return true;
    });
  }
  uint64_t LeaderId(uint64_t group = 1) { return world_.Leader(group)->spec().self.value() / 1000; }

  World world_{7};
};

TEST_F(HostTest, TheFirstMemberOfANewGroupLeadsAtOnce) {
  world_.StartAll();
  world_.AddEverywhere(1);
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr; }, milliseconds(100)));
  EXPECT_EQ(LeaderId(), 1u);
  // `leading` was said once, after the role, and only when an entry of the own term was applied.
  const auto& roles = world_.node(1).logs[GroupId(1)].roles;
  ASSERT_GE(roles.size(), 2u);
  EXPECT_EQ(roles[roles.size() - 2], std::pair(RoleChange({Role::kLeader, Term(1), World::Replica(1, 1)}), false));
  EXPECT_EQ(roles.back(), std::pair(RoleChange({Role::kLeader, Term(1), World::Replica(1, 1)}), true));
  EXPECT_TRUE(world_.RunUntil([&] { return world_.node(2).host->Find(GroupId(1))->leader_node() == NodeId(1); }));
}

// The other members are born later than the first one campaigns: it tries again well before an election's time.
TEST_F(HostTest, TheFirstMemberWaitsForTheOthersToBeBorn) {
  world_.StartAll();
  (void)*world_.AddGroup(1, 1);
  world_.Run(milliseconds(300));
  (void)*world_.AddGroup(2, 1);
  EXPECT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr; }, milliseconds(200)));
  EXPECT_EQ(LeaderId(), 1u);
}

TEST_F(HostTest, ProposalsAreAppliedEverywhereInOrder) {
  Up();
  for (const char* text : {"a", "b", "c"}) EXPECT_EQ(world_.Propose(1, text).error, std::nullopt);
  ASSERT_TRUE(AwaitApplied("c"));
  for (uint64_t id = 1; id <= 3; ++id) EXPECT_THAT(world_.Applied(id, 1), ElementsAre("a", "b", "c"));
  Group* follower = world_.node(2).host->Find(GroupId(1));
  EXPECT_EQ(follower->Propose({Bytes::Copy("x")}, false).error, ProposeError::kNotLeader);
  EXPECT_FALSE(follower->leading());
}

TEST_F(HostTest, ATurnMakesOneWriteAndOneFramePerNodeForAllGroups) {
  constexpr uint64_t kGroups = 50;
  Up(kGroups);
  world_.Run(milliseconds(500));
  SimNode& one = world_.node(1);
  int frames = 0;
  size_t appends = 0;
  world_.on_send = [&](NodeId from, NodeId, Frame& frame) {
    if (from != NodeId(1)) return;
    ++frames;
    for (const GroupMessage& m : frame.messages) appends += m.message.type == MessageType::kAppend ? 1 : 0;
  };
  uint64_t syncs = one.store->figures().syncs, written = one.store->groups_written;
  for (uint64_t g = 1; g <= kGroups; ++g) {
    ASSERT_EQ(world_.Propose(g, "x").error, std::nullopt);
    ASSERT_EQ(world_.Propose(g, "y").error, std::nullopt);
  }
  ASSERT_TRUE(world_.RunUntil([&] { return one.store->figures().syncs > syncs; }, milliseconds(1)));
  EXPECT_EQ(one.store->figures().syncs, syncs + 1);
  EXPECT_EQ(one.store->groups_written, written + kGroups);
  EXPECT_EQ(frames, 2);
  EXPECT_EQ(appends, 2 * kGroups);
}

// What applying brings about is in the same turn's append: one write, not two.
TEST_F(HostTest, ProposalsMadeWhileApplyingShareTheTurn) {
  Up();
  world_.Propose(1, "ask me");
  ASSERT_TRUE(AwaitApplied("answer me"));
  for (uint64_t id = 1; id <= 3; ++id) EXPECT_THAT(world_.Applied(id, 1), ElementsAre("ask me", "answer me"));
  // A turn that applies and is asked for more makes one write of both.
  Group* leader = world_.Leader(1);
  TextMachine::Log& log = world_.node(LeaderId()).logs[GroupId(1)];
  uint64_t syncs = 0;
  log.on_apply = [&](const std::string& text) {
    if (text != "ask two") return;
    syncs = world_.node(1).store->figures().syncs;
    EXPECT_EQ(leader->Propose({Bytes::Copy("direct")}, false).error, std::nullopt);
  };
  world_.Propose(1, "ask two");
  ASSERT_TRUE(AwaitApplied("answer two"));
  EXPECT_EQ(world_.node(1).store->figures().syncs, syncs + 1) << "one write holds both";
  log.on_apply = [](const std::string&) {};
}

TEST_F(HostTest, AKilledLeaderIsReplacedAndComesBack) {
  Up();
  world_.Propose(1, "before");
  ASSERT_TRUE(AwaitApplied("before"));
  world_.Kill(1);
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr; }, milliseconds(1000)))
      << "the closed connection starts an election long before its timeout";
  EXPECT_NE(LeaderId(), 1u);
  world_.Propose(1, "meanwhile");
  ASSERT_TRUE(AwaitApplied("meanwhile"));
  world_.Start(1);
  EXPECT_TRUE(world_.add_errors.empty());
  ASSERT_TRUE(AwaitApplied("meanwhile"));
  EXPECT_THAT(world_.Applied(1, 1), ElementsAre("before", "meanwhile"));
  world_.Propose(1, "after");
  EXPECT_TRUE(AwaitApplied("after"));
}

// Neither a vote nor an acknowledgement leaves a node whose disk has not got what it speaks for.
TEST_F(HostTest, NothingIsPromisedBeforeItIsDurable) {
  Up();
  world_.node(2).store->stalled = true;
  bool acknowledged = false;
  Index asked{};
  world_.on_send = [&](NodeId from, NodeId, Frame& frame) {
    for (const GroupMessage& m : frame.messages) {
      if (from == NodeId(2) && m.message.type == MessageType::kAppendResponse && !m.message.reject) {
        acknowledged |= asked != Index() && m.message.log_index >= asked;
      }
    }
  };
  asked = world_.Propose(1, "x").first;
  ASSERT_NE(asked, Index());
  world_.Run(milliseconds(300));
  EXPECT_FALSE(acknowledged);
  EXPECT_THAT(world_.Applied(2, 1), ElementsAre("x")) << "committed by the other two";
  world_.node(2).store->stalled = false;
  EXPECT_TRUE(world_.RunUntil([&] { return acknowledged; }, milliseconds(300)));

  // A vote is given in a new term, which must be on disk first.
  world_.on_send = nullptr;
  for (uint64_t id : {2, 3}) world_.node(id).store->stalled = true;
  bool voted = false;
  world_.on_send = [&](NodeId, NodeId, Frame& frame) {
    for (const GroupMessage& m : frame.messages) {
      voted |= m.message.type == MessageType::kVoteResponse || m.message.type == MessageType::kVote;
    }
  };
  world_.Kill(1);
  world_.Run(milliseconds(3000));
  EXPECT_FALSE(voted);
  for (uint64_t id : {2, 3}) world_.node(id).store->stalled = false;
  EXPECT_TRUE(world_.AwaitLeader(1));
  EXPECT_TRUE(voted);
}

// Safety rule 17: a damaged entry is not persisted, and is there in the end, whole.
TEST_F(HostTest, DamagedEntriesAreDroppedAndSentAgain) {
  Up();
  int damaged = 0;
  world_.on_send = [&](NodeId, NodeId to, Frame& frame) {
    if (to != NodeId(2) || damaged >= 3) return;
    for (GroupMessage& m : frame.messages) {
      for (Entry& entry : m.message.entries) {
        if (entry.data.empty()) continue;
        entry.data = Bytes::Copy("damaged");
        ++damaged;
      }
    }
  };
  uint64_t before = world_.node(2).host->figures().messages_dropped;
  world_.Propose(1, "whole");
  ASSERT_TRUE(AwaitApplied("whole"));
  EXPECT_EQ(damaged, 3);
  EXPECT_EQ(world_.node(2).host->figures().messages_dropped, before + 3);
  EXPECT_THAT(world_.Applied(2, 1), ElementsAre("whole"));
}

// Safety rule 11: messages for another replica, from a stranger, or from a node that speaks for another are dropped.
TEST_F(HostTest, MessagesOfWrongIdentityAreDropped) {
  Up();
  world_.Run(milliseconds(200));
  SimNode& two = world_.node(2);
  Term term = two.host->Find(GroupId(1))->term();
  auto send = [&](uint64_t group, ReplicaId from, ReplicaId to, NodeId node) {
    Frame frame{.wall_ms = two.shard->WallMs(), .incarnation = 1};
    GroupMessage m{GroupId(group), {}};
    m.message.type = MessageType::kHeartbeat;
    m.message.term = Term(99);
    m.message.from = from;
    m.message.to = to;
    frame.messages.push_back(std::move(m));
    two.transport->receiver.frame(node, std::move(frame));
  };
  uint64_t before = two.host->figures().messages_dropped;
  send(1, World::Replica(1, 1), ReplicaId(4711), NodeId(1));       // an earlier life's replica
  send(1, ReplicaId(4711), World::Replica(2, 1), NodeId(1));       // from one that is no member
  send(1, World::Replica(1, 1), World::Replica(2, 1), NodeId(3));  // node 3 in node 1's name
  send(8, World::Replica(1, 8), World::Replica(2, 8), NodeId(1));  // a group that is not here
  send(1, World::Replica(1, 1), World::Replica(2, 1), NodeId());   // from nowhere
  EXPECT_EQ(two.host->figures().messages_dropped, before + 5);
  world_.Run(milliseconds(100));
  EXPECT_EQ(two.host->Find(GroupId(1))->term(), term);
  // From the right one, but impossible: from an earlier start, of no term, of a term or an index beyond all, and a
  // commit index of what is not there.
  auto impossible = [&](auto change) {
    Frame frame{.wall_ms = two.shard->WallMs(), .incarnation = 1};
    frame.messages.push_back({GroupId(1),
                              {.type = MessageType::kHeartbeat,
                               .from = World::Replica(1, 1),
                               .to = World::Replica(2, 1),
                               .term = Term(99)}});
    change(&frame, &frame.messages[0].message);
    two.transport->receiver.frame(NodeId(1), std::move(frame));
  };
  before = two.host->figures().messages_dropped;
  impossible([](Frame* f, Message*) { f->incarnation = 0; });
  impossible([](Frame*, Message* m) { m->term = Term(); });
  impossible([](Frame*, Message* m) { m->term = Term(~uint64_t{0}); });
  impossible([](Frame*, Message* m) { m->commit = Index(~uint64_t{0}); });
  impossible([](Frame*, Message* m) { m->commit = Index(1'000); });
  impossible([](Frame*, Message* m) { m->type = static_cast<MessageType>(99); });
  EXPECT_EQ(two.host->figures().messages_dropped, before + 6);
  world_.Run(milliseconds(100));
  EXPECT_EQ(two.host->Find(GroupId(1))->term(), term);
  // The same, rightly, would have been listened to.
  send(1, World::Replica(1, 1), World::Replica(2, 1), NodeId(1));
  world_.Run(milliseconds(1));
  EXPECT_EQ(two.host->Find(GroupId(1))->term(), Term(99));
}

// Safety rule 3: a fact that is not understood stops its group here, and says why; other groups go on.
TEST_F(HostTest, AGroupThatCannotApplyIsHaltedAlone) {
  Up(2);
  absl::Status barrier = absl::OkStatus();
  bool barrier_done = false;
  world_.Propose(1, "fine");
  ASSERT_TRUE(AwaitApplied("fine", 1));
  world_.Propose(1, "poison");
  ASSERT_TRUE(world_.RunUntil([&] { return !world_.node(1).host->Find(GroupId(1))->halted().ok(); }));
  Group* group = world_.node(1).host->Find(GroupId(1));
  EXPECT_THAT(group->halted().ToString(), HasSubstr("needs version 9"));
  EXPECT_FALSE(group->leading());
  EXPECT_EQ(group->Propose({Bytes::Copy("x")}, false).error, ProposeError::kNotLeader);
  group->ReadBarrier([&](absl::Status status) {
    barrier = std::move(status);
    barrier_done = true;
  });
  EXPECT_TRUE(barrier_done);
  EXPECT_FALSE(barrier.ok());
  EXPECT_FALSE(world_.node(1).logs[GroupId(1)].roles.back().second);
  world_.Run(milliseconds(2000));
  world_.Propose(2, "other");
  EXPECT_TRUE(AwaitApplied("other", 2));
}

TEST_F(HostTest, ReadBarriers) {
  Up();
  world_.Propose(1, "a");
  std::vector<std::string> log;
  Group* leader = world_.Leader(1);
  ASSERT_TRUE(world_.RunUntil([&] { return !world_.Applied(1, 1).empty(); }));
  // Two in a turn share one round; both see what was committed before them.
  for (int i = 0; i < 2; ++i) {
    leader->ReadBarrier([&](absl::Status s) { log.push_back(s.ok() ? "ok " + world_.Applied(1, 1).back() : "no"); });
  }
  ASSERT_TRUE(world_.RunUntil([&] { return log.size() == 2; }, milliseconds(200)));
  EXPECT_THAT(log, ElementsAre("ok a", "ok a"));
  // On a follower: an error, at once.
  log.clear();
  world_.node(2).host->Find(GroupId(1))->ReadBarrier([&](absl::Status s) { log.push_back(s.ok() ? "ok" : "no"); });
  ASSERT_TRUE(world_.RunUntil([&] { return log.size() == 1; }, milliseconds(200)));
  EXPECT_THAT(log, ElementsAre("no"));
  // On a leader that is cut off: an error in the end, never an answer.
  log.clear();
  world_.cut = {{NodeId(1), NodeId(2)}, {NodeId(1), NodeId(3)}};
  leader->ReadBarrier([&](absl::Status s) { log.push_back(s.ok() ? "ok" : "no"); });
  ASSERT_TRUE(world_.RunUntil([&] { return log.size() == 1; }, milliseconds(5000)));
  EXPECT_THAT(log, ElementsAre("no"));
  EXPECT_FALSE(leader->leading());
}

// With a lease a barrier that is answered by a quorum stands for those that follow, as long as the clock says so.
TEST_F(HostTest, ALeaseAnswersBarriersWithoutAsking) {
  world_.options.read_lease = milliseconds(300);
  Up();
  Group* leader = world_.Leader(1);
  int rounds = 0, answers = 0;
  world_.on_send = [&](NodeId from, NodeId, Frame& frame) {
    for (const GroupMessage& m : frame.messages) {
      rounds += from == NodeId(1) && m.message.type == MessageType::kHeartbeat && m.message.read_context > 0 ? 1 : 0;
    }
  };
  auto ask = [&] {
    leader->ReadBarrier([&](absl::Status s) { answers += s.ok() ? 1 : 0; });
    world_.Run(milliseconds(20));
  };
  ask();
  EXPECT_EQ(answers, 1);
  const int asked = rounds;
  EXPECT_GT(asked, 0);
  for (int i = 0; i < 5; ++i) ask();
  EXPECT_EQ(answers, 6);
  EXPECT_EQ(rounds, asked);
  // It is over, so they are asked again.
  world_.Run(milliseconds(400));
  ask();
  EXPECT_EQ(answers, 7);
  EXPECT_GT(rounds, asked);
  // Safety rule 10: a turn that lasts so long that the lease ends in it does not go by the time at which it began.
  world_.node(1).clock_error.turn_lasts = milliseconds(400);
  const int in_time = rounds;
  ask();
  EXPECT_EQ(answers, 8);
  EXPECT_GT(rounds, in_time);
  world_.node(1).clock_error.turn_lasts = milliseconds(0);
  // One that is cut off answers by what is left of its lease, and then not at all.
  world_.cut = {{NodeId(1), NodeId(2)}, {NodeId(1), NodeId(3)}};
  ask();
  EXPECT_EQ(answers, 9);
  world_.Run(milliseconds(300));
  ask();
  world_.Run(milliseconds(5000));
  EXPECT_EQ(answers, 9);
}

TEST_F(HostTest, SnapshotsCompactOnlyWhatEveryoneHasAndNobodyNeeds) {
  world_.options.snapshot_entries = 20;
  Up();
  for (uint64_t id = 1; id <= 3; ++id) {
    // Entries 5 and 6 hold something still; and everything above 15 does.
    world_.node(id).logs[GroupId(1)].floor = Index(15);
    world_.node(id).logs[GroupId(1)].live = {{Index(5), Index(6)}};
  }
  world_.Kill(3);
  ASSERT_TRUE(world_.AwaitLeader(1));
  for (int i = 0; i < 30; ++i) {
    world_.Propose(1, std::to_string(i));
    world_.Run(milliseconds(5));
  }
  ASSERT_TRUE(world_.RunUntil([&] { return world_.node(1).store->snapshots > 0; }));
  world_.Run(milliseconds(2000));
  const auto& stored = world_.node(1).store->durable(GroupId(1));
  EXPECT_GE(stored.snapshot_index, Index(20));
  // Node 3 is down and has nothing of this, so it is all kept for it.
  EXPECT_LE(stored.compacted, Index(1));
  EXPECT_GE(stored.log.size(), 29u);
  // It comes back and catches up: now the rest goes, but for what lives.
  world_.Start(3);
  for (uint64_t id = 3; id <= 3; ++id) {
    world_.node(id).logs[GroupId(1)].floor = Index(15);
    world_.node(id).logs[GroupId(1)].live = {{Index(5), Index(6)}};
  }
  ASSERT_TRUE(AwaitApplied("29"));
  world_.Propose(1, "more");
  ASSERT_TRUE(world_.RunUntil([&] { return stored.compacted >= Index(20); }));
  EXPECT_EQ(stored.compacted, stored.snapshot_index);
  std::vector<uint64_t> kept;
  for (const auto& [index, entry] : stored.log) kept.push_back(index.value());
  EXPECT_THAT(kept, Contains(5u));
  EXPECT_THAT(kept, Contains(6u));
  EXPECT_THAT(kept, Contains(16u));
  EXPECT_THAT(kept, Not(Contains(7u)));
  EXPECT_THAT(kept, Not(Contains(15u)));
  // And a restart goes by the snapshot and what is behind it.
  ASSERT_TRUE(AwaitApplied("more"));
  std::vector<std::string> all = world_.Applied(2, 1);
  world_.Kill(1);
  world_.Run(milliseconds(100));
  world_.Start(1);
  EXPECT_TRUE(world_.add_errors.empty()) << world_.add_errors.front();
  ASSERT_TRUE(AwaitApplied("more"));
  EXPECT_EQ(world_.Applied(1, 1), all);
}

// A follower may have applied what the others have made durable and it has not: no snapshot may claim that.
TEST_F(HostTest, NoSnapshotAboveWhatIsDurable) {
  world_.options.snapshot_entries = 5;
  Up();
  world_.Run(milliseconds(100));
  SimStore& disk = *world_.node(2).store;
  uint64_t before = disk.snapshots;
  disk.stalled = true;
  for (int i = 0; i < 10; ++i) world_.Propose(1, std::to_string(i));
  ASSERT_TRUE(AwaitApplied("9"));
  world_.Run(milliseconds(20));
  EXPECT_GT(world_.node(1).store->snapshots, 0u);
  EXPECT_EQ(disk.snapshots, before);
  disk.stalled = false;
  EXPECT_TRUE(world_.RunUntil([&] { return disk.snapshots > before; }, milliseconds(100)));
}

TEST_F(HostTest, TheTailKeepsToItsBudgetAndTheRestIsReadFromDisk) {
  world_.options.tail_budget_bytes = 20'000;
  Up(3);
  for (int i = 0; i < 100; ++i) {
    world_.Propose(1 + static_cast<uint64_t>(i % 3), std::to_string(i) + std::string(1000, '.'));
    world_.Run(milliseconds(3));
  }
  world_.Run(milliseconds(100));
  Group* leader = world_.Leader(1);
  EXPECT_EQ(leader->TailEntry(Index(2)), nullptr);
  EXPECT_NE(leader->TailEntry(leader->applied_index()), nullptr);
  // From memory: before it returns.
  std::vector<std::string> got;
  leader->ReadEntries(leader->applied_index(), leader->applied_index(), 1, [&](auto r) { got = Texts(*r); });
  ASSERT_EQ(got.size(), 1u);
  // From disk: later, and within the limit.
  got.clear();
  bool done = false;
  uint64_t reads = world_.node(1).store->reads;
  leader->ReadEntries(Index(2), Index(20), 2500, [&](auto r) {
    got = Texts(*r);
    done = true;
  });
  EXPECT_FALSE(done);
  ASSERT_TRUE(world_.RunUntil([&] { return done; }, milliseconds(10)));
  EXPECT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].substr(0, 2), "0.");
  EXPECT_EQ(world_.node(1).store->reads, reads + 1);
  // A follower that was away gets what is in no tail any more.
  world_.Kill(2);
  for (int i = 0; i < 60; ++i) {
    world_.Propose(1, std::to_string(i) + std::string(1000, '+'));
    world_.Run(milliseconds(3));
  }
  world_.Start(2);
  EXPECT_TRUE(AwaitApplied("59" + std::string(1000, '+')));
  EXPECT_EQ(world_.Applied(2, 1), world_.Applied(1, 1));
}

// A damaged entry that is to be applied halts the group; one read for a follower does not.
TEST_F(HostTest, UnreadableEntries) {
  world_.options.tail_budget_bytes = 1000;
  Up();
  for (int i = 0; i < 20; ++i) {
    world_.Propose(1, std::to_string(i) + std::string(300, '.'));
    world_.Run(milliseconds(3));
  }
  world_.Kill(2);
  world_.Propose(1, "last");
  ASSERT_TRUE(AwaitApplied("last"));
  world_.node(2).store->read_error = absl::UnavailableError("busy");  // passes
  world_.Start(2);
  ASSERT_TRUE(AwaitApplied("last"));
  EXPECT_TRUE(world_.node(2).host->Find(GroupId(1))->halted().ok());
  world_.Kill(2);
  world_.node(2).store->read_error = absl::DataLossError("entry 3 is damaged");
  world_.Start(2);
  ASSERT_TRUE(world_.RunUntil([&] { return !world_.node(2).host->Find(GroupId(1))->halted().ok(); }));
  EXPECT_TRUE(world_.Leader(1)->halted().ok());
}

// Safety rule 7: a node whose clock is off the median by more than 5 s does not lead; less is fine.
TEST_F(HostTest, AWrongClockDoesNotLead) {
  world_.node(1).clock_error.wall_skew_ms = 4'000;
  Up();
  EXPECT_EQ(LeaderId(), 1u);
  world_.Run(milliseconds(3000));
  EXPECT_EQ(LeaderId(), 1u);
  EXPECT_NEAR(static_cast<double>(*world_.node(1).host->WallOffsetMs({NodeId(1), NodeId(2), NodeId(3)})), 4'000, 50);
  // The clock steps: it gives up, and another leads.
  world_.node(1).clock_error.wall_skew_ms = -6'000;
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr && LeaderId() != 1; }, milliseconds(10'000)));
  // It may be asked again, and never leads for longer than it takes to say no.
  for (int i = 0; i < 3; ++i) {
    uint64_t leader = LeaderId();
    world_.Kill(leader);
    world_.Run(milliseconds(4000));
    world_.Start(leader);
    ASSERT_TRUE(world_.RunUntil([&] { return world_.Leader(1) != nullptr && LeaderId() != 1; }, milliseconds(20'000)));
  }
  for (const auto& [change, leading] : world_.node(1).logs[GroupId(1)].roles) {
    // It never comes to lead in a later term than its first.
    EXPECT_TRUE(!leading || change.term == Term(1)) << change.term;
  }
  world_.node(1).clock_error.wall_skew_ms = 0;
  world_.Propose(1, "fine");
  EXPECT_TRUE(AwaitApplied("fine"));
}

TEST_F(HostTest, AddRefusesWhatDoesNotFit) {
  Up();
  SimNode& one = world_.node(1);
  EXPECT_EQ(world_.AddGroup(1, 1).status().code(), absl::StatusCode::kAlreadyExists);
  GroupSpec spec = world_.Spec(2, 5);  // node 2's replica, on node 1
  EXPECT_FALSE(one.host->Add(spec, world_.Machine(one, 5), std::nullopt).ok());
  spec = world_.Spec(1, 5);
  spec.members[1].replica = spec.members[0].replica;
  EXPECT_FALSE(one.host->Add(spec, world_.Machine(one, 5), std::nullopt).ok());
  // Safety rule 11: stored under another identity.
  spec = world_.Spec(1, 5);
  StoredGroup stored{GroupId(5), ReplicaId(99), {}, {}, {}};
  absl::Status status = one.host->Add(spec, world_.Machine(one, 5), stored).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.ToString(), HasSubstr("99"));
  // A snapshot that cannot be restored.
  stored.replica = spec.self;
  stored.log.snapshot_index = stored.log.last_index = Index(4);
  stored.log.hard_state.term = stored.log.snapshot_term = Term(1);
  stored.snapshot = Bytes::Copy("\x7f");
  EXPECT_EQ(one.host->Add(spec, world_.Machine(one, 5), stored).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(one.host->Find(GroupId(5)), nullptr);
}

// Safety rule 11: on one node, under another identity; and it knows nobody before it is told.
TEST_F(HostTest, AReplicaComesInThePlaceOfADeletedOne) {
  Up(1);
  ASSERT_TRUE(world_.AwaitLeader(1));
  world_.Propose(1, "before");
  world_.Run(milliseconds(500));
  Group* leader = world_.Leader(1);
  const uint64_t at = leader->spec().self.value() / 1000 % 3 + 1;
  SimNode& node = world_.node(at);
  std::vector<Member> without = leader->membership().members;
  std::erase_if(without, [&](const Member& member) { return member.node == node.id; });
  ASSERT_EQ(leader->ProposeMembers(without), std::nullopt);
  ASSERT_TRUE(
      world_.RunUntil([&] { return leader->membership().members == without && leader->membership_committed(); }));

  GroupSpec spec{GroupId(1), ReplicaId(7777), without};
  spec.members.push_back({spec.self, node.id});
  spec.joins = true;
  node.host->Remove(GroupId(1));
  node.logs[GroupId(1)] = {};
  absl::StatusOr<Group*> added = node.host->Add(spec, world_.Machine(node, 1), std::nullopt);
  ASSERT_TRUE(added.ok()) << added.status();
  world_.Run(milliseconds(2000));
  EXPECT_TRUE((*added)->membership().members.empty());
  EXPECT_EQ((*added)->term(), Term()) << "it campaigns for nothing";

  std::vector<Member> with = without;
  with.push_back({spec.self, node.id, Standing::kLearner});
  ASSERT_EQ(leader->ProposeMembers(with), std::nullopt);
  EXPECT_TRUE(world_.RunUntil([&] { return (*added)->membership().members == with; }));
  with.back().standing = Standing::kVoter;
  EXPECT_TRUE(world_.RunUntil([&] {
    if (leader->membership().members != with) leader->ProposeMembers(with);
    return leader->membership().members == with && leader->membership_committed();
  }));
  world_.Propose(1, "after");
  EXPECT_TRUE(world_.RunUntil([&] { return world_.Applied(at, 1).back() == "after"; }));

  // It is the same over a restart, whatever it is told that the members should be.
  world_.Run(milliseconds(500));
  for (StoredGroup& stored : node.store->Recover()) {
    EXPECT_EQ(stored.replica, spec.self);
    ASSERT_FALSE(stored.log.memberships.empty());
    EXPECT_EQ(stored.log.memberships.back().membership.members, with);
  }
}

// One that was away does not know the members of now, and the leader may be one of them that it has never heard of.
TEST(HostJoinTest, OneThatLagsBehindIsToldWhereItsLeaderLives) {
  World world(7, 4);
  const GroupId group(1);
  auto spec_of = [&](uint64_t id) {
    GroupSpec spec = world.Spec(id, 1);
    if (id < 4) spec.members.pop_back();
    spec.joins = id == 4;
    return spec;
  };
  world.adopt = [&](SimNode& node, std::vector<StoredGroup> stored) {
    for (StoredGroup& one : stored) (void)world.AddReplica(node, spec_of(node.id.value()), std::move(one));
  };
  world.StartAll();
  for (uint64_t id : {1, 2, 3}) ASSERT_TRUE(world.AddReplica(world.node(id), spec_of(id), std::nullopt).ok());
  ASSERT_TRUE(world.AwaitLeader(1));
  world.Run(milliseconds(500));
  world.Kill(3);

  ASSERT_TRUE(world.AddReplica(world.node(4), spec_of(4), std::nullopt).ok());
  std::vector<Member> members = spec_of(4).members;
  std::rotate(members.begin(), members.end() - 1, members.end());  // the new one is preferred
  for (Standing standing : {Standing::kLearner, Standing::kVoter}) {
    members.front().standing = standing;
    ASSERT_TRUE(world.RunUntil([&] {
      Group* leader = world.Leader(1);
      if (leader == nullptr) return false;
      if (leader->membership().members == members && leader->membership_committed()) return true;
      leader->ProposeMembers(members);
      return false;
    }));
  }
  Group* last = world.node(4).host->Find(group);
  ASSERT_TRUE(world.RunUntil([&] {
    if (last->leading()) return true;
    if (Group* leader = world.Leader(1)) leader->HandOver();
    return false;
  }));
  ASSERT_EQ(world.Propose(1, "after").error, std::nullopt);
  world.Run(milliseconds(500));

  world.Start(3);
  world.Run(milliseconds(3000));
  ASSERT_EQ(world.Leader(1), last);
  EXPECT_THAT(world.Applied(3, 1), Not(Contains("after"))) << "it listens to no stranger (Safety rule 11)";
  world.node(3).host->Inform(group, members);
  EXPECT_TRUE(world.RunUntil([&] { return world.Applied(3, 1) == std::vector<std::string>{"after"}; }));
  EXPECT_EQ(world.node(3).host->Find(group)->membership().members, members);
}

// A group may be removed, even by what its own machine, or another's, does while it applies.
TEST_F(HostTest, RemovedWhileApplying) {
  Up(2);
  SimNode& one = world_.node(1);
  one.logs[GroupId(1)].on_apply = [&](const std::string& text) {
    if (text == "go") one.host->Remove(GroupId(1));
    if (text == "other") one.host->Remove(GroupId(2));
  };
  bool told = false;
  world_.Propose(1, "other");
  ASSERT_TRUE(world_.RunUntil([&] { return one.host->Find(GroupId(2)) == nullptr; }));
  world_.Propose(1, "go");
  world_.Leader(1)->ReadBarrier([&](absl::Status) { told = true; });
  ASSERT_TRUE(world_.RunUntil([&] { return one.host->Find(GroupId(1)) == nullptr; }));
  world_.Run(milliseconds(100));
  EXPECT_TRUE(told);
  EXPECT_EQ(one.host->figures().groups, 0u);
  world_.Kill(1);
  world_.Start(1);
  EXPECT_EQ(one.host->figures().groups, 0u) << "nothing of it is on the disk";
}

TEST(HostAloneTest, AGroupOfOneLeadsAndCommits) {
  World world(3, 1);
  world.StartAll();
  world.AddEverywhere(1);
  ASSERT_TRUE(world.RunUntil([&] { return world.Leader(1) != nullptr; }, milliseconds(50)));
  world.Propose(1, "a");
  ASSERT_TRUE(world.RunUntil([&] { return !world.Applied(1, 1).empty(); }, milliseconds(50)));
  world.Kill(1);
  world.Start(1);
  ASSERT_TRUE(world.RunUntil([&] { return world.Leader(1) != nullptr; }, milliseconds(50)));
  EXPECT_THAT(world.Applied(1, 1), ElementsAre("a"));
}

// Crashes, cuts and losses by a seed; then all is healed, and nothing that was committed is missing anywhere.
class HostChaosTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(HostChaosTest, NothingCommittedIsLostAndAllAgree) {
  const uint64_t seed = GetParam();
  SCOPED_TRACE(::testing::Message() << "replay: host_test --gtest_filter='*NothingCommitted*/" << seed - 1 << "'");
  std::mt19937_64 random(seed);
  World world(seed);
  world.options.snapshot_entries = 30;
  world.options.tail_budget_bytes = 2000;
  world.options.quiet_ticks = 1 + static_cast<int>(random() % 4);
  constexpr uint64_t kGroups = 3;
  world.StartAll();
  for (uint64_t g = 1; g <= kGroups; ++g) world.AddEverywhere(g);
  world.Run(milliseconds(100));  // born
  // What some replica has applied, by place: committed, so it must be the same everywhere and for good.
  std::map<uint64_t, std::vector<std::string>> committed;
  auto check = [&] {
    for (uint64_t g = 1; g <= kGroups; ++g) {
      for (uint64_t id = 1; id <= 3; ++id) {
        if (!world.node(id).up()) continue;
        const auto& applied = world.Applied(id, g);
        auto& known = committed[g];
        size_t both = std::min(known.size(), applied.size());
        ASSERT_TRUE(std::equal(known.begin(), known.begin() + static_cast<std::ptrdiff_t>(both), applied.begin()))
            << "node " << id << ", group " << g;
        known.insert(known.end(), applied.begin() + static_cast<std::ptrdiff_t>(both), applied.end());
      }
    }
  };
  int made = 0;
  for (int step = 0; step < 300; ++step) {
    uint64_t id = 1 + random() % 3;
    switch (random() % 15) {
      case 0:
        if (world.node(id).up()) world.Kill(id, /*told=*/random() % 4 != 0);
        break;
      case 1:
      case 2:
        for (uint64_t n = 1; n <= 3; ++n) {
          if (!world.node(n).up() && random() % 2) world.Start(n);
        }
        break;
      case 3:
        world.cut.insert({NodeId(id), NodeId(1 + id % 3)});
        break;
      case 4:
        world.cut.clear();
        world.cut_one_way.clear();
        break;
      case 7:
        world.cut_one_way.insert({NodeId(id), NodeId(1 + id % 3)});
        break;
      case 8:
        if (world.node(id).up()) world.Pause(id, milliseconds(random() % 1500));
        break;
      case 9:
        world.Run(milliseconds(random() % 3000));
        break;
      case 5:
        world.loss_percent = random() % 2 ? 20 : 0;
        break;
      case 6:
        // More often the end of a stall than its beginning.
        world.node(id).store->stalled = random() % 3 == 0;
        break;
      default:
        for (uint64_t g = 1; g <= kGroups; ++g) world.Propose(g, "m" + std::to_string(made++) + std::string(100, '.'));
        break;
    }
    world.Run(milliseconds(random() % 120));
    check();
    if (HasFatalFailure()) return;
  }
  world.cut.clear();
  world.cut_one_way.clear();
  world.loss_percent = 0;
  for (uint64_t id = 1; id <= 3; ++id) {
    world.node(id).store->stalled = false;
    if (!world.node(id).up()) world.Start(id);
  }
  ASSERT_TRUE(world.add_errors.empty()) << world.add_errors.front();
  for (uint64_t g = 1; g <= kGroups; ++g) {
    ASSERT_TRUE(world.AwaitLeader(g)) << "group " << g;
    // The leader that is seen first may still lose its place.
    ASSERT_TRUE(world.RunUntil([&] {
      if (world.Propose(g, "end").error.has_value()) return false;
      world.Run(milliseconds(500));
      return !world.Applied(1, g).empty() && world.Applied(1, g).back() == "end" &&
             world.Applied(1, g) == world.Applied(2, g) && world.Applied(2, g) == world.Applied(3, g);
    })) << "group "
        << g;
  }
  check();
  // Safety rule 10: what is settled goes quiet, everywhere.
  EXPECT_TRUE(world.RunUntil([&] {
    uint64_t active = 0;
    for (uint64_t id = 1; id <= 3; ++id) active += world.node(id).host->figures().active;
    return active == 0;
  }));
}

// TRIREME_SEEDS=N runs N of them.
uint64_t Seeds() {
  const char* text = std::getenv("TRIREME_SEEDS");
  uint64_t seeds = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  return seeds == 0 ? 60 : seeds;
}

INSTANTIATE_TEST_SUITE_P(Seeds, HostChaosTest, ::testing::Range(uint64_t{1}, 1 + Seeds()));

}  // namespace
}  // namespace trireme::raft::testing
