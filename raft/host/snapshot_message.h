// What a leader's host and a follower's say to each other while a snapshot is sent.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "raft/core/entry.h"
#include "raft/core/message.h"
#include "raft/core/types.h"

namespace trireme::raft {

// How far a snapshot has come: first the live entries at or below its index go over, ascending, then the index rows,
// then the state.
struct SnapshotPosition {
  Index entry{};         // the last one; 0 = none
  uint64_t entries = 0;  // how many
  uint64_t state_bytes = 0;
  std::string row{};  // the last one's key; empty = none
  uint64_t rows = 0;  // how many

  friend bool operator==(const SnapshotPosition&, const SnapshotPosition&) = default;
};

// A part. Each says all that is needed to place it, so any may be lost, come twice or late.
struct SnapshotChunk {
  GroupId group;
  // As Replica::SnapshotMessage made it, the same in every chunk: from whom, to whom, and what it covers.
  Message header;
  uint64_t number = 0;  // of this sending of it; the answer repeats it
  SnapshotPosition at;  // what goes before it
  // Ascending. Either these, or rows (EncodeRows), or a part of the state.
  std::vector<Entry> entries{};
  Bytes rows{};
  uint32_t rows_checksum = 0;  // CRC-32C
  Bytes state{};
  bool last = false;
  uint32_t state_checksum = 0;  // CRC-32C of the whole state, in the last one
};

struct SnapshotAnswer {
  enum class Result : uint8_t {
    kMore = 1,     // goes on at `at`
    kArrived = 2,  // all of it is there, perhaps still to be installed; or the log has come by itself
    kRefused = 3,  // the follower cannot take it in
  };
  GroupId group;
  ReplicaId from;
  ReplicaId to;
  Index index;  // of the snapshot
  uint64_t number = 0;
  SnapshotPosition at;
  Result result = Result::kMore;
};

}  // namespace trireme::raft
