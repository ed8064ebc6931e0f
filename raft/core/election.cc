#include <algorithm>
#include <utility>

#include "raft/core/check.h"
#include "raft/core/replica_impl.h"

namespace trireme::raft {
namespace {

// After the leader's connection closed: campaigns that start within a few ticks, before the usual timeout holds again.
constexpr int kQuickElections = 2;
constexpr uint64_t kQuickElectionTicks = 4;
// For so long after it closed, what the leader had sent before may still be read.
constexpr int kLateTicks = 2;

}  // namespace

void Replica::Impl::ResetElectionTimer() {
  if (leader_lost_ && quick_elections_ > 0) {
    --quick_elections_;
    election_timeout_ = election_elapsed_ + 1 + static_cast<int>(random_.Below(kQuickElectionTicks));
    return;
  }
  election_timeout_ = DrawElectionTimeout();
}

int Replica::Impl::VotersBefore(ReplicaId lost) const {
  int before = 0;
  const std::vector<Member>& members = membership().members;
  for (size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[config_.last_member_first ? members.size() - 1 - i : i];
    if (member.replica == config_.id) break;
    if (Votes(member.standing) && member.replica != lost) ++before;
  }
  return before;
}

// Each voter has a part of (election_ticks, 2 * election_ticks] for itself, in order of preference, so that the
// preferred one campaigns first and votes are not split again and again; dissertation 3.4 leaves both to chance. It
// begins a tick late: those whose own tick comes a moment after the first one's must not refuse it for that.
int Replica::Impl::DrawElectionTimeout() {
  const std::vector<Member>& members = membership().members;
  const auto count = std::count_if(members.begin(), members.end(), [](const Member& m) { return Votes(m.standing); });
  const int voters = std::max(static_cast<int>(count), 1);
  // One that may be needed without being a voter any more goes last.
  const int rank = membership().Votes(config_.id) ? VotersBefore(ReplicaId()) : voters;
  // Where voters are many, their parts overlap, so that chance still tells two of them apart.
  const int part = std::max(config_.election_ticks / voters, 2);
  const int timeout = config_.election_ticks + 1 + rank * config_.election_ticks / voters +
                      static_cast<int>(random_.Below(static_cast<uint64_t>(part)));
  return std::min(timeout, 2 * config_.election_ticks);
}

bool Replica::Impl::DiskStalled() const {
  return stalled_ticks_ >= std::max(2, config_.election_ticks / 4);
}

bool Replica::Impl::CanCampaign() const {
  if (install_ || DiskStalled()) return false;
  // Dissertation 4.2.2: one that votes no more by a membership that is not known to be committed may be needed still.
  // It may be the only one whose log has that, because the leader lost it before it was durable there; and its voters
  // elect nobody whose log is behind.
  return membership().Votes(config_.id) || (!MembershipCommitted() && memberships_.At(commit_).Votes(config_.id));
}

bool Replica::Impl::MustLetOthersGoFirst() const {
  // Nothing has been committed for as long as it takes to get here: one that keeps up has applied it all.
  return applied_ < commit_ && election_elapsed_ < election_timeout_ + config_.election_ticks;
}

void Replica::Impl::LeaderConnectionClosed() {
  // Who sleeps has somebody to rely on (Safety rule 10).
  quiet_ = false;
  leader_lost_ = true;
  lost_leader_ = leader_;
  lost_ticks_ = 0;
  quick_elections_ = kQuickElections;
  // Those who are left go in turn, so that they do not split the vote: the first at the next tick, when the others
  // should have seen the same, each of the rest two ticks after the one before it.
  election_timeout_ = std::min(election_timeout_, election_elapsed_ + 1 + 2 * VotersBefore(leader_));
}

bool Replica::Impl::SupportsLeader() const {
  if (leading() || leader_ == ReplicaId()) return leading() != nullptr;
  // Safety rule 9.
  if (config_.support != nullptr) return config_.support->Gives(leader_);
  return election_elapsed_ < config_.election_ticks;
}

bool Replica::Impl::SupportsAgainst(const Message& request) const {
  return SupportsLeader() && request.from != leader_ && !request.leader_asked && !(request.leader_lost && leader_lost_);
}

bool Replica::Impl::CandidateIsUpToDate(const Message& m) const {
  return m.log_term > log_.last_term() || (m.log_term == log_.last_term() && m.log_index >= log_.last_index());
}

void Replica::Impl::BecomeFollower(Term term, ReplicaId leader) {
  if (Leading* deposed = leading()) {
    deposed->reads.DropAll(output_.read_ready);
    led_ = term_;
  }
  if (term > term_) {
    term_ = term;
    voted_for_ = ReplicaId();
    acknowledgement_.reset();
  }
  quiet_ = false;
  role_ = Role::kFollower;
  state_ = Following();
  leader_ = leader;
  if (leader != ReplicaId()) leader_lost_ = false;
  election_elapsed_ = 0;
  ResetElectionTimer();
}

void Replica::Impl::HeardFromLeader(ReplicaId leader) {
  // A frame that was on its way when the connection closed proves nothing: neither is the timer set back, nor are those
  // who campaign early refused. (They come by another connection, and are read when this shard gets to them.)
  const int ticks = lost_ticks_;
  const bool late = leader_lost_ && lost_leader_ == leader && ticks < kLateTicks;
  if (late && role_ == Role::kFollower && leader_ == leader) return;
  if (role_ != Role::kFollower || leader_ != leader || leader_lost_) {
    BecomeFollower(term_, leader);
  }
  unasked_ticks_ = 0;
  election_elapsed_ = 0;
  if (!late) return;
  LeaderConnectionClosed();
  lost_ticks_ = ticks;
}

void Replica::Impl::StartPreVote() {
  if (term_ >= kTermMax) return;
  quiet_ = false;
  role_ = Role::kPreCandidate;
  state_ = Campaigning{Ballots()};
  leader_ = ReplicaId();
  election_elapsed_ = 0;
  ResetElectionTimer();
  for (const Member& member : membership().members) {
    if (member.replica == config_.id || !Votes(member.standing)) continue;
    Send({.type = MessageType::kPreVote,
          .to = member.replica,
          .term = term_ + 1,
          .log_index = log_.last_index(),
          .log_term = log_.last_term(),
          .leader_lost = leader_lost_});
  }
  RecordVote(config_.id, true);
}

void Replica::Impl::StartVote(bool leader_asked) {
  ++term_;
  voted_for_ = config_.id;
  leader_ = ReplicaId();
  acknowledgement_.reset();
  role_ = Role::kCandidate;
  state_ = Campaigning{Ballots()};
  election_elapsed_ = 0;
  ResetElectionTimer();
  // These leave once the term and the vote for ourselves are durable; only then does that vote count, too (Persisted).
  for (const Member& member : membership().members) {
    if (member.replica == config_.id || !Votes(member.standing)) continue;
    Send({.type = MessageType::kVote,
          .to = member.replica,
          .log_index = log_.last_index(),
          .log_term = log_.last_term(),
          .leader_lost = leader_lost_,
          .leader_asked = leader_asked});
  }
}

std::vector<Replica::Impl::Campaigning::Ballot> Replica::Impl::Ballots() const {
  std::vector<Campaigning::Ballot> ballots;
  for (const Member& member : membership().members) {
    if (Votes(member.standing)) ballots.push_back({.voter = member.replica, .standing = member.standing});
  }
  return ballots;
}

void Replica::Impl::RecordVote(ReplicaId from, bool granted) {
  Halves<Vote> votes;
  for (Campaigning::Ballot& ballot : std::get<Campaigning>(state_).ballots) {
    if (ballot.voter == from && ballot.vote == Vote::kMissing) {
      ballot.vote = granted ? Vote::kGranted : Vote::kRefused;
    }
    votes.Add(ballot.standing, ballot.vote);
  }
  switch (CountVotes(votes)) {
    case Tally::kOpen:
      return;
    case Tally::kWon:
      return role_ == Role::kPreCandidate ? StartVote(false) : BecomeLeader();
    case Tally::kLost:
      return BecomeFollower(term_, ReplicaId());
  }
}

void Replica::Impl::StepVoteRequest(const Message& m) {
  // The leader would ask about no later term if it still led.
  if (m.from == leader_ && m.term > term_) BecomeFollower(term_, ReplicaId());
  if (Progress* follower = FindFollower(m.from); follower != nullptr && config_.support != nullptr) Contact(*follower);
  const bool promised_another = !m.leader_asked && PromiseForbids(m.from);
  const bool asks_early = promised_another || SupportsAgainst(m);
  if (m.type == MessageType::kPreVote) {
    bool grant = m.term > term_ && !asks_early && CandidateIsUpToDate(m);
    Send({.type = MessageType::kPreVoteResponse, .to = m.from, .term = grant ? m.term : term_, .reject = !grant});
    YieldNot(m);
    return;
  }
  bool free_to_vote = voted_for_ == m.from || (voted_for_ == ReplicaId() && leader_ == ReplicaId());
  bool grant = m.term == term_ && free_to_vote && !promised_another && CandidateIsUpToDate(m);
  if (grant) {
    voted_for_ = m.from;
    if (role_ != Role::kFollower) BecomeFollower(term_, ReplicaId());
    election_elapsed_ = 0;
  }
  Send({.type = MessageType::kVoteResponse, .to = m.from, .reject = !grant});
}

void Replica::Impl::StepVoteResponse(const Message& m) {
  if (m.type == MessageType::kPreVoteResponse) {
    // A grant names the term that was asked about, a refusal the voter's own.
    if (role_ == Role::kPreCandidate && m.term == (m.reject ? term_ : term_ + 1)) RecordVote(m.from, !m.reject);
  } else if (role_ == Role::kCandidate) {
    RecordVote(m.from, !m.reject);
  }
}

void Replica::Impl::BecomeLeader() {
  role_ = Role::kLeader;
  leader_ = config_.id;
  leader_lost_ = false;
  Leading leader;
  leader.first_own = log_.last_index() + 1;
  leader.commit_at_tick = leader.first_own;
  leader.charged_above = std::min(commit_, persisted_);
  // What earlier leaders left undecided counts against our cap. (What is not in memory came from before a restart.)
  for (Index i = std::max(leader.charged_above + 1, log_.first_held()); i <= log_.last_index(); ++i) {
    leader.uncommitted_bytes += EntryBytes(*log_.Find(i));
  }
  state_ = std::move(leader);
  SyncFollowers();
  // Entries of earlier terms are committed by one of our own (Raft section 5.4.2). As long as no log says who the
  // members are, it says so: whoever comes later learns them from the log or a snapshot, like all else.
  if (memberships_.index() == Index()) {
    AppendOwn(EntryType::kConfig, EncodeMembership(membership()));
  } else {
    AppendOwn(EntryType::kNoop, Bytes());
  }
}

}  // namespace trireme::raft
