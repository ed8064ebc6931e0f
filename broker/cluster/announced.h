// What other nodes were once heard to have synced, kept over this node's own restarts (Safety rule 12).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "broker/cluster/metadata.h"

namespace trireme::broker {

// Sequences of the nodes' stores, each with the data directory that it was heard of: a node that comes with another
// directory has another store. In a file of the data directory. Not thread-safe.
class AnnouncedFile {
 public:
  // Reads what is there. A file that is damaged counts as none, and is said in the log.
  explicit AnnouncedFile(std::string directory);

  // Of these nodes, as far as their directories are those of then.
  std::map<raft::NodeId, uint64_t> Of(const std::vector<NodeRecord>& nodes) const;
  // Durable when it returns; writes nothing if nothing has grown.
  absl::Status Save(const std::vector<NodeRecord>& nodes, const std::map<raft::NodeId, uint64_t>& announced);

 private:
  struct Entry {
    std::string directory_id;
    uint64_t synced = 0;
  };
  const std::string directory_;
  std::map<raft::NodeId, Entry> entries_;
};

}  // namespace trireme::broker
