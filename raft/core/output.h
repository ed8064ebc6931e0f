// What a replica gives back: roles, answers, and the batch of outputs that a host acts on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/core/message.h"
#include "raft/core/types.h"

namespace trireme::raft {

enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };

struct RoleChange {
  Role role = Role::kFollower;
  Term term{};
  ReplicaId leader{};  // none while unknown

  friend bool operator==(const RoleChange&, const RoleChange&) = default;
};

enum class ProposeError : uint8_t {
  kNotLeader,
  kTooMuchUncommitted,  // back-pressure: nothing was appended; try again when something has committed
  kTransferring,        // another replica is about to lead, for an election timeout at most
};

struct Proposed {
  std::optional<ProposeError> error{};
  // Where the entries are, consecutive from `first`, all in `term`. They may still be lost to another leader.
  Index first{};
  Term term{};
};

enum class TransferError : uint8_t {
  kNotLeader,
  kNotVoter,     // unknown, or a learner
  kNotCaughtUp,  // silent, or its log is behind: it could not win, and nothing is served meanwhile
  kUnderWay,     // another transfer, or a change of the membership, is not finished
};

enum class MembershipError : uint8_t {
  kNotLeader,
  kTooEarly,  // no entry of this leader's term is committed yet (the single-server bug of dissertation 4.1's erratum)
  kUnderWay,  // the last change, or a transfer of leadership, is not finished
  kNotSound,  // no voter, ids twice or none, too many members, a replica that would change its node
  kNotCaughtUp,  // a new voter has to be a learner first and hold nearly all of the log
  kNoQuorum,     // of the new voters most are not heard from: with them alone nothing could be committed
};

struct MembershipProposed {
  std::optional<MembershipError> error{};
  // The change begins with the entry here. It is done when a membership without joint standings is in force and
  // committed; index() of one that is in force already.
  Index index{};
  Term term{};
};

// Entries that the machine needs and does not hold in its tail; answered by Replica::EntriesRead, in any order.
struct EntryRead {
  enum class For : uint8_t { kFollower, kApply };
  For purpose = For::kApply;
  ReplicaId follower{};  // with kFollower
  Index first{};
  Index last{};          // at most up to here
  size_t max_bytes = 0;  // at least one entry
};

// The log no longer has what a follower needs. The host sends it a snapshot at `snapshot` or a later one, with
// SnapshotMessage as its header, and says SnapshotSent once.
struct SnapshotNeeded {
  ReplicaId follower{};
  SnapshotMeta snapshot{};  // the last one that was saved
};

struct ReadReady {
  uint64_t context;
  // The read may be served once this index is applied; nothing = the read was dropped (leadership lost).
  std::optional<Index> index{};
};

// Everything that became due since the last take, as one value. The host persists `hard_state` and `entries` (in one
// write), may send `send_now` at once, and sends `send_after_persist` only once that write, and every earlier one, is
// durable.
struct Output {
  std::optional<HardState> hard_state{};
  // Overwrite the log from the first one's index on (what was there and behind is gone).
  std::vector<Entry> entries{};
  std::vector<Message> send_now;
  std::vector<Message> send_after_persist;
  // Newly committed, ascending, without gaps, each once per life of this object. May include entries that this replica
  // has not persisted yet (a majority has).
  std::vector<Entry> committed;
  std::vector<EntryRead> reads;
  std::vector<ReadReady> read_ready;
  std::vector<SnapshotNeeded> snapshots;
  // The snapshot whose bytes came with a Snapshot message is to take the place of state and log. The host makes it, the
  // empty log behind it and `hard_state` durable in one step (Safety rule 13), restores its state machine, forgets
  // committed entries that it has not applied yet, and calls SnapshotInstalled; or SnapshotRefused when the snapshot is
  // no good. Until then the old state serves, and no output has anything to persist.
  std::optional<SnapshotMeta> install{};
  std::optional<RoleChange> role;
  // In force from now on, for this replica; perhaps not committed, so it may be undone. Tells the host whom to expect
  // messages from and where members live.
  std::optional<MembershipAt> membership{};

  bool empty() const;
};

}  // namespace trireme::raft
