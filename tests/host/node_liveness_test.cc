// Promises between nodes: pairs of the production class over a network and clocks made of chance.
#include "raft/host/node_liveness.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace trireme::raft {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using Event = NodeLiveness::Event;

constexpr NodeId kA{1}, kB{2};
constexpr milliseconds kTick{50};
constexpr milliseconds kLasts{500};

// Two nodes, and what is on its way between them.
class Pair {
 public:
  struct End {
    NodeId id, other;
    uint64_t incarnation = 1;
    uint64_t last_synced = 10;
    uint64_t opened = 10;
    std::unique_ptr<NodeLiveness> liveness;
    std::vector<Event> events;
  };

  Pair() {
    Start(a);
    Start(b);
  }
  void Start(End& end) {
    end.liveness = std::make_unique<NodeLiveness>(NodeLiveness::Options{end.incarnation, kTick, 10});
  }
  void Restart(End& end) {
    ++end.incarnation;
    end.opened = end.last_synced;
    Start(end);
  }
  Frame Make(End& from) {
    Frame frame{.wall_ms = 1, .incarnation = from.incarnation, .last_synced = from.last_synced, .opened = from.opened};
    frame.heartbeat = from.liveness->Next(from.other, now);
    return frame;
  }
  bool Give(End& to, const Frame& frame) {
    const bool heard = to.liveness->Heard(to.other, frame, now);
    Collect(to);
    return heard;
  }
  void Collect(End& end) {
    for (const auto& change : end.liveness->TakeChanges()) end.events.push_back(change.event);
  }
  // A tick of both, and their heartbeats, at once.
  void Tick(bool a_to_b = true, bool b_to_a = true) {
    now += kTick;
    for (End* end : {&a, &b}) {
      end->liveness->Tick(now);
      Collect(*end);
    }
    Frame from_a = Make(a), from_b = Make(b);
    if (a_to_b) Give(b, from_a);
    if (b_to_a) Give(a, from_b);
  }
  void Ticks(int n, bool a_to_b = true, bool b_to_a = true) {
    for (int i = 0; i < n; ++i) Tick(a_to_b, b_to_a);
  }
  bool Gives(const End& end) const {
    return end.liveness->Gives(end.other, end.other == kA ? a.incarnation : b.incarnation);
  }
  bool Gets(const End& end) const { return end.liveness->Gets(end.other); }

  MonotonicTime now{std::chrono::hours(1)};
  End a{.id = kA, .other = kB, .liveness = nullptr, .events = {}};
  End b{.id = kB, .other = kA, .liveness = nullptr, .events = {}};
};

TEST(NodeLivenessTest, PromisesAreMadeByBeingHeardAndEndWithSilence) {
  Pair pair;
  EXPECT_FALSE(pair.Gives(pair.a));
  pair.Ticks(3);
  for (const auto* end : {&pair.a, &pair.b}) {
    EXPECT_TRUE(pair.Gives(*end));
    EXPECT_TRUE(pair.Gets(*end));
    EXPECT_EQ(end->events, (std::vector<Event>{Event::kGives, Event::kGets}));
  }
  pair.Ticks(9, false, false);
  EXPECT_TRUE(pair.Gives(pair.b));
  pair.Ticks(4, false, false);
  EXPECT_FALSE(pair.Gives(pair.b));
  EXPECT_FALSE(pair.Gets(pair.b));
  pair.Ticks(3);
  EXPECT_TRUE(pair.Gives(pair.b));
  EXPECT_TRUE(pair.Gets(pair.b));
}

// Heard or hearing alone is not enough: a leader that cannot hear must not be supported for ever.
TEST(NodeLivenessTest, OneWayIsNoWay) {
  for (bool a_is_heard : {true, false}) {
    Pair pair;
    pair.Ticks(5);
    pair.Ticks(25, a_is_heard, !a_is_heard);
    EXPECT_FALSE(pair.Gives(pair.a));
    EXPECT_FALSE(pair.Gives(pair.b));
    EXPECT_FALSE(pair.Gets(pair.a));
    EXPECT_FALSE(pair.Gets(pair.b));
  }
}

// Two that meet need not wait for ticks.
TEST(NodeLivenessTest, GettingToKnowEachOtherTakesFewFrames) {
  Pair pair;
  int frames = 1;
  pair.Give(pair.b, pair.Make(pair.a));
  for (bool more = true; more;) {
    more = false;
    for (auto [from, to] : {std::pair{&pair.b, &pair.a}, std::pair{&pair.a, &pair.b}}) {
      if (!from->liveness->Owes(to->id)) continue;
      pair.Give(*to, pair.Make(*from));
      ++frames;
      more = true;
    }
    ASSERT_LT(frames, 8);
  }
  EXPECT_TRUE(pair.Gets(pair.a) && pair.Gets(pair.b) && pair.Gives(pair.a) && pair.Gives(pair.b));
  EXPECT_LE(frames, 5);
  // One that never gets there is not answered without end.
  pair.Restart(pair.b);
  int answers = 0;
  for (int i = 0; i < 20; ++i) {
    pair.Give(pair.a, Frame{.incarnation = 2, .last_synced = 10, .heartbeat = NodeHeartbeat{.sequence = 1u + i}});
    if (!pair.a.liveness->Owes(kB)) continue;
    ++answers;
    pair.Make(pair.a);
  }
  EXPECT_LE(answers, 4);
}

