#include "client/range_set.h"

#include <bitset>
#include <random>

#include "gtest/gtest.h"

namespace trireme::client {
namespace {

TEST(RangeSetTest, GivesEachPartOnce) {
  RangeSet set;
  std::vector<RangeSet::Range> added;
  auto note = [&](uint32_t from, uint32_t to) { added.emplace_back(from, to); };
  set.Add(10, 20, note);
  set.Add(30, 40, note);
  set.Add(5, 35, note);
  EXPECT_EQ(added, (std::vector<RangeSet::Range>{{10, 20}, {30, 40}, {5, 10}, {20, 30}}));
  EXPECT_EQ(set.ranges(), (std::vector<RangeSet::Range>{{5, 40}}));
  set.Add(5, 40, note);
  set.Add(7, 7, note);
  EXPECT_EQ(added.size(), 4u);
}

TEST(RangeSetTest, AgreesWithASetOfBits) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    std::minstd_rand random(seed);
    RangeSet set;
    std::bitset<64> bits;
    for (int step = 0; step < 30; ++step) {
      uint32_t first = random() % 64, last = first + random() % (65 - first);
      set.Add(first, last, [&](uint32_t from, uint32_t to) {
        for (uint32_t i = from; i < to; ++i) {
          EXPECT_FALSE(bits[i]) << "seed " << seed << ", step " << step;
          bits[i] = true;
        }
      });
      for (uint32_t i = first; i < last; ++i) ASSERT_TRUE(bits[i]) << "seed " << seed << ", step " << step;
      for (size_t i = 1; i < set.ranges().size(); ++i) {
        ASSERT_LT(set.ranges()[i - 1].second, set.ranges()[i].first) << "seed " << seed << ", step " << step;
      }
      for (uint32_t i = 0; i < 64; ++i) ASSERT_EQ(set.Covers(i, i + 1), bits[i]) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace trireme::client
