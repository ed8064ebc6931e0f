#include "client/loop.h"

#include <grpc/support/time.h>

#include <memory>
#include <tuple>
#include <utility>

namespace trireme::client {
namespace {

constexpr int kMaxEventsPerTurn = 64;
// Without anything to do the loop looks up this often.
constexpr Duration kIdle = std::chrono::seconds(60);

gpr_timespec In(Duration delay) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(std::chrono::nanoseconds(delay).count(), GPR_TIMESPAN));
}

}  // namespace

Loop::Loop() : now_(std::chrono::steady_clock::now()) {
  thread_ = std::thread([this] { Run(); });
}

Loop::~Loop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    if (!alarm_pending_) {
      alarm_pending_ = true;
      alarm_.Set(&queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), nullptr);
    }
  }
  thread_.join();
}

void Loop::Post(Task task) {
  MutexLock lock(&mutex_);
  inbox_.push_back(std::move(task));
  // The loop's own thread looks into the inbox before it sleeps.
  if (inbox_.size() > 1 || alarm_pending_ || OnThisThread()) return;
  alarm_pending_ = true;
  alarm_.Set(&queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), nullptr);
}

void Loop::After(Duration delay, Task task) {
  timers_.push(Timer{now_ + delay, ++timers_set_, std::make_shared<Task>(std::move(task))});
}

Time Loop::NextDeadline() {
  {
    MutexLock lock(&mutex_);
    if (!inbox_.empty() || stopping_) return now_;
  }
  return timers_.empty() ? now_ + kIdle : timers_.top().due;
}

void Loop::Run() {
  bool stop = false;
  while (!stop) {
    void* tag = nullptr;
    bool ok = false;
    int events = 0;
    Duration wait = NextDeadline() - now_;
    auto status = queue_.AsyncNext(&tag, &ok, In(wait > Duration::zero() ? wait : Duration::zero()));
    now_ = std::chrono::steady_clock::now();
    while (status == grpc::CompletionQueue::GOT_EVENT) {
      if (tag == nullptr) {
        MutexLock lock(&mutex_);
        alarm_pending_ = false;
      } else {
        --pending_;
        static_cast<Operation*>(tag)->Complete(ok);
      }
      if (++events >= kMaxEventsPerTurn) break;
      status = queue_.AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC));
    }
    RunInbox();
    RunTimers();
    RunTurnEnd();
    MutexLock lock(&mutex_);
    stop = stopping_ && pending_ == 0 && !alarm_pending_ && inbox_.empty();
  }
  queue_.Shutdown();
  void* tag;
  bool ok;
  while (queue_.Next(&tag, &ok)) {
  }
}

void Loop::RunInbox() {
  std::vector<Task> tasks;
  {
    MutexLock lock(&mutex_);
    tasks.swap(inbox_);
  }
  for (Task& task : tasks) task();
}

void Loop::RunTimers() {
  while (!timers_.empty() && timers_.top().due <= now_) {
    std::shared_ptr<Task> task = timers_.top().task;
    timers_.pop();
    (*task)();
  }
}

void Loop::RunTurnEnd() {
  // Tasks may add tasks.
  for (size_t i = 0; i < turn_end_.size(); ++i) {
    Task task = std::move(turn_end_[i]);
    task();
  }
  turn_end_.clear();
}

}  // namespace trireme::client
