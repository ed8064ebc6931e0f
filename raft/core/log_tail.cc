#include "raft/core/log_tail.h"

#include <algorithm>
#include <utility>

#include "raft/core/check.h"

namespace trireme::raft {
namespace {

// Runs may begin below the snapshot; every index above it must be covered.
TermRuns RestoreTerms(const Restored& restored) {
  const auto& runs = restored.terms;
  TRIREME_CHECK(restored.last_index >= restored.snapshot_index)
      << "the log ends at " << restored.last_index << ", before the snapshot at " << restored.snapshot_index;
  bool runs_reach_snapshot = !runs.empty() && runs.front().first <= restored.snapshot_index;
  TRIREME_CHECK(runs_reach_snapshot || restored.last_index == restored.snapshot_index ||
                (!runs.empty() && runs.front().first == restored.snapshot_index + 1))
      << "terms of a restored log do not begin behind its snapshot";
  TermRuns terms = runs_reach_snapshot ? TermRuns(runs.front().first, runs.front().term)
                                       : TermRuns(restored.snapshot_index, restored.snapshot_term);
  for (size_t i = 0; i < runs.size(); ++i) {
    Index last = i + 1 < runs.size() ? runs[i + 1].first - 1 : restored.last_index;
    if (last > terms.last()) terms.AppendUpTo(last, runs[i].term);
  }
  TRIREME_CHECK(terms.last() == restored.last_index);
  return terms;
}

}  // namespace

LogTail::LogTail(const Restored& restored) : terms_(RestoreTerms(restored)) {}

Index LogTail::LastAtMost(Index from, Term term) const {
  if (from < terms_.first_known()) return from;
  return terms_.LastAtMost(std::min(from, last_index()), term);
}

const Entry* LogTail::Find(Index index) const {
  if (index > last_index() || index < first_held()) return nullptr;
  return &entries_[index - first_held()];
}

void LogTail::Append(Entry entry) {
  TRIREME_CHECK(entry.index == last_index() + 1) << entry.index << " after " << last_index();
  terms_.Append(entry.term);
  bytes_ += EntryBytes(entry);
  entries_.push_back(std::move(entry));
}

void LogTail::TruncateFrom(Index first) {
  if (first > last_index()) return;
  size_t keep = first > first_held() ? first - first_held() : 0;
  for (size_t i = keep; i < entries_.size(); ++i) bytes_ -= EntryBytes(entries_[i]);
  entries_.Truncate(keep);
  terms_.TruncateFrom(first);
}

void LogTail::Reset(Index index, Term term) {
  entries_.clear();
  entries_.Shrink();
  bytes_ = 0;
  terms_ = TermRuns(index, term);
}

void LogTail::Trim(Index index) {
  while (!entries_.empty() && entries_.front().index <= index) {
    bytes_ -= EntryBytes(entries_.front());
    entries_.pop_front();
  }
}

}  // namespace trireme::raft
