// One group on its host: the replica, its machine, and what the host keeps about both.
#pragma once

#include <limits>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "raft/core/replica.h"
#include "raft/host/digest_check.h"
#include "raft/host/host.h"

namespace trireme::raft {

class HostCore;

// About how many bytes of the log lie behind an index.
struct LagMarks {
  uint64_t applied_bytes = 0;  // in this life
  // Ascending; (index, applied_bytes then). A bounded number: the farther back, the farther apart.
  std::vector<std::pair<Index, uint64_t>> marks;

  void Mark(Index index);
  uint64_t BytesBehind(Index index) const;
};

// Of its host's shard. Shared with work that is under way (writes, reads), which looks at `gone` when it comes back.
class HostedGroup final : public Group, public Support {
 public:
  HostedGroup(HostCore* host, GroupSpec spec, std::unique_ptr<StateMachine> machine, Config config,
              const Restored& restored);

  GroupId id() const override { return spec_.group; }
  const GroupSpec& spec() const override { return spec_; }
  Proposed Propose(std::vector<Bytes> commands, bool urgent) override;
  void ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) override;
  const Entry* TailEntry(Index index) const override { return replica.TailEntry(index); }
  void ReadEntries(Index first, Index last, size_t max_bytes, LogStore::ReadDone done) override;
  void ScanRows(std::string from, std::string to, size_t max_bytes, IndexRows::ScanDone done) override;
  bool leading() const override { return said_leading && replica.leading() && halted_.ok(); }
  Term term() const override { return replica.term(); }
  NodeId leader_node() const override;
  Index applied_index() const override { return replica.applied_index(); }
  size_t uncommitted_bytes() const override { return replica.uncommitted_bytes(); }
  size_t max_uncommitted_bytes() const override;
  bool disk_low() const override;
  void StepDown() override;
  void WantLeader() override;
  std::optional<TransferError> HandOver() override;
  bool handing_over() const override { return replica.transferring(); }
  bool cut_off() const override;
  const absl::Status& halted() const override { return halted_; }

  const Membership& membership() const override { return replica.membership(); }
  bool membership_committed() const override { return replica.membership_index() <= replica.commit_index(); }
  std::optional<MembershipError> ProposeMembers(std::vector<Member> target) override;

  // Support: of the members' nodes.
  bool Gives(ReplicaId leader) const override;
  bool Gets(ReplicaId follower) const override;

  // Whether it takes part: it is durable, was not removed and has not been halted.
  bool live() const { return born && !gone && halted_.ok(); }
  // As the membership says, or else the spec; a replica never moves. 0 if neither knows it.
  NodeId NodeOf(ReplicaId replica) const;
  // The member on that node; 0 if there is none.
  ReplicaId ReplicaOn(NodeId node) const;
  bool alone() const { return membership().members.size() == 1 && membership().Votes(replica.id()); }
  void Inform(std::vector<Member> members) {
    spec_.members = std::move(members);
    informed = true;
  }
  void Halt(absl::Status why) { halted_ = std::move(why); }

  // ---- the host's own

  using Barrier = absl::AnyInvocable<void(absl::Status)>;

  std::unique_ptr<StateMachine> machine;
  Replica replica;
  bool born = false;
  bool gone = false;
  bool dirty = false;    // on the host's list of groups to look at
  bool touched = false;  // looked at in this turn
  bool applied = false;  // owes its machine an AppliedBatch
  bool said_leading = false;
  // To whom the leadership of that term was handed last, if it was.
  ReplicaId handed_to;
  Term handed_in;
  // A group that was never born campaigns at every few ticks so many times, until the other members are there, too.
  int campaigns_left = 0;
  int ticks_to_campaign = 0;

  // Of the host's active groups; kInactive.
  static constexpr size_t kInactive = std::numeric_limits<size_t>::max();
  size_t active = kInactive;
  bool contact_due = false;
  bool informed = false;  // spec() has been told who there is by now
  // Counted in the host's neighbours.
  std::vector<NodeId> neighbours;
  // The incarnation of its node in which the present leader was heard to lead; of a former leader, of no meaning.
  uint64_t leader_incarnation = 0;
  // An election that the host began by itself is under way, since that tick; those lost in a row; whether others were
  // let go first; until when somebody waits for a leader.
  bool electing = false;
  // The leader that gave up last, if no other has been heard of: it is not to be the next.
  ReplicaId resigned{};
  bool waited_turn = false;
  int elections_lost = 0;
  uint64_t electing_since = 0;
  uint64_t wanted_until = 0;

  // The batch that holds its last write; 0 = none yet.
  uint64_t last_batch = 0;
  size_t slot_in_batch = 0;

  // Wait for one ReadIndex; for its answer, by context; for their index to be applied.
  std::vector<Barrier> new_barriers;
  std::map<uint64_t, std::vector<Barrier>> asked_barriers;
  std::multimap<Index, Barrier> ready_barriers;
  uint64_t last_read_context = 0;

  int failed_apply_reads = 0;     // in a row
  uint64_t leave_again_tick = 0;  // not before, because of damage

  // Since the last snapshot.
  size_t applied_bytes = 0;
  uint64_t applied_entries = 0;
  Index snapshot_index{};  // durable; and the one before it
  Index last_snapshot_index{};
  // A replica of which nothing is known is taken to have had the log up to here: applied at this one's start, or when
  // it began to lead.
  Index lag_base{};
  bool saving = false;
  bool installing = false;  // a snapshot from another replica
  LagMarks lag;
  DigestCheck digests;
  Index compacted{};      // what the store was last told
  size_t tail_bytes = 0;  // as counted in the host's sum

 private:
  HostCore* const host_;
  GroupSpec spec_;
  absl::Status halted_;
};

}  // namespace trireme::raft