TEST(NodeLivenessTest, ARestartEndsPromises) {
  Pair pair;
  pair.Ticks(5);
  pair.Restart(pair.b);
  pair.a.events.clear();
  Frame old = pair.Make(pair.a);
  EXPECT_TRUE(pair.Give(pair.a, pair.Make(pair.b)));
  EXPECT_EQ(pair.a.events, (std::vector<Event>{Event::kGivesLost, Event::kGetsLost, Event::kRestarted}));
  EXPECT_FALSE(pair.a.liveness->Gives(kB, 1));
  EXPECT_FALSE(pair.a.liveness->Gives(kB, 2));
  // What was said to its former life does not count for this one.
  pair.Give(pair.b, old);
  EXPECT_FALSE(pair.Gives(pair.b));
  pair.Ticks(3);
  EXPECT_TRUE(pair.a.liveness->Gives(kB, 2));
  EXPECT_FALSE(pair.a.liveness->Gives(kB, 1)) << "whoever followed a leader of the former life is not bound by it";
  // Of the former life nothing is listened to any more.
  EXPECT_FALSE(pair.Give(pair.a, Frame{.incarnation = 1, .last_synced = 10}));
}

TEST(NodeLivenessTest, AClosedConnectionWithdrawsOurPromiseOnly) {
  Pair pair;
  pair.Ticks(5);
  pair.a.liveness->ConnectionClosed(kB);
  EXPECT_FALSE(pair.Gives(pair.a));
  EXPECT_TRUE(pair.Gets(pair.a));
  pair.Ticks(3);
  EXPECT_FALSE(pair.Gives(pair.a)) << "what it says arrives, but it cannot be answered";
  EXPECT_FALSE(pair.Gets(pair.b)) << "and it was told";
  pair.a.liveness->ConnectionOpened(kB);
  pair.Ticks(2);
  EXPECT_TRUE(pair.Gives(pair.a));
  EXPECT_TRUE(pair.Gets(pair.b));
}

// Whoever stood still does not take the others for dead, and does not rely on what it was promised before.
TEST(NodeLivenessTest, OwnAbsence) {
  Pair pair;
  pair.Ticks(5);
  pair.now += std::chrono::seconds(10);
  EXPECT_LT(pair.a.liveness->GetsUntil(kB), pair.now);
  pair.a.liveness->Tick(pair.now);
  EXPECT_TRUE(pair.Gives(pair.a));
  EXPECT_TRUE(pair.Gets(pair.a)) << "no change is made of it at once";
  Frame late = pair.Make(pair.b);
  pair.Give(pair.a, late);
  pair.Ticks(2);
  EXPECT_TRUE(pair.Gets(pair.a));
  EXPECT_GT(pair.a.liveness->GetsUntil(kB), pair.now);
}

// Safety rule 12.
TEST(NodeLivenessTest, ANodeThatForgotIsNotListenedTo) {
  Pair pair;
  pair.Ticks(5);
  pair.a.last_synced = 20;
  pair.Ticks(2);
  EXPECT_EQ(pair.b.liveness->announced(), (std::map<NodeId, NodeMemory>{{kA, {20, 1, false}}}));
  // Frames that overtake each other are no going back.
  EXPECT_TRUE(pair.Give(pair.b, Frame{.incarnation = 1, .last_synced = 15}));
  pair.a.last_synced = 19;
  pair.Restart(pair.a);
  pair.b.events.clear();
  Frame frame = pair.Make(pair.a);
  EXPECT_FALSE(pair.Give(pair.b, frame));
  EXPECT_EQ(pair.b.events.back(), Event::kForgot);
  pair.a.last_synced = 30;  // it goes on writing, but it has forgotten
  pair.Ticks(5);
  EXPECT_FALSE(pair.Gives(pair.b));
  EXPECT_FALSE(pair.Gets(pair.b));
  EXPECT_EQ(pair.Make(pair.b).heartbeat->peer_synced, 20u) << "and it is told";
  EXPECT_TRUE(pair.Make(pair.b).heartbeat->peer_forgot);
  // What it wrote since carries a later start past the mark, and brings nothing back.
  pair.a.last_synced = 40;
  pair.Restart(pair.a);
  EXPECT_FALSE(pair.Give(pair.b, pair.Make(pair.a)));
  EXPECT_EQ(pair.b.liveness->announced(), (std::map<NodeId, NodeMemory>{{kA, {20, 1, true}}}));
  // Nor do restarts of those who know it.
  const std::map<NodeId, NodeMemory> remembered = pair.b.liveness->announced();
  pair.Restart(pair.b);
  for (const auto& [node, memory] : remembered) pair.b.liveness->Remember(node, memory);
  EXPECT_FALSE(pair.Give(pair.b, pair.Make(pair.a)));
}

