// Which slots of a batch are settled or resolved: few ranges, mostly one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace trireme::client {

// Disjoint ranges [first, last) in ascending order, merged where they touch.
class RangeSet {
 public:
  using Range = std::pair<uint32_t, uint32_t>;

  // Adds [first, last) and calls `added(from, to)` for each part that was not in the set.
  template <typename Added>
  void Add(uint32_t first, uint32_t last, Added added) {
    if (first >= last) return;
    Range merged{first, last};
    auto begin = std::lower_bound(ranges_.begin(), ranges_.end(), first,
                                  [](const Range& range, uint32_t at) { return range.second < at; });
    auto end = begin;
    uint32_t at = first;
    for (; end != ranges_.end() && end->first <= last; ++end) {
      if (at < end->first) added(at, end->first);
      at = std::max(at, end->second);
      merged = {std::min(merged.first, end->first), std::max(merged.second, end->second)};
    }
    if (at < last) added(at, last);
    begin = ranges_.erase(begin, end);
    ranges_.insert(begin, merged);
  }

  bool Covers(uint32_t first, uint32_t last) const {
    return std::any_of(ranges_.begin(), ranges_.end(),
                       [&](const Range& range) { return range.first <= first && last <= range.second; });
  }
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

}  // namespace trireme::client
