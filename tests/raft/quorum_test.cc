// The quorum code against a twin that is too dumb to be wrong.
#include "raft/core/quorum.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>
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

// A joint membership, drawn without a thought for what makes sense: one standing and one `T` per member.
template <typename T>
using Seats = std::vector<std::pair<Standing, T>>;

template <typename T>
Halves<T> Sorted(const Seats<T>& seats) {
  Halves<T> halves;
  for (auto [standing, value] : seats) halves.Add(standing, value);
  return halves;
}

template <typename T>
std::vector<T> Seated(const Seats<T>& seats, std::set<Standing> standings) {
  std::vector<T> values;
  for (auto [standing, value] : seats) {
    if (standings.count(standing) > 0) values.push_back(value);
  }
  return values;
}
template <typename T>
std::vector<T> OldSeats(const Seats<T>& seats) {
  return Seated(seats, {Standing::kVoter, Standing::kDemoted, Standing::kLeaving});
}
template <typename T>
std::vector<T> NewSeats(const Seats<T>& seats) {
  return Seated(seats, {Standing::kVoter, Standing::kJoining});
}

Standing DrawStanding(Random& random, bool joint) {
  return static_cast<Standing>(1 + random.Below(joint ? 5 : 2));
}

TEST(Quorum, JointValueAgreesWithTheTwin) {
  Random random(9);
  int differs = 0;
  for (int round = 0; round < 50'000; ++round) {
    Seats<uint64_t> seats;
    for (uint64_t n = 1 + random.Below(8); n > 0; --n) {
      seats.push_back({DrawStanding(random, round % 2 == 0), random.Below(9)});
    }
    // The twin: the highest value that most of the old and most of the new have reached.
    uint64_t expected = 0;
    for (uint64_t value = 0; value < 9; ++value) {
      bool reached = true;
      for (const auto& half : {OldSeats(seats), NewSeats(seats)}) {
        size_t count = 0;
        for (uint64_t v : half) count += v >= value;
        reached = reached && count * 2 > half.size();
      }
      if (reached) expected = value;
    }
    Halves<uint64_t> halves = Sorted(seats);
    ASSERT_EQ(QuorumValue(halves), expected) << "round " << round;
    std::vector<uint64_t> new_half = NewSeats(seats);
    differs += QuorumValue(new_half) != expected;
  }
  EXPECT_GT(differs, 1000);  // the old half matters
}

TEST(Quorum, JointVotesAgreeWithTheTwin) {
  Random random(10);
  for (int round = 0; round < 20'000; ++round) {
    Seats<Vote> seats;
    for (uint64_t n = 1 + random.Below(8); n > 0; --n) {
      seats.push_back({DrawStanding(random, round % 2 == 0), static_cast<Vote>(random.Below(3))});
    }
    // The twin: every way in which the missing votes may come in, all seats together.
    bool may_win = false, may_lose = false;
    for (uint32_t future = 0; future < (1u << seats.size()); ++future) {
      Seats<Vote> then = seats;
      for (size_t i = 0; i < then.size(); ++i) {
        if (then[i].second == Vote::kMissing) then[i].second = (future >> i) & 1 ? Vote::kGranted : Vote::kRefused;
      }
      bool won = true;
      for (const auto& half : {OldSeats(then), NewSeats(then)}) {
        size_t granted = 0;
        for (Vote vote : half) granted += vote == Vote::kGranted;
        won = won && granted * 2 > half.size();
      }
      (won ? may_win : may_lose) = true;
    }
    Tally expected = !may_lose ? Tally::kWon : !may_win ? Tally::kLost : Tally::kOpen;
    Halves<Vote> halves = Sorted(seats);
    ASSERT_EQ(CountVotes(halves), expected) << "round " << round;
  }
}

TEST(Quorum, WithoutVotersNothingIsAgreedOn) {
  Halves<uint64_t> values;
  values.Add(Standing::kLearner, 7);
  EXPECT_EQ(QuorumValue(values), 0u);
  Halves<Vote> votes;
  votes.Add(Standing::kLearner, Vote::kGranted);
  EXPECT_EQ(CountVotes(votes), Tally::kLost);
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
