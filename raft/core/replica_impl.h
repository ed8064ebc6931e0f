// The inside of Replica. Split by role: election.cc, follower.cc, leader.cc and
// replication.cc; membership_change.cc, snapshots.cc, transfer.cc; replica_impl.cc has what all share.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "raft/core/log_tail.h"
#include "raft/core/membership_log.h"
#include "raft/core/progress.h"
#include "raft/core/quorum.h"
#include "raft/core/random.h"
#include "raft/core/read_lease.h"
#include "raft/core/read_rounds.h"
#include "raft/core/replica.h"
#include "raft/core/ring.h"

namespace trireme::raft {

// Invariants, between calls:
//   snapshot <= commit_ <= last_index();  applied_ < next_apply_ <= commit_ + 1
//   persisted_ <= handed_ <= last_index()
//   compacted_ <= snapshot_index_ <= applied_;  while a snapshot is being installed nothing is written or appended
//   a message is never given to `send_now` while the term or vote that it speaks for is not durable
struct Replica::Impl {
  Impl(const Config& config, const Restored& restored);

  struct Following {};
  // Also for PreCandidate. One ballot per voter.
  struct Campaigning {
    struct Ballot {
      ReplicaId voter;
      Standing standing = Standing::kVoter;
      Vote vote = Vote::kMissing;
    };
    std::vector<Ballot> ballots;
  };
  struct Transfer {
    ReplicaId target;
    int ticks = 0;      // since it began
    bool told = false;  // TimeoutNow is on its way
  };
  struct Leading {
    std::vector<Progress> followers;  // all members but this one
    std::optional<Standing> own;      // this replica's; none once it is no member any more
    Index first_own;                  // the entry that this term began with
    Index commit_at_tick;             // the commit index at the last tick; one that is caught up has this much
    int heartbeat_elapsed = 0;
    bool heartbeat_due = false;  // to all
    int idle_ticks = 0;          // since all was settled
    Index idle_last;             // the last index at the last tick
    ReadRounds reads;
    // Another was told to campaign in this term, and its voters are bound by no promise: this leader has no lease any
    // more, even if nothing comes of it, for that message may still be on its way.
    bool lease_given_up = false;
    std::optional<Transfer> transfer;
    // Bytes of the entries in (charged_above, last_index()], which are not committed or not durable here.
    size_t uncommitted_bytes = 0;
    Index charged_above;
  };
  // A write that was handed out and is not known to be durable.
  struct PendingWrite {
    Index handed_last;  // the last of its entries; none without entries
    Term handed_term;   // its term
    Index last;         // the last of its entries that the log still has
    Term term;          // the hard state's term and vote as of this write
    ReplicaId voted_for;
  };

  // A snapshot on its way to take the place of log and state.
  struct Install {
    SnapshotMeta snapshot;
    bool handed = false;  // the host was told
  };

  // ---- replica_impl.cc: shared by all roles
  void Tick();
  void Step(Message message);
  void Persisted(Index last, Term term);
  void Applied(Index index);
  void SetClock(Monotonic now);
  void EntriesRead(const EntryRead& read, std::vector<Entry> entries);
  Index TrimTail(Index index, bool even_unsent);
  bool HasOutput() const;
  Output TakeOutput();
  void Send(Message message);
  void AdvanceCommit(Index index);
  void TakeCommitted();
  bool CommittedAtHand() const;
  bool NeedsApplyRead() const;
  bool WantsHardState(bool with_entries) const;
  // Whether there is something to persist.
  bool WantsWrite() const;
  bool TermAndVoteDurable() const { return durable_term_ == term_ && durable_vote_ == voted_for_; }
  RoleChange CurrentRole() const;
  // At the end of the log. A membership is in force from then on.
  void AppendEntry(Entry entry);
  // Drops `first` and all behind it.
  void TruncateFrom(Index first);
  // Whether `entries` continue from `first` and fit what is known of the log's terms.
  bool FitsLog(Index first, const std::vector<Entry>& entries) const;

  // ---- plausible.cc
  // Whether a correct replica of this group could have sent it.
  bool Plausible(const Message& message) const;

