// All checkers, and a history shown to all of them.
#include <algorithm>

#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/delivery_count.h"
#include "tests/failover/checkers/figures_agree.h"
#include "tests/failover/checkers/no_crash.h"
#include "tests/failover/checkers/nothing_invented.h"
#include "tests/failover/checkers/nothing_lost.h"
#include "tests/failover/checkers/one_holder.h"
#include "tests/failover/checkers/order.h"
#include "tests/failover/checkers/progress.h"
#include "tests/failover/checkers/replicas_agree.h"
#include "tests/failover/checkers/settled_stays_settled.h"
#include "tests/failover/checkers/stale_tokens.h"
#include "tests/failover/checkers/stored_once.h"

namespace trireme::failover {
namespace {

template <class Read>
absl::StatusOr<Judgement> JudgeWith(std::span<Observer* const> others, Read read) {
  Judgement judgement;
  judgement.checkers = AllCheckers();
  std::vector<Observer*> observers(others.begin(), others.end());
  for (const auto& checker : judgement.checkers) observers.push_back(checker.get());
  absl::StatusOr<HistoryRead> done = read(observers);
  if (!done.ok()) return done.status();
  judgement.read = *done;
  for (const auto& checker : judgement.checkers) checker->Finish();
  return judgement;
}

}  // namespace

std::vector<std::unique_ptr<Checker>> AllCheckers() {
  std::vector<std::unique_ptr<Checker>> checkers;
  checkers.push_back(std::make_unique<NothingLost>());
  checkers.push_back(std::make_unique<NothingInvented>());
  checkers.push_back(std::make_unique<StoredOnce>());
  checkers.push_back(std::make_unique<OneHolder>());
  checkers.push_back(std::make_unique<StaleTokens>());
  checkers.push_back(std::make_unique<SettledStaysSettled>());
  checkers.push_back(std::make_unique<Order>());
  checkers.push_back(std::make_unique<DeliveryCount>());
  checkers.push_back(std::make_unique<NoCrash>());
  checkers.push_back(std::make_unique<Progress>());
  checkers.push_back(std::make_unique<FiguresAgree>());
  checkers.push_back(std::make_unique<ReplicasAgree>());
  return checkers;
}

bool Judgement::held() const {
  return std::all_of(checkers.begin(), checkers.end(), [](const std::unique_ptr<Checker>& checker) {
    return checker->verdict().outcome == Verdict::Outcome::kHeld;
  });
}

absl::StatusOr<Judgement> Judge(const std::string& path, std::span<Observer* const> others) {
  return JudgeWith(others, [&](std::span<Observer* const> observers) { return ReadHistory(path, observers); });
}

absl::StatusOr<Judgement> JudgeText(std::string_view text) {
  return JudgeWith({}, [&](std::span<Observer* const> observers) { return ReadHistoryText(text, observers); });
}

}  // namespace trireme::failover
