#include "broker/queue/coverage.h"

#include <algorithm>
#include <iterator>

#include "raft/core/check.h"

namespace trireme::queue {

uint32_t Amount::Take(uint32_t count, uint64_t size) {
  uint64_t take = messages;
  if (bytes > 0) take = std::max(take, size == 0 ? count : (bytes + size - 1) / size);
  take = std::min<uint64_t>(take, count);
  messages -= std::min(messages, take);
  bytes -= std::min(bytes, take * size);
  return static_cast<uint32_t>(take);
}

void Coverage::Split(Position at) {
  auto it = runs_.lower_bound(at);
  if (it == runs_.begin()) return;
  --it;
  const Position end = it->first + it->second.count;
  if (end <= at) return;
  Run behind = it->second;
  behind.count = static_cast<uint32_t>(end.packed() - at.packed());
  it->second.count -= behind.count;
  runs_.emplace(at, behind);
}

void Coverage::Merge(Position at) {
  auto it = runs_.find(at);
  if (it == runs_.end() || it == runs_.begin()) return;
  auto before = std::prev(it);
  if (before->first + before->second.count != at || before->second.holders != it->second.holders) return;
  before->second.count += it->second.count;
  runs_.erase(it);
}

uint64_t Coverage::Below(Position first, Position end, Position lowest) {
  return first < lowest ? std::min(end, lowest).packed() - first.packed() : 0;
}

void Coverage::Count(Position first, Position end, uint64_t size, bool held) {
  const uint64_t messages = Below(first, end, lowest_);
  if (held) {
    below_.messages += messages;
    below_.bytes += messages * size;
  } else {
    below_.messages -= messages;
    below_.bytes -= messages * size;
  }
}

void Coverage::Add(const Slots& slots, uint64_t size) {
  const Position end = slots.first + slots.count;
  Split(slots.first);
  Split(end);
  for (Position at = slots.first; at < end;) {
    auto it = runs_.lower_bound(at);
    if (it != runs_.end() && it->first == at) {
      ++it->second.holders;
      at = at + it->second.count;
      continue;
    }
    const Position next = it == runs_.end() ? end : std::min(end, it->first);
    runs_.emplace(at, Run{static_cast<uint32_t>(next.packed() - at.packed()), 1, size});
    Count(at, next, size, true);
    at = next;
  }
  Merge(slots.first);
  Merge(end);
}

void Coverage::Remove(const Slots& slots) {
  const Position end = slots.first + slots.count;
  Split(slots.first);
  Split(end);
  auto it = runs_.lower_bound(slots.first);
  for (Position at = slots.first; at < end;) {
    TRIREME_CHECK(it != runs_.end() && it->first == at) << "nobody had " << at;
    at = at + it->second.count;
    if (--it->second.holders > 0) {
      ++it;
      continue;
    }
    Count(it->first, at, it->second.size, false);
    it = runs_.erase(it);
  }
  Merge(slots.first);
  Merge(end);
}

void Coverage::Advance(Position lowest) {
  if (lowest <= lowest_) return;
  auto it = runs_.lower_bound(lowest_);
  if (it != runs_.begin()) --it;
  for (; it != runs_.end() && it->first < lowest; ++it) {
    const Position end = it->first + it->second.count;
    const uint64_t more = Below(it->first, end, lowest) - Below(it->first, end, lowest_);
    below_.messages += more;
    below_.bytes += more * it->second.size;
  }
  lowest_ = lowest;
}

}  // namespace trireme::queue
