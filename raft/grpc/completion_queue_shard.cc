#include "raft/grpc/completion_queue_shard.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "raft/core/check.h"

namespace trireme::raft {
namespace {

// A turn takes at most so many completions, so that its end, where work is written and sent, is never far.
constexpr size_t kCompletionsPerTurn = 256;
// A completion that came sooner than this was waiting already, and others may be behind it.
constexpr std::chrono::microseconds kBusyWait{20};
// While stopping, residents that have left are looked for so often.
constexpr std::chrono::milliseconds kStopPoll{5};

thread_local CompletionQueueShard* current_shard = nullptr;

gpr_timespec ToTimespec(MonotonicTime t) {
  // steady_clock and GPR_CLOCK_MONOTONIC are the same clock on POSIX.
  auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
  return {ns / 1'000'000'000, static_cast<int32_t>(ns % 1'000'000'000), GPR_CLOCK_MONOTONIC};
}

}  // namespace

CompletionQueueShard::CompletionQueueShard(ShardId id) : id_(id), queue_(std::make_unique<grpc::CompletionQueue>()) {
  ReadClocks();
}

CompletionQueueShard::CompletionQueueShard(ShardId id, std::unique_ptr<grpc::ServerCompletionQueue> queue)
    : id_(id), server_queue_(queue.get()) {
  queue_ = std::move(queue);
  ReadClocks();
}

CompletionQueueShard::~CompletionQueueShard() {
  Stop();
}

CompletionQueueShard* CompletionQueueShard::Current() {
  return current_shard;
}

void CompletionQueueShard::Start() {
  TRIREME_CHECK(!thread_.joinable() && !shut_down_) << "shard " << id_ << " was started twice";
  thread_ = std::thread([this] { Run(); });
}

void CompletionQueueShard::Stop() {
  TRIREME_CHECK(!OnThisThread()) << "shard " << id_ << " cannot wait for itself";
  if (!thread_.joinable()) {
    if (shut_down_) return;
    // Never started: what was posted is destroyed, and the queue shut down from here.
    stopping_ = true;
    Close();
    Run();
    return;
  }
  Post([this] {
    stopping_ = true;
    std::vector<ShardResident*> residents(residents_.begin(), residents_.end());
    for (ShardResident* resident : residents) resident->EndSoon();
  });
  thread_.join();
}

void CompletionQueueShard::Post(Task task) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  inbox_.push_back(std::move(task));
  if (!sleeping_ || alarm_set_) return;
  // Under the lock: the next Set must come after this one's completion.
  alarm_set_ = true;
  alarm_.Set(queue_.get(), gpr_time_0(GPR_CLOCK_MONOTONIC), static_cast<CompletionTag*>(&wake_));
}

void CompletionQueueShard::Wake::Complete(bool) {
  std::lock_guard lock(shard->mutex_);
  shard->alarm_set_ = false;
}

void CompletionQueueShard::ReadClocks() {
  now_ = std::chrono::steady_clock::now();
  auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  wall_ms_ = std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
}

void CompletionQueueShard::After(std::chrono::milliseconds delay, Task task) {
  if (stopping_) return;
  timers_.push_back({now_ + delay, ++timers_set_, std::move(task)});
  std::push_heap(timers_.begin(), timers_.end(), std::greater<>());
}

void CompletionQueueShard::AtTurnEnd(Task task) {
  turn_end_.push_back(std::move(task));
}

void CompletionQueueShard::Run() {
  current_shard = this;
  while (WaitForEvent()) {
    if (shut_down_) continue;
    work_ += DrainInbox();
    work_ += RunTimers();
    if (gather_ || work_ > 1) {
      work_ += DrainQueue();
      work_ += DrainInbox();
    }
    gather_ = work_ > 1;
    EndTurn();
    if (stopping_) ShutDownIfEmpty();
  }
  timers_.clear();
  turn_end_.clear();
  std::vector<Task> left;
  {
    std::lock_guard lock(mutex_);
    left.swap(inbox_);
  }
  left.clear();
  current_shard = nullptr;
}

bool CompletionQueueShard::WaitForEvent() {
  gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
  if (!shut_down_) {
    std::lock_guard lock(mutex_);
    if (!inbox_.empty() || !turn_end_.empty()) {
      deadline = gpr_time_0(GPR_CLOCK_MONOTONIC);
    } else {
      sleeping_ = true;
      if (stopping_) {
        deadline = ToTimespec(now_ + kStopPoll);
      } else if (!timers_.empty()) {
        deadline = ToTimespec(timers_.front().due);
      }
    }
  }
  MonotonicTime before = std::chrono::steady_clock::now();
  void* tag = nullptr;
  bool ok = false;
  auto next = queue_->AsyncNext(&tag, &ok, deadline);
  ReadClocks();
  if (!shut_down_) {
    std::lock_guard lock(mutex_);
    sleeping_ = false;
  }
  work_ = 0;
  if (next == grpc::CompletionQueue::SHUTDOWN) return false;
  if (next == grpc::CompletionQueue::GOT_EVENT) {
    gather_ |= now_ - before < kBusyWait;
    static_cast<CompletionTag*>(tag)->Complete(ok);
    ++work_;
  }
  return true;
}

size_t CompletionQueueShard::DrainQueue() {
  size_t count = 0;
  void* tag = nullptr;
  bool ok = false;
  while (count < kCompletionsPerTurn &&
         queue_->AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC)) == grpc::CompletionQueue::GOT_EVENT) {
    static_cast<CompletionTag*>(tag)->Complete(ok);
    ++count;
  }
  return count;
}

size_t CompletionQueueShard::DrainInbox() {
  {
    std::lock_guard lock(mutex_);
    running_.swap(inbox_);
  }
  for (Task& task : running_) std::move(task)();
  size_t count = running_.size();
  running_.clear();
  return count;
}

size_t CompletionQueueShard::RunTimers() {
  size_t count = 0;
  // What a timer sets anew is due after now_, or is taken in the next turn.
  uint64_t set_before = timers_set_;
  while (!timers_.empty() && timers_.front().due <= now_ && timers_.front().order <= set_before) {
    std::pop_heap(timers_.begin(), timers_.end(), std::greater<>());
    Task task = std::move(timers_.back().task);
    timers_.pop_back();
    std::move(task)();
    ++count;
  }
  return count;
}

void CompletionQueueShard::EndTurn() {
  while (!turn_end_.empty()) {
    std::vector<Task> tasks;
    tasks.swap(turn_end_);
    for (Task& task : tasks) std::move(task)();
  }
}

void CompletionQueueShard::ShutDownIfEmpty() {
  if (!residents_.empty()) return;
  {
    std::lock_guard lock(mutex_);
    if (!inbox_.empty()) return;  // another turn for what was posted until now
  }
  Close();
}

void CompletionQueueShard::Close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  shut_down_ = true;
  queue_->Shutdown();
}

}  // namespace trireme::raft
