#include "client/leases.h"

#include <map>
#include <random>

#include "gtest/gtest.h"

namespace trireme::client {
namespace {

std::vector<LeaseRun> Settled(const v1::SettleRuns& frame) {
  std::vector<LeaseRun> runs;
  for (const v1::HeldRun& run : frame.runs()) runs.push_back(FromProto(run));
  return runs;
}

TEST(LeasesTest, SplitsRunsAsPartsAreSettled) {
  Leases leases;
  leases.Add({100, 10, 7});
  std::vector<LeaseRun> removed;
  auto note = [&](const LeaseRun& run) { removed.push_back(run); };
  leases.Remove({103, 2, 7}, note);
  leases.Remove({103, 2, 7}, note);
  leases.Remove({100, 1, 8}, note);
  EXPECT_EQ(removed, (std::vector<LeaseRun>{{103, 2, 7}}));
  EXPECT_EQ(leases.runs(), (std::vector<LeaseRun>{{100, 3, 7}, {105, 5, 7}}));
  EXPECT_EQ(leases.messages(), 8u);
  EXPECT_TRUE(leases.Holds(102, 7));
  EXPECT_FALSE(leases.Holds(103, 7));
  EXPECT_FALSE(leases.Holds(102, 8));
  leases.Remove({90, 30, 7}, note);
  EXPECT_EQ(leases.messages(), 0u);
  EXPECT_TRUE(leases.runs().empty());
}

TEST(LeasesTest, ANewerCheckoutReplacesAnOlderOne) {
  Leases leases;
  leases.Add({100, 10, 7});
  leases.Add({104, 2, 9});
  EXPECT_EQ(leases.runs(), (std::vector<LeaseRun>{{100, 4, 7}, {104, 2, 9}, {106, 4, 7}}));
  EXPECT_EQ(leases.messages(), 10u);
}

TEST(LeasesTest, AgreesWithAMapOfPositions) {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    std::minstd_rand random(seed);
    Leases leases;
    std::map<uint64_t, uint64_t> expected;
    for (int step = 0; step < 40; ++step) {
      const LeaseRun run{random() % 50, static_cast<uint32_t>(random() % 12), random() % 3 + 1};
      if (random() % 2 == 0) {
        leases.Add(run);
        for (uint32_t i = 0; i < run.count; ++i) expected[run.first + i] = run.checkout;
      } else {
        leases.Remove(run, [&](const LeaseRun& part) {
          EXPECT_EQ(part.checkout, run.checkout);
          for (uint32_t i = 0; i < part.count; ++i) {
            auto it = expected.find(part.first + i);
            ASSERT_TRUE(it != expected.end() && it->second == run.checkout) << "seed " << seed << ", step " << step;
            expected.erase(it);
          }
        });
        for (uint32_t i = 0; i < run.count; ++i) {
          auto it = expected.find(run.first + i);
          ASSERT_TRUE(it == expected.end() || it->second != run.checkout) << "seed " << seed << ", step " << step;
        }
      }
      std::map<uint64_t, uint64_t> held;
      for (const LeaseRun& part : leases.runs()) {
        for (uint32_t i = 0; i < part.count; ++i) held[part.first + i] = part.checkout;
      }
      ASSERT_EQ(held, expected) << "seed " << seed << ", step " << step;
      ASSERT_EQ(leases.messages(), expected.size()) << "seed " << seed << ", step " << step;
    }
  }
}

TEST(SettleBufferTest, SingleMessagesBecomeOneRun) {
  SettleBuffer buffer;
  for (uint64_t position = 500; position < 600; ++position) buffer.Add({position, 1, 3}, v1::DISPOSITION_ACKNOWLEDGE);
  EXPECT_EQ(buffer.messages(), 100u);
  std::vector<v1::SettleRuns> frames = buffer.Take();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].disposition(), v1::DISPOSITION_ACKNOWLEDGE);
  EXPECT_EQ(Settled(frames[0]), (std::vector<LeaseRun>{{500, 100, 3}}));
  EXPECT_TRUE(buffer.empty());
  EXPECT_TRUE(buffer.Take().empty());
}

TEST(SettleBufferTest, OrderDoesNotMatter) {
  SettleBuffer buffer;
  for (uint64_t position : {7, 5, 6, 9, 8, 20}) buffer.Add({position, 1, 3}, v1::DISPOSITION_ACKNOWLEDGE);
  std::vector<v1::SettleRuns> frames = buffer.Take();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(Settled(frames[0]), (std::vector<LeaseRun>{{5, 5, 3}, {20, 1, 3}}));
}

TEST(SettleBufferTest, KeepsCheckoutsAndDispositionsApart) {
  SettleBuffer buffer;
  buffer.Add({5, 1, 3}, v1::DISPOSITION_ACKNOWLEDGE);
  buffer.Add({6, 1, 4}, v1::DISPOSITION_ACKNOWLEDGE);
  buffer.Add({7, 1, 4}, v1::DISPOSITION_REJECT);
  std::vector<v1::SettleRuns> frames = buffer.Take();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(Settled(frames[0]), (std::vector<LeaseRun>{{5, 1, 3}, {6, 1, 4}}));
  EXPECT_EQ(frames[1].disposition(), v1::DISPOSITION_REJECT);
  EXPECT_EQ(Settled(frames[1]), (std::vector<LeaseRun>{{7, 1, 4}}));
}

TEST(SettleBufferTest, SplitsWhatIsTooMuchForAFrame) {
  SettleBuffer buffer;
  for (uint64_t i = 0; i < SettleBuffer::kMaxRuns + 1; ++i) buffer.Add({i * 2, 1, 3}, v1::DISPOSITION_ACKNOWLEDGE);
  std::vector<v1::SettleRuns> frames = buffer.Take();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].runs_size(), static_cast<int>(SettleBuffer::kMaxRuns));
  EXPECT_EQ(frames[1].runs_size(), 1);
}

}  // namespace
}  // namespace trireme::client
