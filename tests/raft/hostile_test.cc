// Whatever a peer sends, a replica neither ends the process nor breaks what holds of itself: random messages, most of
// them nearly right, into one replica of three whose disk and state machine behave.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "raft/core/random.h"
#include "raft/core/replica.h"
#include "tests/simulation/stored_log.h"

namespace trireme::raft {
namespace {

// Nodes that promise their support, and take it back.
struct Promises final : Support {
  bool Gives(ReplicaId leader) const override { return given.contains(leader); }
  bool Gets(ReplicaId follower) const override { return got.contains(follower); }
  std::set<ReplicaId> given, got;
};

class Victim {
 public:
  explicit Victim(uint64_t seed) : random_(seed) {
    Config config{.id = ReplicaId(1),
                  .birth = VotersOnly({ReplicaId(1), ReplicaId(2), ReplicaId(3)}),
                  .seed = seed,
                  .lease = std::chrono::milliseconds(seed % 2 == 0 ? 200 : 0)};
    if (seed % 3 == 0) config.support = &promises_;
    replica_ = std::make_unique<Replica>(config, Restored());
  }

  void Step() {
    replica_->SetClock(Monotonic(clock_ += static_cast<int64_t>(random_.Below(20'000'000))));
    leased_ += replica_->LeaseRead(Monotonic(clock_)).has_value() ? 1 : 0;
    switch (random_.Below(20)) {
      case 0:
        replica_->Tick();
        break;
      case 1:
        replica_->Campaign();
        break;
      case 2:
        replica_->Propose({Bytes::Copy("a"), Bytes::Copy("b")});
        break;
      case 3:
        replica_->ReadIndex(++context_);
        break;
      case 4:
        replica_->TrimTail(Near(replica_->last_index()));
        break;
      case 6:
        if (!install_) break;
        if (random_.Below(4) == 0) {
          replica_->SnapshotRefused(install_->index);
        } else {
          disk_.Apply(
              {.snapshot = simulation::StoredSnapshot{install_->index, install_->term, {}, install_->membership},
               .installs = true});
          replica_->SnapshotInstalled(install_->index);
          ++installed_;
        }
        install_.reset();
        break;
      case 7:
        replica_->ProposeMembership({{.replica = ReplicaId(1)}, {.replica = Peer()}});
        break;
      case 8:
        replica_->TransferLeadership(Peer());
        break;
      case 5:
        random_.Below(2) == 0 ? replica_->PeerDown(Peer()) : replica_->PeerUp(Peer());
        break;
      case 9:
        Hear(Peer());
        break;
      case 10:
        if (random_.Below(20) == 0) replica_->StepDown();
        replica_->Wake();
        break;
      default:
        replica_->Step(Forge());
    }
    if (random_.Below(3) > 0) Turn();
    while (!writes_.empty() && random_.Below(3) > 0) Sync();
    ASSERT_GE(replica_->term(), term_);
    ASSERT_GE(replica_->commit_index(), commit_);
    ASSERT_GE(replica_->all_match(), all_match_);
    ASSERT_LE(replica_->commit_index(), replica_->last_index());
    ASSERT_LE(replica_->persisted_index(), replica_->last_index());
    ASSERT_LE(replica_->applied_index(), replica_->commit_index());
    slept_ += replica_->quiet() ? 1 : 0;
    term_ = replica_->term();
    commit_ = replica_->commit_index();
    all_match_ = replica_->all_match();
  }

  const Replica& replica() const { return *replica_; }
  uint64_t installed() const { return installed_; }
  uint64_t leased() const { return leased_; }
  uint64_t slept() const { return slept_; }

 private:
  // Nanoseconds: somewhat before the clock, at it, or after it.
  int64_t Now() { return std::max<int64_t>(0, clock_ + 30'000'000 - static_cast<int64_t>(random_.Below(100'000'000))); }
  ReplicaId Peer() { return ReplicaId(2 + random_.Below(2)); }
  // What the host says of a node.
  void Hear(ReplicaId peer) {
    std::set<ReplicaId>& promised = random_.Below(2) == 0 ? promises_.given : promises_.got;
    if (!promised.insert(peer).second && random_.Below(4) == 0) promised.erase(peer);
    switch (random_.Below(3)) {
      case 0:
        return replica_->PeerLost(peer);
      case 1:
        return replica_->PeerFound(peer);
      default:
        return replica_->PeerRestarted(peer);
    }
  }
  MessageType AnyType() {
    if (random_.Below(50) == 0) return static_cast<MessageType>(random_.Below(256));
    const uint64_t type = 1 + random_.Below(11);
    return type == 11 ? MessageType::kResign : static_cast<MessageType>(type);
  }
  Index Near(Index index) {
    if (random_.Below(100) == 0) return Index(random_.Next());
    uint64_t down = std::min<uint64_t>(index.value(), 4);
    return Index(index.value() - down + random_.Below(down + 4));
  }
  Term Near(Term term) {
    if (random_.Below(1000) == 0) return Term(random_.Next());
    uint64_t down = std::min<uint64_t>(term.value(), 2);
    // Mostly this term, or its campaigns would never end.
    return random_.Below(4) > 0 ? term : Term(term.value() - down + random_.Below(down + 3));
  }

