#include "tests/failover/network/wire.h"

#include <gtest/gtest.h>

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Wire::Time kNow{seconds(1'000)};
constexpr size_t kPacket = 1'000;

TEST(Wire, PassesEverythingOnAtOnceUnlessToldOtherwise) {
  Wire wire(1);
  for (int i = 0; i < 100; ++i) {
    const Wire::Fate fate = wire.Send(kNow + milliseconds(i), kPacket);
    ASSERT_EQ(fate.copies, 1);
    EXPECT_EQ(fate.due[0], kNow + milliseconds(i));
    EXPECT_FALSE(fate.withheld);
  }
}

TEST(Wire, CutsAndWithholds) {
  Wire wire(1);
  wire.SetRule({.cut = true});
  EXPECT_EQ(wire.Send(kNow, kPacket).copies, 0);
  EXPECT_FALSE(wire.Send(kNow, kPacket).withheld);
  wire.SetRule({.withhold = true});
  EXPECT_EQ(wire.Send(kNow, kPacket).copies, 0);
  EXPECT_TRUE(wire.Send(kNow, kPacket).withheld);
  wire.SetRule({});
  EXPECT_EQ(wire.Send(kNow, kPacket).copies, 1);
}

TEST(Wire, LosesAndDoublesTheShareThatItIsTold) {
  Wire wire(7);
  wire.SetRule({.lost = 0.25, .doubled = 0.5});
  int lost = 0, doubled = 0;
  for (int i = 0; i < 10'000; ++i) {
    const Wire::Fate fate = wire.Send(kNow, kPacket);
    lost += fate.copies == 0;
    doubled += fate.copies == 2;
  }
  EXPECT_NEAR(lost, 2'500, 200);
  EXPECT_NEAR(doubled, 3'750, 200);
}

TEST(Wire, KeepsTheOrderHoweverTheDelayVaries) {
  Wire wire(3);
  wire.SetRule({.delay = milliseconds(20), .jitter = milliseconds(50)});
  Wire::Time last{};
  for (int i = 0; i < 1'000; ++i) {
    const Wire::Time sent = kNow + milliseconds(i);
    const Wire::Fate fate = wire.Send(sent, kPacket);
    ASSERT_EQ(fate.copies, 1);
    EXPECT_GE(fate.due[0], last);
    EXPECT_GE(fate.due[0], sent + milliseconds(20));
    last = fate.due[0];
  }
  EXPECT_LE(last, kNow + milliseconds(999 + 70));
}

TEST(Wire, LetsAShareBeOvertakenWhenAsked) {
  Wire wire(3);
  wire.SetRule({.reordered = 0.5, .jitter = milliseconds(50)});
  Wire::Time highest{};
  int overtaken = 0;
  for (int i = 0; i < 1'000; ++i) {
    const Wire::Fate fate = wire.Send(kNow + milliseconds(i), kPacket);
    overtaken += fate.due[0] < highest;
    highest = std::max(highest, fate.due[0]);
  }
  EXPECT_GT(overtaken, 200);
}

TEST(Wire, SendsNoFasterThanItsBandwidthAndDropsWhatFindsNoRoom) {
  Wire wire(1);
  // A packet in ten milliseconds.
  wire.SetRule({.bytes_per_second = 100 * kPacket});
  EXPECT_EQ(wire.Send(kNow, kPacket).due[0], kNow + milliseconds(10));
  EXPECT_EQ(wire.Send(kNow, kPacket).due[0], kNow + milliseconds(20));
  // It has been idle meanwhile.
  EXPECT_EQ(wire.Send(kNow + seconds(1), kPacket).due[0], kNow + seconds(1) + milliseconds(10));
  int passed = 1;
  while (wire.Send(kNow + seconds(1), kPacket).copies == 1) ++passed;
  EXPECT_EQ(passed, Wire::kMaxQueue / milliseconds(10));
}

TEST(Wire, DrawsTheSameFromTheSameSeed) {
  Wire one(42), other(42);
  const WireRule rule{.lost = 0.3, .doubled = 0.3, .reordered = 0.3, .jitter = milliseconds(9)};
  one.SetRule(rule);
  other.SetRule(rule);
  for (int i = 0; i < 1'000; ++i) {
    const Wire::Fate a = one.Send(kNow, kPacket), b = other.Send(kNow, kPacket);
    ASSERT_EQ(a.copies, b.copies);
    for (int copy = 0; copy < a.copies; ++copy) EXPECT_EQ(a.due[copy], b.due[copy]);
  }
}

}  // namespace
}  // namespace trireme::failover
