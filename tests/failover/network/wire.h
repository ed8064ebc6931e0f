// What becomes of a packet on its way from one host to another. Pure: time and chance are handed in.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>

namespace trireme::failover {

// One direction between two hosts. The default passes everything on at once.
struct WireRule {
  // Nothing arrives, and nobody is told.
  bool cut = false;
  // Nothing arrives until the rule is lifted; then all of it does.
  bool withhold = false;
  // Shares of the packets, 0 to 1.
  double lost = 0;
  double doubled = 0;
  // This share is late by up to `jitter`, so that others overtake it.
  double reordered = 0;
  std::chrono::microseconds delay{0};
  std::chrono::microseconds jitter{0};
  // 0 = as fast as it goes.
  uint64_t bytes_per_second = 0;

  friend bool operator==(const WireRule&, const WireRule&) = default;
};

// For one thread.
class Wire {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Fate {
    // How many copies arrive: 0, 1 or 2; and when.
    int copies = 0;
    Time due[2];
    // Keep it until the rule is lifted.
    bool withheld = false;
  };

  explicit Wire(uint64_t seed) : chance_(seed) {}

  void SetRule(const WireRule& rule) { rule_ = rule; }
  const WireRule& rule() const { return rule_; }
  Fate Send(Time now, size_t bytes);

  // What waits for its turn on a slow wire; more is dropped, as a switch does with a full queue.
  static constexpr std::chrono::milliseconds kMaxQueue{300};

 private:
  bool Chance(double share) { return share > 0 && std::uniform_real_distribution<>()(chance_) < share; }
  std::chrono::microseconds UpTo(std::chrono::microseconds most);

  WireRule rule_;
  std::mt19937_64 chance_;
  // When the wire has sent what it took before, and when the last packet in order arrives.
  Time idle_at_;
  Time last_due_;
};

}  // namespace trireme::failover
