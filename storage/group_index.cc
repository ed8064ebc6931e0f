#include "storage/group_index.h"

#include <algorithm>

#include "raft/core/check.h"

namespace trireme::storage {

using raft::Index;
using raft::IndexRange;
using raft::TermRun;

namespace {

// The first range that ends at or behind `index`.
Ranges::const_iterator LowerBoundOf(const Ranges& ranges, Index index) {
  return std::lower_bound(ranges.begin(), ranges.end(), index, [](const IndexRange& r, Index i) { return r.last < i; });
}

// Cuts everything from `from` on. Returns whether anything was there.
bool TruncateRanges(Ranges& ranges, Index from) {
  bool cut = false;
  while (!ranges.empty() && ranges.back().last >= from) {
    cut = true;
    if (ranges.back().first >= from) {
      ranges.pop_back();
    } else {
      ranges.back().last = from - 1;
    }
  }
  return cut;
}

}  // namespace

bool Contains(const Ranges& ranges, Index index) {
  auto it = LowerBoundOf(ranges, index);
  return it != ranges.end() && it->first <= index;
}

bool Intersects(const Ranges& ranges, IndexRange range) {
  if (range.empty()) return false;
  auto it = LowerBoundOf(ranges, range.first);
  return it != ranges.end() && it->first <= range.last;
}

void AddRange(Ranges& ranges, IndexRange range) {
  if (range.empty()) return;
  if (!ranges.empty() && range.first <= ranges.back().last + 1) {
    TRIREME_CHECK(range.first >= ranges.back().first) << "ranges out of order at " << range.first;
    ranges.back().last = std::max(ranges.back().last, range.last);
    return;
  }
  ranges.push_back(range);
}

Ranges Unite(const Ranges& a, const Ranges& b) {
  Ranges all(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), all.begin(),
             [](const IndexRange& x, const IndexRange& y) { return x.first < y.first; });
  Ranges united;
  for (const IndexRange& r : all) AddRange(united, r);
  return united;
}

Ranges Intersect(const Ranges& a, const Ranges& b) {
  Ranges both;
  auto i = a.begin();
  auto j = b.begin();
  while (i != a.end() && j != b.end()) {
    IndexRange common{std::max(i->first, j->first), std::min(i->last, j->last)};
    if (!common.empty()) AddRange(both, common);
    if (i->last < j->last) {
      ++i;
    } else {
      ++j;
    }
  }
  return both;
}

Ranges Subtract(const Ranges& a, const Ranges& b) {
  Ranges rest;
  auto j = b.begin();
  for (IndexRange range : a) {
    while (j != b.end() && j->last < range.first) ++j;
    auto k = j;
    while (k != b.end() && k->first <= range.last && !range.empty()) {
      if (k->first > range.first) AddRange(rest, {range.first, k->first - 1});
      range.first = k->last + 1;
      ++k;
    }
    AddRange(rest, range);
  }
  return rest;
}

Index GroupIndex::last_index() const {
  Index last = snapshot_index_;
  if (!runs().empty()) {
    last = std::max(last, runs_.back().last());
  } else if (!old_.empty()) {
    last = std::max(last, old_.back().last);
  }
  return last;
}

size_t GroupIndex::LowerBound(Index index) const {
  return static_cast<size_t>(std::lower_bound(runs_.begin() + static_cast<ptrdiff_t>(head_), runs_.end(), index,
                                              [](const Run& r, Index i) { return r.last() < i; }) -
                             runs_.begin());
}

