// Deliveries on their way to consumers: committed checkouts whose messages are being looked up, in order.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "broker/queue/effects.h"
#include "broker/replica/entry_reader.h"
#include "broker/replica/sinks.h"

namespace trireme::broker {

// One consumer's. Hands runs over in the order in which they were put in, whichever entry is read first. Shard-owned.
class Outbox {
 public:
  struct Events {
    // Takes runs whose messages are there and checked; none when those that were next are not held any more.
    std::function<void(std::vector<DeliveredRun>)> deliver;
    // Whether any of these messages is still out with this token. What was settled or has expired while it was looked
    // up may be gone from the log, and nobody misses it.
    std::function<bool(const queue::Token&)> held;
    // A message that is held cannot be read.
    std::function<void(const absl::Status&)> damaged;
  };

  Outbox(EntryReader* reader, Events events) : reader_(reader), events_(std::move(events)) {}

  void Put(uint64_t checkout_index, const std::vector<queue::effect::CheckedOut::Run>& runs, uint64_t last_index);
  bool empty() const { return waiting_.empty(); }

 private:
  struct Waiting {
    DeliveredRun run;
    enum : uint8_t { kReading, kReady, kGone } state = kReading;
  };
  void Read(Waiting& waiting, const absl::StatusOr<raft::Bytes>& entry);
  void Flush();

  EntryReader* const reader_;
  const Events events_;
  std::deque<std::shared_ptr<Waiting>> waiting_;
  bool putting_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
