// One replica of one Raft group, as a pure machine: inputs in, one batch of outputs out. No thread, clock, socket or
// disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "raft/core/bytes.h"
#include "raft/core/entry.h"
#include "raft/core/message.h"
#include "raft/core/types.h"

namespace trireme::raft {

struct Config {
  ReplicaId id{};
  // All voters, this one included. Membership is fixed for now; joint consensus replaces this by a configuration entry.
  std::vector<ReplicaId> voters{};
  uint64_t seed = 1;  // of the randomized election timeout

  // In ticks. An election starts after a random time in [election_ticks, 2 * election_ticks) without a leader.
  int election_ticks = 10;
  int heartbeat_ticks = 1;
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
};

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
};

struct Proposed {
  std::optional<ProposeError> error{};
  // Where the entries are, consecutive from `first`, all in `term`. They may still be lost to another leader.
  Index first{};
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
  std::optional<RoleChange> role;

  bool empty() const;
};

// Not thread-safe; a group's shard owns it.
class Replica {
 public:
  Replica(const Config& config, const Restored& restored);
  ~Replica();
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // ---- inputs
  void Tick();
  // From another replica of the group. Impossible ones (unknown sender, another addressee, entries out of order, terms
  // that go back) are dropped and counted, never fatal.
  void Step(Message message);
  // Appends commands, all or none. `urgent` ones may use the reserve above max_uncommitted_bytes.
  Proposed Propose(std::vector<Bytes> commands, bool urgent = false);
  // Asks for an index from which a read started now is linearizable (dissertation 6.4). Leaders only: elsewhere the
  // answer is a dropped read. Served once a quorum has answered a heartbeat sent after this and an entry of the own
  // term is committed.
  void ReadIndex(uint64_t context);
  // Starts a pre-vote now, rather than at the timeout.
  void Campaign();
  // Gives up leadership (the host found this node unfit to lead). No effect on others.
  void StepDown();
  // The connection to a member's node closed or opened. A closed one puts a follower in probe state; when it was the
  // leader's, an election starts within a few ticks (in the order of Config::voters, those who are left) and this
  // replica may grant others' pre-votes and votes that say leader_lost.
  void PeerDown(ReplicaId peer);
  void PeerUp(ReplicaId peer);
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
  // Forgets entries held in memory up to `index`, except those that are not persisted, not applied, or not yet sent to
  // a follower in replicate state. Returns the first index still held (last_index() + 1 if none).
  Index TrimTail(Index index);

  // ---- output
  bool HasOutput() const;
  Output TakeOutput();

  // ---- state
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
  // Whether this replica leads and has applied an entry of its own term, so that its state is current (Safety rule 2).
  bool leading() const;
  size_t uncommitted_bytes() const;
  // The entry, if it is held in memory.
  const Entry* TailEntry(Index index) const;
  // 0 when the term is not known (below the snapshot, or above the last index).
  Term TermAt(Index index) const;
  // Bytes of entries held in memory.
  size_t tail_bytes() const;
  // Messages dropped as impossible.
  uint64_t dropped() const;

 private:
  struct Impl;  // the core's owner decides on the split into files
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::raft
