// Figures are linearizable, whether a quorum was asked or the leader answered by its lease: they include all that was
// confirmed, and all that was acknowledged, before they were asked for.
#pragma once

#include <map>
#include <set>

#include "tests/simulation/queue/checker.h"

namespace trireme::queue_simulation {

class CurrentFigures : public Checker {
 public:
  const char* name() const override { return "current figures"; }

  void Confirming(const std::string& body, Position) override {
    if (!IsForLater(body)) confirmed_.insert(body);
  }
  void Acknowledged(const std::string& body, Position) override { acknowledged_.insert(body); }
  void AskingFigures(uint64_t ask) override { asked_[ask] = {confirmed_.size(), acknowledged_.size()}; }
  void AnsweringFigures(uint64_t ask, uint64_t published, uint64_t acknowledged) override {
    const Figures& least = asked_.at(ask);
    if (published < least.published) Fail(published, " were published, of ", least.published, " confirmed before");
    if (acknowledged < least.acknowledged) {
      Fail(acknowledged, " were acknowledged, of ", least.acknowledged, " before");
    }
  }

 private:
  struct Figures {
    uint64_t published = 0, acknowledged = 0;
  };
  std::set<std::string> confirmed_, acknowledged_;
  std::map<uint64_t, Figures> asked_;
};

}  // namespace trireme::queue_simulation
