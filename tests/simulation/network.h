// A simulated network between numbered places: delays, loses, duplicates, reorders, and is cut in any shape.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "tests/simulation/chance.h"
#include "tests/simulation/clock.h"

namespace trireme::simulation {

struct NetworkFaults {
  Micros delay = 500;       // one way, usual
  int64_t loss = 0;         // per mille of the messages
  int64_t duplication = 0;  // per mille
  int64_t reordering = 0;   // per mille that may overtake and be overtaken; the rest keep a link's order
};

// `Payload` is what is sent; copied only when it is duplicated. Places are any ordered type's values.
template <typename Place, typename Payload>
class Network {
 public:
  using Deliver = std::function<void(Place from, Place to, Payload payload)>;

  // All outlive the network. `deliver` is called at the moment of arrival.
  Network(Clock* clock, Chance* chance, Deliver deliver)
      : clock_(clock), chance_(chance), deliver_(std::move(deliver)) {}

  NetworkFaults& faults() { return faults_; }

  void Send(Place from, Place to, Payload payload) {
    if (chance_->PerMille(faults_.loss)) {
      ++counts_.lost;
      return;
    }
    if (chance_->PerMille(faults_.duplication)) {
      ++counts_.duplicates;
      Launch(from, to, payload);
    }
    Launch(from, to, std::move(payload));
  }

  // One direction; what is on its way is lost on arrival.
  void Cut(Place from, Place to) { cut_.insert({from, to}); }
  void Mend(Place from, Place to) { cut_.erase({from, to}); }
  void Heal() { cut_.clear(); }
  // What became of what was sent.
  struct Counts {
    uint64_t lost = 0, duplicates = 0, reordered = 0;
  };
  const Counts& counts() const { return counts_; }
  bool IsCut(Place from, Place to) const { return cut_.count({from, to}) > 0; }

 private:
  void Launch(Place from, Place to, Payload payload) {
    Micros at = clock_->now() + chance_->Latency(faults_.delay);
    if (chance_->PerMille(faults_.reordering)) {
      ++counts_.reordered;
    } else {
      Micros& last = last_arrival_[{from, to}];
      last = at = std::max(at, last);
    }
    clock_->After(at - clock_->now(), [this, from, to, payload = std::move(payload)]() mutable {
      if (!IsCut(from, to)) deliver_(from, to, std::move(payload));
    });
  }

  Clock* clock_;
  Chance* chance_;
  Deliver deliver_;
  NetworkFaults faults_;
  Counts counts_;
  std::set<std::pair<Place, Place>> cut_;
  std::map<std::pair<Place, Place>, Micros> last_arrival_;
};

}  // namespace trireme::simulation