void GroupIndex::Tidy() {
  if (head_ > runs_.size() / 2) {
    runs_.erase(runs_.begin(), runs_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
  if (runs_.capacity() > 16 && runs_.capacity() > 4 * runs_.size()) runs_.shrink_to_fit();
  if (old_.capacity() > 16 && old_.capacity() > 4 * old_.size()) old_.shrink_to_fit();
}

bool GroupIndex::Append(const Run& run, absl::Span<const raft::Term> terms, Release release) {
  TRIREME_CHECK(run.count == terms.size() && run.count > 0) << "at " << run.first;
  while (runs_.size() > head_ && runs_.back().last() >= run.first) {
    Run& back = runs_.back();
    if (back.first >= run.first) {
      release(back.record.slot, back.count);
      runs_.pop_back();
    } else {
      auto keep = static_cast<uint32_t>(run.first - back.first);
      release(back.record.slot, back.count - keep);
      back.count = keep;
    }
  }
  bool cut = TruncateRanges(old_, run.first);
  while (!terms_.empty() && terms_.back().first >= run.first) terms_.pop_back();
  for (uint32_t i = 0; i < run.count; ++i) {
    if (run.first + i <= snapshot_index_) continue;
    if (terms_.empty() || terms_.back().term != terms[i]) terms_.push_back({run.first + i, terms[i]});
  }
  runs_.push_back(run);
  return cut;
}

Index GroupIndex::Compacted() const {
  Index first = snapshot_index_ + 1;
  // Whether the part goes on what is known to be there without a gap.
  auto joins = [&first](Index part_first, Index part_last) {
    if (part_last + 1 < first) return false;
    first = std::min(first, part_first);
    return true;
  };
  for (size_t i = runs_.size(); i > head_; --i) {
    if (!joins(runs_[i - 1].first, runs_[i - 1].last())) return first - 1;
  }
  // Not of old(): what is dead in RocksDB may be deleted there before the row that says so is flushed.
  return first - 1;
}

bool GroupIndex::Complete() const {
  Index next = snapshot_index_ + 1;
  for (const IndexRange& r : old_) {
    if (r.last < next) continue;
    if (r.first > next) return false;
    next = r.last + 1;
  }
  for (const Run& r : runs()) {
    if (r.last() < next) continue;
    if (r.first > next) return false;
    next = r.last() + 1;
  }
  return last_index() == snapshot_index_ ? terms_.empty()
                                         : !terms_.empty() && terms_.front().first == snapshot_index_ + 1;
}

void GroupIndex::SetSnapshot(Index index) {
  snapshot_index_ = index;
  if (last_index() <= index) {
    terms_.clear();
    return;
  }
  // The run that covers index + 1 becomes the first, and starts there.
  auto it =
      std::upper_bound(terms_.begin(), terms_.end(), index + 1, [](Index i, const TermRun& r) { return i < r.first; });
  if (it == terms_.begin()) return;
  terms_.erase(terms_.begin(), it - 1);
  terms_.front().first = index + 1;
}

Ranges GroupIndex::Compact(Index upto, const std::vector<IndexRange>& live, Release release) {
  Ranges below;
  for (const IndexRange& r : live) {
    if (r.first > upto) break;
    AddRange(below, {r.first, std::min(r.last, upto)});
  }
  Ranges kept = below;
  AddRange(kept, {upto + 1, Index(std::numeric_limits<uint64_t>::max() - 1)});

  Ranges dead = Subtract(old_, kept);
  if (!dead.empty()) old_ = Intersect(old_, kept);

  size_t end = LowerBound(upto + 1);  // the first run that is not wholly at or below
  size_t touched = end < runs_.size() && runs_[end].first <= upto ? end + 1 : end;
  std::vector<Run> alive;
  auto next_live = kept.cbegin();
  for (size_t i = head_; i < touched; ++i) {
    const Run& run = runs_[i];
    uint32_t survivors = 0;
    while (next_live != kept.cend() && next_live->last < run.first) ++next_live;
    for (auto it = next_live; it != kept.cend() && it->first <= run.last(); ++it) {
      Index first = std::max(it->first, run.first);
      Index last = std::min(it->last, run.last());
      auto count = static_cast<uint32_t>(last - first + 1);
      alive.push_back({first, count, run.record});
      survivors += count;
    }
    if (survivors < run.count) release(run.record.slot, run.count - survivors);
  }
  if (alive.size() <= touched) {
    head_ = touched - alive.size();
    std::copy(alive.begin(), alive.end(), runs_.begin() + static_cast<ptrdiff_t>(head_));
  } else {
    runs_.erase(runs_.begin(), runs_.begin() + static_cast<ptrdiff_t>(touched));
    runs_.insert(runs_.begin(), alive.begin(), alive.end());
    head_ = 0;
  }
  Tidy();
  return dead;
}

void GroupIndex::Clear(Release release) {
  for (const Run& run : runs()) release(run.record.slot, run.count);
  runs_.clear();
  head_ = 0;
  old_.clear();
  terms_.clear();
}

void GroupIndex::Replace(Index snapshot, Ranges live, Release release) {
  Clear(release);
  old_ = std::move(live);
  snapshot_index_ = snapshot;
  TRIREME_CHECK(last_index() == snapshot) << "entry " << last_index() << " is behind a snapshot at " << snapshot;
}

Ranges GroupIndex::LiveIn(const RecordRef& record, IndexRange entries) const {
  Ranges live;
  for (size_t i = LowerBound(entries.first); i < runs_.size() && runs_[i].first <= entries.last; ++i) {
    if (runs_[i].record == record) AddRange(live, {runs_[i].first, runs_[i].last()});
  }
  return live;
}

Ranges GroupIndex::MovedToOld(const RecordRef& record, const Ranges& moved, Release release) {
  if (moved.empty()) return {};
  IndexRange whole{moved.front().first, moved.back().last};
  size_t begin = LowerBound(whole.first);
  size_t end = begin;
  Ranges still;
  uint64_t count = 0;
  for (; end < runs_.size() && runs_[end].record == record && runs_[end].first <= whole.last; ++end) {
    AddRange(still, {runs_[end].first, runs_[end].last()});
    count += runs_[end].count;
  }
  if (count == 0) return {};
  TRIREME_CHECK(begin == head_) << "records move in order; " << whole.first << " has live ones before it";
  TRIREME_CHECK(Subtract(still, moved).empty()) << "not all that is alive at " << whole.first << " was moved";
  for (const IndexRange& r : still) AddRange(old_, r);
  head_ = end;
  release(record.slot, count);
  Tidy();
  return still;
}

const Run* GroupIndex::FindRun(Index index) const {
  size_t i = LowerBound(index);
  return i < runs_.size() && runs_[i].first <= index ? &runs_[i] : nullptr;
}

void GroupIndex::RestoreOld(Ranges old, std::vector<TermRun> terms) {
  old_ = std::move(old);
  terms_ = std::move(terms);
}

}  // namespace trireme::storage
