#include "raft/host/quorum_clock.h"

#include <gtest/gtest.h>

#include "raft/host/host.h"

namespace trireme::raft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int64_t kEpoch = 1'700'000'000'000;
const std::vector<NodeId> kThree = {NodeId(1), NodeId(2), NodeId(3)};

class QuorumClockTest : public testing::Test {
 protected:
  // The true wall clock.
  int64_t Wall() const { return kEpoch + std::chrono::duration_cast<milliseconds>(now_.time_since_epoch()).count(); }
  std::optional<int64_t> Offset(int64_t skew = 0) const {
    return clock_.OffsetMs(NodeId(1), Wall() + skew, now_, kThree);
  }

  QuorumClock clock_;
  MonotonicTime now_{std::chrono::hours(5)};
};

TEST_F(QuorumClockTest, NothingWithoutAQuorum) {
  EXPECT_EQ(Offset(), std::nullopt);
  clock_.Heard(NodeId(9), Wall(), now_);  // no member
  EXPECT_EQ(Offset(), std::nullopt);
  clock_.Heard(NodeId(2), Wall(), now_);
  EXPECT_EQ(Offset(), 0);
  // One is its own quorum.
  EXPECT_EQ(clock_.OffsetMs(NodeId(1), Wall(), now_, {NodeId(1)}), 0);
}

TEST_F(QuorumClockTest, TheMedianOutvotesOneWrongClock) {
  clock_.Heard(NodeId(2), Wall() + 20, now_);
  clock_.Heard(NodeId(3), Wall() - 3'600'000, now_);
  EXPECT_EQ(Offset(), 0);
  EXPECT_EQ(Offset(10), 0);
  EXPECT_EQ(Offset(30), 10);
  EXPECT_EQ(Offset(7'000), 6'980);
  EXPECT_EQ(Offset(-4'000'000), -400'000);
}

TEST_F(QuorumClockTest, TwoClocksShareTheirDifference) {
  clock_.Heard(NodeId(2), Wall() + 12'000, now_);
  EXPECT_EQ(Offset(), -6'000);
}

TEST_F(QuorumClockTest, WhatIsOldIsForgotten) {
  clock_.Heard(NodeId(2), Wall(), now_);
  now_ += seconds(9);
  EXPECT_EQ(Offset(), 0) << "still known, and advanced with the monotonic clock";
  now_ += seconds(1);
  EXPECT_EQ(Offset(), std::nullopt);
}

// A frame that was held up must not make its sender's clock look slow.
TEST_F(QuorumClockTest, DelayIsNotSkew) {
  for (int i = 0; i < 100; ++i) {
    int64_t delay = i % 4 == 0 ? 0 : 6'000;
    clock_.Heard(NodeId(2), Wall() - delay, now_);
    EXPECT_EQ(Offset(), 0) << i;
    now_ += milliseconds(100);
  }
}

// A real change of the other's clock is believed in the end.
TEST_F(QuorumClockTest, AStepBackIsSeenWithinTwoWindows) {
  clock_.Heard(NodeId(2), Wall() + 10'000, now_);
  for (int i = 0; i < 120; ++i) {
    now_ += milliseconds(100);
    clock_.Heard(NodeId(2), Wall(), now_);
  }
  EXPECT_EQ(Offset(), 0);
}

TEST_F(QuorumClockTest, ImpossibleClocksAreNotHeard) {
  clock_.Heard(NodeId(2), INT64_MAX, now_);
  clock_.Heard(NodeId(3), INT64_MIN, now_);
  EXPECT_EQ(Offset(), std::nullopt);
}

}  // namespace
}  // namespace trireme::raft
