#include "raft/core/quorum.h"

#include <algorithm>
#include <functional>

namespace trireme::raft {

uint64_t QuorumValue(std::span<uint64_t> values) {
  if (values.empty()) return 0;
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

uint64_t QuorumValue(Halves<uint64_t>& values) {
  const uint64_t value = QuorumValue(values.new_half());
  return values.joint() ? std::min(value, QuorumValue(values.old_half())) : value;
}

Tally CountVotes(Halves<Vote>& votes) {
  const Tally tally = CountVotes(std::span<const Vote>(votes.new_half()));
  if (!votes.joint()) return tally;
  const Tally old_tally = CountVotes(std::span<const Vote>(votes.old_half()));
  if (tally == old_tally) return tally;
  return tally == Tally::kLost || old_tally == Tally::kLost ? Tally::kLost : Tally::kOpen;
}

}  // namespace trireme::raft
