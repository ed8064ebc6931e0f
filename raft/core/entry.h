// What a log is made of, and what must be durable beside it.
#pragma once

#include <cstdint>
#include <vector>

#include "raft/core/bytes.h"
#include "raft/core/types.h"

namespace trireme::raft {

enum class EntryType : uint8_t {
  kNoop = 0,     // a new leader's first entry; carries nothing
  kCommand = 1,  // for the state machine
  kConfig = 2,   // a membership change
};

struct Entry {
  Term term{};
  Index index{};
  EntryType type = EntryType::kCommand;
  Bytes data{};

  friend bool operator==(const Entry&, const Entry&) = default;
};

// Durable before anything that depends on it is sent.
struct HardState {
  Term term{};
  ReplicaId voted_for{};  // in `term`; none if no vote was given
  // What is known to be committed. A hint for a quick start, written along with other things and never waited for; it
  // may lag behind, but is never above the last entry persisted before it.
  Index commit{};

  friend bool operator==(const HardState&, const HardState&) = default;
};

// Entries from `first` on, up to the next run's first, are of `term`.
struct TermRun {
  Index first{};
  Term term{};

  friend bool operator==(const TermRun&, const TermRun&) = default;
};

// Inclusive at both ends; empty when last < first.
struct IndexRange {
  Index first{};
  Index last{};

  bool empty() const { return last < first; }
  friend bool operator==(const IndexRange&, const IndexRange&) = default;
};

}  // namespace trireme::raft
