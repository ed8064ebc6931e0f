#pragma once

#include "absl/container/flat_hash_map.h"
#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/pending_settles.h"

namespace trireme::failover {

// What was acknowledged or rejected, and told to be so, is never seen again.
class SettledStaysSettled : public Checker {
 public:
  std::string_view name() const override { return "settled-stays-settled"; }
  std::string_view promise() const override {
    return "a message whose settling was confirmed is not delivered, and not settled, again";
  }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ProducerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const Settle& settle) override {
    pending_.Add(settle, [](uint64_t) { return Nothing{}; });
  }
  void See(uint64_t at_us, const Settled& settled) override {
    pending_.Done(settled, [&](const Pending::One& one) {
      if (settled.outcome != Settling::kOk || one.disposition == Disposition::kRequeue) return;
      Case();
      const Place place{cast_.consumer(settled.consumer).queue, one.position};
      const auto [it, fresh] = settled_.try_emplace(place, settled.consumer);
      if (fresh) return;
      Broken(at_us, cast_.Describe(place), " was settled by ", cast_.Consumer(settled.consumer), ", and before by ",
             cast_.Consumer(it->second));
    });
  }
  void See(uint64_t, const LeaseLost& lost) override {
    pending_.Lost(lost, [](const Pending::One&) {});
  }
  void See(uint64_t at_us, const Delivered& run) override {
    for (uint32_t i = 0; i < run.count; ++i) {
      const Place place = cast_.PlaceOf(run, i);
      const auto it = settled_.find(place);
      if (it == settled_.end()) continue;
      Broken(at_us, cast_.Describe(MessageName{run.producer, run.first + i}), " was delivered to ",
             cast_.Consumer(run.consumer), " (", cast_.Describe(place), ", delivery ", run.deliveries,
             ") after it had been settled by ", cast_.Consumer(it->second));
    }
  }

 private:
  struct Nothing {};
  using Pending = PendingSettles<Nothing>;

  Cast cast_;
  Pending pending_;
  // By whom.
  absl::flat_hash_map<Place, uint32_t> settled_;
};

}  // namespace trireme::failover
