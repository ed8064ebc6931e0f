#include "raft/host/quorum_clock.h"

#include <algorithm>
#include <cstdlib>

namespace trireme::raft {
namespace {

int64_t ToMs(MonotonicTime t) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(t.time_since_epoch()).count();
}

}  // namespace

void QuorumClock::Heard(NodeId node, int64_t wall_ms, MonotonicTime now) {
  // A clock that is not a date between 1970 and the year 10000 is not worth a computation that might overflow.
  constexpr int64_t kWallMsMax = 253'402'300'800'000;
  if (wall_ms <= 0 || wall_ms > kWallMsMax) return;
  int64_t ahead = wall_ms - ToMs(now);
  auto [it, fresh] = samples_.try_emplace(node, Sample{now, ahead, std::nullopt});
  if (fresh) return;
  Sample& sample = it->second;
  if (now - sample.window < kWindow) {
    sample.ahead_ms = std::max(sample.ahead_ms, ahead);
    return;
  }
  bool adjacent = now - sample.window < 2 * kWindow;
  sample.before_ms = adjacent ? std::optional(sample.ahead_ms) : std::nullopt;
  sample.ahead_ms = ahead;
  sample.window = now;
}

std::optional<int64_t> QuorumClock::ClockOf(const Sample& sample, MonotonicTime now) {
  if (now - sample.window >= 2 * kWindow) return std::nullopt;
  int64_t ahead = sample.ahead_ms;
  if (sample.before_ms.has_value() && now - sample.window < kWindow) ahead = std::max(ahead, *sample.before_ms);
  return ahead + ToMs(now);
}

int64_t QuorumClock::FurthestMs(int64_t wall_ms, MonotonicTime now) const {
  int64_t furthest = 0;
  for (const auto& [node, sample] : samples_) {
    if (std::optional<int64_t> clock = ClockOf(sample, now)) furthest = std::max(furthest, std::abs(wall_ms - *clock));
  }
  return furthest;
}

std::optional<int64_t> QuorumClock::OffsetMs(NodeId self, int64_t wall_ms, MonotonicTime now,
                                             const std::vector<NodeId>& nodes) const {
  std::vector<int64_t> clocks;
  for (NodeId node : nodes) {
    if (node == self) {
      clocks.push_back(wall_ms);
      continue;
    }
    auto found = samples_.find(node);
    if (found == samples_.end()) continue;
    if (std::optional<int64_t> clock = ClockOf(found->second, now)) clocks.push_back(*clock);
  }
  if (clocks.size() * 2 <= nodes.size()) return std::nullopt;
  std::sort(clocks.begin(), clocks.end());
  size_t middle = clocks.size() / 2;
  int64_t median =
      clocks.size() % 2 == 1 ? clocks[middle] : clocks[middle - 1] + (clocks[middle] - clocks[middle - 1]) / 2;
  return wall_ms - median;
}

}  // namespace trireme::raft
