#pragma once

#include "absl/container/flat_hash_map.h"
#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/pending_settles.h"

namespace trireme::failover {

// Safety rule 4: once a message has been delivered again, whoever had it before can change nothing any more.
class StaleTokens : public Checker {
 public:
  std::string_view name() const override { return "stale-tokens"; }
  std::string_view promise() const override {
    return "a settle under an older delivery's token than the newest is refused";
  }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const Delivered& run) override {
    for (uint32_t i = 0; i < run.count; ++i) {
      Newest& newest = newest_[cast_.PlaceOf(run, i)];
      if (run.deliveries > newest.deliveries) newest = {run.token, run.deliveries};
    }
  }
  void See(uint64_t, const Settle& settle) override {
    const uint32_t queue = cast_.consumer(settle.consumer).queue;
    // Judged by what had been delivered when the settle was sent off: what comes later may have been decided later.
    pending_.Add(settle, [&](uint64_t position) {
      const auto it = newest_.find({queue, position});
      return it != newest_.end() && it->second.token != settle.token ? it->second.deliveries : 0;
    });
  }
  void See(uint64_t at_us, const Settled& settled) override {
    pending_.Done(settled, [&](const Pending::One& one) {
      if (one.note == 0) return;
      Case();
      if (settled.outcome != Settling::kOk) return;
      Broken(at_us, cast_.Consumer(settled.consumer), " settled ",
             cast_.Describe(Place{cast_.consumer(settled.consumer).queue, one.position}), " with token ", one.token,
             " although delivery ", one.note, " had been made under another");
    });
  }
  void See(uint64_t, const LeaseLost& lost) override {
    pending_.Lost(lost, [&](const Pending::One& one) { Case(one.note != 0 ? 1 : 0); });
  }

 private:
  struct Newest {
    uint64_t token = 0;
    uint32_t deliveries = 0;
  };
  // The newer delivery's count; 0 = none.
  using Pending = PendingSettles<uint32_t>;

  Cast cast_;
  absl::flat_hash_map<Place, Newest> newest_;
  Pending pending_;
};

}  // namespace trireme::failover
