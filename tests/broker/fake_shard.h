// Shards on simulated time, all on one thread, in an order that a test decides by what it posts.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "raft/host/shard.h"

namespace trireme::broker {

// Time moves only when nothing is left to do at the present moment.
class FakeTime {
 public:
  using Task = raft::Shard::Task;

  raft::MonotonicTime now() const { return now_; }
  void Add(std::chrono::milliseconds delay, Task task) {
    tasks_.emplace(std::make_pair(now_ + delay, order_++), std::move(task));
  }
  // Keeps what tasks still point to.
  void Keep(std::shared_ptr<void> kept) { kept_.push_back(std::move(kept)); }
  // Runs what is due until `span` has passed, or, with `until`, until it holds. Bounded in steps.
  template <typename Until>
  bool Run(std::chrono::milliseconds span, Until until) {
    raft::MonotonicTime end = now_ + span;
    for (int step = 0; step < 2'000'000; ++step) {
      if (until()) return true;
      if (tasks_.empty() || tasks_.begin()->first.first > end) break;
      auto node = tasks_.extract(tasks_.begin());
      now_ = node.key().first;
      node.mapped()();
    }
    now_ = end;
    return until();
  }
  void Run(std::chrono::milliseconds span) {
    Run(span, [] { return false; });
  }

 private:
  raft::MonotonicTime now_{std::chrono::hours(1)};
  uint64_t order_ = 0;
  std::vector<std::shared_ptr<void>> kept_;
  std::map<std::pair<raft::MonotonicTime, uint64_t>, Task> tasks_;
};

class FakeShard final : public raft::Shard {
 public:
  FakeShard(raft::ShardId id, FakeTime* time) : id_(id), time_(time) {}

  raft::ShardId id() const override { return id_; }
  void Post(Task task) override { time_->Add(std::chrono::milliseconds(0), Wrap(std::move(task))); }
  raft::MonotonicTime Now() const override { return time_->now(); }
  raft::MonotonicTime PreciseNow() const override { return time_->now(); }
  int64_t WallMs() const override {
    return 1'700'000'000'000 +
           std::chrono::duration_cast<std::chrono::milliseconds>(time_->now().time_since_epoch()).count();
  }
  void After(std::chrono::milliseconds delay, Task task) override { time_->Add(delay, Wrap(std::move(task))); }
  void AtTurnEnd(Task task) override { turn_end_.push_back(std::move(task)); }
  bool OnThisThread() const override { return running_; }
  // Nothing that was given to this shard runs any more, nor is it held.
  void Stop() { *alive_ = false; }
  void Clear() { turn_end_.clear(); }

 private:
  Task Wrap(Task task) {
    return [this, alive = alive_, task = std::move(task)]() mutable {
      if (!*alive) return;
      running_ = true;
      task();
      while (!turn_end_.empty()) {
        std::vector<Task> now = std::exchange(turn_end_, {});
        for (Task& t : now) t();
      }
      running_ = false;
    };
  }

  const raft::ShardId id_;
  FakeTime* const time_;
  std::vector<Task> turn_end_;
  bool running_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
