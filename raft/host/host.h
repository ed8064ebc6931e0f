// Many replicas on one shard: ticks, writes, frames, applies. One Host per shard; a node has a few.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "raft/core/membership.h"
#include "raft/core/replica.h"
#include "raft/host/index_rows.h"
#include "raft/host/log_store.h"
#include "raft/host/node_liveness.h"
#include "raft/host/shard.h"
#include "raft/host/snapshot_staging.h"
#include "raft/host/state_machine.h"
#include "raft/host/transport.h"

namespace trireme::raft {

// A group as this node hosts it.
struct GroupSpec {
  GroupId group;
  ReplicaId self;
  // Whom the group is born with, the preferred leader first. For one that is stored, or that joins, only where replicas
  // live of which it knows nothing yet: its members are what its log says.
  std::vector<Member> members;
  // Does not wait its turn when there is no leader; and its followers apply as soon as they can.
  bool prompt = false;
  // Of a replica that is not stored: the group lives, and takes this one in. It knows of no members before the leader
  // tells it, and votes for nobody (Safety rule 11).
  bool joins = false;
  // Not OK: it was found to differ from the others (HostOptions::stopped), and takes no part any more.
  absl::Status stopped = absl::OkStatus();
};

struct HostOptions {
  NodeId node;
  // Of this process; grows with every start on its data directory.
  uint64_t incarnation = 1;
  std::chrono::milliseconds tick{50};
  int election_ticks = 10;
  // How long a group's leader serves barriers without asking anyone after a quorum has answered one: see Config::lease,
  // which says where it is safe. The same on every node. 0 = it asks each time.
  std::chrono::milliseconds read_lease{0};
  uint64_t seed = 1;
  size_t max_uncommitted_bytes = size_t{16} << 20;  // per group
  // Entries of all groups of this shard that are held in memory; what must be held is held beyond it.
  size_t tail_budget_bytes = size_t{64} << 20;
  // A snapshot is taken when this many bytes, or entries, were applied since the last.
  size_t snapshot_bytes = size_t{16} << 20;
  uint64_t snapshot_entries = 20'000;
  // The log that a replica lacks is kept for it while it is so short; then it goes, and the replica gets a snapshot.
  size_t lag_bytes = size_t{256} << 20;
  uint64_t lag_entries = 1'000'000;
  // Whether little room is left on the store's disk: then only a bounded part of the log is kept for replicas that get
  // a snapshot, and other nodes hear of it (Group::disk_low). Nothing = never.
  std::function<bool()> disk_low = {};
  // Entries that wait for this shard's disk, in bytes of all its groups. Beyond it followers drop entries, which
  // leaders send again, and leaders refuse proposals that are not urgent.
  size_t held_bytes_max = size_t{256} << 20;
  // At every index that this divides, replicas compare digests of their states.
  uint64_t digest_entries = 16'384;
  // Of all snapshots together that this shard sends.
  size_t snapshot_bytes_per_second = size_t{64} << 20;
  // A leader whose group had nothing to do for so many ticks lets it go quiet (Safety rule 10).
  int quiet_ticks = 10;
  // What this node remembers of the others (Safety rule 12), as Host::announced gave it before this start.
  std::map<NodeId, NodeMemory> announced = {};
  // LogStore::last_synced as this process found it, before anything was written. Nothing: it is now.
  std::optional<uint64_t> opened = {};
  // Told, once, that another node remembers this one to have had more on its disk than it had at this start, or to have
  // been started more often (Safety rule 12): it must not go on, nor start again on this directory.
  std::function<void(absl::Status)> forgot = {};
  // Told when a replica was stopped because its state is not that of the others (Safety rule 25): it must not take part
  // again, not after a restart either, so GroupSpec::stopped is to say so.
  std::function<void(GroupId, ReplicaId, const absl::Status& why)> stopped = {};
  // Told when this node has given up another: it was not heard of for an election timeout, or its connection closed.
  std::function<void(NodeId)> lost = {};
};

class Host;

// A group's handle for the state machine's owner. Valid until Host::Remove. On the host's shard only.
class Group {
 public:
  virtual ~Group() = default;

  virtual GroupId id() const = 0;
  virtual const GroupSpec& spec() const = 0;

  // Appends commands. The host writes and sends at the end of the turn. What became of them shows as Apply is called
  // with that index: committed if the entry's term is Proposed::term, lost if it is another. Neither known when
  // leadership is lost: unknown.
  virtual Proposed Propose(std::vector<Bytes> commands, bool urgent) = 0;

  // Calls back with an index once that index is applied and a read is linearizable, or with an error when leadership
  // was lost.
  virtual void ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) = 0;

