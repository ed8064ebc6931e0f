// All checkers of a queue, told of all that happens.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class Suite {
 public:
  Suite();

  template <typename Event>
  void Tell(Event event) {
    for (auto& checker : checkers_) {
      event(*checker);
      if (!failure_ && checker->failure()) failure_ = checker->failure();
    }
  }
  // For what is no property of the queue but must not be: an answer that makes no sense.
  void Violated(const std::string& what) {
    if (!failure_) failure_ = what;
  }
  // The first violation, if there was any.
  const std::optional<std::string>& failure() const { return failure_; }

 private:
  std::vector<std::unique_ptr<Checker>> checkers_;
  std::optional<std::string> failure_;
};

}  // namespace trireme::queue_simulation
