// A message whose acknowledgement is durable is never delivered again.
#pragma once

#include <set>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class SettledStays : public Checker {
 public:
  const char* name() const override { return "settled stays"; }

  void Acknowledged(const std::string& body, Position) override { settled_.insert(body); }
  void Delivering(const Delivered& d) override {
    if (settled_.contains(d.body)) Fail(d.body, " was acknowledged and is delivered again");
  }

 private:
  std::set<std::string> settled_;
};

}  // namespace trireme::queue_simulation
