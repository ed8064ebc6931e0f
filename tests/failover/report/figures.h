// What a history amounts to in figures: throughput over time, how long queues were not available and why, duplicates.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/failover/checkers/cast.h"
#include "tests/failover/history/history.h"

namespace trireme::failover {

// Named RunFigures: an event has the other name.
class RunFigures : public Observer {
 public:
  static constexpr uint64_t kBinUs = 200'000;

  struct Bin {
    uint64_t confirmed = 0, delivered = 0;
  };
  struct FaultSpan {
    uint32_t number = 0;
    std::string kind, what;
    uint32_t node = 0;
    uint64_t began_us = 0, ended_us = 0;
    // Others were there at the same time.
    bool composed = false;
  };
  // The longest gap between two confirms of one queue's prober around one fault.
  struct Window {
    uint32_t fault = 0;
    std::string kind;
    // The target's part in this queue: "leader", "follower", or "all" when the fault is not aimed at one node.
    std::string role;
    uint32_t queue = 0;
    uint64_t gap_us = 0;
    bool composed = false;
  };
  // Windows of one kind and role that no other fault interferes with.
  struct WindowSummary {
    std::string kind, role;
    std::vector<uint64_t> gaps_us;  // ascending
    uint64_t median_us() const { return gaps_us[gaps_us.size() / 2]; }
    uint64_t max_us() const { return gaps_us.back(); }
  };
  struct Recovery {
    uint64_t healed_us = 0;
    // Until every queue had confirmed and delivered; nothing: it had not when the next fault came, or the end.
    std::optional<uint64_t> took_us;
  };

  using Observer::See;
  void See(uint64_t, const Setting& setting) override;
  void See(uint64_t, const QueueMade& made) override;
  void See(uint64_t, const ProducerMade& made) override;
  void See(uint64_t, const ConsumerMade& made) override;
  void See(uint64_t at_us, const Publish& call) override;
  void See(uint64_t at_us, const Published& done) override;
  void See(uint64_t at_us, const Delivered& run) override;
  void See(uint64_t, const LeaseLost& lost) override;
  void See(uint64_t at_us, const Settled& settled) override;
  void See(uint64_t, const Leads& leads) override;
  void See(uint64_t at_us, const FaultBegan& began) override;
  void See(uint64_t at_us, const FaultEnded& ended) override;
  void See(uint64_t at_us, const Healed&) override;
  void See(uint64_t at_us, const NodeChanged& changed) override;
  void See(uint64_t at_us, const Note& note) override;
  void See(uint64_t at_us, const PublishingStopped&) override;
  void See(uint64_t at_us, const Ended& ended) override;
  // After the last event.
  void Finish();

  std::map<std::string, std::string> settings;
  std::vector<Bin> bins;
  std::vector<FaultSpan> faults;
  std::vector<Window> windows;
  std::vector<WindowSummary> summaries;
  std::vector<Recovery> recoveries;
  std::vector<std::pair<uint64_t, std::string>> remarks;
  uint64_t published = 0, confirmed = 0, duplicates_confirmed = 0, refused = 0, unknown = 0;
  // Deliveries; those with a count above 1; those of messages without sequences that were stored more than once.
  uint64_t delivered = 0, redelivered = 0, stored_again = 0;
  uint64_t leases_lost = 0, stale_settles = 0;
  uint64_t length_us = 0;
  const Cast& cast() const { return cast_; }

 private:
  struct Probe {
    uint32_t queue = 0;
    // Times of confirms, and of the first invocation.
    std::vector<uint64_t> confirms_us;
  };
  // A node's process began to work, or ceased to.
  struct NodeStep {
    uint64_t at_us = 0;
    uint32_t node = 0;
    bool works = false;
  };
  struct Part {
    size_t fault = 0;
    // Who led when it began, by queue.
    std::map<uint32_t, uint32_t> leaders;
  };

  Bin& BinAt(uint64_t at_us);
  uint64_t LongestGap(const Probe& probe, uint64_t from_us, uint64_t to_us) const;
  // When a fault of that time has left no majority working: from when on there was one again.
  std::optional<uint64_t> MajorityBack(uint64_t from_us, uint64_t to_us) const;
  // The longest gap, or, after a fault that left no majority, the time from its return to the first confirm.
  uint64_t GapOf(const Probe& probe, const FaultSpan& fault, uint64_t to_us) const;
  void CheckRecovery(uint64_t at_us);

  Cast cast_;
  std::map<uint32_t, Probe> probes_;  // by producer
  std::map<uint32_t, uint32_t> leaders_;
  std::vector<Part> parts_;
  // In the order of time.
  std::vector<NodeStep> steps_;
  uint64_t stopped_us_ = 0;
  // Since the last healing.
  std::set<uint32_t> confirmed_queues_, delivered_queues_;
};

}  // namespace trireme::failover
