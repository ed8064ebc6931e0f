// No message is with two sessions at once: one has it until it settles it, or says that it gives it up.
#pragma once

#include <map>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class OneHolder : public Checker {
 public:
  const char* name() const override { return "one holder"; }

  void Delivering(const Delivered& d) override {
    auto [it, free] = holders_.emplace(d.position, d.session);
    if (!free && it->second != d.session) Fail(d.body, " is with ", it->second, " and goes to ", d.session);
  }
  void Returning(Position position) override { holders_.erase(position); }
  void Acknowledged(const std::string&, Position position) override { holders_.erase(position); }

 private:
  std::map<Position, std::string> holders_;
};

}  // namespace trireme::queue_simulation
