#include "tests/simulation/stored_log.h"

#include <algorithm>

#include "raft/core/check.h"

namespace trireme::simulation {

using raft::Index;

StoredRecord StoredRecord::Part(uint64_t random) const {
  if (snapshot) return {};
  StoredRecord part{.hard_state = hard_state, .entries = entries};
  part.entries.resize(random % (entries.size() + 1));
  return part;
}

void StoredLog::Apply(const StoredRecord& record) {
  if (record.hard_state) hard_state_ = *record.hard_state;
  if (!record.entries.empty()) {
    TRIREME_CHECK(record.entries.front().index <= last_ + 1) << "a write leaves a gap";
    entries_.erase(entries_.lower_bound(record.entries.front().index), entries_.end());
    damaged_.erase(damaged_.lower_bound(record.entries.front().index), damaged_.end());
    for (const raft::Entry& entry : record.entries) entries_.emplace_hint(entries_.end(), entry.index, entry);
    last_ = record.entries.back().index;
  }
  if (record.snapshot) snapshot_ = *record.snapshot;
  if (record.installs) {
    entries_.clear();
    damaged_.clear();
    last_ = compacted_ = snapshot_.index;
  }
}

void StoredLog::Compact(Index upto, const std::vector<raft::IndexRange>& live) {
  compacted_ = std::max(compacted_, upto);
  Index from(1);
  auto drop = [this, &from](Index end) {  // [from, end)
    if (from < end) entries_.erase(entries_.lower_bound(from), entries_.lower_bound(end));
  };
  for (const raft::IndexRange& range : live) {
    drop(std::min(range.first, upto + 1));
    from = std::max(from, range.last + 1);
  }
  drop(upto + 1);
}

std::vector<raft::Entry> StoredLog::Read(Index first, Index last, size_t max_bytes) const {
  std::vector<raft::Entry> found;
  size_t bytes = 0;
  for (auto it = entries_.find(first); it != entries_.end() && it->first == first && first <= last; ++it, ++first) {
    if (damaged_.contains(first)) break;
    if (!found.empty() && bytes + it->second.data.size() > max_bytes) break;
    bytes += it->second.data.size();
    found.push_back(it->second);
  }
  return found;
}

raft::Restored StoredLog::Restore() const {
  raft::Restored restored{.hard_state = hard_state_,
                          .snapshot_index = snapshot_.index,
                          .snapshot_term = snapshot_.term,
                          .last_index = last_,
                          .compacted = std::min(compacted_, snapshot_.index)};
  if (snapshot_.index > Index()) restored.memberships.push_back({snapshot_.index, snapshot_.membership});
  for (Index i = snapshot_.index + 1; i <= last_; ++i) {
    const raft::Entry& entry = entries_.at(i);
    if (entry.type == raft::EntryType::kConfig) {
      restored.memberships.push_back({i, *raft::DecodeMembership(entry.data.view())});
    }
    if (restored.terms.empty() || restored.terms.back().term != entry.term) restored.terms.push_back({i, entry.term});
  }
  return restored;
}

}  // namespace trireme::simulation
