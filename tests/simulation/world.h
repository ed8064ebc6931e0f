// A cluster as its checkers see it: what each replica's log holds, in memory and on its disk, and what was ever
// committed. Entries are known by term and digest, so that nothing has to be kept of their bodies.
#pragma once

#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "raft/core/checksum.h"
#include "raft/core/entry.h"
#include "raft/core/quorum.h"
#include "raft/core/replica.h"
#include "raft/core/types.h"

namespace trireme::simulation {

// One entry's identity; its index is its place.
struct Logged {
  raft::Term term{};
  uint64_t digest = 0;

  friend bool operator==(const Logged&, const Logged&) = default;
  friend std::ostream& operator<<(std::ostream& os, const Logged& e) {
    return os << "(term " << e.term << ", digest " << std::hex << e.digest << std::dec << ")";
  }
};

inline Logged Identify(const raft::Entry& entry) {
  uint32_t crc = raft::Crc32c(entry.data.view(), static_cast<uint32_t>(entry.type) + 1);
  return {entry.term, (uint64_t{crc} << 32) | static_cast<uint32_t>(entry.data.size())};
}

// The entry at index i is at [i - 1].
using LogView = std::vector<Logged>;

struct ReplicaView {
  bool up = false;
  raft::Role role = raft::Role::kFollower;
  raft::Term term{};
  LogView log;      // as handed out to be written
  LogView durable;  // synced
  raft::Index applied{};
  raft::Index all_match{};
};

struct World {
  std::map<raft::ReplicaId, ReplicaView> replicas;  // all voters
  LogView committed;                                // as first reported by anyone

  size_t quorum() const { return raft::QuorumSize(replicas.size()); }
  // How many disks hold exactly `entry` at `index`.
  size_t DisksWith(raft::Index index, const Logged& entry) const {
    size_t count = 0;
    for (const auto& [id, replica] : replicas) {
      count += replica.durable.size() >= index.value() && replica.durable[index.value() - 1] == entry;
    }
    return count;
  }
};

}  // namespace trireme::simulation
