// The history while it grows: what a run needs to know of it before its end.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tests/failover/checkers/cast.h"
#include "tests/failover/history/history.h"

namespace trireme::failover {

// For one thread.
class Live : public Observer {
 public:
  explicit Live(std::string path);
  ~Live() override;

  // Reads what was appended since.
  void Poll();

  uint64_t confirmed() const { return confirmed_; }
  uint64_t delivered() const { return delivered_; }
  // Whether every queue that is probed has confirmed and delivered since then.
  bool ProgressSince(uint64_t at_us) const;

  using Observer::See;
  void See(uint64_t, const ProducerMade& made) override;
  void See(uint64_t, const ConsumerMade& made) override;
  void See(uint64_t at_us, const Published& done) override;
  void See(uint64_t at_us, const Delivered& run) override;

 private:
  struct Last {
    bool probed = false;
    uint64_t confirm_us = 0;
    uint64_t delivery_us = 0;
  };

  int fd_;
  std::string rest_;
  Cast cast_;
  uint64_t confirmed_ = 0, delivered_ = 0;
  std::map<uint32_t, Last> queues_;
};

}  // namespace trireme::failover
