// What this node knows of the others' data directories, and of its own, kept over its restarts (Safety rule 12).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "broker/cluster/metadata.h"
#include "raft/host/node_liveness.h"
#include "raft/host/peer_starts.h"

namespace trireme::broker {

struct DirectoryHistory {
  raft::NodeMemory memory;
  raft::SeenStarts starts;  // of that directory, or of none

  friend bool operator==(const DirectoryHistory&, const DirectoryHistory&) = default;
};
using DirectoryHistories = std::map<raft::NodeId, DirectoryHistory>;

// Of each node, with the data directory that it was heard of: one that comes with another directory has another store.
// Two files of the data directory, written in turn, so that damage to one takes back a second and not all. Not
// thread-safe.
class AnnouncedFile {
 public:
  // Reads what is there. A file that is damaged is said in the log, and counts as none.
  explicit AnnouncedFile(std::string directory);

  // Of these nodes, as far as their directories are those of then.
  DirectoryHistories Of(const std::vector<NodeRecord>& nodes) const;
  // How far the store of that directory was synced; 0 = not known.
  uint64_t SyncedOf(const std::string& directory_id) const;
  // Durable when it returns; writes nothing if nothing is new.
  absl::Status Save(const std::vector<NodeRecord>& nodes, const DirectoryHistories& heard);

 private:
  struct Entry {
    std::string directory_id;
    DirectoryHistory history;
  };
  const std::string directory_;
  std::map<raft::NodeId, Entry> entries_;
  uint64_t written_ = 0;  // of the file that holds entries_
};

}  // namespace trireme::broker
