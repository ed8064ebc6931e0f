// What was confirmed to its producer comes out in the end, at the position that the confirmation named.
#pragma once

#include <map>
#include <set>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class ConfirmedIsKept : public Checker {
 public:
  const char* name() const override { return "confirmed is kept"; }

  void Confirming(const std::string& body, Position position) override {
    auto [it, first] = confirmed_.emplace(body, position);
    if (!first && it->second != position) Fail(body, " was confirmed at ", it->second, " and at ", position);
  }
  void Delivering(const Delivered& d) override {
    auto [it, first] = stored_.emplace(d.body, d.position);
    if (!first && it->second != d.position) Fail(d.body, " is stored at ", it->second, " and at ", d.position);
  }
  void Acknowledged(const std::string& body, Position) override { acknowledged_.insert(body); }
  void LeftOpen(const std::string& body) override { acknowledged_.insert(body); }
  void Ending() override {
    for (const auto& [body, position] : confirmed_) {
      auto stored = stored_.find(body);
      if (stored == stored_.end() || !acknowledged_.contains(body)) return Fail(body, " was confirmed and is lost");
      if (stored->second != position && !IsForLater(body))
        return Fail(body, " was confirmed at ", position, ", not ", stored->second);
    }
  }

 private:
  std::map<std::string, Position> confirmed_, stored_;
  std::set<std::string> acknowledged_;
};

}  // namespace trireme::queue_simulation
