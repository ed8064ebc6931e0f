// Messages that have left a subscription for another queue: kept until they are known to be there (Safety rule 20).
#pragma once

#include <cstdint>

#include "absl/container/btree_map.h"
#include "broker/queue/facts.h"
#include "broker/queue/position.h"
#include "raft/core/coding.h"

namespace trireme::queue {

// Messages of one entry, on their way.
struct Departing {
  Position first;
  uint32_t count = 0;
  uint32_t deliveries = 0;
  DeadReason reason = DeadReason::kDeliveryLimit;
  int64_t time_ms = 0;  // queue time at which they left
  uint64_t target = 0;  // the group of the queue that they go to

  friend bool operator==(const Departing&, const Departing&) = default;
};

// Part of a subscription's state. Each message has an ordinal, from 1 on, in the order in which they left: it is the
// sequence under which it is published there, so that it is stored once however often that is tried, and by whichever
// leader.
class Departures {
 public:
  void Add(const Departing& run);
  // Those with the ordinals [first, first + count) are there. How many of them were on their way.
  uint64_t Arrived(uint64_t first, uint64_t count);
  // Those for `from` go to `to`. How many.
  uint64_t Redirect(uint64_t from, uint64_t to);

  // By the ordinal of the first of each.
  const absl::btree_map<uint64_t, Departing>& runs() const { return runs_; }
  uint64_t messages() const { return messages_; }
  // Of the one that left last.
  uint64_t last_ordinal() const { return last_; }

  void Encode(raft::Writer& out) const;
  // False if it does not parse, or what it says cannot be of messages below `next`.
  bool Decode(raft::Reader& in, Position next);

 private:
  absl::btree_map<uint64_t, Departing> runs_;
  uint64_t messages_ = 0;
  uint64_t last_ = 0;
};

}  // namespace trireme::queue
