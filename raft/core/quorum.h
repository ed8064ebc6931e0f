// What a majority of voters agrees on. tests/raft compares it with a deliberately dumb twin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "raft/core/types.h"

namespace trireme::raft {

// How many of `voters` are a majority.
constexpr size_t QuorumSize(size_t voters) {
  return voters / 2 + 1;
}

// The highest value that a majority of `values` has reached. One value per voter, at least one voter. Reorders them.
uint64_t QuorumValue(std::span<uint64_t> values);

enum class Vote : uint8_t { kMissing, kGranted, kRefused };
enum class Tally : uint8_t { kOpen, kWon, kLost };

// The outcome of an election. One vote per voter. Lost as soon as a majority can no longer grant.
Tally CountVotes(std::span<const Vote> votes);

}  // namespace trireme::raft
