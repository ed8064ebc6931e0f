#include "raft/core/quorum.h"

#include <algorithm>
#include <functional>

namespace trireme::raft {

uint64_t QuorumValue(std::span<uint64_t> values) {
  auto nth = values.begin() + static_cast<std::ptrdiff_t>(QuorumSize(values.size()) - 1);
  std::nth_element(values.begin(), nth, values.end(), std::greater<>());
  return *nth;
}

Tally CountVotes(std::span<const Vote> votes) {
  auto granted = static_cast<size_t>(std::count(votes.begin(), votes.end(), Vote::kGranted));
  auto refused = static_cast<size_t>(std::count(votes.begin(), votes.end(), Vote::kRefused));
  size_t quorum = QuorumSize(votes.size());
  if (granted >= quorum) return Tally::kWon;
  if (votes.size() - refused < quorum) return Tally::kLost;
  return Tally::kOpen;
}

}  // namespace trireme::raft
