#pragma once

#include <map>

#include "tests/failover/checkers/cast.h"
#include "tests/failover/checkers/checker.h"

namespace trireme::failover {

// Safety is not enough: when nothing is broken any more, every queue stores and delivers again soon, and at the end all
// of them run empty.
class Progress : public Checker {
 public:
  static constexpr uint64_t kWithinUs = 10'000'000;

  std::string_view name() const override { return "progress"; }
  std::string_view promise() const override {
    return "every queue confirms and delivers within 10 s after the last fault was healed, and runs empty in the end";
  }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ProducerMade& made) override {
    cast_.Add(made);
    if (made.prober) probed_[made.queue] = {};
  }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t at_us, const Healed&) override {
    Now(at_us);
    for (auto& [queue, wait] : probed_) wait = {at_us, true, true};
  }
  // What is broken anew, or stopped, need not recover first.
  void See(uint64_t at_us, const FaultBegan&) override { Excuse(at_us); }
  void See(uint64_t at_us, const PublishingStopped&) override { Excuse(at_us); }
  void See(uint64_t at_us, const Published& done) override {
    Now(at_us);
    if (done.outcome != Stored::kStored && done.outcome != Stored::kDuplicate) return;
    const auto it = probed_.find(cast_.producer(done.producer).queue);
    if (it != probed_.end() && it->second.confirm) {
      Case();
      it->second.confirm = false;
    }
  }
  void See(uint64_t at_us, const Delivered& run) override {
    Now(at_us);
    const auto it = probed_.find(cast_.consumer(run.consumer).queue);
    if (it != probed_.end() && it->second.delivery) {
      Case();
      it->second.delivery = false;
    }
  }
  void See(uint64_t at_us, const Ended& ended) override {
    Now(at_us);
    ended_ = true;
    if (!ended.drained) Broken(at_us, "the queues did not run empty");
  }
  void Finish() override {
    if (!ended_) Undecided("the run was broken off");
  }

 private:
  struct Wait {
    uint64_t since_us = 0;
    bool confirm = false;
    bool delivery = false;
  };

  void Now(uint64_t at_us) {
    for (auto& [queue, wait] : probed_) {
      if ((!wait.confirm && !wait.delivery) || at_us <= wait.since_us + kWithinUs) continue;
      Broken(at_us, cast_.QueueName(queue), wait.confirm ? " confirmed" : " delivered",
             " nothing within 10 s after all was healed at ", wait.since_us / 1'000, " ms");
      wait = {};
    }
  }
  void Excuse(uint64_t at_us) {
    Now(at_us);
    for (auto& [queue, wait] : probed_) wait = {};
  }

  Cast cast_;
  std::map<uint32_t, Wait> probed_;
  bool ended_ = false;
};

}  // namespace trireme::failover