  // The entry if it is in memory, and else nothing.
  virtual const Entry* TailEntry(Index index) const = 0;
  // Entries from `first` on, from memory or from disk; calls back on this shard, perhaps before it returns.
  virtual void ReadEntries(Index first, Index last, size_t max_bytes, LogStore::ReadDone done) = 0;

  // The group's index rows, as IndexRows::ScanRows gives them; calls back on this shard, perhaps before it returns.
  virtual void ScanRows(std::string from, std::string to, size_t max_bytes, IndexRows::ScanDone done) = 0;

  virtual bool leading() const = 0;
  virtual Term term() const = 0;
  // The node that leads, as far as this replica knows; 0 = unknown, or known to be lost. Once leadership was handed
  // over it is who got it, while that one is being elected.
  virtual NodeId leader_node() const = 0;
  virtual Index applied_index() const = 0;
  virtual size_t uncommitted_bytes() const = 0;
  // Proposals that are not urgent are refused beyond it, but one that comes alone passes, whatever its size; and while
  // too much of all groups waits for the disk (HostOptions::held_bytes_max).
  virtual size_t max_uncommitted_bytes() const = 0;
  // The disks of so many of the members' nodes are nearly full that the others are no quorum: what takes room should
  // not be proposed.
  virtual bool disk_low() const = 0;
  // Gives up leadership; the group elects another.
  virtual void StepDown() = 0;
  // Somebody waits for a leader: if there is none, elects one now.
  virtual void WantLeader() = 0;
  // Hands leadership to the furthest of the voters that are heard from. Proposals are refused until another leads, or
  // until that one has had an election timeout. Nothing = it is under way.
  virtual std::optional<TransferError> HandOver() = 0;
  // Leadership is being handed over.
  virtual bool handing_over() const = 0;
  // For a while this node has been cut off from so many of the group's others that no leader can be known here; to be
  // asked for elsewhere.
  virtual bool cut_off() const = 0;
  // Set when the group was halted on this node (Apply failed, an entry is damaged, the state differs).
  virtual const absl::Status& halted() const = 0;

  // The members in force, the preferred leader first; empty as long as this replica knows of none. Committed: no other
  // ones can come back.
  virtual const Membership& membership() const = 0;
  virtual bool membership_committed() const = 0;
  // On the leader: begins a change to these members, as Replica::ProposeMembership does. Done when they are in force
  // and committed; kNotCaughtUp and kUnderWay pass with time.
  virtual std::optional<MembershipError> ProposeMembers(std::vector<Member> target) = 0;
};

// On its shard's thread only.
class Host {
 public:
  // All outlive the host. `staging` and `rows` are the store's; null for one that takes no snapshots of others in: then
  // the log that a replica lacks is kept for it, however long; and where no machine has index rows.
  Host(HostOptions options, Shard* shard, LogStore* store, SnapshotStaging* staging, IndexRows* rows,
       Transport* transport);
  ~Host();

  // Starts a replica: `stored` as the store recovered it, or nothing for a group that was never born, which is made
  // durable before it takes part. The machine is restored before this returns an error or a handle. The preferred
  // member of a group that was never born campaigns at once.
  absl::StatusOr<Group*> Add(const GroupSpec& spec, std::unique_ptr<StateMachine> machine,
                             std::optional<StoredGroup> stored);
  // Stops the replica, if it is hosted, and deletes what is stored of it; another one of the group may be added at
  // once. Call only when metadata lists it as removed (Safety rule 11).
  void Remove(GroupId group);
  // Where replicas live now, in the place of GroupSpec::members: others may have come of which a replica that lags
  // behind knows nothing yet, and one of those may lead. Nothing if the group is not hosted.
  void Inform(GroupId group, std::vector<Member> members);
  Group* Find(GroupId group);
  // Before a clean stop: hands every group that is led here to another node, until none is left that another could
  // lead, or the time is over. `done` gets the number of those that are.
  void HandOver(std::chrono::milliseconds patience, absl::AnyInvocable<void(size_t)> done);

  // The milliseconds by which this node's wall clock differs from the median of those heard of lately, for Safety rule
  // 7; nothing while no quorum of `nodes` has been heard of.
  std::optional<int64_t> WallOffsetMs(const std::vector<NodeId>& nodes) const;

  // To be remembered of the other nodes over restarts.
  std::map<NodeId, NodeMemory> announced() const;

  struct Figures {
    // Of the groups: those that are ticked, led here, with no leader that is known here, halted here.
    uint64_t groups = 0, active = 0, leading = 0, without_leader = 0, halted = 0;
    uint64_t proposals = 0, elections = 0, frames_in = 0, frames_out = 0, messages_dropped = 0, snapshots_sending = 0,
             snapshots_receiving = 0, snapshots_installed = 0, snapshot_bytes_sent = 0, digests_compared = 0,
             digests_differed = 0, held_bytes = 0;
  };
  Figures figures() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::raft
