// How long a queue may be unavailable, by what has happened: the goals that this project has set itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace trireme::failover {

struct Goal {
  uint64_t median_us = 0;
  uint64_t max_us = 0;
};

// For a fault's kind and its target's role in the queue. Nothing: no goal was set for it.
inline std::optional<Goal> GoalFor(std::string_view kind, std::string_view role) {
  constexpr uint64_t kMs = 1'000;
  if (kind == "power") return Goal{3'000 * kMs, 5'000 * kMs};
  if (kind == "stop" || kind == "upgrade") {
    return role == "follower" ? Goal{20 * kMs, 100 * kMs} : Goal{50 * kMs, 100 * kMs};
  }
  const bool single = kind == "kill" || kind == "isolate" || kind == "cut-peers" || kind == "pause" || kind == "narrow";
  if (role == "follower" && single) return Goal{20 * kMs, 100 * kMs};
  if (role != "leader") return std::nullopt;
  if (kind == "kill") return Goal{100 * kMs, 400 * kMs};
  if (kind == "isolate" || kind == "cut-peers" || kind == "pause") return Goal{1'500 * kMs, 3'000 * kMs};
  if (kind == "disk-stall") return Goal{2'000 * kMs, 3'000 * kMs};
  return std::nullopt;
}

}  // namespace trireme::failover
