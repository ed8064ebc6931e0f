// A queue's replicated state: a pure function of the log. No clock, chance, policy or I/O (Safety rule 3).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/status/statusor.h"
#include "broker/queue/coverage.h"
#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/queue/milestones.h"
#include "broker/queue/producer_window.h"
#include "broker/queue/subscription.h"
#include "raft/core/bytes.h"

namespace trireme::queue {

struct Producer {
  uint64_t epoch = 0;
  int64_t active_ms = 0;  // queue time of the last entry that named it
  ProducerWindow window;
};

// Runs of entries, by log index; both ends belong to it.
struct EntryRange {
  uint64_t first = 0;
  uint64_t last = 0;
  friend bool operator==(const EntryRange&, const EntryRange&) = default;
};

// Not thread-safe; a group's shard owns it.
class Machine {
 public:
  // The snapshot's layout follows the version of the facts in force: so replicas of an older program can read it, and
  // have the same digest, for as long as there is nothing in it that they do not know.
  static constexpr uint8_t SnapshotVersion(uint32_t facts) { return static_cast<uint8_t>(facts + 1); }

  Machine();

  // Takes in the committed entry at `index`, which is above every one before it. UNIMPLEMENTED or DATA_LOSS: this
  // replica cannot go on; nothing was changed.
  absl::StatusOr<Effects> Apply(uint64_t index, const raft::Bytes& entry);
  // A no-op of consensus.
  void ApplyNoop(uint64_t index);

  // The state, bounded by what is out of line; the same bytes for the same state.
  raft::Bytes Snapshot() const;
  // Replaces the state. DATA_LOSS or UNIMPLEMENTED as in Apply; the state is then as new.
  absl::Status Restore(const raft::Bytes& snapshot);
  // Of the whole state: equal states have equal digests, others most likely another one (Safety rule 25).
  uint32_t Digest() const;

  // Which entries still hold a message that someone will want: all above `floor`, and `live`, ascending.
  struct Liveness {
    uint64_t floor = 0;
    std::vector<EntryRange> live;
  };
  Liveness Live() const;

  uint64_t applied() const { return applied_; }
  int64_t time_ms() const { return time_ms_; }
  uint64_t published() const { return published_; }
  uint32_t version() const { return version_; }
  const absl::btree_map<std::string, Producer, std::less<>>& producers() const { return producers_; }
  // The highest epoch of a producer that was forgotten. One that is not known starts above it, so that a stream from
  // before stays fenced (Safety rule 6).
  uint64_t forgotten_epoch() const { return forgotten_epoch_; }
  // Whether the entry at `index` publishes a batch that apply refused, so that its messages do not exist. Known for as
  // long as a cursor has not passed it.
  bool IsRefused(uint64_t index) const { return refused_.contains(index); }
  const QueueSettings& settings() const { return settings_; }
  // Whether messages expire: before, none was published that says when, and the queue has no time to live.
  bool expires() const { return version_ >= kFactsOfExpiry; }
  // What any subscription needs: waiting, in flight or returned. Nothing: there is no limit to it, so it is not
  // counted.
  std::optional<Amount> Holds() const;
  // Entries below this one count no bytes: they were stored before bytes were counted.
  uint64_t sized_from() const { return sized_from_; }
  // Of the messages stored so far, as far as counted.
  uint64_t published_bytes() const { return published_bytes_; }
  const absl::btree_map<SubscriptionId, Subscription>& subscriptions() const { return subscriptions_; }
  const Subscription& subscription(SubscriptionId id) const { return subscriptions_.at(id); }
  // Null if there is none of that name, or id.
  const Subscription* FindSubscription(SubscriptionId id) const;
  std::optional<SubscriptionId> FindSubscription(std::string_view name) const;
  // From where on everything that was stored is still there: the lowest of the cursors, where a subscription for which
  // nothing waits counts as if its own were at the log's end (with `index` the next entry's).
  Position Retained(uint64_t index) const;
  // Of what is retained, and perhaps of what no longer is. From version 2 of the facts on.
  const Milestones& milestones() const { return milestones_; }

 private:
  struct Applier;
  Effect ApplyPublished(uint64_t index, std::string_view producer, uint64_t epoch, uint64_t first_sequence,
                        uint32_t count, uint64_t batch_bytes);
  // Counts anew what is out of line, where it has to be counted.
  void Recount();
  // Of the subscriptions, the one with the lowest cursor has everything that waits for any.
  const Subscription* Slowest() const;
  Subscription* Find(SubscriptionId id);
  void PruneRefused();
  std::string Encode() const;
  bool Decode(raft::Reader& in);

  uint64_t applied_ = 0;
  int64_t time_ms_ = 0;
  uint64_t published_ = 0;
  uint32_t version_ = kFirstFactVersion;  // comes from the log alone (Safety rule 3)
  absl::btree_map<std::string, Producer, std::less<>> producers_;
  absl::btree_map<SubscriptionId, Subscription> subscriptions_;
  absl::btree_map<std::string, SubscriptionId, std::less<>> names_;  // of subscriptions_
  SubscriptionId last_subscription_ = 0;
  uint64_t forgotten_epoch_ = 0;
  // Batches that were not stored, at or above the lowest cursor. A leader that judges well appends none; but whoever
  // reads the log must not take one for waiting messages.
  absl::btree_set<uint64_t> refused_;
  // The last of them, from version 2 of the facts on.
  uint64_t last_refused_ = 0;
  Milestones milestones_;
  // From kFactsOfLimits on.
  QueueSettings settings_;
  uint64_t sized_from_ = 0;  // 0: not counted
  uint64_t published_bytes_ = 0;
  std::unique_ptr<Coverage> coverage_;  // with a limit
};

}  // namespace trireme::queue
