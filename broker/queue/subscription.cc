#include "broker/queue/subscription.h"

#include "broker/queue/entry.h"

namespace trireme::queue {

int64_t RetryDelayMs(const SubscriptionSettings& settings, uint32_t deliveries) {
  // Beyond so many it has long reached the maximum, or does not grow.
  constexpr uint32_t kMaxSteps = 1'000;
  const uint64_t most = settings.max_retry_delay_ms;
  uint64_t delay = std::min<uint64_t>(settings.retry_delay_ms, most);
  for (uint32_t i = 1; i < std::min(deliveries, kMaxSteps) && delay < most; ++i)
    delay = std::min(most, delay * settings.retry_percent / 100);
  return static_cast<int64_t>(delay);
}

absl::btree_map<Position, InFlight> Subscription::HeldBesides(uint64_t session_number,
                                                              const std::vector<Token>& tokens) const {
  absl::btree_map<Position, InFlight> lacking;
  for (const auto& [first, run] : in_flight) {
    if (run.holder == session_number) lacking.emplace_hint(lacking.end(), first, run);
  }
  for (const Token& token : tokens) {
    if (!token.slots.WithinEntry()) continue;
    CutOut(lacking, token.slots,
           [&](Position, const InFlight& run) { return run.checkout_index == token.checkout_index; });
  }
  return lacking;
}

bool Subscription::HasOutOfLine(uint64_t index) const {
  auto has = [index](const auto& runs) {
    auto it = runs.lower_bound(Position(index, 0));
    return it != runs.end() && it->first.index() == index;
  };
  return has(in_flight) || has(returned);
}

void Subscription::Encode(raft::Writer& out, uint32_t version) const {
  if (version >= 2) {
    out.Counted(name);
    EncodeSettings(out, settings);
    out.Varint(skipped);
  }
  if (version >= 3) out.Varint(dead);
  out.Varint(next.packed());
  out.Varint(waiting);
  out.Varint(waiting_from);
  out.Varint(acknowledged);
  out.Varint(rejected);
  out.Varint(purged);
  out.Varint(last_session_number);
  out.Varint(sessions.size());
  for (const auto& [id, s] : sessions) {
    out.Counted(id);
    out.Varint(s.number);
    out.Varint(s.epoch);
    out.Counted(s.consumer);
    out.Varint(s.timeout_ms);
  }
  out.Varint(in_flight.size());
  uint64_t last = 0;  // the end of the run before
  for (const auto& [first, run] : in_flight) {
    out.Varint(first.packed() - last);
    out.Varint(run.count);
    out.Varint(run.deliveries);
    out.Varint(run.checkout_index);
    out.Varint(run.holder);
    out.Signed(run.deadline_ms);
    if (version >= kFactsOfLimits) out.Varint(run.size);
    last = first.packed() + run.count;
  }
  out.Varint(returned.size());
  last = 0;
  for (const auto& [first, run] : returned) {
    out.Varint(first.packed() - last);
    out.Varint(run.count);
    out.Varint(run.deliveries);
    if (version >= 3) out.Signed(run.due_ms);
    if (version >= kFactsOfLimits) out.Varint(run.size);
    last = first.packed() + run.count;
  }
  if (version >= 4) {
    out.Varint(redriven);
    out.Varint(arrived);
    departures.Encode(out);
  }
  if (version >= kFactsOfLimits) out.Varint(waiting_bytes);
  if (version >= kFactsOfExpiry) out.Varint(expired);
  if (version >= kFactsOfOverflow) out.Varint(overflowed);
}

bool Subscription::Decode(raft::Reader& in, uint32_t version, uint64_t applied) {
  if (version >= 2) {
    name = in.Counted();
    settings = DecodeSettings(in);
    skipped = in.Varint();
  }
  if (version >= 3) dead = in.Varint();
  next = Position(in.Varint());
  waiting = in.Varint();
  waiting_from = in.Varint();
  acknowledged = in.Varint();
  rejected = in.Varint();
  purged = in.Varint();
  last_session_number = in.Varint();
  bool good = next.index() <= applied && waiting_from <= applied && (waiting == 0 || waiting_from > 0);
  const size_t session_count = in.Count(5);
  for (size_t i = 0; i < session_count && in.ok(); ++i) {
    SessionId id(in.Counted());
    Session s;
    s.number = in.Varint();
    s.epoch = in.Varint();
    s.consumer = in.Counted();
    s.timeout_ms = static_cast<uint32_t>(in.Varint());
    good &= s.number > 0 && s.number <= last_session_number && held.try_emplace(s.number, 0).second;
    good &= sessions.try_emplace(std::move(id), std::move(s)).second;
  }
  // Ends where the last run does. The first of a run is told by its distance from the one before.
  auto follows = [&](Position& end, uint64_t distance, uint64_t count) {
    const Slots run{Position(end.packed() + distance), static_cast<uint32_t>(count)};
    const bool fits = count <= kMaxBatchMessages && run.WithinEntry() && run.first >= end && run.first < next;
    end = run.first + run.count;
    return fits && end <= next;
  };
  Position end;
  const size_t in_flight_count = in.Count(6);
  for (size_t i = 0; i < in_flight_count && in.ok() && good; ++i) {
    InFlight run;
    const uint64_t distance = in.Varint(), count = in.Varint();
    good &= follows(end, distance, count);
    run.count = static_cast<uint32_t>(count);
    run.deliveries = static_cast<uint32_t>(in.Varint());
    run.checkout_index = in.Varint();
    run.holder = in.Varint();
    run.deadline_ms = in.Signed();
    if (version >= kFactsOfLimits) run.size = in.Varint();
    good &= run.deliveries > 0 && run.checkout_index <= applied;
    if (run.holder != 0) {
      auto holder = held.find(run.holder);
      good &= holder != held.end();
      if (good) holder->second += run.count;
    }
    in_flight_messages += run.count;
    in_flight.emplace_hint(in_flight.end(), Position(end.packed() - run.count), run);
  }
  end = Position();
  const size_t returned_count = in.Count(3);
  for (size_t i = 0; i < returned_count && in.ok() && good; ++i) {
    Returned run;
    const uint64_t distance = in.Varint(), count = in.Varint();
    good &= follows(end, distance, count);
    run.count = static_cast<uint32_t>(count);
    run.deliveries = static_cast<uint32_t>(in.Varint());
    if (version >= 3) run.due_ms = in.Signed();
    if (version >= kFactsOfLimits) run.size = in.Varint();
    returned_messages += run.count;
    returned.emplace_hint(returned.end(), Position(end.packed() - run.count), run);
  }
  if (version >= 4) {
    redriven = in.Varint();
    arrived = in.Varint();
    good &= departures.Decode(in, next);
  }
  if (version >= kFactsOfLimits) waiting_bytes = in.Varint();
  if (version >= kFactsOfExpiry) expired = in.Varint();
  if (version >= kFactsOfOverflow) overflowed = in.Varint();
  good &= waiting > 0 || waiting_bytes == 0;
  return in.ok() && good && Apart();
}

// Whether no message is both in flight and returned.
bool Subscription::Apart() const {
  auto run = in_flight.begin();
  for (const auto& [first, back] : returned) {
    while (run != in_flight.end() && run->first + run->second.count <= first) ++run;
    if (run != in_flight.end() && run->first < first + back.count) return false;
  }
  return true;
}

}  // namespace trireme::queue
