#pragma once

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "tests/failover/checkers/cast.h"
#include "tests/failover/checkers/checker.h"

namespace trireme::failover {

// A message is in one consumer's hands at a time. A consumer holds it from its delivery until it settles it, is told
// that the lease is lost, has let its deadline pass, or is gone. So this also says that nobody who lives, hears and
// works in time is robbed of a message.
class OneHolder : public Checker {
 public:
  std::string_view name() const override { return "one-holder"; }
  std::string_view promise() const override {
    return "no message is given to a consumer while another, or the same, still holds it";
  }

  void See(uint64_t, const Setting& setting) override {
    // How far the nodes' clocks were set apart, for leases that are deadlines.
    uint64_t slack_ms = 0;
    if (setting.name == "lease-slack-ms" && absl::SimpleAtoi(setting.value, &slack_ms)) slack_us_ = slack_ms * 1'000;
  }
  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ProducerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerGone& gone) override { gone_[gone.consumer] = true; }
  void See(uint64_t, const WorkerKilled& killed) override { absent_[killed.worker] = kForEver; }
  void See(uint64_t, const WorkerPaused& paused) override { absent_[paused.worker] = kForEver; }
  void See(uint64_t at_us, const WorkerResumed& resumed) override { absent_[resumed.worker] = at_us + kGraceUs; }

  void See(uint64_t at_us, const Delivered& run) override {
    Case(run.count);
    for (uint32_t i = 0; i < run.count; ++i) {
      const Place place = cast_.PlaceOf(run, i);
      const auto [it, fresh] = holds_.try_emplace(place);
      Hold& hold = it->second;
      if (!fresh && Live(hold, at_us)) {
        const MessageName name{run.producer, run.first + i};
        if (hold.consumer == run.consumer) {
          Broken(at_us, cast_.Describe(name), " was given again to ", cast_.Consumer(run.consumer), " which holds it (",
                 cast_.Describe(place), ", delivery ", hold.deliveries, ", then ", run.deliveries, ")");
        } else {
          Broken(at_us, cast_.Describe(name), " was given to ", cast_.Consumer(run.consumer), " while ",
                 cast_.Consumer(hold.consumer), " holds it since ", hold.since_us / 1'000, " ms (",
                 cast_.Describe(place), ", delivery ", hold.deliveries, ", then ", run.deliveries, ")");
        }
      }
      hold = {run.consumer, run.deliveries, run.token, at_us, run.until_us};
    }
  }
  void See(uint64_t, const Settle& settle) override { Release(settle); }
  void See(uint64_t, const LeaseLost& lost) override { Release(lost); }
  void See(uint64_t, const Extended& extended) override {
    const auto it = holds_.find({cast_.consumer(extended.consumer).queue, extended.position});
    if (it != holds_.end() && it->second.token == extended.token) it->second.until_us = extended.until_us;
  }

 private:
  static constexpr uint64_t kForEver = UINT64_MAX;
  // A client that was paused looks at its clock before it hands anything out, and tells within a second.
  static constexpr uint64_t kGraceUs = 1'500'000;

  struct Hold {
    uint32_t consumer = 0;
    uint32_t deliveries = 0;
    uint64_t token = 0;
    uint64_t since_us = 0;
    uint64_t until_us = 0;
  };

  bool Live(const Hold& hold, uint64_t at_us) const {
    if (gone_.contains(hold.consumer)) return false;
    if (hold.until_us != 0 && at_us + slack_us_ >= hold.until_us) return false;
    const auto absent = absent_.find(cast_.consumer(hold.consumer).worker);
    return absent == absent_.end() || at_us > absent->second;
  }

  template <class Run>
  void Release(const Run& run) {
    const uint32_t queue = cast_.consumer(run.consumer).queue;
    for (uint32_t i = 0; i < run.count; ++i) {
      const auto it = holds_.find({queue, run.position + i});
      if (it != holds_.end() && it->second.consumer == run.consumer && it->second.token == run.token) holds_.erase(it);
    }
  }

  Cast cast_;
  uint64_t slack_us_ = 0;
  absl::flat_hash_map<Place, Hold> holds_;
  absl::flat_hash_map<uint32_t, bool> gone_;
  // Workers that do not run, or have not come to themselves yet: until when.
  absl::flat_hash_map<uint32_t, uint64_t> absent_;
};

}  // namespace trireme::failover
