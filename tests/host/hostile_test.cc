// Whatever comes from another node's process, a host neither ends nor stops listening: random frames, most of them
// nearly right, into one node of three whose disk and clock behave. What the core does with messages alone is in
// tests/raft/hostile_test.cc, what the decoder does with bytes in frame_test.cc.
#include <gtest/gtest.h>

#include <string>

#include "tests/host/world.h"

namespace trireme::raft::testing {
namespace {

// Nodes 2 and 3 are never there: only frames in their name.
class Forger {
 public:
  Forger(uint64_t seed, World* world) : random_(seed), world_(world) {}

  NodeId Sender() { return Often() ? NodeId(2 + Below(2)) : NodeId(Below(5)); }

  Frame Forge(NodeId from) {
    Frame frame{.wall_ms = victim().shard->WallMs() + Odd(0), .incarnation = Often() ? 1 : Below(3)};
    if (Below(3) == 0) frame.last_synced = Below(5);
    if (Below(2) == 0) {
      frame.heartbeat = NodeHeartbeat{.sequence = ++sequence_,
                                      .peer_incarnation = Often() ? 1 : Below(3),
                                      .heard = Below(20),
                                      .promised = Below(20),
                                      .peer_synced = Below(50) == 0 ? Below(3) : 0};
    }
    for (uint64_t n = Below(4); n > 0; --n) frame.messages.push_back({GroupOf(), ForgeMessage(from)});
    for (uint64_t n = Below(3); n > 0; --n) frame.chunks.push_back(ForgeChunk(from));
    for (uint64_t n = Below(3); n > 0; --n) {
      frame.answers.push_back({.group = GroupOf(),
                               .from = Peer(from),
                               .to = Self(),
                               .index = Near(group()->applied_index()),
                               .number = Below(4),
                               .at = Position(),
                               .result = static_cast<SnapshotAnswer::Result>(1 + Below(3))});
    }
    for (uint64_t n = Below(3); n > 0; --n) {
      const Index at = Near(group()->applied_index());
      frame.digests.push_back({GroupOf(), Peer(from), Self(), at, Below(4), Below(200) == 0});
    }
    return frame;
  }

