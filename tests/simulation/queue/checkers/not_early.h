// Safety rules 7 and 8: what is for later is not delivered before its time.
#pragma once

#include <map>
#include <string>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class NotEarly : public Checker {
 public:
  const char* name() const override { return "not early"; }

  void SendingForLater(const std::string& body, int64_t due_ms) override { due_.emplace(body, due_ms); }
  void Delivering(const Delivered& d) override {
    auto due = due_.find(d.body);
    if (due == due_.end() || d.queue_time_ms == 0) return;
    if (d.queue_time_ms < due->second) Fail(d.body, " is due at ", due->second, " and came at ", d.queue_time_ms);
  }

 private:
  std::map<std::string, int64_t> due_;
};

}  // namespace trireme::queue_simulation
