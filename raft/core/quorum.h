// What a majority of voters agrees on; in a joint membership, a majority of each half. tests/raft compares it with a
// deliberately dumb twin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/container/inlined_vector.h"
#include "raft/core/membership.h"

namespace trireme::raft {

// How many of `voters` are a majority.
constexpr size_t QuorumSize(size_t voters) {
  return voters / 2 + 1;
}

enum class Vote : uint8_t { kMissing, kGranted, kRefused };
enum class Tally : uint8_t { kOpen, kWon, kLost };

// Of one half. One value or vote per voter.
//
// The highest value that a majority of `values` has reached; 0 when there are none. Reorders them.
uint64_t QuorumValue(std::span<uint64_t> values);
// The outcome of an election. Lost as soon as a majority can no longer grant; without voters nobody wins.
Tally CountVotes(std::span<const Vote> votes);

// What members contribute, sorted into the halves in which they count.
template <typename T>
class Halves {
 public:
  void Add(Standing standing, T value) {
    if (CountsIn(standing, Half::kNew)) new_half_.push_back(value);
    if (CountsIn(standing, Half::kOld)) old_half_.push_back(value);
    joint_ |= OnlyJoint(standing);
  }

  bool joint() const { return joint_; }
  std::span<T> new_half() { return {new_half_.data(), new_half_.size()}; }
  std::span<T> old_half() { return {old_half_.data(), old_half_.size()}; }

 private:
  // Without a joint membership both are the same.
  absl::InlinedVector<T, 8> new_half_, old_half_;
  bool joint_ = false;
};

// The highest value that a majority of each half has reached.
uint64_t QuorumValue(Halves<uint64_t>& values);
// Won in both halves, or lost in one.
Tally CountVotes(Halves<Vote>& votes);

}  // namespace trireme::raft
