// What a group drives. The broker implements it for queues and for the cluster's metadata.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "raft/core/entry.h"
#include "raft/core/replica.h"
#include "raft/host/index_rows.h"

namespace trireme::raft {

// Called on the group's shard only.
class StateMachine {
 public:
  virtual ~StateMachine() = default;

  // Whether the entry is whole (Safety rule 17): asked on a follower before the entry is persisted. An error drops the
  // message that carried it.
  virtual absl::Status Check(const Entry& entry) const = 0;

  // Committed entries, ascending, each once, no-ops included (their data is empty). A pure function of state and entry.
  // An error means that this replica cannot go on (a fact of a later version, Safety rule 3): the host halts the group
  // on this node and says why.
  virtual absl::Status Apply(const Entry& entry) = 0;

  // What the Apply calls since the last one have changed of the group's index rows, in order: asked for after those of
  // a turn. As pure as Apply, which never reads them; Digest covers what they should be (Safety rule 14).
  virtual std::vector<RowChange> TakeRows() { return {}; }

  // After the Apply calls of a turn.
  virtual void AppliedBatch() {}

  // The role changed. `leading` is said only once an entry of the leader's own term has been applied.
  virtual void RoleChanged(const RoleChange& change, bool leading) = 0;

  // The state as of the last applied entry, bounded by what is out of line (Safety rule 1).
  virtual Bytes Snapshot() const = 0;
  // Whether Restore would take it. Nothing changes.
  virtual absl::Status CheckSnapshot(const Bytes& snapshot, Index index) const = 0;
  // Replaces the state: at start, before any Apply, or while this replica follows, by what its leader sent.
  virtual absl::Status Restore(const Bytes& snapshot, Index index) = 0;

  // Of the state as of the last applied entry: the same state has the same digest on every replica, whatever way it
  // came to it (Safety rule 25). The upper half says how it is made: only those with the same one are compared. Asked
  // for every few thousand entries.
  virtual uint64_t Digest() const = 0;

  // Which entries at or below the last applied one still hold something that the state does not: everything above
  // `floor`, and `live` (ascending, disjoint, all at or below floor).
  struct Liveness {
    Index floor;
    std::vector<IndexRange> live;
  };
  virtual Liveness Live() const = 0;
};

}  // namespace trireme::raft
