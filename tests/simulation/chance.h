// Seeded chance for what the world does: a stream of its own, so that the code under test draws from others.
#pragma once

#include <cstdint>

#include "raft/core/random.h"
#include "tests/simulation/clock.h"

namespace trireme::simulation {

class Chance {
 public:
  explicit Chance(uint64_t seed) : random_(seed) {}

  uint64_t Next() { return random_.Next(); }
  uint64_t Below(uint64_t bound) { return random_.Below(bound); }
  // Both included.
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_.Below(static_cast<uint64_t>(high - low) + 1));
  }
  // With probability `per_mille` / 1000.
  bool PerMille(int64_t per_mille) { return static_cast<int64_t>(random_.Below(1000)) < per_mille; }
  // Mostly near `usual`, now and then ten times that.
  Micros Latency(Micros usual) {
    Micros base = Between(usual / 2, usual + usual / 2);
    return PerMille(20) ? base * 10 : base;
  }

 private:
  raft::Random random_;
};

}  // namespace trireme::simulation
