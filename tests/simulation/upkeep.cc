#include "tests/simulation/upkeep.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "raft/core/quorum.h"

namespace trireme::simulation {
namespace {

using raft::NodeLiveness;
using raft::ReplicaId;
using raft::Role;
using Event = raft::NodeLiveness::Event;

// All in ticks, and shorter than the host's, as the runs are.
constexpr uint64_t kTicksPerHeartbeat = 2;
constexpr uint64_t kAskAgainTicks = 200;
constexpr uint64_t kStartPatience = 20;
constexpr uint64_t kNextCandidate = 15;
constexpr uint64_t kElectAgain = 10;
constexpr uint64_t kElectionPatience = 20;
constexpr uint64_t kNoQuorum = 50;

}  // namespace

Upkeep::Upkeep(Options options)
    : options_(std::move(options)),
      liveness_({.incarnation = options_.incarnation, .tick = std::chrono::milliseconds(10), .election_ticks = 10}) {
  for (const auto& [node, memory] : options_.announced) liveness_.Remember(node, memory);
}

void Upkeep::Begin(raft::Replica* replica) {
  replica_ = replica;
  const bool alone = replica->membership().members.size() == 1 && replica->membership().Votes(replica->id());
  if (alone) replica->Campaign();
  if (options_.queues && !alone) Orphan(kStartPatience);
}

bool Upkeep::Alive(ReplicaId replica) const {
  return replica == replica_->id() || liveness_.Alive(NodeOf(replica));
}

bool Upkeep::QuorumAlive() const {
  for (raft::Half half : {raft::Half::kOld, raft::Half::kNew}) {
    size_t voters = 0, alive = 0;
    for (const raft::Member& member : replica_->membership().members) {
      if (!raft::CountsIn(member.standing, half)) continue;
      ++voters;
      alive += Alive(member.replica) ? 1 : 0;
    }
    if (alive < raft::QuorumSize(voters)) return false;
  }
  return true;
}

bool Upkeep::SupportsLeader() const {
  return replica_->leader() != ReplicaId() && Gives(replica_->leader());
}

uint64_t Upkeep::CandidatesBefore() const {
  uint64_t before = 0;
  const std::vector<raft::Member>& members = replica_->membership().members;
  for (size_t i = 0; i < members.size(); ++i) {
    const raft::Member& member = members[options_.last_member_first ? members.size() - 1 - i : i];
    if (member.replica == replica_->id()) break;
    if (!raft::Votes(member.standing) || member.replica == replica_->leader()) continue;
    before += Alive(member.replica) ? 1 : 0;
  }
  return before;
}

void Upkeep::Tick(raft::MonotonicTime now) {
  ++ticks_;
  liveness_.Tick(now);
  TakeChanges();
  if (ticks_ % kTicksPerHeartbeat == 0) {
    for (const raft::Member& member : replica_->membership().members) neighbours_.insert(member.replica);
    due_ = neighbours_;
    due_.erase(replica_->id());
  }
  if (ticks_ % kAskAgainTicks == 0) AskAgain();
  HoldElection();
  if (asleep_) return;
  replica_->Tick();
  if (replica_->quiet()) {
    if (replica_->HasOutput()) return;
    asleep_ = true;
    ++sleeps_;
    return;
  }
  if (replica_->role() == Role::kLeader || replica_->leader() != ReplicaId()) {
    electing_since_.reset();
  } else if (electing_since_ && ticks_ - *electing_since_ > kElectionPatience) {
    Orphan(kElectAgain + ticks_ % kElectAgain);
  } else if (options_.queues && !electing_since_ && !QuorumAlive()) {
    Orphan(kNoQuorum);
  }
}

bool Upkeep::Heard(ReplicaId from, uint64_t incarnation, const std::optional<raft::NodeHeartbeat>& heartbeat,
                   raft::MonotonicTime now) {
  const bool heard = liveness_.Heard(NodeOf(from), {.incarnation = incarnation, .heartbeat = heartbeat}, now);
  TakeChanges();
  if (!heard) return false;
  neighbours_.insert(from);
  if (liveness_.Owes(NodeOf(from))) due_.insert(from);
  return true;
}

void Upkeep::Step(raft::Message message, uint64_t incarnation) {
  const ReplicaId from = message.from;
  const bool leads = raft::SaidByLeader(message.type);
  const bool resigns = message.type == raft::MessageType::kResign;
  const bool slept = asleep_ && !election_due_;
  replica_->Step(std::move(message));
  if (leads && replica_->leader() == from) leader_incarnation_ = incarnation;
  if (slept && resigns && replica_->role() == Role::kFollower && replica_->leader() == ReplicaId()) return Orphan(1);
  Stirred();
}

void Upkeep::Stirred() {
  if (!replica_->quiet()) Wake();
}

void Upkeep::ConnectionChanged(ReplicaId peer, bool open) {
  // Whom a follower supports is the promise's to say.
  if (replica_->role() == Role::kLeader) {
    open ? replica_->PeerUp(peer) : replica_->PeerDown(peer);
  } else if (!open && !asleep_) {
    replica_->PeerDown(peer);
  }
  if (open) {
    liveness_.ConnectionOpened(NodeOf(peer));
    due_.insert(peer);
  } else {
    liveness_.ConnectionClosed(NodeOf(peer));
  }
  TakeChanges();
}

void Upkeep::TakeChanges() {
  for (const NodeLiveness::Change& change : liveness_.TakeChanges()) {
    Changed(ReplicaId(change.node.value()), change.event);
  }
}

void Upkeep::Changed(ReplicaId peer, Event event) {
  if (event == Event::kGets && election_due_) {
    // One that lives again may lead, or complete a quorum.
    election_due_ = std::min(*election_due_, ticks_ + kElectAgain);
  }
  if (replica_->role() == Role::kLeader) return LeaderHears(peer, event);
  if (replica_->leader() != peer) return;
  if (event == Event::kGivesLost) {
    if (asleep_ && options_.queues) {
      if (!election_due_) Orphan(1);
    } else {
      Wake();
      replica_->PeerLost(peer);
    }
  } else if (event == Event::kGives && Gives(peer)) {
    replica_->PeerFound(peer);
  }
}

void Upkeep::LeaderHears(ReplicaId follower, Event event) {
  switch (event) {
    case Event::kGets:
      replica_->PeerFound(follower);
      break;
    case Event::kRestarted:
      replica_->PeerRestarted(follower);
      break;
    case Event::kGetsLost:
      replica_->PeerLost(follower);
      // Safety rule 9: without a quorum's support it steps down. One that is awake does so at its tick.
      if (asleep_ && !QuorumAlive()) {
        replica_->StepDown();
        Orphan(kNoQuorum);
      }
      return;
    default:
      return;
  }
  if (asleep_) Stirred();
}

void Upkeep::Wake() {
  replica_->Wake();
  asleep_ = false;
  election_due_.reset();
}

void Upkeep::Orphan(uint64_t ticks) {
  electing_since_.reset();
  if (!options_.queues) return Wake();
  asleep_ = true;
  election_due_ = ticks_ + ticks;
}

void Upkeep::HoldElection() {
  if (!election_due_ || ticks_ < *election_due_) return;
  election_due_.reset();
  if (replica_->role() == Role::kLeader || SupportsLeader()) {
    waited_turn_ = false;
    return Stirred();
  }
  if (!QuorumAlive()) return Orphan(kNoQuorum);
  const uint64_t before = CandidatesBefore();
  if (before > 0 && !std::exchange(waited_turn_, true)) return Orphan(kNextCandidate * before);
  Wake();
  electing_since_ = ticks_;
  replica_->Campaign();
}

// Safety rule 10: one that gave no answer for so long that it was waited for no more may have been cut off.
void Upkeep::AskAgain() {
  if (!asleep_ || replica_->role() != Role::kLeader) return;
  for (const raft::Member& member : replica_->membership().members) {
    const bool lacks = replica_->MatchOf(member.replica) < replica_->last_index();
    if (member.replica != replica_->id() && lacks && Alive(member.replica)) replica_->PeerFound(member.replica);
  }
  Stirred();
}

}  // namespace trireme::simulation
