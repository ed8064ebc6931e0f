// How many messages a queue had stored before some places of its log. Since what waits is not recorded (Safety rule 1),
// whoever wants to know that of another place walks the log from the nearest of these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "raft/core/coding.h"

namespace trireme::queue {

// Part of the state. However long the log, they are so many at most: where they would be more, every second one goes.
// So a walk is a small part of what the queue holds.
class Milestones {
 public:
  struct Stone {
    uint64_t index = 0;    // of an entry whose messages were stored
    uint64_t ordinal = 0;  // messages stored before it
    int64_t time_ms = 0;   // queue time as of it
    uint64_t bytes = 0;    // of the messages stored before it, as far as they were counted

    friend bool operator==(const Stone&, const Stone&) = default;
  };
  static constexpr size_t kMost = 128;
  // Entries from one to the next, at least.
  static constexpr uint64_t kSpacing = 1024;

  // Whether the entry at `index`, behind all others, is to have one.
  bool Due(uint64_t index) const { return stones_.empty() || index - stones_.back().index >= spacing_; }
  // Nothing below the entry `retained` will be asked for any more.
  void Add(Stone stone, uint64_t retained);

  // The last one at or before the entry `index`; null: none is.
  const Stone* AtOrBefore(uint64_t index) const;
  // The last one of before that queue time.
  const Stone* BeforeTime(int64_t time_ms) const;
  const std::vector<Stone>& all() const { return stones_; }  // ascending

  // `version`: of the facts in force.
  void Encode(raft::Writer& out, uint32_t version) const;
  // False if it does not parse, or cannot be of a queue that has applied and stored so many.
  bool Decode(raft::Reader& in, uint32_t version, uint64_t applied, uint64_t published);

 private:
  std::vector<Stone> stones_;
  uint64_t spacing_ = kSpacing;
};

}  // namespace trireme::queue
