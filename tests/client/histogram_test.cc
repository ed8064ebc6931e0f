#include "client/bench/histogram.h"

#include <algorithm>
#include <random>
#include <vector>

#include "client/bench/sequence_set.h"
#include "gtest/gtest.h"

namespace trireme::client {
namespace {

TEST(HistogramTest, IsZeroWithoutValues) {
  Histogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0u);
  EXPECT_EQ(histogram.max(), 0u);
  EXPECT_EQ(histogram.mean(), 0);
}

TEST(HistogramTest, IsExactForSmallValues) {
  Histogram histogram;
  for (uint64_t value = 0; value < 256; ++value) histogram.Add(value);
  EXPECT_EQ(histogram.Quantile(0), 0u);
  EXPECT_EQ(histogram.Quantile(0.5), 127u);
  EXPECT_EQ(histogram.Quantile(1), 255u);
}

TEST(HistogramTest, AgreesWithASortedListWithinOnePart128) {
  constexpr uint32_t kSeed = 4711;
  std::mt19937_64 random(kSeed);
  std::vector<uint64_t> values;
  Histogram histogram;
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t value = random() >> (1 + random() % 60);
    values.push_back(value);
    histogram.Add(value);
  }
  std::sort(values.begin(), values.end());
  for (double quantile : {0.01, 0.1, 0.5, 0.9, 0.99, 0.999}) {
    const uint64_t exact = values[static_cast<size_t>(quantile * static_cast<double>(values.size())) - 1];
    const uint64_t found = histogram.Quantile(quantile);
    EXPECT_GE(found, exact) << "quantile " << quantile << ", seed " << kSeed;
    EXPECT_LE(static_cast<double>(found), static_cast<double>(exact) * (1 + 1.0 / 128) + 1)
        << "quantile " << quantile << ", seed " << kSeed;
  }
  EXPECT_EQ(histogram.Quantile(1), values.back());
  EXPECT_EQ(histogram.max(), values.back());
}

TEST(HistogramTest, TakesTheLargestValue) {
  Histogram histogram;
  histogram.Add(UINT64_MAX >> 1);
  EXPECT_EQ(histogram.Quantile(0.5), UINT64_MAX >> 1);
}

TEST(HistogramTest, MergesCountsSumsAndMaxima) {
  Histogram a, b;
  a.Add(10, 3);
  b.Add(1'000);
  a.Merge(b);
  EXPECT_EQ(a.count(), 4u);
  EXPECT_EQ(a.max(), 1'000u);
  EXPECT_DOUBLE_EQ(a.mean(), 1'030.0 / 4);
  EXPECT_EQ(a.Quantile(0.75), 10u);
}

TEST(SequenceSetTest, TellsNewFromSeenAndCountsWhatIsMissing) {
  SequenceSet confirmed, received;
  for (uint64_t sequence = 0; sequence < 1'000; ++sequence) EXPECT_TRUE(confirmed.Insert(sequence));
  EXPECT_FALSE(confirmed.Insert(999));
  for (uint64_t sequence = 0; sequence < 1'000; ++sequence) {
    if (sequence != 500 && sequence != 999) received.Insert(sequence);
  }
  received.Insert(5'000);
  EXPECT_EQ(confirmed.CountMissingIn(received), 2u);
  EXPECT_EQ(received.CountMissingIn(confirmed), 1u);
  EXPECT_TRUE(received.Contains(5'000));
  EXPECT_FALSE(received.Contains(500));
  EXPECT_FALSE(received.Contains(1'000'000));
}

}  // namespace
}  // namespace trireme::client
