// The terms of a log's entries, as runs: a few words per reign, whatever the number of entries.
#pragma once

#include <optional>
#include <vector>

#include "raft/core/entry.h"
#include "raft/core/types.h"

namespace trireme::raft {

// Covers [first_known(), last()]. Runs ascend strictly in index and in term. Index 0 has term 0, always.
class TermRuns {
 public:
  // Knows `index` alone, as the place where a log begins: what a snapshot ends with, or (0, 0).
  TermRuns(Index index, Term term);

  // The next entry's term, which must not be lower than the last one's.
  void Append(Term term);
  // As Append for all entries up to `last`.
  void AppendUpTo(Index last, Term term);
  // Forgets `first` and all behind it; first > first_known().
  void TruncateFrom(Index first);
  // Forgets what lies below `index`, which stays known.
  void ForgetBelow(Index index);

  Index first_known() const { return runs_.front().first; }
  Index last() const { return last_; }
  Term last_term() const { return runs_.back().term; }

  // Nothing if it is not known.
  std::optional<Term> At(Index index) const;
  // The highest index at or below `from` with a term of at most `term`; first_known() if there is none that is known.
  // from is in [first_known(), last()].
  Index LastAtMost(Index from, Term term) const;

 private:
  std::vector<TermRun> runs_;  // never empty
  Index last_;
};

}  // namespace trireme::raft
