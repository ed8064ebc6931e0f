// One replica of one Raft group, as a pure machine: inputs in, one batch of outputs out. No thread, clock, socket or
// disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "raft/core/bytes.h"
#include "raft/core/config.h"
#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/core/message.h"
#include "raft/core/output.h"
#include "raft/core/types.h"

namespace trireme::raft {

// Not thread-safe; a group's shard owns it.
class Replica {
 public:
  Replica(const Config& config, const Restored& restored);
  ~Replica();
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // ---- inputs
  // What the node's monotonic clock said at some time before the inputs that follow, and after those before: a turn's
  // beginning will do. Only looked at where Config::lease is on.
  void SetClock(Monotonic now);
  void Tick();
  // From another replica of the group. Impossible ones (unknown sender, another addressee, entries out of order, terms
  // that go back) are dropped and counted, never fatal.
  void Step(Message message);
  // Appends commands, all or none. `urgent` ones may use the reserve above max_uncommitted_bytes.
  Proposed Propose(std::vector<Bytes> commands, bool urgent = false);
  // Starts a change to these members (voters and learners, in order of preference). New learners come at once; when the
  // voters change, a joint membership comes first and the leader leaves it by itself once it is committed (dissertation
  // 4.3). A leader that is not to vote any more leads until that is committed, and then steps down.
  MembershipProposed ProposeMembership(std::vector<Member> target);
  // Hands leadership to a voter that is caught up (dissertation 3.10). Proposals are refused while it runs, not held
  // back: the next leader is the one to make them to. `target` is sent the rest of the log and, once all of that is
  // committed, so that nothing proposed here is of unknown outcome, told to campaign at once. Given up after an
  // election timeout, or when the target's connection closes. Nothing = it has begun, or was under way, or the target
  // leads.
  std::optional<TransferError> TransferLeadership(ReplicaId target);
  // Asks for an index from which a read started now is linearizable (dissertation 6.4). Leaders only: elsewhere the
  // answer is a dropped read. Served once a quorum has answered a heartbeat sent after this and an entry of the own
  // term is committed.
  void ReadIndex(uint64_t context);
  // The index from which a read may be served without asking anyone, if the leader's lease holds at `now`: that is what
  // the clock says at this moment, not at the turn's beginning, and not counted in ticks (Safety rule 10). Nothing: ask
  // with ReadIndex. As there, the read waits until the index is applied.
  std::optional<Index> LeaseRead(Monotonic now) const;
  // Starts a pre-vote now, rather than at the timeout.
  void Campaign();
  // Gives up leadership (the host found this node unfit to lead). No effect on others.
  void StepDown();
  // The connection to a member's node closed or opened. A closed one puts a follower in probe state; when it was the
  // leader's, an election starts within a few ticks (in the order of the members, those who are left) and this
  // replica may grant others' pre-votes and votes that say leader_lost.
  void PeerDown(ReplicaId peer);
  void PeerUp(ReplicaId peer);
  // With Config::support: the peer's node has started anew, so that it has to be told who leads, and led nothing since.
  void PeerRestarted(ReplicaId peer);
  // With Config::support: the promise that counted has ended: ours to the leader, or a follower's to this leader.
  void PeerLost(ReplicaId peer);
  // With Config::support: it is in force (again).
  void PeerFound(ReplicaId peer);
  // Is not quiet any more.
  void Wake();
  // A write handed out by TakeOutput (an Output with a hard state, entries or both) is durable. Once per write, in the
  // order handed out. (last, term) is the last of its entries; not looked at when it had none.
  void Persisted(Index last, Term term);
  // The state machine has taken in everything up to `index`.
  void Applied(Index index);
  // Answers an EntryRead; `entries` is a prefix of what was asked for, or empty when it could not be read.
  void EntriesRead(const EntryRead& read, std::vector<Entry> entries);
  // The state machine's snapshot at `index` is durable, so terms below it may be forgotten. A snapshot must not be
  // saved above persisted_index(): it would claim entries whose bodies this replica may still lose.
  void SnapshotSaved(Index index);
  // The store may no longer give the entries up to `upto`, at most the last snapshot's index. Followers that need them
  // are sent a snapshot.
  void Compacted(Index upto);
  // What became of Output::snapshots: the snapshot at `index` has arrived whole (perhaps it is still to be installed),
  // or the host gave up. Its follower is sent nothing else before.
  void SnapshotSent(ReplicaId follower, Index index, bool arrived);
  // What became of Output::install.
  void SnapshotInstalled(Index index);
  void SnapshotRefused(Index index);
  // Forgets entries held in memory up to `index`, except those that are not persisted, not applied, or not yet sent to
  // a follower in replicate state. Returns the first index still held (last_index() + 1 if none). With `even_unsent`
  // such a follower is sent them from the disk later.
  Index TrimTail(Index index, bool even_unsent = false);

  // ---- output
  bool HasOutput() const;
  Output TakeOutput();

  // ---- state
  // Needs neither ticks nor messages (Safety rule 10), until something else is put in.
  bool quiet() const;
  ReplicaId id() const;
  Role role() const;
  Term term() const;
  ReplicaId leader() const;
  Index commit_index() const;
  Index applied_index() const;
  Index last_index() const;
  Index persisted_index() const;
  // Up to here every replica holds the log durably, as far as known, and it is committed. Entries at or below are not
  // needed for replication. The last such entry is held back by one: its term is where a follower's log is joined to.
  Index all_match() const;
  // What a follower is known in this term to hold durably, as this replica's log has it. Nothing unless this leads.
  std::optional<Index> MatchOf(ReplicaId follower) const;
  // The header of a snapshot to be sent in this term.
  Message SnapshotMessage(ReplicaId to, const SnapshotMeta& snapshot) const;
  // In force: the last in the log, committed or not.
  const Membership& membership() const;
  Index membership_index() const;
  // As of an index at or above the last snapshot's, for a snapshot taken there.
  const Membership& MembershipAsOf(Index index) const;
  // A transfer of leadership is under way.
  bool transferring() const;
  // Leaders only: the furthest of the voters that leadership could be handed to; 0 = there is none now.
  ReplicaId BestSuccessor() const;
  // Leaders only: whether some other voter is heard from, so that there may be a successor soon.
  bool MayHaveSuccessor() const;
  // Whether this replica leads and has applied an entry of its own term, so that its state is current (Safety rule 2).
  bool leading() const;
  size_t uncommitted_bytes() const;
  // The entry, if it is held in memory.
  const Entry* TailEntry(Index index) const;
  // 0 when the term is not known (below the snapshot, or above the last index).
  Term TermAt(Index index) const;
  // Bytes of entries held in memory.
  size_t tail_bytes() const;
  // The oldest write has been under way for so long that this replica does not campaign.
  bool disk_stalled() const;
  // Messages dropped as impossible.
  uint64_t dropped() const;

 private:
  struct Impl;  // the core's owner decides on the split into files
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::raft