  // ---- election.cc
  void BecomeFollower(Term term, ReplicaId leader);
  void StartPreVote();
  void StartVote(bool leader_asked);
  std::vector<Campaigning::Ballot> Ballots() const;
  bool CanCampaign() const;
  // A write has been under way for long: a vote would not become durable, and a leader's entries neither.
  bool DiskStalled() const;
  // Behind in applying, so that it could not serve for a while if it led.
  bool MustLetOthersGoFirst() const;
  void BecomeLeader();
  void RecordVote(ReplicaId from, bool granted);
  void StepVoteRequest(const Message& message);
  void StepVoteResponse(const Message& message);
  void HeardFromLeader(ReplicaId leader);
  void ResetElectionTimer();
  int DrawElectionTimeout();
  // Those that are to campaign before this replica, without the one that is lost (0 = none).
  int VotersBefore(ReplicaId lost) const;
  void LeaderConnectionClosed();
  // Leads, or has promised to support a leader (Safety rule 9), or, where no nodes promise, heard from one within the
  // shortest election timeout: so it supports no other.
  bool SupportsLeader() const;
  // Whether that keeps it from voting for this candidate. The leader itself, when it campaigns, leads no more.
  bool SupportsAgainst(const Message& request) const;
  bool CandidateIsUpToDate(const Message& message) const;

  // Whether this replica promised another leader not to vote for `candidate` now.
  bool PromiseForbids(ReplicaId candidate) const { return promise_.Forbids(candidate, clock_); }

  // ---- follower.cc
  void StepAppend(Message& message);
  void StepHeartbeat(const Message& message);
  void Refuse(const Message& append);
  // One answer for all of a turn: an acknowledgement covers what lies below.
  void Acknowledge(ReplicaId to, Index matched);
  void LearnAllMatch(Index all_match);

  // ---- membership_change.cc
  const Membership& membership() const { return memberships_.current(); }
  MembershipProposed ProposeMembership(Membership target);
  // Another membership is in force.
  void MembershipChanged();
  void SyncFollowers();
  bool IsCaughtUp(const Progress& follower) const;
  bool HearsQuorumOf(const Membership& target) const;
  bool MembershipCommitted() const { return memberships_.index() <= commit_; }
  bool MustLeaveJoint() const;
  bool MustLeaveOffice() const;
  void LeaveJoint();
  void LeaveOffice();

  // ---- transfer.cc
  // A leader whose disk has stalled for an election timeout hands over to who can write.
  void LeaveToFasterDisk();
  std::optional<TransferError> TransferLeadership(ReplicaId target);
  void TransferTick();
  void AbandonTransfer(ReplicaId target);
  bool MustTellTarget() const;
  void TellTarget();
  void SendTimeoutNow(ReplicaId target);
  // Of the voters that are heard of, the one whose log goes furthest; none if there is none.
  ReplicaId BestSuccessor() const;
  bool MayHaveSuccessor() const;
  void StepTimeoutNow();

  // ---- snapshots.cc
  void SnapshotSaved(Index index);
  void Compacted(Index upto);
  bool NeedsSnapshot(const Progress& follower) const;
  void AskForSnapshot(Progress& follower);
  void SnapshotSent(ReplicaId to, Index index, bool arrived);
  void StepSnapshot(const Message& message);
  void TakeInstall();
  void SnapshotInstalled(Index index);
  void SnapshotRefused(Index index);
  void EndInstall();

  // ---- quiescence.cc
  bool Settled() const;
  bool AsksToBeQuiet() const;
  bool Awaits(const Progress& follower) const;
  // Its node lives, and it has not been silent for so long that it can be taken to be missing there.
  bool IsExpected(const Progress& follower) const;
  bool AwaitsRead(const Progress& follower) const;
  // Whether there is a commit index that it could use and was not sent.
  bool NotTold(const Progress& follower) const;
  // As Config::tell_commit_at_once says.
  void TellCommit();
  // Once per tick and follower.
  void CountSilence(Progress& follower);
  void QuietTick();
  bool ConfirmsQuiet(const Message& heartbeat) const;
  // Whether a quiet replica has anything to do because of it.
  bool Wakes(const Message& message) const;
  void SupportingTick();
  // It is to be told who leads.
  void Contact(Progress& follower);
  void YieldNot(const Message& pre_vote);
  void Resign();
  void ResignTo(ReplicaId follower);
  void StepResign(const Message& message);

