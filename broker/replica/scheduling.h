// What a queue's leader does with messages for later: releases them when they are due, and cancels them.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/queue/scheduler.h"
#include "broker/replica/leader_port.h"
#include "broker/replica/limits.h"

namespace trireme::broker {

// A message is due at most so long after it was published.
inline constexpr int64_t kMaxDelayMs = int64_t{3653} * 24 * 3600 * 1000;

// For one term. Shard-owned. Rows are read from disk and checked before they are stored anew (Safety rule 17); one that
// is damaged ends the term, for another replica has it.
class Scheduling {
 public:
  Scheduling(const LeaderPort* leader, const ReplicaLimits* limits, std::string queue_name);

  // What was appended.
  void Parked(uint64_t index, int64_t earliest_ms) { scheduler_.Parked(index, earliest_ms); }
  void Changing(uint64_t index) { scheduler_.Changing(index); }

  // At the end of a turn: appends releases of what was found to be due; whether it did.
  bool Append(int64_t queue_time_ms);
  // Behind that: looks up what is due, or to be cancelled.
  void Go(int64_t queue_time_ms);
  // The entry at `index` was applied; false if it was no release of this one's.
  bool Applied(uint64_t index, const queue::Effect& effect);

  using CancelDone = absl::AnyInvocable<void(absl::Status)>;
  // The message that was stored for later at `position` is not to be delivered. NOT_FOUND: it is not there any more,
  // or never was. RESOURCE_EXHAUSTED: too many are being cancelled.
  void Cancel(queue::Position position, CancelDone done);
  void Cancelled(CancelWaiter& waiter, bool accepted);
  // The term ends.
  void Fail(const absl::Status& not_done);

  std::optional<queue::MonotonicMs> NextWake(queue::MonotonicMs now, int64_t queue_time_ms) const;
  // Why what is due is not released; empty: it is, or nothing is.
  const std::string& trouble() const { return trouble_; }

 private:
  struct Cancelling {
    queue::Position position;
    CancelDone done;
    std::optional<queue::fact::Cancelled::Message> message = {};
  };

  queue::MonotonicMs NowMs() const;
  void Later(int64_t pause_ms, std::string trouble);
  void BeginCancelling();
  // Of those that are being cancelled, from the i-th on: where its row is, then the row.
  void FindRow(size_t i);
  void ReadRow(size_t i, const queue::ScheduleKey& key);
  void CancelFound();

  const LeaderPort* const leader_;
  const ReplicaLimits* const limits_;
  const std::string queue_name_;
  queue::Scheduler scheduler_;
  std::optional<raft::RowPage> found_;
  uint64_t looks_ = 0;
  queue::MonotonicMs not_before_ = 0;
  std::string trouble_;
  std::list<uint64_t> releases_;        // that were appended and not applied
  std::list<Cancelling> asked_;         // that wait for their turn
  std::vector<Cancelling> cancelling_;  // that are being looked up
  bool cancels_ = false;                // from then until their fact is applied: nothing is released meanwhile
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
