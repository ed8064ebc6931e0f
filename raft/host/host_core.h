// The host's inside. turn.cc is the work of a turn, upkeep.cc what is done now and then, quiet.cc who is ticked at all,
// snapshots.cc what becomes of the log's old end, divergence.cc
// whether replicas agree, host.cc the rest.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "raft/host/election_queue.h"
#include "raft/host/host.h"
#include "raft/host/hosted_group.h"
#include "raft/host/node_liveness.h"
#include "raft/host/quorum_clock.h"
#include "raft/host/rate_limit.h"
#include "raft/host/snapshot_receipts.h"
#include "raft/host/snapshot_sends.h"

namespace trireme::raft {

// On its shard's thread only.
//
// Whatever happens to a group marks it dirty. At the end of the turn every dirty group's output is taken, until there
// is none: one write for all of them, one frame for each node, applies, reads. So a turn's proposals, and those that
// applying brings about, share one append.
class HostCore {
 public:
  HostCore(HostOptions options, Shard* shard, LogStore* store, SnapshotStaging* staging, IndexRows* rows,
           Transport* transport);
  ~HostCore();

  using GroupPtr = std::shared_ptr<HostedGroup>;

  // ---- host.cc
  absl::StatusOr<Group*> Add(const GroupSpec& spec, std::unique_ptr<StateMachine> machine,
                             std::optional<StoredGroup> stored);
  void Remove(GroupId group);
  void Inform(GroupId group, std::vector<Member> members);
  HostedGroup* Find(GroupId group);
  void HandOverAll(std::chrono::milliseconds patience, absl::AnyInvocable<void(size_t)> done);
  std::optional<int64_t> WallOffsetMs(const std::vector<NodeId>& nodes) const;
  Host::Figures figures() const;

  std::map<NodeId, NodeMemory> announced() const { return liveness_.announced(); }
  const NodeLiveness& liveness() const { return liveness_; }
  const HostOptions& options() const { return options_; }

  void MarkDirty(HostedGroup* group);
  // It is ticked from now on, until it is quiet.
  void Wake(HostedGroup* group);
  void WantLeader(HostedGroup* group);
  // For a while by now, too few of the members' nodes have heard us and been heard for it to have a leader that could
  // be found here.
  bool CutOff(const HostedGroup& group) const;
  void CountProposal() { ++proposals_; }
  bool DiskLow(const HostedGroup& group) const;
  // Too much waits for the disk.
  bool Congested() const { return held_bytes_ > options_.held_bytes_max; }
  void ReadEntries(HostedGroup* group, Index first, Index last, size_t max_bytes, LogStore::ReadDone done);
  void ScanRows(HostedGroup* group, std::string from, std::string to, size_t max_bytes, IndexRows::ScanDone done);

 private:
  // One submission to the store and what waits for it.
  struct Batch {
    struct Handed {
      GroupPtr group;
      // Of the entries of one Output; once per Output that had anything to persist.
      Index last;
      Term term;
    };
    struct After {
      GroupPtr group;
      Message message;
    };
    uint64_t number = 0;
    // Without a group where that was removed before the batch was submitted (some_gone).
    std::vector<LogWrite> writes;
    bool some_gone = false;
    size_t bytes = 0;  // of entries
    std::vector<Handed> handed;
    std::vector<After> after;
    bool durable = false;
  };

  struct Install {
    GroupPtr group;
    SnapshotMeta snapshot;
    HardState hard_state;
  };

  // ---- host.cc
  void Receive(NodeId from, Frame frame);
  // Snapshots and digests.
  void ReceiveOthers(NodeId from, Frame& frame);
  bool SpeaksTo(const HostedGroup& group, NodeId from, ReplicaId sender, ReplicaId to);
  // It was told something.
  void Stirred(HostedGroup* group);
  void CheckForgot(NodeId from, const NodeHeartbeat& heartbeat);
  void PeerChanged(NodeId node, bool up);
  // Makes it durable, so that it can take part; waits until what an earlier replica has left is deleted.
  void Create(const GroupPtr& group);
  void DeleteStored(GroupId group);
  void Born(HostedGroup* group);
  // Counts the nodes that have members of it, or may have, as neighbours.
  void TrackNeighbours(HostedGroup* group);
  GroupPtr Shared(HostedGroup* group);
  // What the store may call back with, on a thread of its own: runs `then` on the shard, with the group and what the
  // store said, unless the group is gone by then. Does not keep the group.
  template <typename F>
  auto OnShard(const GroupPtr& group, F then) {
    return [shard = shard_, weak = std::weak_ptr<HostedGroup>(group), then = std::move(then)](auto... said) mutable {
      shard->Post([weak = std::move(weak), then = std::move(then), ... said = std::move(said)]() mutable {
        GroupPtr kept = weak.lock();
        if (kept != nullptr && !kept->gone) then(kept.get(), std::move(said)...);
      });
    };
  }

