// A mutex, a condition and a one-time event over the standard library's, with absl's annotations. Not absl's own:
// distributions build that without ThreadSanitizer, which then cannot see what one thread hands over to another.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

namespace trireme::client {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

// `timeout` from now; it may be as long as the caller likes.
inline std::chrono::steady_clock::time_point DeadlineIn(std::chrono::milliseconds timeout) {
  constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 365);
  return std::chrono::steady_clock::now() + std::min(timeout, kForever);
}

// Waits may end early: the caller looks at its condition again.
class CondVar {
 public:
  void Wait(Mutex* mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> held(mutex->mutex_, std::adopt_lock);
    changed_.wait(held);
    held.release();
  }
  // True if the time has come.
  bool WaitUntil(Mutex* mutex, std::chrono::steady_clock::time_point deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> held(mutex->mutex_, std::adopt_lock);
    const bool late = changed_.wait_until(held, deadline) == std::cv_status::timeout;
    held.release();
    return late;
  }
  void SignalAll() { changed_.notify_all(); }

 private:
  std::condition_variable changed_;
};

// Happens once. May be destroyed by whoever has seen it happen, as soon as that.
class Notification {
 public:
  void Notify() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    happened_ = true;
    changed_.SignalAll();
  }
  void Wait() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(&mutex_);
    while (!happened_) changed_.Wait(&mutex_);
  }
  // Whether it happened within the time.
  bool WaitFor(std::chrono::milliseconds time) ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto deadline = DeadlineIn(time);
    MutexLock lock(&mutex_);
    while (!happened_) {
      if (changed_.WaitUntil(&mutex_, deadline)) break;
    }
    return happened_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool happened_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace trireme::client
