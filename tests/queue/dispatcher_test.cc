#include "broker/queue/dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/queue/log.h"

namespace trireme::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A leader's dispatcher over a log.
class Leader {
 public:
  explicit Leader(Log* log, Dispatcher::Limits limits = {})
      : log_(log), limits_(limits), dispatcher(&log->machine, log->last(), 0, limits) {}

  uint64_t Publish(uint32_t count, std::string_view body = "x") {
    raft::Bytes entry = PublishedEntry(count, "", 0, 0, now, body);
    const EntryShape shape = ShapeOf(entry);
    uint64_t index = log_->Append(std::move(entry));
    dispatcher.Appended(index, shape);
    return index;
  }

  // Appends what the dispatcher decides, and `facts` before it; the entry's facts.
  std::vector<Fact> Decide(std::vector<Fact> facts = {}) {
    while (auto wanted = dispatcher.Wanted()) {
      std::vector<EntryShape> shapes;
      for (uint64_t i = wanted->first; i <= wanted->last; ++i) {
        // Nothing may be asked for that compaction may have taken.
        EXPECT_GT(i, lowest) << "entry " << i << " is gone";
        shapes.push_back(ShapeOf(log_->at(i)));
      }
      dispatcher.Shapes(wanted->first, shapes);
    }
    auto plan = dispatcher.Decide(now, now);
    for (auto id : plan.empty_handed) empty_handed.push_back(id);
    std::move(plan.facts.begin(), plan.facts.end(), std::back_inserter(facts));
    if (!facts.empty()) {
      const uint64_t index = log_->Append(FactsEntry(facts, now));
      dispatcher.Appended(index, {});
      for (const Fact& fact : facts) {
        if (std::holds_alternative<fact::Purged>(fact)) dispatcher.Purged(index);
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
      dispatcher.Applied(index, DecodeEntry(log_->at(index))->facts, effects, deliveries);
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
  Dispatcher dispatcher;
  int64_t now = 0;
  uint64_t lowest = 0;  // entries up to here may be gone
  std::vector<Dispatcher::ReceiverId> empty_handed;
};

std::vector<Slots> SlotsOf(const std::vector<Dispatcher::Delivery>& deliveries) {
  std::vector<Slots> all;
  for (const auto& d : deliveries) {
    for (const auto& run : d.runs) all.push_back(run.slots);
  }
  return all;
}

std::vector<Token> TokensOf(const std::vector<Dispatcher::Delivery>& deliveries) {
  std::vector<Token> all;
  for (const auto& d : deliveries) {
    for (const auto& run : d.runs) all.push_back({run.slots, d.checkout_index});
  }
  return all;
}

fact::Settled Settle(std::vector<Token> tokens, Disposition how = Disposition::kAcknowledge) {
  return {0, how, std::move(tokens)};
}

TEST(DispatcherTest, ABatchAndItsCheckoutGoInOneAppend) {
  Log log;
  Leader leader(&log);
  leader.Attach("a", {10, 1 << 20});
  const uint64_t batch = leader.Publish(3);
  EXPECT_EQ(leader.Decide().size(), 1u);  // before the batch is applied
  auto deliveries = leader.ApplyAll();
  EXPECT_THAT(SlotsOf(deliveries), ElementsAre(Slots{Position(batch, 0), 3}));
  EXPECT_EQ(deliveries[0].session, "a");
  EXPECT_EQ(deliveries[0].runs[0].deliveries, 1u);
}

// A queue whose messages are all settled holds no entry: a new leader must find its way without reading any of them.
TEST(DispatcherTest, ANewLeaderOfASettledQueueReadsNothingThatMayBeGone) {
  Log log;
  {
    Leader leader(&log);
    leader.Attach("a", {10, 1 << 20});
    leader.Publish(3);
    leader.Turn({Settle(TokensOf(leader.Turn()))});
    for (int i = 0; i < 20; ++i) leader.Turn({fact::ProducerOpened{"p", static_cast<uint64_t>(i + 1)}});
  }
  auto live = log.machine.Live();
  EXPECT_EQ(live.floor, log.last());
  EXPECT_THAT(live.live, IsEmpty());

  Leader leader(&log);
  leader.lowest = live.floor;
  leader.Attach("a", {10, 1 << 20});
  const uint64_t batch = leader.Publish(2);
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(batch, 0), 2}));
}

// The same within one term, when the window of known entries was full of facts while they were compacted away.
TEST(DispatcherTest, EntriesWithoutMessagesDoNotFillTheWindow) {
  Log log;
  Leader leader(&log, {.read_ahead = 8});
  for (int i = 0; i < 40; ++i) leader.Turn({fact::ProducerOpened{"p", static_cast<uint64_t>(i + 1)}});
  leader.lowest = log.machine.Live().floor;
  EXPECT_EQ(leader.lowest, log.last());
  leader.Attach("a", {10, 1 << 20});
  const uint64_t batch = leader.Publish(2);
  EXPECT_THAT(SlotsOf(leader.Turn()), ElementsAre(Slots{Position(batch, 0), 2}));
}

}  // namespace
}  // namespace trireme::queue
