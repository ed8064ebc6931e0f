// Where a stream goes next, and when.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "client/loop.h"
#include "client/sync.h"

namespace trireme::client {

// The nodes that a client knows, and which of them failed lately. Thread-safe; shared by all of a client's streams.
class Servers {
 public:
  explicit Servers(std::vector<std::string> addresses);

  // Adds nodes that the cluster named.
  void Learn(const std::string& address);
  // A connection to it failed: others are preferred for `kAvoid`.
  void Failed(const std::string& address, Time now);
  void Answered(const std::string& address);
  bool Avoided(const std::string& address, Time now) const;
  // The next one in turn, skipping `except` and those that failed lately, unless nothing else is left.
  std::string Next(const std::string& except, Time now);
  std::vector<std::string> all() const;

  static constexpr Duration kAvoid = std::chrono::seconds(2);

 private:
  mutable Mutex mutex_;
  std::vector<std::string> addresses_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Time> avoid_until_ ABSL_GUARDED_BY(mutex_);
  size_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
};

// How long to wait before the next try: about 10 ms at first, then twice as long each time up to a second, each between
// half and the whole of it by chance, so that many clients do not come back at once.
class Backoff {
 public:
  explicit Backoff(uint64_t seed) : random_(seed) {}

  Duration Next();
  // It worked.
  void Reset() { tries_ = 0; }
  uint32_t tries() const { return tries_; }

  static constexpr std::chrono::milliseconds kFirst{10};
  static constexpr std::chrono::milliseconds kLongest{1'000};

 private:
  std::minstd_rand random_;
  uint32_t tries_ = 0;
};

}  // namespace trireme::client
