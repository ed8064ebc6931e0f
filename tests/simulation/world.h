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
#include "raft/core/membership.h"
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
  raft::Index commit{};
  raft::Index all_match{};
  raft::Membership membership{};  // in force, as of its last output
};

struct World {
  std::map<raft::ReplicaId, ReplicaView> replicas;  // all that ever were
  LogView committed;                                // as first reported by anyone
  raft::Membership membership;                      // the last that was committed

  // Whether the replica's disk holds exactly `entry` at `index`.
  bool OnDisk(raft::ReplicaId id, raft::Index index, const Logged& entry) const {
    auto it = replicas.find(id);
    return it != replicas.end() && it->second.durable.size() >= index.value() &&
           it->second.durable[index.value() - 1] == entry;
  }
  // Whether the disks of a majority of its voters do; in a joint membership, of a majority in each half. `without`:
  // even if that one is lost. Counted here and not by the core's quorum, which is what is being checked.
  bool OnQuorum(const raft::Membership& members, raft::Index index, const Logged& entry,
                raft::ReplicaId without = raft::ReplicaId()) const {
    for (raft::Half half : {raft::Half::kOld, raft::Half::kNew}) {
      size_t voters = 0, disks = 0;
      for (const raft::Member& member : members.members) {
        if (!raft::CountsIn(member.standing, half)) continue;
        ++voters;
        disks += member.replica != without && OnDisk(member.replica, index, entry);
      }
      if (disks * 2 <= voters) return false;
    }
    return true;
  }
};

}  // namespace trireme::simulation
