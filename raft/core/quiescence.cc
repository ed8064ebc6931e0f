// How groups go quiet, with liveness from the nodes' promises instead of heartbeats of their own (Safety rules 9, 10).
//
// A leader whose log is settled and that had nothing to do for a while asks each live follower, in a heartbeat, to
// confirm its term and its last index as durable, committed and applied. Who confirms is quiet from there on; the
// leader is when all live ones have. Every other input ends it.
#include "raft/core/quiescence.h"

#include <algorithm>
#include <utility>

#include "raft/core/replica_impl.h"

namespace trireme::raft {
namespace {

// Election timeouts of silence, on a node that lives, after which nothing is expected of a replica any more.
constexpr int kGivenUpTimeouts = 5;

}  // namespace

bool Replica::Impl::Settled() const {
  const Index last = log_.last_index();
  return commit_ == last && persisted_ == last && applied_ == last && writes_.empty() && !install_ &&
         TermAndVoteDurable();
}

bool Replica::Impl::AsksToBeQuiet() const {
  return config_.support != nullptr && leading()->idle_ticks >= config_.quiet_ticks;
}

// Whether something is expected of the follower, so that its silence means something.
bool Replica::Impl::Awaits(const Progress& follower) const {
  return !config_.support->Gets(follower.id) || !follower.following || follower.match < log_.last_index() ||
         (AsksToBeQuiet() && follower.quiet_at != log_.last_index()) || AwaitsRead(follower);
}

// A read's heartbeat, or its answer, may have been lost: it is sent again until a quorum has answered.
bool Replica::Impl::AwaitsRead(const Progress& follower) const {
  return leading()->reads.open() && follower.read_acknowledged < leading()->reads.last();
}

bool Replica::Impl::NotTold(const Progress& follower) const {
  return follower.told_commit < std::min(commit_, follower.match);
}

void Replica::Impl::TellCommit() {
  if (!config_.tell_commit_at_once || commit_ < log_.last_index()) return;
  for (Progress& follower : leading()->followers) follower.heartbeat_due |= NotTold(follower);
}

void Replica::Impl::CountSilence(Progress& follower) {
  if (config_.support == nullptr) {
    ++follower.silent_ticks;
    return;
  }
  const bool moved = std::exchange(follower.match_at_tick, follower.match) != follower.match;
  // The next append may be about to tell it.
  const bool appends = std::exchange(follower.appended_since_tick, false);
  if (moved || !Awaits(follower)) {
    follower.silent_ticks = 0;
    follower.heartbeat_due = AwaitsRead(follower) || (!appends && NotTold(follower));
    return;
  }
  ++follower.silent_ticks;
  // One whose node lives is asked again, but after an election timeout more seldom, and not for ever.
  follower.heartbeat_due = follower.silent_ticks < config_.election_ticks ||
                           (IsExpected(follower) && follower.silent_ticks % config_.election_ticks == 0);
}

// A replica that is missing or halted on a node that lives never answers. The leader sleeps without it: if it comes
// back it makes itself heard, and the host has it asked again now and then (Replica::PeerFound).
bool Replica::Impl::IsExpected(const Progress& follower) const {
  return config_.support->Gets(follower.id) && follower.silent_ticks < kGivenUpTimeouts * config_.election_ticks;
}

void Replica::Impl::QuietTick() {
  if (config_.support == nullptr) return;
  Leading& leader = *leading();
  if (!Settled() || !leader.reads.empty() || leader.transfer || leader.idle_last != log_.last_index()) {
    leader.idle_last = log_.last_index();
    leader.idle_ticks = 0;
    return;
  }
  if (leader.idle_ticks < config_.quiet_ticks) {
    ++leader.idle_ticks;
    return;
  }
  for (const Progress& follower : leader.followers) {
    // Safety rule 10: whoever is alive has to confirm.
    if (IsExpected(follower) && follower.quiet_at != log_.last_index()) return;
  }
  quiet_ = true;
}

bool Replica::Impl::ConfirmsQuiet(const Message& m) const {
  // Only the end of a promise would wake it when the leader's node is lost.
  return m.quiet && SupportsLeader() && m.log_index == log_.last_index() && m.log_term == log_.last_term() && Settled();
}

bool Replica::Impl::Wakes(const Message& message) const {
  switch (message.type) {
    case MessageType::kPreVote:
    case MessageType::kVote:
      // A refused one changes nothing here; but a leader that is asked for one has to tell the candidate that it leads.
      return leading() || !SupportsAgainst(message);
    case MessageType::kPreVoteResponse:
    case MessageType::kVoteResponse:
    case MessageType::kAppendResponse:
    case MessageType::kHeartbeatResponse:
      return role_ != Role::kFollower;  // late ones
    case MessageType::kResign:
      return leader_ == message.from;
    default:
      return true;
  }
}

// A follower that something has woken is asked to be quiet again by its leader, which may not know that it woke.
void Replica::Impl::SupportingTick() {
  election_elapsed_ = 0;
  if (quiet_ || ++unasked_ticks_ < 2 * config_.quiet_ticks) return;
  unasked_ticks_ = 0;
  Send({.type = MessageType::kHeartbeatResponse, .to = leader_});
}

void Replica::Impl::Contact(Progress& follower) {
  follower.following = false;
  follower.quiet_at = Index();
  follower.silent_ticks = 0;
  quiet_ = false;
}

// The one candidate that was to go first cannot win without this replica's entries, so this one does not wait its turn;
// unless it was itself the last one, and is not to lead.
void Replica::Impl::YieldNot(const Message& pre_vote) {
  if (config_.support == nullptr || SupportsLeader() || voted_for_ == config_.id) return;
  if (CandidateIsUpToDate(pre_vote)) return;
  election_timeout_ = std::min(election_timeout_, election_elapsed_ + 1);
}

// A leader that gave up says so, as nobody would notice by its node's silence.
void Replica::Impl::Resign() {
  for (const Member& member : membership().members) {
    if (member.replica != config_.id) ResignTo(member.replica);
  }
}

// Whoever has not heard of it says that it follows still (SupportingTick), and is told again. One that votes no more
// would have no other way to make itself heard.
void Replica::Impl::ResignTo(ReplicaId follower) {
  if (config_.support != nullptr) Send({.type = MessageType::kResign, .to = follower});
}

void Replica::Impl::StepResign(const Message& m) {
  if (leader_ != m.from) return;
  LeaderConnectionClosed();
  leader_ = ReplicaId();
}

// ---- the host's words

void Replica::PeerRestarted(ReplicaId peer) {
  if (!impl_->leading()) return PeerLost(peer);
  if (Progress* follower = impl_->FindFollower(peer)) {
    follower->BecomeProbe();
    follower->down = false;
    impl_->Contact(*follower);
  }
}

void Replica::PeerLost(ReplicaId peer) {
  if (!impl_->leading()) {
    if (peer == impl_->leader_ && peer != ReplicaId()) impl_->LeaderConnectionClosed();
  } else if (Progress* follower = impl_->FindFollower(peer)) {
    follower->silent_ticks = impl_->config_.election_ticks;
  }
}

void Replica::PeerFound(ReplicaId peer) {
  if (!impl_->leading()) {
    if (peer != impl_->leader_ || !impl_->leader_lost_) return;
    impl_->leader_lost_ = false;
    impl_->ResetElectionTimer();
  } else if (Progress* follower = impl_->FindFollower(peer)) {
    follower->silent_ticks = 0;
    if (follower->quiet_at != impl_->log_.last_index()) impl_->quiet_ = false;
  }
}

void Replica::Wake() {
  impl_->quiet_ = false;
}

bool Replica::quiet() const {
  return impl_->quiet_;
}

}  // namespace trireme::raft
