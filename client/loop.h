// The client's thread: one loop over one gRPC completion queue, with an inbox, timers, and tasks at the end of a turn.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <queue>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "client/sync.h"

namespace trireme::client {

// Monotonic.
using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// Each turn handles the events at hand (at most 64), then the inbox, then due timers, then the tasks of the turn's end:
// that is where what was gathered leaves in one frame.
class Loop {
 public:
  using Task = absl::AnyInvocable<void()>;

  // An operation on the completion queue. Each one started is matched by one call of Complete, on the loop's thread.
  class Operation {
   public:
    virtual ~Operation() = default;
    virtual void Complete(bool ok) = 0;
  };

  Loop();
  // Ends the thread once all operations have completed, so whoever owns them must have cancelled them. Not from the
  // loop's thread. Tasks and timers that have not run are dropped.
  ~Loop();

  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // From any thread. Tasks run in the order posted; the loop is woken only when its inbox was empty.
  void Post(Task task);
  bool OnThisThread() const { return std::this_thread::get_id() == thread_.get_id(); }

  // The rest is for the loop's thread only.

  // At the start of this turn.
  Time Now() const { return now_; }
  // Runs `task` once, after `delay`. Not cancellable: the task checks whether it is still wanted.
  void After(Duration delay, Task task);
  void AtTurnEnd(Task task) { turn_end_.push_back(std::move(task)); }
  grpc::CompletionQueue* completion_queue() { return &queue_; }
  // The tag for an operation that is being started on the completion queue.
  void* Tag(Operation* operation) {
    ++pending_;
    return operation;
  }

 private:
  struct Timer {
    Time due;
    uint64_t order;  // timers due together run in the order set
    std::shared_ptr<Task> task;

    bool operator>(const Timer& other) const { return std::tie(due, order) > std::tie(other.due, other.order); }
  };

  void Run();
  void RunInbox();
  void RunTimers();
  void RunTurnEnd();
  Time NextDeadline();

  // Constant after construction.
  std::thread thread_;
  // Self-synchronised.
  grpc::CompletionQueue queue_;

  Mutex mutex_;
  std::vector<Task> inbox_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Set under the mutex, and only while no earlier setting is pending.
  grpc::Alarm alarm_ ABSL_GUARDED_BY(mutex_);
  bool alarm_pending_ ABSL_GUARDED_BY(mutex_) = false;

  // The loop's own.
  Time now_;
  uint64_t pending_ = 0;
  uint64_t timers_set_ = 0;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::vector<Task> turn_end_;
};

}  // namespace trireme::client
