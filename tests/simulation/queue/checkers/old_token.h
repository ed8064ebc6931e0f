// Safety rule 4: a token that was used up, by settling or by a later checkout, settles nothing any more.
#pragma once

#include <algorithm>
#include <map>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class OldToken : public Checker {
 public:
  const char* name() const override { return "old token"; }

  void UsedUp(Position position, uint64_t checkout_index) override {
    uint64_t& last = used_up_[position];
    last = std::max(last, checkout_index);
  }
  void AskingWithOldToken(uint64_t ask, Position position, uint64_t checkout_index) override {
    if (checkout_index <= used_up_[position]) void_.emplace(ask, position);
  }
  void AnsweringOldToken(uint64_t ask, bool current) override {
    auto it = void_.find(ask);
    if (it != void_.end() && current) Fail("a token of ", it->second, " that was used up before settled it");
  }

 private:
  std::map<Position, uint64_t> used_up_;  // the last checkout
  std::map<uint64_t, Position> void_;     // questions, by number
};

}  // namespace trireme::queue_simulation
