// The delivery count is exact, across failovers too: one more with each checkout, the same when one is sent again.
#pragma once

#include <map>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class DeliveryCount : public Checker {
 public:
  const char* name() const override { return "delivery count"; }

  void Delivering(const Delivered& d) override {
    auto [it, first] = last_.emplace(d.position, Last{d.checkout_index, d.deliveries, lapses_});
    Last& last = it->second;
    if (first) {
      if (d.deliveries == 0 || d.deliveries > 1 + lapses_) Fail(d.body, " comes first with count ", d.deliveries);
    } else if (d.checkout_index == last.checkout_index) {
      if (d.deliveries != last.count) Fail(d.body, " comes again with count ", d.deliveries, ", not ", last.count);
    } else if (d.checkout_index < last.checkout_index) {
      Fail(d.body, " comes of checkout ", d.checkout_index, " after ", last.checkout_index);
    } else if (d.deliveries <= last.count || d.deliveries > last.count + 1 + (lapses_ - last.lapses)) {
      Fail(d.body, " comes with count ", d.deliveries, " after ", last.count);
    } else {
      last = {d.checkout_index, d.deliveries, lapses_};
    }
  }
  // Every checkout is seen by its consumer, but for the last ones of one that is gone.
  void Lapsing() override { ++lapses_; }

 private:
  struct Last {
    uint64_t checkout_index = 0;
    uint32_t count = 0;
    uint32_t lapses = 0;  // before it was seen
  };
  uint32_t lapses_ = 0;
  std::map<Position, Last> last_;
};

}  // namespace trireme::queue_simulation
