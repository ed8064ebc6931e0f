// Which starts of other nodes' processes have called here, so that a copy of a data directory is noticed (Safety rule
// 12).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "raft/core/types.h"

namespace trireme::raft {

// One start of a process on a data directory.
struct NodeStart {
  uint64_t incarnation = 0;
  uint64_t nonce = 0;  // 0 = not said (an older version)

  friend bool operator==(const NodeStart&, const NodeStart&) = default;
};

// Of one node, on one data directory.
struct SeenStarts {
  std::string directory_id;
  std::vector<NodeStart> starts;  // the latest few, ascending
  // One incarnation had two nonces: there are two directories with this id, or there was an older one. Whatever is on
  // either, the other may have promised something else; so none is listened to any more.
  bool twice = false;

  friend bool operator==(const SeenStarts&, const SeenStarts&) = default;
};

// Not thread-safe.
class PeerStarts {
 public:
  // Whether a call of that process may be listened to; remembers it. FAILED_PRECONDITION: it was replaced by a later
  // one, or its directory was started twice.
  absl::Status Check(NodeId node, const std::string& directory_id, NodeStart start);
  // What is to be remembered over this node's own restarts, and is put in again before anybody is checked.
  const std::map<NodeId, SeenStarts>& seen() const { return seen_; }
  void Remember(NodeId node, SeenStarts seen) { seen_[node] = std::move(seen); }

 private:
  std::map<NodeId, SeenStarts> seen_;
};

}  // namespace trireme::raft
