// Takes messages by single calls, under leases that are deadlines.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tests/failover/workload/actor.h"

namespace trireme::failover {

// Settles most at once, extends some, returns and rejects some, and comes too late with some, on purpose: those have to
// be refused.
class Receiver : public Actor {
 public:
  Receiver(const ActorSpec& spec, uint32_t worker, uint64_t seed, std::unique_ptr<client::Client> client,
           HistoryWriter& history);
  void Run() override;

 private:
  struct Held {
    std::string token;
    uint64_t position = 0;
    uint64_t until_us = 0;
  };

  void Receive();
  void Settle(const Held& held, v1::Disposition disposition);
  void Extend(Held& held);
  // Those whose lease has long ended.
  void SettleLate();

  uint64_t serial_ = 0;
  std::deque<Held> late_;
};

}  // namespace trireme::failover
