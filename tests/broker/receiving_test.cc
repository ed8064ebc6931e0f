// How much is read for what is delivered.
#include "broker/replica/receiving.h"

#include <gmock/gmock.h>

#include "tests/broker/fake_group.h"

namespace trireme::broker::testing {
namespace {

using queue::Position;
using GivenRun = queue::effect::CheckedOut::Run;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kCheckout = 1'000'000;

class ReceivingTest : public ::testing::Test {
 protected:
  // Entries of one large message each, from index 1 on, and a run for each.
  std::vector<GivenRun> Large(size_t count, size_t bytes) {
    std::vector<GivenRun> runs;
    for (uint64_t i = 1; i <= count; ++i) {
      group_.Add(i, EntryOf({std::string(bytes, 'x')}));
      runs.push_back({{Position(i, 0), 1}, 2});
    }
    return runs;
  }

  FakeGroup group_;
  EntryReader reader_{&group_, size_t{4} << 20};
  int arrived_ = 0;
  absl::Status damaged_;
  bool held_ = true;
  Receiving receiving_{&reader_,
                       {.deliver = {},
                        .held = [this](const queue::Token&) { return held_; },
                        .damaged = [this](const absl::Status& status) { damaged_ = status; }},
                       [this] { ++arrived_; }};
};

// A thousand runs that came back, each far larger than its entry's average: what does not fit is not read at all.
TEST_F(ReceivingTest, NothingIsReadBeyondWhatFits) {
  std::vector<GivenRun> runs = Large(1'000, 200'000);
  receiving_.Start(kCheckout, runs, 1'000);
  ASSERT_TRUE(receiving_.ReadOn());
  Receiving::Result result = receiving_.Take();
  EXPECT_THAT(result.runs, SizeIs(18));
  EXPECT_THAT(result.left, SizeIs(982));
  EXPECT_LT(group_.bytes_read, size_t{8} << 20);
  // Each run is in one of the two, in order, under its own token.
  uint64_t index = 1;
  for (const DeliveredRun& run : result.runs) {
    EXPECT_EQ(run.slots, runs[index++ - 1].slots);
    EXPECT_EQ(run.deliveries, 2u);
  }
  for (const queue::Token& token : result.left) {
    EXPECT_EQ(token.slots, runs[index++ - 1].slots);
    EXPECT_EQ(token.checkout_index, kCheckout);
  }
}

TEST_F(ReceivingTest, WhatFitsComesWhole) {
  receiving_.Start(kCheckout, Large(50, 1'000), 50);
  ASSERT_TRUE(receiving_.ReadOn());
  Receiving::Result result = receiving_.Take();
  EXPECT_THAT(result.runs, SizeIs(50));
  EXPECT_THAT(result.left, IsEmpty());
  EXPECT_EQ(arrived_, 0);
}

TEST_F(ReceivingTest, OneRunIsGivenHoweverLargeItIs) {
  receiving_.Start(kCheckout, Large(2, 3'600'000), 2);
  ASSERT_TRUE(receiving_.ReadOn());
  Receiving::Result result = receiving_.Take();
  EXPECT_THAT(result.runs, SizeIs(1));
  EXPECT_THAT(result.left, SizeIs(1));
}

TEST_F(ReceivingTest, AReadThatTakesItsTimeIsWaitedFor) {
  group_.hold = true;
  receiving_.Start(kCheckout, Large(20, 200'000), 20);
  int rounds = 0;
  for (; !receiving_.ReadOn(); ++rounds) {
    ASSERT_EQ(arrived_, rounds);
    group_.Release();
    ASSERT_EQ(arrived_, rounds + 1);
    ASSERT_LT(rounds, 100);
  }
  EXPECT_GT(rounds, 1);
  EXPECT_THAT(receiving_.Take().runs, SizeIs(18));
}

// What was settled while it was looked up is missed by nobody; what is held and cannot be read is damage.
TEST_F(ReceivingTest, WhatIsGoneIsLeftOut) {
  std::vector<GivenRun> runs = Large(2, 100);
  runs.push_back({{Position(77, 0), 1}, 1});
  held_ = false;
  receiving_.Start(kCheckout, runs, 2);
  ASSERT_TRUE(receiving_.ReadOn());
  EXPECT_TRUE(damaged_.ok());
  EXPECT_THAT(receiving_.Take().runs, SizeIs(2));
}

TEST_F(ReceivingTest, WhatIsHeldAndCannotBeReadIsDamage) {
  receiving_.Start(kCheckout, {{{Position(77, 0), 1}, 1}}, 77);
  EXPECT_FALSE(receiving_.ReadOn());
  EXPECT_FALSE(damaged_.ok());
}

}  // namespace
}  // namespace trireme::broker::testing
