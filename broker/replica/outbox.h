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
  // Takes runs whose messages are there and checked.
  using Deliver = std::function<void(std::vector<DeliveredRun>)>;
  // A live message cannot be read; said once.
  using Damaged = std::function<void(const absl::Status&)>;

  Outbox(EntryReader* reader, Deliver deliver, Damaged damaged)
      : reader_(reader), deliver_(std::move(deliver)), damaged_(std::move(damaged)) {}

  void Put(uint64_t checkout_index, const std::vector<queue::effect::CheckedOut::Run>& runs, uint64_t last_index);
  bool empty() const { return waiting_.empty(); }

 private:
  struct Waiting {
    DeliveredRun run;
    bool ready = false;
  };
  void Flush();

  EntryReader* const reader_;
  const Deliver deliver_;
  const Damaged damaged_;
  std::deque<std::shared_ptr<Waiting>> waiting_;
  bool putting_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