  // ---- leader.cc
  void LeaderTick();
  // Appends an entry of this term, whatever the cap.
  void AppendOwn(EntryType type, Bytes data);
  Proposed Propose(std::vector<Bytes> commands, bool urgent);
  void ReadIndex(uint64_t context);
  void StepAppendResponse(const Message& message);
  void StepHeartbeatResponse(const Message& message);
  void MaybeCommit();
  void UpdateAllMatch();
  void UpdateUncommitted();
  bool LeaderHasOutput() const;
  void LeaderOutput();
  bool CanStartReads() const;
  void ConfirmReads();
  bool LeaseHolds(Monotonic now) const;
  // What a quorum of voters has reached: `own` is this replica's, of(Progress) each follower's.
  template <typename Of>
  uint64_t QuorumReached(uint64_t own, Of of) const;
  // Null if it is no follower, or this is no leader.
  const Progress* FindFollower(ReplicaId replica) const;
  Progress* FindFollower(ReplicaId replica) {
    return const_cast<Progress*>(static_cast<const Impl*>(this)->FindFollower(replica));
  }
  void SendHeartbeats();

  // ---- replication.cc
  bool WindowOpen(const Progress& follower) const;
  bool CanSend(const Progress& follower) const;
  void SendAppends(Progress& follower);
  void SendAppend(Progress& follower, Term previous_term, std::vector<Entry> entries, size_t bytes);
  void FollowerEntriesRead(const EntryRead& read, std::vector<Entry> entries);
  // Of the entry before the next one to send; nothing if it has to be read.
  std::optional<Term> PreviousTerm(const Progress& follower) const;

  Leading* leading() { return std::get_if<Leading>(&state_); }
  const Leading* leading() const { return std::get_if<Leading>(&state_); }

  const Config config_;
  Random random_;
  LogTail log_;
  MembershipLog memberships_;
  bool membership_news_ = false;  // to be told with the next output

  // Hard state. What of it is durable trails behind.
  Term term_;
  ReplicaId voted_for_;
  Index commit_;
  Term durable_term_;
  ReplicaId durable_vote_;
  HardState handed_hard_state_;  // as last handed out

  Index persisted_;  // durable here, and still in the log
  Index handed_;     // handed out to be written, and still in the log
  Ring<PendingWrite> writes_;

  Index applied_;
  Index next_apply_;  // the first that was not handed out as committed
  bool apply_reading_ = false;
  bool apply_read_failed_ = false;  // retried at the next tick
  Index all_match_;

  Index snapshot_index_;  // the last one that is durable here
  Term snapshot_term_;
  Index compacted_;  // entries up to here may be gone; at most snapshot_index_
  std::optional<Install> install_;
  std::vector<Message> held_;  // wait for the install, as they would for a write

  bool quiet_ = false;
  int unasked_ticks_ = 0;  // of a follower that is not quiet, since its leader was heard of
  Role role_ = Role::kFollower;
  std::variant<Following, Campaigning, Leading> state_;
  ReplicaId leader_;
  Term led_;  // the last term in which it led and gave up, in this life
  RoleChange reported_role_;

  Monotonic clock_{};  // as last handed in
  LeasePromise promise_;

  int election_elapsed_ = 0;  // ticks since the leader was heard of, a vote was given, or a campaign began
  int election_timeout_ = 0;
  int stalled_ticks_ = 0;  // since a write was handed out, or the last one became durable, while others are under way
  // The connection to the leader closed, and no leader was heard of since.
  bool leader_lost_ = false;
  // With leader_lost_: whose connection it was, and the ticks since it closed.
  ReplicaId lost_leader_;
  int lost_ticks_ = 0;
  int quick_elections_ = 0;  // campaigns to be started after a few ticks only

  // The last append of this turn that was taken in; one answer serves all.
  std::optional<Message> acknowledgement_;
  Output output_;  // gathered for the next TakeOutput
  uint64_t dropped_ = 0;
};

template <typename Of>
uint64_t Replica::Impl::QuorumReached(uint64_t own, Of of) const {
  const Leading& leader = *leading();
  Halves<uint64_t> halves;
  if (leader.own) halves.Add(*leader.own, own);
  for (const Progress& follower : leader.followers) halves.Add(follower.standing, of(follower));
  return QuorumValue(halves);
}

}  // namespace trireme::raft
