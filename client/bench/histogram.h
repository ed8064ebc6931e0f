// Durations in buckets that grow with the value, as in HdrHistogram: few KiB, whatever the number of values.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace trireme::client {

// Values are below 2^63; each is known to within 1/128 of itself. For one thread.
class Histogram {
 public:
  Histogram() : buckets_(kBuckets, 0) {}

  void Add(uint64_t value, uint64_t times = 1) {
    buckets_[BucketOf(value)] += times;
    count_ += times;
    sum_ += static_cast<double>(value) * static_cast<double>(times);
    max_ = std::max(max_, value);
  }

  void Merge(const Histogram& other) {
    for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    max_ = std::max(max_, other.max_);
  }

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }
  double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }

  // The smallest value that at least the share `quantile` (0 to 1) of all values does not exceed, rounded up to the end
  // of its bucket, but never beyond max(). 0 without values.
  uint64_t Quantile(double quantile) const {
    if (count_ == 0) return 0;
    const double wanted = std::clamp(quantile, 0.0, 1.0) * static_cast<double>(count_);
    uint64_t seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i];
      if (seen > 0 && static_cast<double>(seen) >= wanted) return std::min(LastOf(i), max_);
    }
    return max_;
  }

 private:
  // Values below 2 * kSteps have a bucket each; every power of two above has kSteps.
  static constexpr int kStepBits = 7;
  static constexpr uint64_t kSteps = uint64_t{1} << kStepBits;
  static constexpr size_t kBuckets = (64 - kStepBits) * kSteps;

  static size_t BucketOf(uint64_t value) {
    if (value < kSteps) return value;
    const int shift = static_cast<int>(std::bit_width(value)) - 1 - kStepBits;
    return (static_cast<size_t>(shift) << kStepBits) + static_cast<size_t>(value >> shift);
  }
  static uint64_t LastOf(size_t bucket) {
    if (bucket < 2 * kSteps) return bucket;
    const size_t shift = (bucket >> kStepBits) - 1;
    const uint64_t step = (bucket & (kSteps - 1)) + kSteps;
    return ((step + 1) << shift) - 1;
  }

  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  double sum_ = 0;
  uint64_t max_ = 0;
};

}  // namespace trireme::client
