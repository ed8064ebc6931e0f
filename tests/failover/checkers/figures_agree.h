#pragma once

#include <map>

#include "absl/container/flat_hash_set.h"
#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/pending_settles.h"

namespace trireme::failover {

// What the broker says of a queue is what its clients have seen: as many messages published as came out of it, nothing
// left, and as many acknowledged as were.
class FiguresAgree : public Checker {
 public:
  std::string_view name() const override { return "figures-agree"; }
  std::string_view promise() const override {
    return "the queues' figures at the end are those that the clients' deliveries and settles add up to";
  }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const Delivered& run) override {
    Seen& seen = seen_[cast_.consumer(run.consumer).queue];
    for (uint32_t i = 0; i < run.count; ++i) seen.places.insert(run.position + i);
  }
  void See(uint64_t, const Settle& settle) override {
    pending_.Add(settle, [](uint64_t) { return Nothing{}; });
    if (settle.disposition == Disposition::kAcknowledge) {
      Seen& seen = seen_[cast_.consumer(settle.consumer).queue];
      for (uint32_t i = 0; i < settle.count; ++i) seen.tried.insert(settle.position + i);
    }
  }
  void See(uint64_t, const Settled& settled) override {
    pending_.Done(settled, [&](const Pending::One& one) {
      if (settled.outcome != Settling::kOk || one.disposition != Disposition::kAcknowledge) return;
      seen_[cast_.consumer(settled.consumer).queue].acknowledged.insert(one.position);
    });
  }
  void See(uint64_t, const LeaseLost& lost) override {
    pending_.Lost(lost, [](const Pending::One&) {});
  }
  void See(uint64_t at_us, const Figures& figures) override { told_[figures.queue] = {at_us, figures}; }
  void See(uint64_t, const Ended& ended) override { drained_ = ended.drained; }

  void Finish() override {
    if (!drained_) return Undecided("the run did not end with empty queues");
    for (const auto& [queue, told] : told_) {
      const auto& [at_us, figures] = told;
      const Seen& seen = seen_[queue];
      const std::string name = cast_.QueueName(queue);
      Case();
      if (figures.published != seen.places.size()) {
        Broken(at_us, name, " says ", figures.published, " published; its consumers got ", seen.places.size());
      }
      if (figures.waiting + figures.in_flight != 0) {
        Broken(at_us, name, " says ", figures.waiting, " waiting and ", figures.in_flight, " in flight when empty");
      }
      // Of some acknowledgements nobody knows whether they arrived.
      if (figures.acknowledged < seen.acknowledged.size() || figures.acknowledged > seen.tried.size()) {
        Broken(at_us, name, " says ", figures.acknowledged, " acknowledged; its consumers know of ",
               seen.acknowledged.size(), " and tried ", seen.tried.size());
      }
    }
  }

 private:
  struct Nothing {};
  using Pending = PendingSettles<Nothing>;
  struct Seen {
    absl::flat_hash_set<uint64_t> places;
    // Positions that someone tried to acknowledge, and those where it is known to have counted.
    absl::flat_hash_set<uint64_t> tried;
    absl::flat_hash_set<uint64_t> acknowledged;
  };

  Cast cast_;
  Pending pending_;
  std::map<uint32_t, Seen> seen_;
  std::map<uint32_t, std::pair<uint64_t, Figures>> told_;
  bool drained_ = false;
};

}  // namespace trireme::failover
