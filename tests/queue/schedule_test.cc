// What is stored for later: the entries and rows that say it, and what the state allows. (Random histories of it are in
// property_test.)
#include "broker/queue/schedule.h"

#include <gtest/gtest.h>

#include "broker/queue/scheduler.h"
#include "raft/core/checksum.h"
#include "tests/queue/log.h"
#include "tests/queue/sealed.h"

namespace trireme::queue {
namespace {

raft::Bytes Parked(const std::vector<int64_t>& due_ms, int64_t time_ms = 0, std::string_view body = "x") {
  return PublishedEntry(static_cast<uint32_t>(due_ms.size()), "", 0, 0, time_ms, body, due_ms);
}

Log Raised() {
  Log log;
  log.Apply(FactsEntry({fact::VersionRaised{kScheduleVersion}}));
  return log;
}

// A release of these rows, each with the message that Parked makes.
raft::Bytes Released(const Machine& machine, const std::vector<ScheduleKey>& rows, int64_t time_ms, int64_t next_ms) {
  const auto count = static_cast<uint32_t>(rows.size());
  const std::string batch = BatchOf(count, "x");
  fact::Published fact{.producer = {}, .count = count, .checksums = *CheckBatch(batch, {})};
  fact.release = Release{.changes = machine.schedule().changes(),
                         .last_parked = machine.schedule().last_parked(),
                         .next_ms = next_ms,
                         .rows = rows};
  return EncodePublished(fact, time_ms, batch);
}

effect::Published::Outcome OutcomeOf(const Effects& effects) {
  return std::get<effect::Published>(effects.facts.at(0)).outcome;
}

TEST(ScheduleTest, EntriesComeOutAsTheyWentIn) {
  const raft::Bytes parked = Parked({300, 100, int64_t{1} << 41}, 42);
  EXPECT_TRUE(CheckEntry(parked).ok());
  EXPECT_EQ(DecodePublished(parked).status().code(), absl::StatusCode::kNotFound) << "no cursor sees it";
  auto view = DecodeStored(parked);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->due_ms(), (std::vector<int64_t>{300, 100, int64_t{1} << 41}));
  auto decoded = DecodeEntry(parked);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(EncodePublished(std::get<fact::Published>(decoded->facts[0]), 42, decoded->batch.view()), parked);
  EXPECT_EQ(VersionOf(decoded->facts[0]), kScheduleVersion);

