// The quorum code against a twin that is too dumb to be wrong.
#include "raft/core/quorum.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "raft/core/random.h"

namespace trireme::raft {
namespace {

// Tries every candidate value and counts who has reached it.
uint64_t DumbQuorumValue(const std::vector<uint64_t>& values) {
  std::set<uint64_t> candidates(values.begin(), values.end());
  uint64_t best = 0;
  for (uint64_t candidate : candidates) {
    size_t reached = 0;
    for (uint64_t value : values) reached += value >= candidate;
    if (reached * 2 > values.size()) best = candidate;
  }
  return best;
}

// Plays every way in which the missing votes may still come in.
Tally DumbCountVotes(const std::vector<Vote>& votes) {
  bool may_win = false, may_lose = false;
  size_t n = votes.size();
  for (uint32_t future = 0; future < (1u << n); ++future) {
    size_t granted = 0;
    for (size_t i = 0; i < n; ++i) {
      bool yes = (future >> i) & 1;
      granted += votes[i] == Vote::kMissing ? yes : votes[i] == Vote::kGranted;
    }
    (granted * 2 > n ? may_win : may_lose) = true;
  }
  // Won is won, whatever is still to come.
  return !may_lose ? Tally::kWon : !may_win ? Tally::kLost : Tally::kOpen;
}

TEST(Quorum, ValueAgreesWithTheTwin) {
  Random random(7);
  for (int round = 0; round < 50'000; ++round) {
    std::vector<uint64_t> values(1 + random.Below(9));
    uint64_t spread = 1 + random.Below(12);
    for (uint64_t& value : values) value = random.Below(spread);
    uint64_t expected = DumbQuorumValue(values);
    std::vector<uint64_t> scratch = values;
    ASSERT_EQ(QuorumValue(scratch), expected) << ::testing::PrintToString(values);
  }
}

TEST(Quorum, VotesAgreeWithTheTwin) {
  Random random(8);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<Vote> votes(1 + random.Below(8));
    for (Vote& vote : votes) vote = static_cast<Vote>(random.Below(3));
    ASSERT_EQ(CountVotes(votes), DumbCountVotes(votes)) << "round " << round;
  }
}

TEST(Quorum, Sizes) {
  EXPECT_EQ(QuorumSize(1), 1u);
  EXPECT_EQ(QuorumSize(2), 2u);
  EXPECT_EQ(QuorumSize(3), 2u);
  EXPECT_EQ(QuorumSize(4), 3u);
  EXPECT_EQ(QuorumSize(5), 3u);
}

}  // namespace
}  // namespace trireme::raft
