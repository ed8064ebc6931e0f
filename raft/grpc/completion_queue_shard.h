// The real shard: one thread on one gRPC completion queue.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <vector>

#include "raft/host/shard.h"

namespace trireme::raft {

// What is handed to gRPC as a tag. Lives until its Complete was called.
class CompletionTag {
 public:
  virtual void Complete(bool ok) = 0;

 protected:
  ~CompletionTag() = default;
};

// Something with operations under way on a shard's queue. The shard asks all of them to end when it stops, and goes on
// until each has left.
class ShardResident {
 public:
  // Cancels what is under way, so that its tags come back soon. May be called more than once.
  virtual void EndSoon() = 0;

 protected:
  ~ShardResident() = default;
};

// A turn: what has arrived (inbox, completions, timers) is drained, bounded in number, and then the turn's end runs.
// docs/decisions/0001-shard-loop.md says why it is built so.
//
// Life: construct, Start, (Server::Shutdown with a deadline, if the queue is a server's,) Stop, destroy. Server queues
// must be stopped after their server and the other way round never; every shard of a server must still be running while
// Server::Shutdown waits.
class CompletionQueueShard final : public Shard {
 public:
  // For clients only.
  explicit CompletionQueueShard(ShardId id);
  // A queue from ServerBuilder::AddCompletionQueue, for calls that arrive and calls that are made.
  CompletionQueueShard(ShardId id, std::unique_ptr<grpc::ServerCompletionQueue> queue);
  // Stops it, if that was not done.
  ~CompletionQueueShard() override;

  void Start();
  // From another thread. Ends the residents, waits until they have left, runs the loop dry and joins it. What is posted
  // later is destroyed without being run; so are timers.
  void Stop();

  // The shard whose thread this is, or null.
  static CompletionQueueShard* Current();

  ShardId id() const override { return id_; }
  void Post(Task task) override;
  MonotonicTime Now() const override { return now_; }
  MonotonicTime PreciseNow() const override { return std::chrono::steady_clock::now(); }
  int64_t WallMs() const override { return wall_ms_; }
  void After(std::chrono::milliseconds delay, Task task) override;
  void AtTurnEnd(Task task) override;
  bool OnThisThread() const override { return Current() == this; }

  // ---- for what runs operations on this queue; on the shard's thread, unless said otherwise
  grpc::CompletionQueue* queue() { return queue_.get(); }  // any thread
  // Null for a shard of clients only. Any thread.
  grpc::ServerCompletionQueue* server_queue() { return server_queue_; }
  // Whoever starts an operation is a resident until its last tag has come back.
  void Enter(ShardResident* resident) { residents_.insert(resident); }
  void Leave(ShardResident* resident) { residents_.erase(resident); }
  // No operation may be started any more.
  bool stopping() const { return stopping_; }

 private:
  struct Wake final : CompletionTag {
    explicit Wake(CompletionQueueShard* s) : shard(s) {}
    void Complete(bool ok) override;
    CompletionQueueShard* shard;
  };
  struct Timer {
    MonotonicTime due;
    uint64_t order;  // among equals, first set is first run
    Task task;
    bool operator>(const Timer& o) const { return due != o.due ? due > o.due : order > o.order; }
  };

  void Run();
  // Waits until there is something to do and does the completion that ended the wait, if one did. False once the queue
  // is shut down and empty.
  bool WaitForEvent();
  // Both together.
  void ReadClocks();
  // Each returns the number of what it ran. DrainQueue takes completions at hand, without waiting.
  size_t DrainQueue();
  size_t DrainInbox();
  size_t RunTimers();
  void EndTurn();
  // Once the residents have left: no completion can be under way any more, so the queue may be shut down.
  void ShutDownIfEmpty();
  void Close();

  const ShardId id_;
  std::unique_ptr<grpc::CompletionQueue> queue_;
  grpc::ServerCompletionQueue* server_queue_ = nullptr;
  std::thread thread_;

  // The shard's thread only.
  MonotonicTime now_;
  int64_t wall_ms_ = 0;
  std::vector<Timer> timers_;  // a heap, the next one due first
  uint64_t timers_set_ = 0;
  std::vector<Task> turn_end_;
  std::vector<Task> running_;
  std::unordered_set<ShardResident*> residents_;
  bool stopping_ = false;
  bool shut_down_ = false;
  size_t work_ = 0;     // things done in this turn
  bool gather_ = true;  // the last turn had more than one, so it is worth looking for more before a turn's end

  // std::mutex: the thread sanitizer sees it, and not absl's in a library that was built without.
  std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<Task> inbox_;
  // The loop waits for completions, or is about to: a poster must wake it.
  bool sleeping_ = false;
  // The alarm was set and has not come back. Only one can be under way.
  bool alarm_set_ = false;
  bool closed_ = false;
  grpc::Alarm alarm_;
  Wake wake_{this};
};

}  // namespace trireme::raft
