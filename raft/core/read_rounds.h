// ReadIndex: reads that wait until a quorum has confirmed that its leader still leads (dissertation 6.4).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "raft/core/output.h"
#include "raft/core/ring.h"
#include "raft/core/types.h"

namespace trireme::raft {

// Reads asked for between two outputs share a round: one heartbeat to each follower. Rounds are numbered from 1; an
// answer to one confirms all before it.
class ReadRounds {
 public:
  void Add(uint64_t context) { waiting_.push_back(context); }
  bool waiting() const { return !waiting_.empty(); }
  bool empty() const { return waiting_.empty() && rounds_.empty(); }
  // The last round's number; 0 if there was none.
  uint64_t last() const { return last_; }
  // Whether rounds up to last() are still to be confirmed.
  bool open() const { return !rounds_.empty(); }

  // Makes a round of those that wait. `commit` is the commit index now, at or above the first of the leader's own term.
  void Start(Index commit);
  // Rounds up to `round` are confirmed.
  void Confirm(uint64_t round, std::vector<ReadReady>& ready);
  void DropAll(std::vector<ReadReady>& ready);

 private:
  struct Round {
    uint64_t number = 0;
    Index index;
    std::vector<uint64_t> contexts;
  };
  std::vector<uint64_t> waiting_;
  Ring<Round> rounds_;
  uint64_t last_ = 0;
};

}  // namespace trireme::raft
