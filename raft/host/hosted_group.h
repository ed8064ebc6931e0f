// One group on its host: the replica, its machine, and what the host keeps about both.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "raft/core/replica.h"
#include "raft/host/host.h"

namespace trireme::raft {

class HostCore;

// Of its host's shard. Shared with work that is under way (writes, reads), which looks at `gone` when it comes back.
class HostedGroup final : public Group {
 public:
  HostedGroup(HostCore* host, GroupSpec spec, std::unique_ptr<StateMachine> machine, const Config& config,
              const Restored& restored);

  GroupId id() const override { return spec_.group; }
  const GroupSpec& spec() const override { return spec_; }
  Proposed Propose(std::vector<Bytes> commands, bool urgent) override;
  void ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) override;
  const Entry* TailEntry(Index index) const override { return replica.TailEntry(index); }
  void ReadEntries(Index first, Index last, size_t max_bytes, LogStore::ReadDone done) override;
  bool leading() const override { return said_leading && replica.leading() && halted_.ok(); }
  Term term() const override { return replica.term(); }
  NodeId leader_node() const override { return NodeOf(replica.leader()); }
  Index applied_index() const override { return replica.applied_index(); }
  size_t uncommitted_bytes() const override { return replica.uncommitted_bytes(); }
  size_t max_uncommitted_bytes() const override { return max_uncommitted_bytes_; }
  void StepDown() override;
  const absl::Status& halted() const override { return halted_; }

  // Whether it takes part: it is durable, was not removed and has not been halted.
  bool live() const { return born && !gone && halted_.ok(); }
  // 0 if there is no such member.
  NodeId NodeOf(ReplicaId replica) const;
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
  // A group that was never born campaigns at every few ticks so many times, until the other members are there, too.
  int campaigns_left = 0;
  int ticks_to_campaign = 0;

  // The batch that holds its last write; 0 = none yet.
  uint64_t last_batch = 0;
  size_t slot_in_batch = 0;

  // Wait for one ReadIndex; for its answer, by context; for their index to be applied.
  std::vector<Barrier> new_barriers;
  std::map<uint64_t, std::vector<Barrier>> asked_barriers;
  std::multimap<Index, Barrier> ready_barriers;
  uint64_t last_read_context = 0;

  // Since the last snapshot.
  size_t applied_bytes = 0;
  uint64_t applied_entries = 0;
  Index snapshot_index{};  // durable
  bool saving = false;
  Index compacted{};      // what the store was last told
  size_t tail_bytes = 0;  // as counted in the host's sum

 private:
  HostCore* const host_;
  const size_t max_uncommitted_bytes_;
  const GroupSpec spec_;
  absl::Status halted_;
};

}  // namespace trireme::raft
