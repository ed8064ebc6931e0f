// A replica's log as the core knows it: the terms of all of it, the entries of its end.
#pragma once

#include <cstddef>
#include <optional>

#include "raft/core/config.h"
#include "raft/core/entry.h"
#include "raft/core/ring.h"
#include "raft/core/term_runs.h"
#include "raft/core/types.h"

namespace trireme::raft {

// What an entry counts for against limits in bytes: its data and what surrounds it in memory and on the wire.
constexpr size_t kEntryOverheadBytes = 64;
inline size_t EntryBytes(const Entry& entry) {
  return entry.data.size() + kEntryOverheadBytes;
}

// Entries [first_held(), last_index()] are in memory; what is older is in the store. After a start nothing is held.
class LogTail {
 public:
  explicit LogTail(const Restored& restored);

  Index last_index() const { return terms_.last(); }
  Term last_term() const { return terms_.last_term(); }
  // Nothing if it is not known: above the last index, or so old that it was forgotten.
  std::optional<Term> TermAt(Index index) const { return terms_.At(index); }
  // The highest index at or below `from` whose term is at most `term`, as far as terms are known; else the lowest known
  // index, or `from` itself if that is lower.
  Index LastAtMost(Index from, Term term) const;

  // last_index() + 1 if none is held.
  Index first_held() const { return last_index() + 1 - entries_.size(); }
  // Bytes held, counted by EntryBytes.
  size_t bytes() const { return bytes_; }
  const Entry* Find(Index index) const;

  // Its index is last_index() + 1, its term not below the last one's.
  void Append(Entry entry);
  // Drops `first` and all behind it. Only what is not committed may go.
  void TruncateFrom(Index first);
  // The log is empty behind a snapshot that ends at (index, term).
  void Reset(Index index, Term term);
  // Drops from memory what is held up to `index`.
  void Trim(Index index);
  // Forgets the terms below `index`.
  void ForgetTermsBelow(Index index) { terms_.ForgetBelow(index); }
  // Gives back memory that an empty tail keeps.
  void Shrink() { entries_.Shrink(); }

 private:
  TermRuns terms_;
  Ring<Entry> entries_;
  size_t bytes_ = 0;
};

}  // namespace trireme::raft
