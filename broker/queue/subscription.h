// A cursor over a queue's log with what is out of line below it: one subscription's replicated state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "raft/core/coding.h"

namespace trireme::queue {

// A consumer's session. Its leases live as long as it does.
struct Session {
  SessionNumber number = 0;
  SessionId id;
  uint64_t epoch = 0;
  std::string consumer;
  uint32_t timeout_ms = 0;
  // What it holds; derived from the flights, not stored.
  uint64_t messages = 0;
  uint64_t runs = 0;
};

// Messages checked out together, in so far as they are not settled: consecutive slots of one entry from the key on.
struct Flight {
  uint32_t count = 0;
  uint32_t deliveries = 0;
  uint64_t checkout_index = 0;
  SessionNumber holder = 0;  // 0: a single receive,
  int64_t deadline_ms = 0;   // whose lease ends then, in queue time
};

// Messages that were given back. Neighbours with the same count of deliveries are one.
struct ReturnedRun {
  uint32_t count = 0;
  uint32_t deliveries = 0;
};

// Exact counts of messages; published == acknowledged + rejected + purged + waiting + in_flight.
struct SubscriptionFigures {
  uint64_t published = 0;
  uint64_t waiting = 0;  // not delivered yet, or returned
  uint64_t in_flight = 0;
  uint64_t acknowledged = 0;
  uint64_t rejected = 0;
  uint64_t purged = 0;
  uint64_t sessions = 0;
  uint64_t exceptions = 0;
};

// Everything from next() on waits, and nothing is recorded for it. Below it, what is neither in flight nor returned is
// done with. So its size is that of the exceptions, never of the backlog (Safety rule 1). Changed by facts alone, each
// conditional on what it names (Safety rule 2); every member function is deterministic (Safety rule 3).
class Subscription {
 public:
  using Flights = absl::btree_map<Position, Flight>;
  using ReturnedRuns = absl::btree_map<Position, ReturnedRun>;
  using Sessions = absl::btree_map<SessionNumber, Session>;

  // The default of the cap on exceptions() at which the dispatcher takes no new messages (Safety rule 1). Apply does
  // not look at it: it is policy.
  static constexpr size_t kMaxExceptions = 100'000;

  // ---- facts, as the machine applies them. Each appends its one effect to `effects`.
  void Apply(const fact::Attached& fact, Effects* effects);
  // Several Detached in a row are one walk over the flights.
  void Apply(const fact::Detached& fact, Effects* effects);
  // `index` is that of the fact's entry. `refused` holds the entries whose batches were not stored.
  void Apply(uint64_t index, const fact::CheckedOut& fact, const absl::btree_set<uint64_t>& refused, Effects* effects);
  void Apply(const fact::Settled& fact, Effects* effects);
  void Apply(const fact::LeaseExtended& fact, Effects* effects);
  void Apply(const fact::Expired& fact, Effects* effects);
  // Drops what waits in entries before `index`; returns how many messages that were.
  uint64_t Purge(uint64_t index);
  // A batch of `count` was stored behind everything else.
  void Published(uint32_t count);

  // ---- state
  Position next() const { return next_; }
  // Messages at and after next(), returned ones not counted.
  uint64_t waiting_in_line() const { return waiting_; }
  const Flights& flights() const { return flights_; }
  const ReturnedRuns& returned() const { return returned_; }
  const Sessions& sessions() const { return sessions_; }
  // Null if there is none.
  const Session* FindSession(std::string_view id) const;
  size_t exceptions() const { return flights_.size() + returned_.size(); }
  SubscriptionFigures figures() const;
  // How many messages of entry `index` are in flight or returned.
  uint32_t OutOfLine(uint64_t index) const;
  // Entries with a message in line all have an index above this one. `applied` is the last index applied.
  uint64_t Floor(uint64_t applied) const;
  // The current parts of `token`, as runs; empty when its lease is lost.
  void Current(const Token& token, std::vector<EffectRun>* runs) const;

  void Encode(raft::Writer* out) const;
  // Into a new subscription. False if the bytes are not what Encode wrote.
  bool Decode(raft::Reader* in);

 private:
  template <typename Condition, typename Take>
  void ForCurrent(const std::vector<Token>& tokens, Effects* effects, bool tell_lost, Condition condition, Take take);
  Flights::iterator Cut(Flights::iterator flight, Position from, Position to);
  void AddReturned(Position first, ReturnedRun run);
  bool TakeReturned(const Slots& slots, uint32_t* deliveries);
  Session* SessionOf(SessionNumber number);

  Position next_{1, 0};
  uint64_t waiting_ = 0;
  uint64_t returned_messages_ = 0;
  uint64_t in_flight_ = 0;
  uint64_t published_ = 0, acknowledged_ = 0, rejected_ = 0, purged_ = 0;
  Flights flights_;
  ReturnedRuns returned_;
  Sessions sessions_;
  SessionNumber last_session_ = 0;
  // By id; not part of the state.
  absl::flat_hash_map<SessionId, SessionNumber> numbers_;
};

}  // namespace trireme::queue