// Safety rule 12: what counts is what was there before anything new was written.
TEST(NodeLivenessTest, WhatIsWrittenSinceTheStartDoesNotHideWhatWasForgotten) {
  Pair pair;
  pair.a.last_synced = 20;
  pair.Ticks(5);
  pair.a.last_synced = 15;
  pair.Restart(pair.a);
  pair.a.last_synced = 30;  // before it is heard
  EXPECT_FALSE(pair.Give(pair.b, pair.Make(pair.a)));
  // What was remembered before this node's own start counts as well.
  Pair other;
  other.b.liveness->Remember(kA, {25, 1, false});
  other.a.last_synced = 15;
  other.Restart(other.a);
  other.a.last_synced = 30;
  EXPECT_FALSE(other.Give(other.b, other.Make(other.a)));
  // An older version does not say it.
  Pair older;
  older.b.liveness->Remember(kA, {25, 1, false});
  older.Restart(older.a);
  Frame frame = older.Make(older.a);
  frame.opened.reset();
  frame.last_synced = 25;
  EXPECT_TRUE(older.Give(older.b, frame));
}

// What one remembers over one's own start may be of the life that the other still leads.
TEST(NodeLivenessTest, WhoRestartsDoesNotTakeTheOthersForForgetful) {
  Pair pair;
  pair.a.last_synced = 20;
  pair.Ticks(5);
  const std::map<NodeId, NodeMemory> remembered = pair.b.liveness->announced();
  EXPECT_EQ(remembered, (std::map<NodeId, NodeMemory>{{kA, {20, 1, false}}}));
  pair.Restart(pair.b);
  for (const auto& [node, memory] : remembered) pair.b.liveness->Remember(node, memory);
  EXPECT_LT(pair.a.opened, 20u);
  EXPECT_TRUE(pair.Give(pair.b, pair.Make(pair.a)));
  EXPECT_EQ(pair.Make(pair.b).heartbeat->peer_incarnation, 1u);
  pair.Ticks(3);
  EXPECT_TRUE(pair.Gives(pair.a));
  EXPECT_TRUE(pair.Gives(pair.b));
}

// Safety rule 9: as long as one may rely on the other's promise, the other is bound by it, whatever is lost, delayed or
// overtaken, and whoever stands still.
TEST(NodeLivenessTest, WhoRelyIsOutlivedByWhoPromised) {
  uint64_t relied = 0, broken_links = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    Pair pair;
    struct Flying {
      MonotonicTime at;
      Pair::End* to;
      Frame frame;
    };
    std::vector<Flying> flying;
    const int loss = static_cast<int>(random() % 60);
    MonotonicTime next_tick[2] = {pair.now, pair.now};
    for (int step = 0; step < 3000; ++step) {
      pair.now += microseconds(1 + random() % 20'000);
      for (size_t i = 0; i < flying.size();) {
        if (flying[i].at > pair.now) {
          ++i;
          continue;
        }
        pair.Give(*flying[i].to, flying[i].frame);
        flying.erase(flying.begin() + static_cast<std::ptrdiff_t>(i));
      }
      for (int who = 0; who < 2; ++who) {
        Pair::End& end = who == 0 ? pair.a : pair.b;
        if (next_tick[who] > pair.now) continue;
        next_tick[who] = pair.now + kTick;
        if (random() % 100 == 0) next_tick[who] += milliseconds(random() % 2000);  // stands still
        end.liveness->Tick(pair.now);
        pair.Collect(end);
        Frame frame = pair.Make(end);
        if (static_cast<int>(random() % 100) < loss) continue;
        flying.push_back({pair.now + microseconds(random() % (random() % 20 == 0 ? 900'000 : 5'000)),
                          who == 0 ? &pair.b : &pair.a, std::move(frame)});
      }
      for (auto [relies, bound] : {std::pair{&pair.a, &pair.b}, std::pair{&pair.b, &pair.a}}) {
        if (pair.now >= relies->liveness->GetsUntil(bound->id)) {
          ++broken_links;
          continue;
        }
        ++relied;
        ASSERT_TRUE(pair.Gives(*bound)) << "seed " << seed << ", step " << step;
      }
    }
  }
  EXPECT_GT(relied, 100'000u);
  EXPECT_GT(broken_links, 100'000u);
}

}  // namespace
}  // namespace trireme::raft
