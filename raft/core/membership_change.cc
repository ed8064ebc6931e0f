// Changes of the membership: dissertation 4.2 and 4.3, joint consensus with any number of replicas at once.
#include <algorithm>
#include <utility>

#include "raft/core/replica_impl.h"

namespace trireme::raft {

void Replica::Impl::MembershipChanged() {
  membership_news_ = true;
  if (leading()) return SyncFollowers();
  // The order of preference is another. (After a lost connection, that order was drawn already.)
  if (!leader_lost_) election_timeout_ = DrawElectionTimeout();
}

void Replica::Impl::SyncFollowers() {
  Leading& leader = *leading();
  std::vector<Progress> followers;
  followers.reserve(membership().members.size());
  leader.own.reset();
  for (const Member& member : membership().members) {
    if (member.replica == config_.id) {
      leader.own = member.standing;
      continue;
    }
    if (Progress* known = FindFollower(member.replica)) {
      followers.push_back(std::move(*known));
    } else {
      Progress& fresh = followers.emplace_back();
      fresh.id = member.replica;
      fresh.next = log_.last_index() + 1;
    }
    followers.back().standing = member.standing;
  }
  leader.followers = std::move(followers);
  // Who is left may have answered already; or be nobody but this leader, whom no answer would bring here again.
  ConfirmReads();
}

bool Replica::Impl::IsCaughtUp(const Progress& follower) const {
  return follower.state == Progress::State::kReplicate && !follower.down &&
         follower.silent_ticks < config_.election_ticks && follower.match >= leading()->commit_at_tick;
}

// A membership is in force once it is appended: a leader that cannot hear from a quorum of its voters would step down,
// and nobody else could be elected by them either.
bool Replica::Impl::HearsQuorumOf(const Membership& target) const {
  size_t voters = 0, heard = 0;
  for (const Member& member : target.members) {
    if (!Votes(member.standing)) continue;
    ++voters;
    const Progress* follower = FindFollower(member.replica);
    const bool lives = follower != nullptr && !follower->down && follower->silent_ticks < config_.election_ticks;
    heard += member.replica == config_.id || lives ? 1 : 0;
  }
  return heard >= QuorumSize(voters);
}

MembershipProposed Replica::Impl::ProposeMembership(Membership target) {
  auto refused = [](MembershipError error) { return MembershipProposed{.error = error}; };
  const Leading* leader = leading();
  if (leader == nullptr) return refused(MembershipError::kNotLeader);
  if (commit_ < leader->first_own) return refused(MembershipError::kTooEarly);
  if (!MembershipCommitted() || membership().joint() || leader->transfer) return refused(MembershipError::kUnderWay);
  if (!target.Sound() || target.joint()) return refused(MembershipError::kNotSound);
  for (const Member& member : target.members) {
    const Member* now = membership().Find(member.replica);
    if (now != nullptr && now->node != member.node) return refused(MembershipError::kNotSound);
    if (member.standing != Standing::kVoter || membership().Votes(member.replica)) continue;
    // Dissertation 4.2.1, and Safety rule 12: a log is caught up on before its replica counts.
    const Progress* follower = now == nullptr ? nullptr : FindFollower(member.replica);
    if (follower == nullptr || !IsCaughtUp(*follower)) return refused(MembershipError::kNotCaughtUp);
  }
  if (!HearsQuorumOf(target)) return refused(MembershipError::kNoQuorum);
  if (target != membership()) AppendOwn(EntryType::kConfig, EncodeMembership(StepTowards(membership(), target)));
  return {.index = memberships_.index(), .term = term_};
}

bool Replica::Impl::MustLeaveJoint() const {
  return membership().joint() && MembershipCommitted() && commit_ >= leading()->first_own;
}

void Replica::Impl::LeaveJoint() {
  AppendOwn(EntryType::kConfig, EncodeMembership(AfterJoint(membership())));
}

// Dissertation 4.2.2: a leader that is to vote no more manages the group, without counting itself, until that is
// committed.
bool Replica::Impl::MustLeaveOffice() const {
  const Leading& leader = *leading();
  return MembershipCommitted() && (!leader.own || !Votes(*leader.own));
}

void Replica::Impl::LeaveOffice() {
  // So that those who stay learn that it is committed, rather than from the next leader; and need not wait for one.
  leading()->heartbeat_due = true;
  SendHeartbeats();
  if (ReplicaId successor = BestSuccessor(); successor != ReplicaId()) {
    SendTimeoutNow(successor);
  } else {
    Resign();
  }
  BecomeFollower(term_, ReplicaId());
}

}  // namespace trireme::raft
