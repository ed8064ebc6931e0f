// Simulated time: a queue of what is to happen, in order, with nothing in between.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

namespace trireme::simulation {

using Micros = int64_t;  // simulated microseconds since the run's start

// Two events of one time happen in the order in which they were scheduled, so a run depends on nothing but its seed.
class Clock {
 public:
  Micros now() const { return now_; }

  void After(Micros delay, std::function<void()> event) {
    events_.push({now_ + (delay > 0 ? delay : 0), ++scheduled_, std::move(event)});
  }
  // Whether there was one, not later than `until`. Else the time is `until`.
  bool RunNext(Micros until) {
    if (events_.empty() || events_.top().at > until) {
      now_ = until;
      return false;
    }
    Event next = std::move(const_cast<Event&>(events_.top()));  // popped at once
    events_.pop();
    now_ = next.at;
    next.run();
    return true;
  }

 private:
  struct Event {
    Micros at = 0;
    uint64_t order = 0;
    std::function<void()> run;
    bool operator<(const Event& other) const { return std::pair(at, order) > std::pair(other.at, other.order); }
  };
  std::priority_queue<Event> events_;
  Micros now_ = 0;
  uint64_t scheduled_ = 0;
};

}  // namespace trireme::simulation
