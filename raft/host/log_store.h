// What the host needs of the disk. storage/ implements it; tests/simulation has one on a simulated disk.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "raft/core/entry.h"
#include "raft/core/replica.h"

namespace trireme::raft {

// One group's part of a write.
struct LogWrite {
  GroupId group;
  std::optional<HardState> hard_state;
  // Overwrites the log from the first one's index on.
  std::vector<Entry> entries;
};

// What is durable of a group, at start.
struct StoredGroup {
  GroupId group;
  ReplicaId replica;
  // As given to CreateGroup.
  Bytes descriptor;
  Restored log;
  // The state machine's snapshot as of log.snapshot_index; empty if there is none.
  Bytes snapshot;
};

// All groups of a node share one. Thread-safe; completions are called on a thread of the store's and must only hand
// over to their own. A failed write or sync ends the process (Safety rule 16), so no completion reports one.
class LogStore {
 public:
  using Done = absl::AnyInvocable<void()>;
  // Entries are consecutive from the first one asked for. An error means damage (the entry is there but its checksum is
  // wrong) or that the first one asked for is not there.
  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<Entry>>)>;

  virtual ~LogStore() = default;

  // Every group of this node, once, at start.
  virtual std::vector<StoredGroup> Recover() = 0;

  // Makes a group durable with an empty log. Completes like a write.
  virtual void CreateGroup(GroupId group, ReplicaId replica, Bytes descriptor, Done done) = 0;
  // Forgets it and all that belongs to it.
  virtual void DeleteGroup(GroupId group, Done done) = 0;

  // Appends; what arrives while a sync is under way shares the next one. Submissions of one group are made durable in
  // the order submitted. `done` is called once all of `writes` is durable.
  virtual void Write(std::vector<LogWrite> writes, Done done) = 0;

  // Reads entries first..last, but stops before the one that would exceed max_bytes (the first is always read). What
  // Write was given and has not completed is found, too. `done` may be called before this returns when nothing has to
  // be fetched from disk.
  virtual void Read(GroupId group, Index first, Index last, size_t max_bytes, ReadDone done) = 0;

  // Makes the state machine's snapshot as of (index, term) durable, in place of the last one.
  virtual void SaveSnapshot(GroupId group, Index index, Term term, Bytes snapshot, Done done) = 0;

  // Entries at or below `upto` are dead, except those in `live` (ascending, disjoint ranges), which stay readable.
  // `upto` is at most the durable snapshot's index. Space is given back in its own time. A call replaces what earlier
  // ones said below `upto`.
  virtual void Compact(GroupId group, Index upto, std::vector<IndexRange> live) = 0;

  // The number of the last write known to be durable, of whatever group. Grows for the life of the directory: one that
  // comes back with less has forgotten something (Safety rule 12).
  virtual uint64_t last_synced() const = 0;

  // For metrics and for tests.
  struct Figures {
    uint64_t syncs = 0;
    uint64_t bytes_appended = 0;  // entries' bytes given to Write
    uint64_t bytes_written = 0;   // bytes written to the write-ahead log, padding included
    uint64_t bytes_moved = 0;     // bytes of live entries moved to the old generation
    uint64_t segments = 0;        // allocated
    uint64_t segments_free = 0;   // of these, ready for use
  };
  virtual Figures figures() const = 0;
};

}  // namespace trireme::raft
