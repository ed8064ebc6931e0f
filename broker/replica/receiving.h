// What one single receive was given, on its way to its answer.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "broker/queue/effects.h"
#include "broker/replica/entry_reader.h"
#include "broker/replica/outbox.h"
#include "broker/replica/sinks.h"

namespace trireme::broker {

// Reads the runs that were checked out one after the other, and none once the answer is full: the dispatcher knows only
// the average size of an entry's messages. Shard-owned.
class Receiving {
 public:
  // An answer holds at most this many bytes, or one run, so that it fits a stock client's limit.
  static constexpr size_t kMaxBytes = 3'670'016;

  // `events.deliver` is not used. `arrived` is called when what ReadOn waits for is there; not from within ReadOn, but
  // perhaps from within a read, so that this must outlive the call.
  Receiving(EntryReader* reader, Outbox::Events events, std::function<void()> arrived);

  void Start(uint64_t checkout_index, std::vector<queue::effect::CheckedOut::Run> runs, uint64_t last_index);
  // Goes on reading; false while it waits. When it is done, Take.
  bool ReadOn();

  struct Result {
    std::vector<DeliveredRun> runs;
    std::vector<queue::Token> left;  // did not fit
  };
  Result Take();

 private:
  void Got(std::vector<DeliveredRun> runs);

  const std::function<void()> arrived_;
  Outbox outbox_;
  uint64_t checkout_index_ = 0;
  uint64_t last_index_ = 0;
  std::vector<queue::effect::CheckedOut::Run> runs_;
  size_t next_ = 0;  // of runs_, to be read
  std::vector<DeliveredRun> got_;
  size_t bytes_ = 0;
  bool reading_ = false;
};

}  // namespace trireme::broker
