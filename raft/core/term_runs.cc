#include "raft/core/term_runs.h"

#include <algorithm>

#include "raft/core/check.h"

namespace trireme::raft {

TermRuns::TermRuns(Index index, Term term) : last_(index) {
  runs_.push_back({index, term});
}

void TermRuns::Append(Term term) {
  AppendUpTo(last_ + 1, term);
}

void TermRuns::AppendUpTo(Index last, Term term) {
  TRIREME_CHECK(last > last_ && term >= last_term())
      << last << " of term " << term << " after " << last_ << " of term " << last_term();
  if (term > last_term()) runs_.push_back({last_ + 1, term});
  last_ = last;
}

void TermRuns::TruncateFrom(Index first) {
  TRIREME_CHECK(first > first_known() && first <= last_) << first << " of " << first_known() << ".." << last_;
  while (runs_.back().first >= first) runs_.pop_back();
  last_ = first - 1;
}

void TermRuns::ForgetBelow(Index index) {
  if (index <= first_known() || index > last_) return;
  auto run = std::prev(
      std::upper_bound(runs_.begin(), runs_.end(), index, [](Index i, const TermRun& r) { return i < r.first; }));
  run->first = index;
  runs_.erase(runs_.begin(), run);
}

std::optional<Term> TermRuns::At(Index index) const {
  if (index == Index(0)) return Term(0);
  if (index > last_ || index < first_known()) return std::nullopt;
  // Nearly always one of the last.
  for (size_t i = runs_.size(); i-- > 0;) {
    if (runs_[i].first <= index) return runs_[i].term;
  }
  return std::nullopt;
}

Index TermRuns::LastAtMost(Index from, Term term) const {
  Index at = from;
  for (size_t i = runs_.size(); i-- > 0;) {
    if (runs_[i].first > at) continue;
    if (runs_[i].term <= term || i == 0) return runs_[i].term <= term ? at : runs_[i].first;
    at = runs_[i].first - 1;
  }
  return first_known();
}

}  // namespace trireme::raft
