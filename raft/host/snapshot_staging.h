// Where a node's store keeps a snapshot that another replica sends, until it takes the place of what the group has.
#pragma once

#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/core/types.h"
#include "raft/host/index_rows.h"

namespace trireme::raft {

// Safety rule 13: beside, never over. The entries that are still alive at or below the snapshot's index, and
// the index rows, are staged under a generation of their own, while the group goes on with its old one; one durable
// step then puts snapshot, hard state and staged entries in the place of state and log. A crash leaves the old or the
// new. What was staged and not installed is gone after a restart, so that whoever sends starts again.
//
// storage/ implements it beside LogStore. Thread-safe, with LogStore's rules for completions: on a thread of the
// store's, and none reports a failed write (Safety rule 16).
class SnapshotStaging {
 public:
  using Done = absl::AnyInvocable<void()>;

  virtual ~SnapshotStaging() = default;

  // Begins to stage a snapshot of `group` as of (index, term), or goes on with it: returns the last entry staged so far
  // (0 = none). A group has one at most; another one that was under way is dropped. `index` is behind the group's
  // durable snapshot.
  virtual Index Begin(GroupId group, Index index, Term term) = 0;

  // Stages entries, ascending, at or below the snapshot's index. Those that are not behind the last one staged so far
  // came before, and are left out. Their bodies need not be durable when `done` is called: it says that more may come.
  // One call per group at a time.
  virtual void Stage(GroupId group, std::vector<Entry> entries, Done done) = 0;

  // Stages index rows in the same way, ascending, each once.
  virtual void StageRows(GroupId group, std::vector<IndexRow> rows, Done done) = 0;

  // Puts what was begun in the place of all that the group has: `state` as its snapshot at snapshot.index with
  // snapshot.membership, the staged entries as all that is alive at or below it, the staged rows as all that there are,
  // an empty log behind it, and `hard_state`. Ordered behind the writes of the group that were submitted before. `done`
  // is called once all of it is durable, staged bodies included; reads see the new state from then on, and the old one
  // before. Until then nothing is written or saved of the group. `done` is not called when the group is deleted before.
  virtual void Install(GroupId group, const HardState& hard_state, const SnapshotMeta& snapshot, Bytes state,
                       Done done) = 0;

  // Forgets what was begun. Nothing if there is none. Not while Install is under way.
  virtual void Drop(GroupId group) = 0;
};

}  // namespace trireme::raft
