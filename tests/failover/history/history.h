// The history's file: written by several processes at once, read by one.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "tests/failover/history/codec.h"

namespace trireme::failover {

// Microseconds of the machine's monotonic clock, the same in every process.
uint64_t MonotonicUs();

// Appends events, each batch in one write before Append returns: what a process does after it is in the file before,
// even if the process is killed in between. Thread-safe. A write that fails ends the process, since a history with a
// hole proves nothing.
class HistoryWriter {
 public:
  // `epoch_us`: what MonotonicUs() said when the run began. The file is made, with its first line, when it is not
  // there.
  static absl::StatusOr<HistoryWriter> Open(const std::string& path, uint64_t epoch_us);
  HistoryWriter(HistoryWriter&& other) noexcept;
  ~HistoryWriter();
  HistoryWriter& operator=(HistoryWriter&&) = delete;

  uint64_t NowUs() const { return MonotonicUs() - epoch_us_; }
  uint64_t epoch_us() const { return epoch_us_; }

  void Append(Event event) { Append(std::span<const Event>(&event, 1)); }
  // All with one time.
  void Append(std::span<const Event> events);

 private:
  HistoryWriter(int fd, uint64_t epoch_us) : fd_(fd), epoch_us_(epoch_us) {}

  int fd_;
  const uint64_t epoch_us_;
  absl::Mutex mutex_;
  std::string buffer_ ABSL_GUARDED_BY(mutex_);
};

// Receives a history's events, in the order of their times. Those not looked at need no function.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void See(uint64_t, const Setting&) {}
  virtual void See(uint64_t, const QueueMade&) {}
  virtual void See(uint64_t, const ProducerMade&) {}
  virtual void See(uint64_t, const ConsumerMade&) {}
  virtual void See(uint64_t, const ConsumerGone&) {}
  virtual void See(uint64_t, const WorkerKilled&) {}
  virtual void See(uint64_t, const WorkerPaused&) {}
  virtual void See(uint64_t, const WorkerResumed&) {}
  virtual void See(uint64_t, const Publish&) {}
  virtual void See(uint64_t, const Published&) {}
  virtual void See(uint64_t, const Delivered&) {}
  virtual void See(uint64_t, const Corrupt&) {}
  virtual void See(uint64_t, const Settle&) {}
  virtual void See(uint64_t, const Settled&) {}
  virtual void See(uint64_t, const LeaseLost&) {}
  virtual void See(uint64_t, const Extended&) {}
  virtual void See(uint64_t, const Leads&) {}
  virtual void See(uint64_t, const FaultBegan&) {}
  virtual void See(uint64_t, const FaultEnded&) {}
  virtual void See(uint64_t, const Healed&) {}
  virtual void See(uint64_t, const NodeChanged&) {}
  virtual void See(uint64_t, const Note&) {}
  virtual void See(uint64_t, const PublishingStopped&) {}
  virtual void See(uint64_t, const Figures&) {}
  virtual void See(uint64_t, const Replica&) {}
  virtual void See(uint64_t, const Ended&) {}
};

struct HistoryRead {
  uint64_t events = 0;
  // Lines cut short by the death of their writer: what they say had not begun.
  uint64_t torn = 0;
};

// Shows every observer each event. INVALID_ARGUMENT: no history, or a whole line that is none of its events (with its
// number). NOT_FOUND: no such file.
absl::StatusOr<HistoryRead> ReadHistory(const std::string& path, std::span<Observer* const> observers);
absl::StatusOr<HistoryRead> ReadHistoryText(std::string_view text, std::span<Observer* const> observers);

}  // namespace trireme::failover
