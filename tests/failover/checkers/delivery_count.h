#pragma once

#include "absl/container/flat_hash_map.h"
#include "tests/failover/checkers/cast.h"
#include "tests/failover/checkers/checker.h"

namespace trireme::failover {

// How often a message was delivered is counted across failovers: a later delivery has a higher count, and no two have
// the same. (A delivery that did not arrive counts, so a count may skip.)
class DeliveryCount : public Checker {
 public:
  std::string_view name() const override { return "delivery-count"; }
  std::string_view promise() const override { return "the delivery count grows with each delivery of a message"; }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ProducerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t at_us, const Delivered& run) override {
    if (run.deliveries == 0) Broken(at_us, cast_.Consumer(run.consumer), " got a message with the count 0");
    const bool stream = cast_.consumer(run.consumer).session_timeout_us > 0;
    for (uint32_t i = 0; i < run.count; ++i) {
      const Place place = cast_.PlaceOf(run, i);
      const auto [it, fresh] = last_.try_emplace(place, Last{run.token, run.deliveries, stream});
      Last& last = it->second;
      if (fresh || last.token == run.token) continue;
      Case();
      // Streams' tokens tell which checkout was the earlier one; a late frame may bring it after the other.
      const bool later = !(stream && last.stream) || run.token > last.token;
      if (later ? run.deliveries <= last.deliveries : run.deliveries >= last.deliveries) {
        Broken(at_us, cast_.Describe(MessageName{run.producer, run.first + i}), " at ", cast_.Describe(place),
               " was delivered with the count ", run.deliveries, " under token ", run.token, ", and before with ",
               last.deliveries, " under ", last.token);
      }
      if (later) last = {run.token, run.deliveries, stream};
    }
  }

 private:
  struct Last {
    uint64_t token = 0;
    uint32_t deliveries = 0;
    bool stream = false;
  };

  Cast cast_;
  absl::flat_hash_map<Place, Last> last_;
};

}  // namespace trireme::failover
