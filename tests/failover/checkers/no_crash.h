#pragma once

#include "tests/failover/checkers/checker.h"

namespace trireme::failover {

// A broker ends when it is told to, or when its disk fails it (Safety rule 16), and starts again whenever it is
// started.
class NoCrash : public Checker {
 public:
  std::string_view name() const override { return "no-crash"; }
  std::string_view promise() const override {
    return "no broker ends by itself, or fails to start, unless its disk was made to fail";
  }

  void See(uint64_t at_us, const NodeChanged& changed) override {
    Case();
    if (changed.unexpected) Broken(at_us, "node ", changed.node, ": ", changed.what);
  }
};

}  // namespace trireme::failover
