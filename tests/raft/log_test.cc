// The log's tail and its term runs against a plain vector.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "raft/core/log_tail.h"
#include "raft/core/random.h"
#include "raft/core/ring.h"
#include "raft/core/term_runs.h"

namespace trireme::raft {
namespace {

Entry MakeEntry(Index index, Term term) {
  return {.term = term, .index = index, .data = Bytes::Take(std::string(index.value() % 7, 'x'))};
}

TEST(LogTail, AgreesWithAVector) {
  Random random(11);
  for (int round = 0; round < 300; ++round) {
    LogTail log{Restored()};
    std::vector<Term> terms;  // of index i + 1
    Index first_held(1), first_known(0), fixed(0);
    for (int step = 0; step < 200; ++step) {
      const Index last(terms.size());
      switch (random.Below(5)) {
        case 0:
        case 1:
        case 2: {
          Term term = (terms.empty() ? Term(1) : terms.back()) + random.Below(10) / 8;
          log.Append(MakeEntry(last + 1, term));
          terms.push_back(term);
          break;
        }
        case 3: {  // another leader; what was forgotten was committed
          Index floor = std::max({fixed, first_known});
          if (last > floor && random.Below(4) == 0) {
            Index from = floor + 1 + random.Below(last - floor);
            log.TruncateFrom(from);
            terms.resize(from.value() - 1);
            first_held = std::min(first_held, from);
          }
          break;
        }
        default: {
          Index upto(random.Below(last.value() + 1));
          log.Trim(upto);
          first_held = std::max(first_held, std::min(upto, last) + 1);
          if (random.Below(4) == 0 && upto > first_known) {
            log.ForgetTermsBelow(upto);
            first_known = fixed = upto;
          }
        }
      }
      ASSERT_EQ(log.last_index(), Index(terms.size()));
      ASSERT_EQ(log.first_held(), first_held);
      size_t bytes = 0;
      for (Index i(1); i <= log.last_index() + 1; ++i) {
        bool exists = i <= log.last_index(), known = exists && i >= first_known, held = exists && i >= first_held;
        ASSERT_EQ(log.TermAt(i), known ? std::optional(terms[i.value() - 1]) : std::nullopt) << "index " << i;
        ASSERT_EQ(log.Find(i) != nullptr, held) << "index " << i;
        if (!held) continue;
        ASSERT_EQ(log.Find(i)->index, i);
        ASSERT_EQ(log.Find(i)->term, terms[i.value() - 1]);
        bytes += EntryBytes(*log.Find(i));
      }
      ASSERT_EQ(log.bytes(), bytes);
      // The skip on conflict, by walking.
      if (terms.empty()) continue;
      Index from(random.Below(terms.size()) + 1);
      Term limit(random.Below(terms.back().value() + 2));
      Index expected = from;
      if (from >= first_known) {
        while (expected > first_known && expected > Index(0) && terms[expected.value() - 1] > limit) {
          expected = expected - 1;
        }
      }
      ASSERT_EQ(log.LastAtMost(from, limit), expected) << "from " << from << " at most " << limit;
    }
  }
}

TEST(LogTail, RestoresRunsThatBeginBehindOrBeforeTheSnapshot) {
  Restored restored{.snapshot_index = Index(10), .snapshot_term = Term(3), .last_index = Index(20)};
  restored.terms = {{Index(11), Term(3)}, {Index(15), Term(7)}};
  LogTail behind(restored);
  EXPECT_EQ(behind.TermAt(Index(9)), std::nullopt);
  EXPECT_EQ(behind.TermAt(Index(10)), Term(3));
  EXPECT_EQ(behind.TermAt(Index(14)), Term(3));
  EXPECT_EQ(behind.TermAt(Index(20)), Term(7));
  EXPECT_EQ(behind.first_held(), Index(21));

  restored.terms = {{Index(4), Term(2)}, {Index(9), Term(3)}, {Index(15), Term(7)}};
  LogTail before(restored);
  EXPECT_EQ(before.TermAt(Index(3)), std::nullopt);
  EXPECT_EQ(before.TermAt(Index(8)), Term(2));
  EXPECT_EQ(before.TermAt(Index(12)), Term(3));
  EXPECT_EQ(before.LastAtMost(Index(20), Term(2)), Index(8));
}

TEST(LogTail, RefusesALogThatEndsBeforeItsSnapshot) {
  EXPECT_DEATH(LogTail({.snapshot_index = Index(10), .snapshot_term = Term(3), .last_index = Index(9)}),
               "the log ends at 9, before the snapshot at 10");
}

TEST(Ring, KeepsOrderOverGrowthAndGivesUpWhatItHeld) {
  Ring<std::shared_ptr<int>> ring;
  std::weak_ptr<int> watched;
  for (int i = 0; i < 3; ++i) ring.push_back(std::make_shared<int>(i));
  watched = ring.front();
  ring.pop_front();
  EXPECT_TRUE(watched.expired());
  for (int i = 3; i < 40; ++i) ring.push_back(std::make_shared<int>(i));
  for (size_t i = 0; i < ring.size(); ++i) EXPECT_EQ(*ring[i], static_cast<int>(i) + 1);
  watched = ring.back();
  ring.Truncate(5);
  EXPECT_TRUE(watched.expired());
  EXPECT_EQ(*ring.back(), 5);
  ring.clear();
  ring.Shrink();
  ring.push_back(std::make_shared<int>(7));
  EXPECT_EQ(*ring.front(), 7);
}

}  // namespace
}  // namespace trireme::raft
