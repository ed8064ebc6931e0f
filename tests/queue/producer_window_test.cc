#include "broker/queue/producer_window.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "tests/queue/text.h"
#include "tests/script/say.h"

namespace trireme::queue {
namespace {

using Fate = ProducerWindow::Piece::Fate;

std::string Judged(const ProducerWindow& window, uint64_t first, uint32_t count) {
  const auto pieces = window.Judge(first, count);
  // The short answer is the long one's.
  const bool all_new = pieces.size() == 1 && pieces[0].fate == Fate::kNew;
  EXPECT_EQ(window.AllNew(first, count), all_new) << first << "+" << count;
  return Describe(pieces);
}

TEST(ProducerWindowTest, ANewWindowKnowsNothingAndSequencesBeginAtOne) {
  const ProducerWindow window;
  EXPECT_EQ(Judged(window, 1, 3), "1-3 new");
  EXPECT_EQ(Judged(window, 0, 3), "0 unknown, 1-2 new");
  EXPECT_EQ(Judged(window, 1'000'000, 1), "1000000 new");
}

// Safety rule 6: set, its first one's position; unset within the window, new.
TEST(ProducerWindowTest, WhatIsStoredIsKnownByItsPositionAndHolesStay) {
  ProducerWindow window;
  window.Add(5, 3, Position(10, 0));
  window.Add(10, 2, Position(12, 4));
  EXPECT_EQ(Judged(window, 1, 13), "1-4 new, 5-7 stored at 10:0, 8-9 new, 10-11 stored at 12:4, 12-13 new");
  EXPECT_EQ(Judged(window, 6, 1), "6 stored at 10:1");
  EXPECT_EQ(Judged(window, 7, 4), "7 stored at 10:2, 8-9 new, 10 stored at 12:4");
  EXPECT_EQ(Judged(window, 8, 2), "8-9 new");
  window.Add(8, 2, Position(20, 0));
  EXPECT_EQ(Judged(window, 5, 7), "5-7 stored at 10:0, 8-9 stored at 20:0, 10-11 stored at 12:4");
  EXPECT_EQ(window.highest(), 11u);
}

// Safety rule 6: below the window, unknown: neither stored again nor acknowledged.
TEST(ProducerWindowTest, WhatFellOutOfTheSpanIsUnknownWhetherItWasStoredOrNot) {
  ProducerWindow window;
  window.Add(1, 4, Position(10, 0));
  window.Add(ProducerWindow::kSpan + 2, 1, Position(11, 0));
  EXPECT_EQ(window.lowest(), 3u);
  EXPECT_EQ(Judged(window, 1, 6), "1-2 unknown, 3-4 stored at 10:2, 5-6 new");
  window.Add(ProducerWindow::kSpan + 100, 1, Position(12, 0));
  EXPECT_EQ(Judged(window, 100, 2), "100 unknown, 101 new");
}

// The same when there are more ranges than it keeps: the lowest is given up, and all below its end with it.
TEST(ProducerWindowTest, WhatFellOutOfTheRangesIsUnknown) {
  ProducerWindow window;
  for (uint64_t i = 0; i < ProducerWindow::kRanges; ++i) window.Add(1 + 3 * i, 1, Position(10 + i, 0));
  EXPECT_EQ(Judged(window, 1, 4), "1 stored at 10:0, 2-3 new, 4 stored at 11:0");
  window.Add(1 + 3 * ProducerWindow::kRanges, 1, Position(9'999, 0));
  EXPECT_EQ(Judged(window, 1, 4), "1 unknown, 2-3 new, 4 stored at 11:0");
  window.Add(2, 1, Position(9'999, 1));  // a hole is filled; it is the lowest now, and goes
  EXPECT_EQ(Judged(window, 1, 4), "1-2 unknown, 3 new, 4 stored at 11:0");
}

TEST(ProducerWindowTest, SequencesEndWhereTheyCannotWrap) {
  constexpr uint64_t kMax = ProducerWindow::kMaxSequence;
  ProducerWindow window;
  EXPECT_EQ(Judged(window, kMax, 1), script::Say(kMax, " unknown"));
  EXPECT_EQ(Judged(window, kMax - 1, 1), script::Say(kMax - 1, " new"));
  for (uint64_t high : {kMax + 1, uint64_t{0} - 1, uint64_t{0} - 65'535}) EXPECT_FALSE(window.AllNew(high, 1)) << high;
  EXPECT_FALSE(window.AllNew(kMax - 65'534, 65'535) && window.AllNew(kMax - 65'533, 65'535));
  window.Add(kMax - 1, 1, Position(1, 0));
  EXPECT_EQ(window.highest(), kMax - 1);
  EXPECT_EQ(window.lowest(), kMax - ProducerWindow::kSpan);
}

// Against every sequence ever stored, over random publishes that keep the window's rules as a leader does.
TEST(ProducerWindowTest, RandomHistoriesAgreeWithAMapOfEverything) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    auto below = [&](uint64_t n) { return random() % n; };
    ProducerWindow window;
    std::map<uint64_t, Position> stored;
    uint64_t next = 1;
    for (int step = 0; step < 3'000; ++step) {
      const uint64_t jump = below(1'000) == 0 ? below(100'000) : below(5);
      const uint64_t first = below(3) == 0 ? 1 + below(next + 10) : next + jump;
      const auto count = static_cast<uint32_t>(1 + below(seed % 3 == 0 ? 40 : 4));
      const auto pieces = window.Judge(first, count);
      uint64_t at = first;
      bool all_new = true;
      for (const auto& piece : pieces) {
        ASSERT_EQ(piece.first_sequence, at) << "seed " << seed;
        ASSERT_GT(piece.count, 0u);
        for (uint32_t i = 0; i < piece.count; ++i, ++at) {
          auto was = stored.find(at);
          if (piece.fate == Fate::kNew) {
            ASSERT_EQ(was, stored.end()) << "seed " << seed << ": " << at << " would be stored twice";
          }
          if (piece.fate == Fate::kStored) {
            ASSERT_NE(was, stored.end()) << "seed " << seed << ": " << at << " was never stored";
            ASSERT_EQ(was->second, piece.first + i) << "seed " << seed << ": " << at;
          }
          ASSERT_EQ(piece.fate == Fate::kUnknown, at < window.lowest()) << "seed " << seed << ": " << at;
          all_new &= piece.fate == Fate::kNew;
        }
      }
      ASSERT_EQ(at, first + count);
      ASSERT_EQ(window.AllNew(first, count), all_new) << "seed " << seed << ": " << first << "+" << count;
      if (!all_new) continue;
      window.Add(first, count, Position(static_cast<uint64_t>(step) + 1, 0));
      for (uint32_t i = 0; i < count; ++i) stored[first + i] = Position(static_cast<uint64_t>(step) + 1, i);
      next = std::max(next, first + count);
      ASSERT_EQ(window.highest(), next - 1);
      if (step % 100 != 0) continue;
      // As it is after a restart.
      raft::Writer out;
      window.Encode(out);
      ASSERT_LE(out.size(), ProducerWindow::kRanges * 24 + 24);
      raft::Reader in(out.bytes());
      ProducerWindow again;
      ASSERT_TRUE(again.Decode(in) && in.done());
      raft::Writer same;
      again.Encode(same);
      ASSERT_EQ(same.bytes(), out.bytes());
      window = again;
    }
  }
}

}  // namespace
}  // namespace trireme::queue