  // ---- hand_over.cc
  void HandOverSome(MonotonicTime deadline, std::shared_ptr<absl::AnyInvocable<void(size_t)>> done);

  // ---- turn.cc
  void WantTurn();
  void Turn();
  void Process(const GroupPtr& group);
  void TakeRole(HostedGroup* group, const RoleChange& change);
  void AddWrite(const GroupPtr& group, Output* output);
  void SendAfterPersist(const GroupPtr& group, Message message);
  void Queue(const HostedGroup& group, Message message);
  void Queue(NodeId to, SnapshotChunk chunk);
  void Queue(NodeId to, SnapshotAnswer answer);
  void Queue(NodeId to, StateDigest digest);
  void Apply(HostedGroup* group, const std::vector<Entry>& entries);
  // What applying has changed of them.
  void WriteRows(HostedGroup* group, Index applied);
  void StartRead(const GroupPtr& group, const EntryRead& read);
  void ReadDone(HostedGroup* group, const EntryRead& read, absl::StatusOr<std::vector<Entry>> entries);
  // What this leader should send is damaged here.
  void LeaveToUndamaged(HostedGroup* group);
  void AnswerReads(HostedGroup* group, const std::vector<ReadReady>& ready);
  // The turn's time, for leases.
  void TellClock(HostedGroup* group);
  // Answers barriers for which nobody has to be asked.
  void ServeByLease(HostedGroup* group);
  void FireBarriers(HostedGroup* group);
  void Submit();
  void BatchDurable(uint64_t number);
  void SendFrames();
  void SayLeading(HostedGroup* group, bool leading);
  // What the replica has to say at once, to others, and nothing else of its output.
  void LastWords(HostedGroup* group);
  void Halt(HostedGroup* group, absl::Status why);
  void FailBarriers(HostedGroup* group, const absl::Status& why);

  // ---- upkeep.cc
  // Calls Tick after so many of them.
  void TickAfter(int ticks);
  // So many have passed.
  void Tick(int ticks);
  // The node's part of each tick, and that of the groups that are active, of one or more of them.
  void TickNode();
  void TickGroups();
  // No group or transfer has anything to do until something comes in.
  bool IsIdle() const;
  uint64_t TicksPerHeartbeat() const;
  uint64_t TicksPerSlowUpkeep() const;
  void SendHeartbeats();
  void RepeatLastWords();
  void CheckDisk();
  void CheckClocks();
  // Whether this node's clock allows it to lead this group (Safety rule 7).
  bool ClockAllows(HostedGroup* group);
  void CountTail(HostedGroup* group);
  void TrimTails();
  void TrimLongestTails(size_t target, bool even_unsent);

  // ---- snapshots.cc
  void MaybeSnapshot(const GroupPtr& group);
  // Up to where entries may go.
  Index CompactTo(const HostedGroup& group) const;
  // Whether the log behind `match`, 0 if that is not known, is more than is kept for a replica that is away.
  bool TooFar(const HostedGroup& group, Index match) const;
  void Compact(HostedGroup* group);
  void SubmitInstalls();
  void Installed(HostedGroup* group, const SnapshotMeta& snapshot, const Bytes& state);

  // ---- divergence.cc
  void TakeDigest(HostedGroup* group, Index index);
  void ReceiveDigest(const StateDigest& digest);
  void SayDigests(HostedGroup* group);
  void JudgeDigests(HostedGroup* group);
  void SendStop(const HostedGroup& group, const DigestCheck::Stop& stop);
  void RepeatStops();
  void StopDiverged(HostedGroup* group, Index index, const std::string& why);

