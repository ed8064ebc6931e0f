#include "broker/queue/key_order.h"

#include <algorithm>
#include <vector>

#include "raft/core/check.h"

namespace trireme::queue {

// FNV-1a, 64 bits.
KeyHash HashOfKey(std::string_view key) {
  if (key.empty()) return kNoKey;
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash == kNoKey ? 1 : hash;
}

void KeyOrder::MakeReady(Position position, int64_t due_ms) {
  if (due_ms <= now_ms_) {
    ready_.insert(position);
  } else if (due_ms != kNever) {
    later_.emplace(due_ms, position);
  }
}

void KeyOrder::Settle(const Key& key) {
  if (!key.out.empty() || key.waiting.empty()) return;
  const Position first = *key.waiting.begin();
  MakeReady(first, places_.at(first).due_ms);
}

void KeyOrder::Unsettle(const Key& key) {
  if (!key.out.empty() || key.waiting.empty()) return;
  const Position first = *key.waiting.begin();
  ready_.erase(first);
  later_.erase({places_.at(first).due_ms, first});
}

void KeyOrder::Enter(Position position, const Place& place) {
  places_.insert_or_assign(position, place);
  const bool waits = place.state == State::kWaits;
  if (waits) ++waiting_;
  if (place.key == kNoKey) {
    if (waits) MakeReady(position, place.due_ms);
    return;
  }
  Key& key = keys_[place.key];
  Unsettle(key);
  (waits ? key.waiting : key.out).insert(position);
  Settle(key);
}

void KeyOrder::Leave(Position position, const Place& place) {
  const bool waits = place.state == State::kWaits;
  if (waits) --waiting_;
  if (place.key == kNoKey) {
    ready_.erase(position);
    later_.erase({place.due_ms, position});
  } else {
    auto it = keys_.find(place.key);
    TRIREME_CHECK(it != keys_.end()) << "a message has a key that is not known";
    Key& key = it->second;
    Unsettle(key);
    (waits ? key.waiting : key.out).erase(position);
    Settle(key);
    if (key.waiting.empty() && key.out.empty()) keys_.erase(it);
  }
  places_.erase(position);
}

void KeyOrder::Put(Position position, KeyHash key, State state, int64_t due_ms) {
  if (auto it = places_.find(position); it != places_.end()) {
    const Place before = it->second;
    Leave(position, before);
  }
  Enter(position, {key, state, due_ms});
}

void KeyOrder::Move(Position position, State state, int64_t due_ms) {
  Put(position, KeyOf(position), state, due_ms);
}

void KeyOrder::Remove(Position position) {
  auto it = places_.find(position);
  if (it == places_.end()) return;
  const Place place = it->second;
  Leave(position, place);
}

void KeyOrder::DropWaiting(Position below) {
  std::vector<Position> gone;
  for (auto it = places_.begin(); it != places_.end() && it->first < below; ++it) {
    if (it->second.state == State::kWaits) gone.push_back(it->first);
  }
  for (Position position : gone) Remove(position);
}

std::optional<Position> KeyOrder::Front() const {
  if (ready_.empty()) return std::nullopt;
  return *ready_.begin();
}

void KeyOrder::Advance(int64_t now_ms) {
  now_ms_ = std::max(now_ms_, now_ms);
  while (!later_.empty() && later_.begin()->first <= now_ms_) {
    ready_.insert(later_.begin()->second);
    later_.erase(later_.begin());
  }
}

std::optional<int64_t> KeyOrder::NextDue() const {
  if (later_.empty()) return std::nullopt;
  return later_.begin()->first;
}

std::optional<Position> KeyOrder::FirstOf(KeyHash hash) const {
  auto it = keys_.find(hash);
  if (it == keys_.end()) return std::nullopt;
  const Key& key = it->second;
  return key.out.empty() ? *key.waiting.begin() : *key.out.begin();
}

std::vector<KeyOrder::Blocked> KeyOrder::List(Position from, size_t most) const {
  std::vector<Blocked> all;
  for (auto it = places_.lower_bound(from); it != places_.end() && all.size() < most; ++it) {
    const auto& [position, place] = *it;
    if (place.key == kNoKey) continue;
    const Key& key = keys_.at(place.key);
    const bool first_out = !key.out.empty() && position == *key.out.begin();
    const bool first_waits = key.out.empty() && position == *key.waiting.begin() && !ready_.contains(position);
    const uint64_t behind = key.waiting.size() - (first_waits ? 1 : 0);
    // What is only put off itself holds nobody up.
    if ((first_out || first_waits) && behind > 0)
      all.push_back({place.key, position, place.state, place.due_ms, behind});
  }
  return all;
}

}  // namespace trireme::queue
