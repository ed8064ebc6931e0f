// A queue's replicated state: what every replica makes of the log, entry by entry.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/status.h"
#include "broker/queue/effects.h"
#include "broker/queue/entry.h"
#include "broker/queue/facts.h"
#include "broker/queue/producer_window.h"
#include "broker/queue/subscription.h"
#include "raft/core/bytes.h"

namespace trireme::queue {

inline constexpr SubscriptionId kDefaultSubscription = 0;

// A producer that de-duplicates by sequence.
struct Producer {
  uint64_t epoch = 0;
  // Queue time of its latest fact.
  int64_t used_ms = 0;
  ProducerWindow window;
};

// Inclusive at both ends.
struct EntryRange {
  uint64_t first = 0;
  uint64_t last = 0;

  friend bool operator==(const EntryRange&, const EntryRange&) = default;
};

// Which entries still hold a message that is not done with: every one above `floor` may, and those in `live`
// (ascending, disjoint, not adjacent, at or below floor) do.
struct Liveness {
  uint64_t floor = 0;
  std::vector<EntryRange> live;
};

struct Figures {
  uint64_t at_index = 0;
  uint64_t published = 0;
  uint64_t producers = 0;
  int64_t queue_time_ms = 0;
  uint32_t version = 0;
};

// A pure function of the entries applied: no clock, randomness, policy or I/O (Safety rule 3). Not thread-safe; a
// queue's shard owns it.
class Machine {
 public:
  Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Applies the entry at `index`, which is above applied_index(). An empty entry (a new leader's first) only moves
  // applied_index(). `effects` is cleared first, and tells what was done.
  // FAILED_PRECONDITION: a fact of a later version; the text says which version is needed, and this replica cannot go
  // on (Safety rule 3). DATA_LOSS: a damaged entry. With an error nothing is changed.
  absl::Status Apply(uint64_t index, std::string_view entry, Effects* effects);

  // The same bytes for the same applied entries, on any machine. Bounded by what is out of line (Safety rule 1).
  raft::Bytes Snapshot() const;
  // Replaces the state. DATA_LOSS: damaged; FAILED_PRECONDITION: of a later version. With an error nothing is changed.
  absl::Status Restore(std::string_view snapshot);
  // Of the state; equal on replicas that have applied the same entries.
  uint64_t Digest() const;

  Liveness Live() const;
  Figures figures() const;

  uint64_t applied_index() const { return applied_index_; }
  int64_t queue_time_ms() const { return queue_time_ms_; }
  // Of facts, as raised by the log.
  uint32_t version() const { return version_; }

  const absl::btree_map<SubscriptionId, Subscription>& subscriptions() const { return subscriptions_; }
  // Null if there is none.
  const Subscription* subscription(SubscriptionId id) const;
  const absl::btree_map<std::string, Producer, std::less<>>& producers() const { return producers_; }
  const Producer* producer(std::string_view name) const;
  // The highest epoch of any producer that was forgotten: an epoch picked for an unknown producer is above it, so that
  // a stream from before stays fenced.
  uint64_t forgotten_epoch() const { return forgotten_epoch_; }
  // Whether entry `index` is a batch that apply refused, so that its messages do not exist. Known as long as a cursor
  // has not passed it.
  bool IsRefused(uint64_t index) const { return refused_.contains(index); }

 private:
  void ApplyPublished(uint64_t index, const EntryView& entry, Effects* effects);
  void ApplyFact(uint64_t index, const Fact& fact, Effects* effects);
  void PruneRefused();

  uint64_t applied_index_ = 0;
  int64_t queue_time_ms_ = 0;
  uint32_t version_ = 1;
  uint64_t published_ = 0;
  uint64_t forgotten_epoch_ = 0;
  absl::btree_map<SubscriptionId, Subscription> subscriptions_;
  absl::btree_map<std::string, Producer, std::less<>> producers_;
  // Batches that were not stored, at or above the lowest cursor: whoever reads the log must pass over them. A leader
  // that judges well never makes one.
  absl::btree_set<uint64_t> refused_;

  // Between Apply calls empty; kept for its memory.
  std::vector<Fact> scratch_facts_;
};

}  // namespace trireme::queue