  Message Forge() {
    Message m{.type = AnyType(),
              .from = random_.Below(50) == 0 ? ReplicaId(random_.Below(6)) : Peer(),
              .to = ReplicaId(random_.Below(50) == 0 ? random_.Below(6) : 1),
              .term = Near(replica_->term()),
              .log_index = Near(replica_->last_index()),
              .commit = Near(replica_->commit_index()),
              .reject = random_.Below(3) == 0,
              .hint_index = Near(replica_->last_index()),
              .read_context = random_.Below(5),
              .lease_ms = static_cast<uint32_t>(random_.Below(3) == 0 ? random_.Below(500) : 0),
              .lease_sent = Monotonic(random_.Below(10) == 0 ? static_cast<int64_t>(random_.Next()) : Now()),
              .all_match = Near(replica_->all_match()),
              .leader_lost = random_.Below(2) == 0,
              .quiet = random_.Below(2) == 0};
    m.log_term = random_.Below(4) == 0 ? Near(m.term) : replica_->TermAt(m.log_index);
    m.hint_term = random_.Below(4) == 0 ? Near(m.term) : replica_->TermAt(m.hint_index);
    if (m.type == MessageType::kSnapshot && random_.Below(10) > 0) {
      m.membership = std::make_shared<const Membership>(
          VotersOnly(random_.Below(10) == 0 ? std::vector<ReplicaId>() : std::vector{ReplicaId(1), ReplicaId(2)}));
    }
    if (m.type == MessageType::kAppend) {
      Term term = m.log_term;
      for (uint64_t i = random_.Below(4), n = 1; n <= i; ++n) {
        if (random_.Below(3) == 0) term = std::max(term, Near(m.term));
        m.entries.push_back({.term = term, .index = m.log_index + n, .data = Bytes::Copy("forged")});
        if (random_.Below(8) == 0) m.entries.back() = ForgedMembership(m.entries.back());
      }
    }
    return m;
  }

  // One that this replica is in, mostly, or it would never campaign again.
  Entry ForgedMembership(Entry entry) {
    Membership membership = VotersOnly({ReplicaId(2), ReplicaId(3)});
    if (random_.Below(4) > 0) membership.members.push_back({.replica = ReplicaId(1)});
    if (random_.Below(2) == 0) membership.members.back().standing = static_cast<Standing>(1 + random_.Below(5));
    entry.type = EntryType::kConfig;
    entry.data = random_.Below(10) == 0 ? Bytes::Copy("no membership") : EncodeMembership(membership);
    return entry;
  }

  void Turn() {
    Output output = replica_->TakeOutput();
    if (output.install) {
      ASSERT_TRUE(output.entries.empty());
      ASSERT_TRUE(writes_.empty());
      install_ = output.install;
    } else if (output.hard_state || !output.entries.empty()) {
      writes_.push_back({.hard_state = output.hard_state, .entries = output.entries});
      disk_.Apply(writes_.back());
    }
    for (const EntryRead& read : output.reads) {
      replica_->EntriesRead(read, disk_.Read(read.first, read.last, read.max_bytes));
    }
    for (const Entry& entry : output.committed) {
      ASSERT_EQ(entry.index, replica_->applied_index() + 1);
      replica_->Applied(entry.index);
    }
  }
  void Sync() {
    const auto& entries = writes_.front().entries;
    replica_->Persisted(entries.empty() ? Index() : entries.back().index,
                        entries.empty() ? Term() : entries.back().term);
    writes_.pop_front();
  }

  Random random_;
  Promises promises_;
  std::unique_ptr<Replica> replica_;
  simulation::StoredLog disk_;
  std::deque<simulation::StoredRecord> writes_;
  std::optional<SnapshotMeta> install_;
  uint64_t installed_ = 0;
  int64_t clock_ = 0;
  uint64_t leased_ = 0;
  uint64_t slept_ = 0;
  uint64_t context_ = 0;
  Term term_;
  Index commit_, all_match_;
};

TEST(Hostile, MessagesBreakNothing) {
  uint64_t dropped = 0, terms = 0, committed = 0, led = 0, installed = 0, leased = 0, slept = 0;
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Victim victim(seed);
    for (int step = 0; step < 1000; ++step) {
      victim.Step();
      if (HasFatalFailure()) return;
      led += victim.replica().role() == Role::kLeader;
    }
    installed += victim.installed();
    leased += victim.leased();
    slept += victim.slept();
    dropped += victim.replica().dropped();
    terms += std::min<uint64_t>(victim.replica().term().value(), 1000);
    committed += victim.replica().commit_index().value();
  }
  // The forgeries reach into every part.
  EXPECT_GT(dropped, 1000u);
  EXPECT_GT(terms, 1000u);
  EXPECT_GT(committed, 1000u);
  EXPECT_GT(led, 1000u);
  EXPECT_GT(installed, 100u);
  EXPECT_GT(leased, 20u);
  EXPECT_GT(slept, 500u);
}

}  // namespace
}  // namespace trireme::raft
