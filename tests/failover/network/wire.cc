#include "tests/failover/network/wire.h"

#include <algorithm>

namespace trireme::failover {

std::chrono::microseconds Wire::UpTo(std::chrono::microseconds most) {
  if (most.count() <= 0) return std::chrono::microseconds(0);
  return std::chrono::microseconds(std::uniform_int_distribution<int64_t>(0, most.count())(chance_));
}

Wire::Fate Wire::Send(Time now, size_t bytes) {
  Fate fate;
  if (rule_.cut) return fate;
  if (rule_.withhold) {
    fate.withheld = true;
    return fate;
  }
  if (Chance(rule_.lost)) return fate;
  Time sent = now;
  if (rule_.bytes_per_second > 0) {
    sent = std::max(now, idle_at_) + std::chrono::microseconds(bytes * 1'000'000 / rule_.bytes_per_second);
    if (sent - now > kMaxQueue) return fate;
    idle_at_ = sent;
  }
  const bool late = Chance(rule_.reordered);
  // Those that are not to be overtaken stay behind each other, however the delay varies.
  Time due = sent + rule_.delay + UpTo(rule_.jitter);
  if (!late) due = last_due_ = std::max(due, last_due_);
  fate.due[fate.copies++] = due;
  if (Chance(rule_.doubled)) fate.due[fate.copies++] = due + UpTo(rule_.jitter);
  return fate;
}

}  // namespace trireme::failover
