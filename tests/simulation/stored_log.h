// What a simulated disk holds of one group.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "raft/core/bytes.h"
#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/core/replica.h"

namespace trireme::simulation {

struct StoredSnapshot {
  raft::Index index{};
  raft::Term term{};
  raft::Bytes state{};
  raft::Membership membership{};
};

// One write.
struct StoredRecord {
  std::optional<raft::HardState> hard_state{};
  std::vector<raft::Entry> entries{};
  std::optional<StoredSnapshot> snapshot{};
  // The snapshot came from another replica: the log is empty behind it.
  bool installs = false;

  // What of it may have reached the disk when the power failed: the hard state and a part of the entries, but never a
  // part of a snapshot.
  StoredRecord Part(uint64_t random) const;
};

class StoredLog {
 public:
  void Apply(const StoredRecord& record);
  // The entry cannot be read any more; its checksum is wrong.
  void Damage(raft::Index index) { damaged_.insert(index); }
  void Repair() { damaged_.clear(); }
  // Whether the log ahead of the snapshot is damaged, so that this replica must not start (Safety rule 15).
  bool damaged() const { return !damaged_.empty() && *damaged_.rbegin() > snapshot_.index; }
  // Deletes entries at or below `upto`, except those in `live`.
  void Compact(raft::Index upto, const std::vector<raft::IndexRange>& live);

  // As LogStore::Read; nothing when the first is not there.
  std::vector<raft::Entry> Read(raft::Index first, raft::Index last, size_t max_bytes) const;
  raft::Restored Restore() const;
  const StoredSnapshot& snapshot() const { return snapshot_; }
  raft::Index last() const { return last_; }
  size_t entries_held() const { return entries_.size(); }

 private:
  raft::HardState hard_state_;
  std::map<raft::Index, raft::Entry> entries_;
  std::set<raft::Index> damaged_;
  raft::Index last_;
  raft::Index compacted_;
  StoredSnapshot snapshot_;
};

}  // namespace trireme::simulation
