// A subscription's state: a cursor and the exceptions below it (Safety rule 1).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "broker/queue/departures.h"
#include "broker/queue/facts.h"
#include "broker/queue/position.h"
#include "raft/core/coding.h"

namespace trireme::queue {

// A consumer's session as every replica knows it. Its number is given by apply and never reused in its subscription;
// what is in flight names its holder by it. 0 is "a single receive, until its deadline".
struct Session {
  uint64_t number = 0;
  uint64_t epoch = 0;
  std::string consumer;
  uint32_t timeout_ms = 0;
};

// Messages of one entry that one holder has.
struct InFlight {
  uint32_t count = 0;
  uint32_t deliveries = 0;  // this one included
  uint64_t checkout_index = 0;
  uint64_t holder = 0;      // a session's number, or 0
  int64_t deadline_ms = 0;  // with holder 0
  uint64_t size = 0;        // what each counts for (MessageBytes); 0: it was stored before that was counted
};

// Messages of one entry that were given back.
struct Returned {
  uint32_t count = 0;
  uint32_t deliveries = 0;  // so far
  int64_t due_ms = 0;       // not to be delivered before, in queue time
  uint64_t size = 0;        // as in InFlight
};

// How long a message that was delivered so often stays away when it is requeued.
int64_t RetryDelayMs(const SubscriptionSettings& settings, uint32_t deliveries);

// Runs never overlap, neither in one map nor over both, and none reaches over the end of its entry.
struct Subscription {
  std::string name;
  SubscriptionSettings settings;
  Position next;         // from here on everything is waiting
  uint64_t waiting = 0;  // messages at or above `next`
  uint64_t waiting_bytes = 0;
  // Where something waits, no entry below this one holds any of it. The cursor alone does not say so: it stays behind
  // while nothing waits, over entries that compaction takes meanwhile.
  uint64_t waiting_from = 0;
  absl::btree_map<Position, InFlight> in_flight;
  absl::btree_map<Position, Returned> returned;
  uint64_t in_flight_messages = 0;
  uint64_t returned_messages = 0;
  uint64_t acknowledged = 0;
  uint64_t rejected = 0;
  uint64_t purged = 0;
  uint64_t skipped = 0;  // passed over by its filter
  uint64_t dead = 0;     // came back after too many deliveries
  uint64_t redriven = 0;
  uint64_t expired = 0;     // their time was over
  uint64_t overflowed = 0;  // left for newer ones
  // Of those that were rejected, dead or redriven, the ones that are on their way to another queue; and how many are
  // there.
  Departures departures;
  uint64_t arrived = 0;
  absl::btree_map<SessionId, Session> sessions;
  uint64_t last_session_number = 0;
  // Messages in flight by session number, of every session; follows from in_flight.
  absl::btree_map<uint64_t, uint64_t> held;

  uint64_t HeldBy(uint64_t session_number) const {
    auto it = held.find(session_number);
    return it == held.end() ? 0 : it->second;
  }
  // With single_active, the number of the session that is given messages: the oldest one, so that it stays the same
  // whoever leads, until it ends, and then the next in line is. 0: there is none.
  uint64_t active_session() const { return held.empty() ? 0 : held.begin()->first; }
  // Whether a checkout may go to this holder. Of a single active consumer nothing does while somebody else, even a
  // single receive of before, holds a lease.
  bool MayHold(uint64_t session_number) const {
    return !settings.single_active ||
           (session_number != 0 && session_number == active_session() && in_flight_messages == HeldBy(session_number));
  }
  // What the session has in flight besides `held`: what a consumer that comes back and names what it holds must be sent
  // again, with the same count and token (Safety rule 5).
  absl::btree_map<Position, InFlight> HeldBesides(uint64_t session_number, const std::vector<Token>& held) const;
  // Moves the cursor to `to`, which leaves `messages` behind that waited, of so many bytes.
  void Advance(Position to, uint64_t messages, uint64_t bytes) {
    waiting -= messages;
    waiting_bytes = waiting == 0 ? 0 : waiting_bytes - std::min(bytes, waiting_bytes);
    next = to;
    waiting_from = std::max(waiting_from, next.index());
  }
  // No entry at or below it, of those applied up to `applied`, holds a message at or above the cursor.
  uint64_t Floor(uint64_t applied) const { return waiting == 0 ? applied : waiting_from - 1; }
  // `count` messages, of so many bytes, were stored in the entry at `index`, behind all others.
  void Publish(uint64_t index, uint32_t count, uint64_t bytes) {
    if (waiting == 0) waiting_from = index;
    waiting += count;
    waiting_bytes += bytes;
  }
  // Whether any message of the entry at `index` is in flight or returned.
  bool HasOutOfLine(uint64_t index) const;
  // What is recorded one by one, which the cap of Safety rule 1 bounds.
  size_t exceptions() const { return in_flight.size() + returned.size() + departures.runs().size(); }

  // `version`: of the facts in force.
  void Encode(raft::Writer& out, uint32_t version) const;
  // False if it does not parse, or if what it says cannot be after the entry `applied`: whoever reads on relies on runs
  // that are in order, within their entries, and below the cursor.
  bool Decode(raft::Reader& in, uint32_t version, uint64_t applied);

 private:
  bool Apart() const;
};

// The parts of `runs` that lie in `slots`: visit(first, part), where the part is a run with its count adjusted.
template <typename Run, typename Visit>
void VisitWithin(const absl::btree_map<Position, Run>& runs, const Slots& slots, Visit visit) {
  const Position end = slots.first + slots.count;
  auto it = runs.upper_bound(slots.first);
  if (it != runs.begin()) --it;
  for (; it != runs.end() && it->first < end; ++it) {
    const Position from = std::max(it->first, slots.first), to = std::min(it->first + it->second.count, end);
    if (to <= from) continue;
    Run part = it->second;
    part.count = static_cast<uint32_t>(to.packed() - from.packed());
    visit(from, part);
  }
}

// Cuts the part of `runs` that lies in `slots` out, run by run in order: visit(first, part), where the part is a run
// with its count adjusted; what sticks out on either side stays. visit says whether the run is to be taken; one that is
// not stays whole.
template <typename Run, typename Visit>
void CutOut(absl::btree_map<Position, Run>& runs, const Slots& slots, Visit visit) {
  const Position end = slots.first + slots.count;
  auto it = runs.upper_bound(slots.first);
  if (it != runs.begin()) {
    auto before = std::prev(it);
    if (before->first + before->second.count > slots.first) it = before;
  }
  while (it != runs.end() && it->first < end) {
    const Position first = it->first;
    const Run run = it->second;
    const Position run_end = first + run.count;
    const Position from = std::max(first, slots.first), to = std::min(run_end, end);
    Run part = run;
    part.count = static_cast<uint32_t>(to.packed() - from.packed());
    if (!visit(from, part)) {
      ++it;
      continue;
    }
    it = runs.erase(it);
    if (first < from) {
      Run left = run;
      left.count = static_cast<uint32_t>(from.packed() - first.packed());
      it = std::next(runs.emplace_hint(it, first, left));
    }
    if (to < run_end) {
      Run right = run;
      right.count = static_cast<uint32_t>(run_end.packed() - to.packed());
      it = std::next(runs.emplace_hint(it, to, right));
    }
  }
}

}  // namespace trireme::queue
