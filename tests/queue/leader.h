// A leader over a log without consensus, for tests of what it decides.
#pragma once

#include <gtest/gtest.h>

#include <string_view>
#include <utility>
#include <vector>

#include "broker/queue/dispatchers.h"
#include "tests/queue/log.h"

namespace trireme::queue {

// A leader's dispatcher over a log.
class Leader {
 public:
  explicit Leader(Log* log, Dispatcher::Limits limits = {})
      : log_(log),
        limits_(limits),
        dispatchers(&log->machine, log->last(), 0, limits),
        dispatcher(*dispatchers.Find(0)) {}

  uint64_t Publish(uint32_t count, std::string_view body = "x") {
    raft::Bytes entry = PublishedEntry(count, "", 0, 0, now, body);
    const EntryShape shape = ShapeOf(entry);
    uint64_t index = log_->Append(std::move(entry));
    dispatchers.Appended(index, shape);
    return index;
  }

  // Appends what the dispatcher decides, and `facts` before it; the entry's facts.
  std::vector<Fact> Decide(std::vector<Fact> facts = {}) {
    while (auto wanted = dispatcher.Wanted()) {
      std::vector<EntryShape> shapes;
      for (uint64_t i = wanted->first; i <= wanted->last; ++i) {
        if (i <= lowest && !log_->machine.subscription(0).HasOutOfLine(i)) {
          // Nothing may be asked for that compaction may have taken; behind it, the answer ends there.
          EXPECT_GT(i, wanted->first) << "entry " << i << " is gone";
          break;
        }
        shapes.push_back(ShapeOf(log_->at(i), log_->machine.subscription(0).settings.order_by_key));
      }
      dispatcher.Shapes(wanted->first, shapes);
    }
    auto plan = dispatchers.Decide(now, now);
    for (auto id : plan.empty_handed) empty_handed.push_back(id);
    std::move(plan.facts.begin(), plan.facts.end(), std::back_inserter(facts));
    if (!facts.empty()) {
      const uint64_t index = log_->Append(FactsEntry(facts, now));
      dispatchers.Appended(index, {});
      for (const Fact& fact : facts) {
        if (std::holds_alternative<fact::Purged>(fact)) dispatchers.Purged(index);
      }
    }
    return facts;
  }

  // Applies all that is appended; the deliveries.
  std::vector<Dispatcher::Delivery> ApplyAll() {
    std::vector<Dispatcher::Delivery> deliveries;
    while (log_->machine.applied() < log_->last()) {
      const uint64_t index = log_->machine.applied() + 1;
      Effects effects = log_->ApplyNext();
      if (log_->at(index).empty() || DecodePublished(log_->at(index)).ok()) continue;
      dispatchers.Applied(index, DecodeEntry(log_->at(index))->facts, effects, deliveries);
    }
    return deliveries;
  }

  std::vector<Dispatcher::Delivery> Turn(std::vector<Fact> facts = {}) {
    Decide(std::move(facts));
    return ApplyAll();
  }

  void Attach(const SessionId& session, Credit credit, uint32_t timeout_ms = 1000) {
    const auto& sessions = log_->machine.subscription(0).sessions;
    auto known = sessions.find(session);
    Turn({fact::Attached{0, session, known == sessions.end() ? 1 : known->second.epoch + 1, "", timeout_ms}});
    dispatcher.Connect(session, credit);
  }

 private:
  Log* const log_;
  const Dispatcher::Limits limits_;

 public:
  Dispatchers dispatchers;
  Dispatcher& dispatcher;  // of `default`
  int64_t now = 0;
  uint64_t lowest = 0;  // entries up to here may be gone
  std::vector<Dispatcher::ReceiverId> empty_handed;
};

inline Dispatcher::Plan DecideAlone(Dispatcher& dispatcher) {
  Dispatcher::Plan plan;
  size_t runs = 8'192;
  dispatcher.Decide(0, 0, runs, plan);
  return plan;
}

inline std::vector<Slots> SlotsOf(const std::vector<Dispatcher::Delivery>& deliveries) {
  std::vector<Slots> all;
  for (const auto& d : deliveries) {
    for (const auto& run : d.runs) all.push_back(run.slots);
  }
  return all;
}

inline std::vector<Token> TokensOf(const std::vector<Dispatcher::Delivery>& deliveries) {
  std::vector<Token> all;
  for (const auto& d : deliveries) {
    for (const auto& run : d.runs) all.push_back({run.slots, d.checkout_index});
  }
  return all;
}

inline fact::Settled Settle(std::vector<Token> tokens, Disposition how = Disposition::kAcknowledge) {
  return {0, how, std::move(tokens)};
}

}  // namespace trireme::queue
