// What must hold of a queue's state at any time.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "broker/queue/machine.h"
#include "tests/script/say.h"

namespace trireme::queue {

// What is wrong with the runs of a subscription, or nothing.
inline std::optional<std::string> ProblemOf(const Subscription& s) {
  using script::Say;
  uint64_t in_flight = 0, returned = 0;
  std::vector<Slots> runs;
  for (const auto& [first, run] : s.in_flight) {
    runs.push_back({first, run.count});
    in_flight += run.count;
  }
  for (const auto& [first, run] : s.returned) {
    runs.push_back({first, run.count});
    returned += run.count;
  }
  if (in_flight != s.in_flight_messages || returned != s.returned_messages) return "the figures are off";
  uint64_t departing = 0, ordinal = 1;
  for (const auto& [first, run] : s.departures.runs()) {
    if (first < ordinal || run.first + run.count > s.next || run.target == 0) return Say("departure ", first);
    departing += run.count;
    ordinal = first + run.count;
  }
  if (departing != s.departures.messages() || ordinal > s.departures.last_ordinal() + 1)
    return Say(departing, " departures, of ", s.departures.last_ordinal());
  std::sort(runs.begin(), runs.end(), [](const Slots& a, const Slots& b) { return a.first < b.first; });
  Position end{};
  for (const Slots& run : runs) {
    if (!run.WithinEntry()) return Say("a run of ", run.count, " from ", run.first);
    if (run.first < end) return Say("two runs hold ", run.first);
    end = run.first + run.count;
  }
  if (end > s.next) return Say("a run ends at ", end, ", above the cursor ", s.next);
  return {};
}

// What is wrong with the state, or nothing.
inline std::optional<std::string> ProblemOf(const Machine& machine) {
  for (const auto& [id, s] : machine.subscriptions()) {
    // Every message is in one place; `default` has had them all.
    const uint64_t all = s.waiting + s.in_flight_messages + s.returned_messages + s.acknowledged + s.rejected +
                         s.purged + s.skipped + s.dead + s.redriven + s.expired + s.overflowed;
    if (id == 0 ? all != machine.published() : s.waiting > machine.published())
      return script::Say(all, " messages of ", machine.published(), " in subscription ", id);
    if (auto problem = ProblemOf(s)) return script::Say("subscription ", id, ": ", *problem);
  }
  return {};
}

}  // namespace trireme::queue