  Log log = Raised();
  const raft::Bytes released = Released(log.machine, {{100, Position(3, 1)}, {300, Position(3, 0)}}, 400, 500);
  EXPECT_TRUE(CheckEntry(released).ok());
  auto published = DecodePublished(released);
  ASSERT_TRUE(published.ok());
  EXPECT_EQ(published->released().rows, (std::vector<ScheduleKey>{{100, Position(3, 1)}, {300, Position(3, 0)}}));
  EXPECT_EQ(published->released().next_ms, 500);
  decoded = DecodeEntry(released);
  EXPECT_EQ(EncodePublished(std::get<fact::Published>(decoded->facts[0]), 400, decoded->batch.view()), released);
}

// Times that are missing, or more than there are messages.
TEST(ScheduleTest, AHeaderThatLiesIsRefused) {
  const std::string batch = BatchOf(2);
  for (const size_t times : {0u, 1u, 3u}) {
    raft::Writer header;
    header.Signed(0);
    header.Counted("");
    header.Varint(0);
    header.Varint(0);
    header.Varint(2);
    const std::vector<uint32_t> checksums = *CheckBatch(batch, {});
    for (uint32_t crc : checksums) header.Fixed32(crc);
    for (size_t i = 0; i < times; ++i) header.Signed(5);
    EXPECT_EQ(CheckEntry(SealedEntry(1, 3, header.bytes(), batch)).code(), absl::StatusCode::kDataLoss) << times;
    EXPECT_EQ(CheckEntry(SealedEntry(1, 4, header.bytes(), batch)).code(), absl::StatusCode::kDataLoss) << times;
  }
}

TEST(ScheduleTest, RowsLieInTheOrderOfTimes) {
  const std::vector<ScheduleKey> ascending = {
      {0, Position(9, 0)}, {255, Position(1, 1)}, {256, Position(1, 0)}, {256, Position(1, 1)}, {int64_t{1} << 45, {}}};
  for (size_t i = 0; i < ascending.size(); ++i) {
    EXPECT_EQ(ParseDueRowKey(DueRowKey(ascending[i])), ascending[i]);
    if (i > 0) {
      EXPECT_LT(DueRowKey(ascending[i - 1]), DueRowKey(ascending[i]));
    }
    EXPECT_LT(DueRowKey(ascending[i]), DueRowsEnd());
    EXPECT_GT(PositionRowKey(ascending[i].position), DueRowsEnd());
  }
  EXPECT_EQ(ParseDueRowKey("d123"), std::nullopt);
  const auto message = DecodeDueRow(EncodeDueRow({.published_ms = -3, .checksum = 7, .message = "body"}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->published_ms, -3);
  EXPECT_EQ(message->message, "body");
}

// Safety rule 3: before the version that knows it, it is nothing that a log may hold.
TEST(ScheduleTest, AnOlderVersionStopsAtIt) {
  Log log;
  EXPECT_EQ(log.machine.Apply(1, Parked({100})).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(log.machine.applied(), 0u);
}

// Safety rule 1: a row is the record that a message is alive. The state, and what it keeps of the log, do not grow.
TEST(ScheduleTest, AMillionMessagesTakeNoState) {
  Log log = Raised();
  const size_t empty = log.machine.Snapshot().size();
  size_t rows = 0;
  for (int i = 0; i < 1'000; ++i) {
    log.Append(Parked(std::vector<int64_t>(1'000, 1'000'000 + i)));
    rows += log.ApplyNext().rows.size();
  }
  EXPECT_EQ(log.machine.schedule().messages(), 1'000'000u);
  EXPECT_EQ(rows, 2'000'000u);
  EXPECT_LT(log.machine.Snapshot().size(), empty + 64);
  EXPECT_EQ(log.machine.Live().floor, log.machine.applied()) << "no entry is kept for them";
  EXPECT_TRUE(log.machine.Live().live.empty());
}

// Safety rules 2 and 7, each way in which a leader may be wrong.
TEST(ScheduleTest, AReleaseHoldsOnlyForWhatItWasDecidedFrom) {
  const ScheduleKey a{100, Position(2, 0)}, b{200, Position(2, 1)};
  Log log = Raised();
  log.Apply(Parked({100, 200}));
  const Machine& m = log.machine;
  using Outcome = effect::Published::Outcome;
  EXPECT_EQ(OutcomeOf(log.Apply(Released(m, {a}, 99, 200))), Outcome::kOutdated) << "early";
  EXPECT_EQ(OutcomeOf(log.Apply(Released(m, {b, a}, 300, Schedule::kNever))), Outcome::kOutdated) << "not in order";
  EXPECT_EQ(OutcomeOf(log.Apply(Released(m, {a}, 300, Schedule::kNever))), Outcome::kOutdated) << "one is left";
  EXPECT_EQ(OutcomeOf(log.Apply(Released(m, {a, b}, 300, 400))), Outcome::kOutdated) << "none is left";
  const raft::Bytes good = Released(m, {a}, 300, 200);
  log.Apply(Parked({1'000}, 300));
  EXPECT_EQ(OutcomeOf(log.Apply(good)), Outcome::kOutdated) << "it did not know of the third one";
  EXPECT_EQ(m.published(), 0u);
  EXPECT_EQ(OutcomeOf(log.Apply(Released(m, {a}, 300, 200))), Outcome::kStored);
  EXPECT_EQ(OutcomeOf(log.Apply(good)), Outcome::kOutdated) << "twice";
  EXPECT_EQ(OutcomeOf(log.Apply(Released(m, {a}, 300, 200))), Outcome::kOutdated) << "below the bound";
  EXPECT_EQ(m.schedule().messages(), 2u);
  EXPECT_EQ(m.published(), 1u);
  EXPECT_EQ(m.subscription(0).waiting, 1u);
}

TEST(ScheduleTest, ACancellationHoldsOnlyForWhatItWasDecidedFrom) {
  Log log = Raised();
  log.Apply(Parked({100, 200, 300}));
  const auto row = DecodeStored(log.at(2));
  auto cancel = [&](ScheduleKey key, uint64_t changes) {
    return log
        .Apply<effect::Cancelled>(
            fact::Cancelled{changes, {{key, row->checksum(key.position.slot()), raft::Bytes().size() + 3}}})
        .accepted;
  };
  EXPECT_FALSE(cancel({200, Position(2, 1)}, 1));
  EXPECT_TRUE(cancel({200, Position(2, 1)}, 0));
  EXPECT_FALSE(cancel({200, Position(2, 1)}, 0)) << "twice, by one that knows not of the first";
  EXPECT_EQ(OutcomeOf(log.Apply(Released(log.machine, {{100, Position(2, 0)}}, 400, 300))),
            effect::Published::Outcome::kStored);
  EXPECT_FALSE(cancel({100, Position(2, 0)}, log.machine.schedule().changes())) << "it is released";
  EXPECT_EQ(log.machine.schedule().messages(), 1u);
}

// Safety rule 25: the digest covers the rows that there should be, in whatever order they came and went.
TEST(ScheduleTest, TheDigestCoversTheRows) {
  auto digest = [](std::string_view body, int64_t due) {
    Log log = Raised();
    log.Apply(Parked({due}, 0, body));
    return log.machine.Digest();
  };
  EXPECT_EQ(digest("a", 100), digest("a", 100));
  EXPECT_NE(digest("a", 100), digest("b", 100));
  EXPECT_NE(digest("a", 100), digest("a", 101));
}

TEST(ScheduleTest, ASnapshotHasItAll) {
  Log log = Raised();
  log.Apply(Parked({100, 200}));
  log.Apply(Released(log.machine, {{100, Position(2, 0)}}, 150, 200));
  Machine restored;
  ASSERT_TRUE(restored.Restore(log.machine.Snapshot()).ok());
  EXPECT_EQ(restored.schedule().messages(), 1u);
  EXPECT_EQ(restored.schedule().next_ms(), 200);
  EXPECT_EQ(restored.schedule().bound(), (ScheduleKey{100, Position(2, 0)}));
  EXPECT_EQ(restored.Digest(), log.machine.Digest());
}

// However often something earlier comes, a queue has few timers at a time; and none where there is nothing.
TEST(SchedulerTest, WakesAFewTimesHoweverFarItIs) {
  Log log = Raised();
  EXPECT_EQ(Scheduler(&log.machine).NextWake(0, 0), std::nullopt);
  const int64_t ten_years = int64_t{3650} * 24 * 3600 * 1000;
  log.Apply(Parked({ten_years}));
  Scheduler scheduler(&log.machine);
  int64_t now = 0;
  int wakes = 0;
  for (; now < ten_years; ++wakes) {
    const auto wake = scheduler.NextWake(now, now);
    ASSERT_TRUE(wake);
    ASSERT_GT(*wake, now);
    ASSERT_LE(*wake, ten_years);
    now = *wake;
  }
  EXPECT_LT(wakes, 50);
  EXPECT_TRUE(scheduler.Begin(now));
}

// Safety rule 17.
TEST(SchedulerTest, ReleasesInEntriesOfABoundedSize) {
  Log log = Raised();
  log.Apply(Parked(std::vector<int64_t>(100, 50)));
  Scheduler scheduler(&log.machine);
  ASSERT_TRUE(scheduler.Begin(60));
  const std::string body(10'000, 'x'), large(1'000'000, 'y');
  std::vector<Scheduler::Row> rows;
  for (uint32_t i = 0; i < 100; ++i) {
    const std::string& of = i == 70 ? large : body;
    rows.push_back({{50, Position(2, i)}, raft::Crc32c(of), of});
  }
  uint64_t messages = 0, changes = 0;
  for (const auto& released : scheduler.Decide(rows, false)) {
    const raft::Bytes entry = EncodePublished(released.fact, 60, released.batch);
    EXPECT_TRUE(entry.size() <= kMaxFactsBytes || released.fact.count == 1) << entry.size();
    EXPECT_TRUE(CheckEntry(entry).ok());
    EXPECT_EQ(released.fact.release->changes, changes++);
    messages += released.fact.count;
  }
  EXPECT_EQ(messages, 100u);
}

}  // namespace
}  // namespace trireme::queue
