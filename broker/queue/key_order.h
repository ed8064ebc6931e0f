// Order by key: which of a subscription's messages that are out of line may be given, and which wait for another one of
// their key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "broker/queue/position.h"

namespace trireme::queue {

// What stands for a message's key here. Two keys that share one are kept in order as if they were one. Never in the
// log or the state.
using KeyHash = uint64_t;
// Of a message without a key, which waits for no other.
inline constexpr KeyHash kNoKey = 0;
KeyHash HashOfKey(std::string_view key);

// Of each key one message at a time is out, and the lowest one that waits is the next; what is not due holds up those
// behind it. A leader's, for one term. Pure: the owner says what is where.
class KeyOrder {
 public:
  // Not due before something else has become of it.
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  enum class State : uint8_t {
    kWaits,  // to be given once its key is free and its time has come
    kGiven,  // a checkout was decided, and not applied
    kHeld,   // in flight
  };

  // Of a message that is not known yet, or whose place has changed. Queue time.
  void Put(Position position, KeyHash key, State state, int64_t due_ms = 0);
  // Of one that is known.
  void Move(Position position, State state, int64_t due_ms = 0);
  void Remove(Position position);
  // All that wait below it are gone.
  void DropWaiting(Position below);

  bool Knows(Position position) const { return places_.contains(position); }
  State StateOf(Position position) const { return places_.at(position).state; }
  int64_t DueOf(Position position) const { return places_.at(position).due_ms; }
  KeyHash KeyOf(Position position) const { return places_.at(position).key; }

  // Whether a message of this key, higher than all that are known, would have to wait.
  bool Blocks(KeyHash key) const { return key != kNoKey && keys_.contains(key); }
  // The lowest one that may be given now.
  std::optional<Position> Front() const;
  size_t ready() const { return ready_.size(); }
  // Waiting, and not ready.
  size_t blocked() const { return waiting_ - ready_.size(); }

  // Queue time goes on.
  void Advance(int64_t now_ms);
  // When the next one comes due; nothing: none will.
  std::optional<int64_t> NextDue() const;

  // A key for which something waits that is not ready, and what is in its way.
  struct Blocked {
    KeyHash key = kNoKey;
    Position by;
    State state = State::kHeld;
    int64_t due_ms = 0;    // with kWaits
    uint64_t waiting = 0;  // behind it
  };
  // The one of this key that is in the way, or would be the next.
  std::optional<Position> FirstOf(KeyHash key) const;
  // By the position of what is in the way, from `from` on, at most so many.
  std::vector<Blocked> List(Position from, size_t most) const;

 private:
  struct Place {
    KeyHash key = kNoKey;
    State state = State::kWaits;
    int64_t due_ms = 0;
  };
  struct Key {
    absl::btree_set<Position> out;
    absl::btree_set<Position> waiting;
  };
  void Enter(Position position, const Place& place);
  void Leave(Position position, const Place& place);
  void MakeReady(Position position, int64_t due_ms);
  // Its first one that waits is ready, or not any more.
  void Settle(const Key& key);
  void Unsettle(const Key& key);

  absl::btree_map<Position, Place> places_;
  absl::flat_hash_map<KeyHash, Key> keys_;
  absl::btree_set<Position> ready_;
  std::set<std::pair<int64_t, Position>> later_;  // would be ready, and are not due
  size_t waiting_ = 0;
  int64_t now_ms_ = 0;
};

}  // namespace trireme::queue
