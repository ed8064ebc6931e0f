// What a replica is made from.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/core/quiescence.h"
#include "raft/core/types.h"

namespace trireme::raft {

struct Config {
  ReplicaId id{};
  // The members that the group was born with. In force until the log, or a snapshot, says otherwise. Empty for a
  // replica that joins a group which lives: it knows of no members until it is told of some (Safety rule 11).
  Membership birth{};
  uint64_t seed = 1;  // of the randomized election timeout

  // In ticks. An election starts after a time in (election_ticks, 2 * election_ticks] without a leader: a part of it
  // for each voter, in order of preference, and chance within that.
  int election_ticks = 10;
  int heartbeat_ticks = 1;
  // Where liveness is between nodes: their promises. Outlives the replica. Null: every replica sends heartbeats.
  const Support* support = nullptr;
  // With `support`: after so many ticks without work a leader asks its followers to be quiet.
  int quiet_ticks = 10;
  // With `support`: followers hear that everything is committed at once, rather than with the next append or after a
  // tick or two.
  bool tell_commit_at_once = false;
  // The order of preference among candidates: that of the members; with this, from the last to the first. The same for
  // all replicas of a group.
  bool last_member_first = false;
  // How long a voter that answers a leader's heartbeat votes for nobody else, so that the leader may serve reads
  // without asking anyone (dissertation 6.4.1); 0: never, and ReadIndex is what there is. Counts on monotonic clocks
  // that run at the same speed, to within `lease_drift_percent` of true time, whatever happens to the machines: leave
  // it off where virtual machines are suspended or moved. Elections after a closed connection wait for its end. A node
  // that is started with a shorter one than before must have been down for as long as that was.
  std::chrono::milliseconds lease{0};
  int lease_drift_percent = 5;
  // Per follower: Append messages under way, their entries' bytes, and the bytes of one of them.
  int max_inflight_appends = 128;
  size_t max_inflight_bytes = size_t{16} << 20;
  size_t max_append_bytes = size_t{1} << 20;
  // Proposals beyond this many uncommitted bytes are refused; urgent ones (settling) have a quarter more (Safety rule
  // 19).
  size_t max_uncommitted_bytes = size_t{16} << 20;
};

// What the store found at start.
struct Restored {
  HardState hard_state{};
  // Everything at or below is in the state machine's snapshot and need not be contiguous in the log.
  Index snapshot_index{};
  Term snapshot_term{};
  // Runs that cover (snapshot_index, last_index], ascending. They may begin earlier.
  std::vector<TermRun> terms{};
  Index last_index{};
  // The memberships that the log has, ascending: the last one at or below snapshot_index, and those above it. Empty if
  // it has none.
  std::vector<MembershipAt> memberships{};
  // Entries at or below may be gone (at most snapshot_index).
  Index compacted{};
};

}  // namespace trireme::raft
