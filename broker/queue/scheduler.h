// What a queue's leader decides of its schedule: when to look at the rows, and what of them to release. Pure; for one
// term.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "broker/queue/dispatcher.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"
#include "broker/queue/schedule.h"

namespace trireme::queue {

// One change of the schedule is under way at a time: each is decided from the state that the one before left (Safety
// rule 2). Its owner looks up rows where this says, has appended what it gives, and tells what was appended and
// applied.
class Scheduler {
 public:
  explicit Scheduler(const Machine* machine) : machine_(machine), next_ms_(machine->schedule().next_ms()) {}

  // This leader appended an entry with messages for later, the first of them due at `earliest_ms`, which is after the
  // queue time of every entry before it.
  void Parked(uint64_t index, int64_t earliest_ms);
  // It appended a change of the schedule: a release of Decide's, a Cancelled, or a Purged, which need not wait its
  // turn. What is being looked at is looked at anew behind it.
  void Changing(uint64_t index);

  // Nothing is under way: a cancellation may be decided.
  bool idle() const { return !looking_ && machine_->applied() >= changing_; }

  // Rows behind `behind` are to be looked at, from the first one on; Decide or GiveUp follows.
  struct Look {
    ScheduleKey behind;
  };
  std::optional<Look> Begin(int64_t queue_time_ms);
  bool looking() const { return looking_; }
  void GiveUp() {
    looking_ = false;
    next_ms_ = std::min(next_ms_, machine_->schedule().next_ms());
  }

  struct Row {
    ScheduleKey key;
    uint32_t checksum = 0;
    std::string_view message;  // encoded
  };
  struct Released {
    fact::Published fact;
    std::string batch;
  };
  // What was found, ascending, and whether there is more behind it. The releases are to be appended in this turn, all
  // in order, or none of them and GiveUp called. Ends the look; empty: nothing is due.
  std::vector<Released> Decide(const std::vector<Row>& rows, bool more);

  // When Begin has something to do by the clock alone.
  std::optional<MonotonicMs> NextWake(MonotonicMs now, int64_t queue_time_ms) const;

 private:
  struct Appended {
    uint64_t index = 0;
    int64_t earliest_ms = 0;
  };
  // What is applied has its rows, which the next look finds.
  void Settle();
  int64_t OnItsWay() const;

  const Machine* const machine_;
  // No row that the state had at the last look, and none of what was applied since, is due before.
  int64_t next_ms_;
  std::vector<Appended> parked_;  // not applied, or applied since the look began
  uint64_t last_parked_ = machine_->schedule().last_parked();
  uint64_t changing_ = 0;  // the last change that was appended
  bool looking_ = false;
  int64_t until_ms_ = 0;  // of the look: what is due later is not released by it
};

}  // namespace trireme::queue