  // ---- quiet.cc
  void Deactivate(HostedGroup* group);
  // If it is quiet: is not ticked any more, and gives back what it does not need.
  void MaybeRest(HostedGroup* group);
  void TickGroup(HostedGroup* group);
  // Groups that are led here and sleep although a replica on a node that lives lacks something ask for it again.
  void AskAgain();
  // Hears us and is heard.
  bool Alive(NodeId node) const { return node == options_.node || liveness_.Alive(node); }
  bool QuorumAlive(const HostedGroup& group) const;
  static bool HasQuorum(const HostedGroup& group, absl::FunctionRef<bool(NodeId)> alive);
  bool FollowsOn(const HostedGroup& group, NodeId node) const;
  static bool SupportsLeader(const HostedGroup& group) { return group.Gives(group.replica.leader()); }
  void TakeNodeChanges();
  void NodeChanged(NodeId node, NodeLiveness::Event event);
  void LeaderHears(HostedGroup* group, ReplicaId member, NodeLiveness::Event event);
  void MakeContacts();
  // It has no leader, and nobody waits for one: its election comes in its turn, not before `due`.
  void Orphan(HostedGroup* group, MonotonicTime due);
  void EndElection(HostedGroup* group);
  void LostElection(HostedGroup* group);
  // Members that live and are to be candidates before this one.
  size_t CandidatesBefore(const HostedGroup& group) const;
  void HoldElections();

  // A group that was never born campaigns again after so many ticks, and then gives up.
  static constexpr int kTicksBetweenCampaigns = 2;

  const HostOptions options_;
  Shard* const shard_;
  LogStore* const store_;
  SnapshotStaging* const staging_;
  IndexRows* const rows_;
  Transport* const transport_;
  // What comes back after this object's end finds it expired.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  // Ordered, so that a simulated run is the same each time.
  absl::btree_map<GroupId, GroupPtr> groups_;
  std::vector<HostedGroup*> active_;  // those that are ticked
  std::deque<GroupId> contacts_;
  std::vector<GroupId> halted_leaders_;
  ElectionQueue election_queue_;
  size_t elections_under_way_ = 0;
  std::vector<GroupPtr> dirty_;
  std::vector<GroupPtr> touched_;
  std::vector<GroupPtr> applied_;
  std::vector<GroupPtr> graveyard_;  // removed, perhaps from within a call of their own; destroyed at the turn's end
  bool in_turn_ = false;
  bool turn_wanted_ = false;

  std::optional<Batch> gathering_;
  std::deque<Batch> under_way_;  // numbers are consecutive
  size_t held_bytes_ = 0;        // of entries in both
  uint64_t last_batch_ = 0;
  std::vector<Install> installs_;  // to be submitted behind the writes of this turn
  std::map<NodeId, Frame> outgoing_;

  bool DiskLow() const { return options_.disk_low && options_.disk_low(); }

  NodeLiveness liveness_;
  std::set<NodeId> low_nodes_;           // others that have said so of their disks
  std::map<NodeId, size_t> neighbours_;  // other nodes, and how many groups they share with this one
  std::set<NodeId> heartbeats_due_;
  absl::flat_hash_map<NodeId, uint64_t> alive_at_;  // the last tick at which it was
  const uint64_t opened_;                           // LogStore::last_synced as this process found it
  uint64_t last_synced_;                            // as of the last tick, or write
  bool told_forgot_ = false;
  uint64_t oldest_write_ = 0;  // that was under way at the last tick, and for how many ticks
  int stalled_ticks_ = 0;
  bool disk_stalled_ = false;

  QuorumClock clock_;
  uint64_t ticks_ = 0;
  size_t tail_bytes_ = 0;
  size_t trim_above_;
  uint64_t proposals_ = 0, elections_ = 0, frames_in_ = 0, frames_out_ = 0, dropped_ = 0;
  uint64_t leading_ = 0, halted_ = 0;
  uint64_t snapshots_installed_ = 0;
  std::set<GroupId> incomplete_;  // see AskAgain
  std::set<GroupId> deleting_;    // what is stored of them is being deleted
  std::set<GroupId> telling_;     // whose replicas are told to stop
  uint64_t digests_compared_ = 0, digests_differed_ = 0;
  SnapshotSends sends_;
  SnapshotReceipts receipts_;
  RateLimit stranger_log_, check_log_, clock_log_, read_log_;
};

// Half of the groups prefer their members as candidates from the last to the first, so that those of a node that dies
// are not all taken over by one other.
bool LastMemberFirst(GroupId group);

struct Host::Impl {
  HostCore core;
};

}  // namespace trireme::raft
