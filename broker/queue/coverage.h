// Messages that subscriptions have out of line, each counted once however many have it: with what waits, all that a
// queue holds.
#pragma once

#include <cstdint>

#include "absl/container/btree_map.h"
#include "broker/queue/facts.h"
#include "broker/queue/position.h"

namespace trireme::queue {

struct Amount {
  uint64_t messages = 0;
  uint64_t bytes = 0;

  // How many messages of a run it takes to make this up; takes what they do off it.
  uint32_t Take(uint32_t count, uint64_t size);
  friend bool operator==(const Amount&, const Amount&) = default;
};

// Follows from the state, and is no part of it. What lies at or above the lowest cursor waits for the subscription that
// has it, whoever else holds it; so only what is below that counts here.
class Coverage {
 public:
  // A subscription has these out of line, or no longer. None has them twice; `size` is the same for all of an entry.
  void Add(const Slots& slots, uint64_t size);
  void Remove(const Slots& slots);
  // The lowest cursor is here now. It only moves forward.
  void Advance(Position lowest);
  // Below it.
  const Amount& below() const { return below_; }

 private:
  // By their first: runs of slots that so many subscriptions have. Apart, none over the end of its entry.
  struct Run {
    uint32_t count = 0;
    uint32_t holders = 0;
    uint64_t size = 0;
  };
  using Runs = absl::btree_map<Position, Run>;

  // Has a run begin at `at`, if one covers it.
  void Split(Position at);
  // Makes one run of those that end and begin at `at`, if they are alike.
  void Merge(Position at);
  // How many of [first, end), which lie in one entry, are below `lowest`.
  static uint64_t Below(Position first, Position end, Position lowest);
  void Count(Position first, Position end, uint64_t size, bool held);

  Runs runs_;
  Position lowest_;
  Amount below_;
};

}  // namespace trireme::queue
