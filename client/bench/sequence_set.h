// Which of a producer's sequences have been seen.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace trireme::client {

// One bit per sequence, from 0. For one thread.
class SequenceSet {
 public:
  // False: it was there already.
  bool Insert(uint64_t sequence) {
    const size_t word = sequence / 64;
    if (word >= words_.size()) words_.resize(word + word / 2 + 16);
    const uint64_t bit = uint64_t{1} << (sequence % 64);
    if ((words_[word] & bit) != 0) return false;
    words_[word] |= bit;
    ++count_;
    return true;
  }

  bool Contains(uint64_t sequence) const {
    const size_t word = sequence / 64;
    return word < words_.size() && (words_[word] >> (sequence % 64) & 1) != 0;
  }
  uint64_t count() const { return count_; }

  // How many are here and not in `other`.
  uint64_t CountMissingIn(const SequenceSet& other) const {
    uint64_t missing = 0;
    for (size_t i = 0; i < words_.size(); ++i) {
      const uint64_t there = i < other.words_.size() ? other.words_[i] : 0;
      missing += static_cast<uint64_t>(std::popcount(words_[i] & ~there));
    }
    return missing;
  }

 private:
  std::vector<uint64_t> words_;
  uint64_t count_ = 0;
};

}  // namespace trireme::client
