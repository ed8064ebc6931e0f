// Says which of many equal log lines to write.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "raft/host/shard.h"

namespace trireme::raft {

// One line per `interval`; what was kept back in between is counted. Not thread-safe.
class RateLimit {
 public:
  explicit RateLimit(std::chrono::milliseconds interval = std::chrono::seconds(10)) : interval_(interval) {}

  bool Allow(MonotonicTime now) {
    if (used_ && now - last_ < interval_) {
      ++kept_back_;
      return false;
    }
    used_ = true;
    last_ = now;
    return true;
  }
  // The number kept back since the last line; starts to count anew.
  uint64_t TakeKeptBack() { return std::exchange(kept_back_, 0); }

 private:
  std::chrono::milliseconds interval_;
  MonotonicTime last_;
  uint64_t kept_back_ = 0;
  bool used_ = false;
};

}  // namespace trireme::raft