 private:
  SimNode& victim() { return world_->node(1); }
  Group* group() { return victim().host->Find(GroupId(1)); }
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool Often() { return Below(20) > 0; }
  int64_t Odd(int64_t usual) { return Often() ? usual : static_cast<int64_t>(random_()); }
  GroupId GroupOf() { return Often() ? GroupId(1) : GroupId(Below(4)); }
  ReplicaId Peer(NodeId node) { return Often() ? World::Replica(node.value(), 1) : ReplicaId(Below(4'000)); }
  ReplicaId Self() { return Often() ? World::Replica(1, 1) : ReplicaId(Below(4'000)); }
  Index Near(Index index) {
    if (!Often()) return Index(random_());
    const uint64_t down = std::min<uint64_t>(index.value(), 3);
    return Index(index.value() - down + Below(down + 4));
  }
  Term Near(Term term) { return Often() ? term : Below(2) == 0 ? Term(term.value() + Below(2)) : Term(random_()); }
  SnapshotPosition Position() {
    SnapshotPosition at{Index(Below(6)), Below(6), Below(2) == 0 ? 0 : Below(200)};
    if (Below(3) == 0) at.row = Below(2) == 0 ? "key" : "k";
    if (Below(3) == 0) at.rows = Below(4);
    return at;
  }

  Message ForgeMessage(NodeId from) {
    const Term term = Near(std::max(group()->term(), Term(1)));
    const Index last = group()->applied_index();
    Message m{.type = static_cast<MessageType>(Often() ? 1 + Below(10) : Below(256)),
              .from = Peer(from),
              .to = Self(),
              .term = term,
              .log_index = Near(last),
              .log_term = Often() ? group()->term() : Near(term),
              .commit = Near(last),
              .reject = Below(4) == 0,
              .hint_index = Near(last),
              .read_context = Below(4),
              .all_match = Near(last),
              .leader_lost = Below(2) == 0,
              .quiet = Below(3) == 0};
    if (m.log_index == Index()) m.log_term = Term();
    if (m.type == MessageType::kAppend) {
      for (uint64_t n = 1, all = Below(4); n <= all; ++n) {
        m.entries.push_back({.term = term, .index = m.log_index + n, .data = Bytes::Copy(Text())});
      }
    }
    return m;
  }

  std::string Text() { return Often() ? "forged" : Below(2) == 0 ? "damaged" : std::string(3'000, 'f'); }

  SnapshotChunk ForgeChunk(NodeId from) {
    SnapshotChunk chunk{.group = GroupOf(), .header = {}, .number = Below(4), .at = Position()};
    Message& header = chunk.header;
    header.type = MessageType::kSnapshot;
    header.from = Peer(from);
    header.to = Self();
    header.term = Near(std::max(group()->term(), Term(1)));
    header.log_index = Near(group()->applied_index() + 1);
    header.log_term = Near(header.term);
    Membership members{{{World::Replica(1, 1), NodeId(1)}, {World::Replica(2, 1), NodeId(2)}}};
    if (!Often()) members.members.clear();
    header.membership = std::make_shared<const Membership>(std::move(members));
    if (Below(2) == 0) {
      for (uint64_t n = 1, all = 1 + Below(3); n <= all; ++n) {
        chunk.entries.push_back({.term = header.term,
                                 .index = Often() ? chunk.at.entry + n : Index(Below(9)),
                                 .data = Bytes::Copy(Text())});
      }
    } else if (Below(3) == 0) {
      std::vector<IndexRow> rows;
      rows.push_back({chunk.at.row + "k", Text()});
      rows.push_back({chunk.at.row + "key", "value"});
      chunk.rows = EncodeRows(rows);
      if (!Often()) chunk.rows = Bytes::Copy(Text());
      chunk.rows_checksum = Often() ? Crc32c(chunk.rows.view()) : static_cast<uint32_t>(random_());
    } else {
      Writer state;
      state.Counted(Text());
      chunk.state = Bytes::Copy(Often() ? std::string(state.bytes()) : Text());
      chunk.last = Below(2) == 0;
      chunk.state_checksum = Often() ? Crc32c(chunk.state.view()) : static_cast<uint32_t>(random_());
      if (chunk.last && Below(2) == 0) chunk.at = {};
    }
    return chunk;
  }

  std::mt19937_64 random_;
  World* const world_;
  uint64_t sequence_ = 0;
};

TEST(HostileFrames, BreakNothing) {
  uint64_t dropped = 0, terms = 0, applied = 0, installed = 0, told_forgot = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    world.options.snapshot_entries = 5;
    world.options.digest_entries = 2;
    world.Start(1);
    ASSERT_TRUE(world.AddGroup(1, 1).ok());
    Forger forger(seed, &world);
    SimNode& victim = world.node(1);
    for (int i = 0; i < 300; ++i) {
      const NodeId from = forger.Sender();
      victim.transport->receiver.frame(from, forger.Forge(from));
      if (i % 7 == 0) (void)victim.host->Find(GroupId(1))->Propose({Bytes::Copy("own")}, false);
      if (i % 3 == 0) world.Run(milliseconds(1 + i % 60));
    }
    const Host::Figures figures = victim.host->figures();
    dropped += figures.messages_dropped;
    installed += figures.snapshots_installed;
    terms += std::min<uint64_t>(victim.host->Find(GroupId(1))->term().value(), 1'000);
    applied += victim.host->Find(GroupId(1))->applied_index().value();
    told_forgot += victim.forgot.size();
  }
  // The forgeries reach into every part.
  EXPECT_GT(dropped, 1'000u);
  EXPECT_GT(terms, 200u);
  EXPECT_GT(applied, 200u);
  EXPECT_GT(installed, 10u);
  EXPECT_GT(told_forgot, 0u);
}

}  // namespace
}  // namespace trireme::raft::testing
