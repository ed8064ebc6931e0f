// Frames of a few messages that come in one turn of the loop and are stored as one entry: their producers must not
// notice.
#include <gmock/gmock.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/broker/queue_world.h"

namespace trireme::broker::testing {
namespace {

using Kind = PublishOutcome::Kind;
using ::testing::ElementsAre;

class SmallFramesTest : public QueueTest {
 protected:
  using Sink = std::shared_ptr<NotingPublishSink>;
  static Sink MakeSink() { return std::make_shared<NotingPublishSink>(); }
  static std::vector<uint64_t> SequencesOf(const Sink& sink) {
    std::vector<uint64_t> sequences;
    for (const PublishOutcome& outcome : sink->outcomes) sequences.push_back(outcome.first_sequence);
    return sequences;
  }
  // By sequence, the last one if there are several.
  using Answer = std::pair<Kind, queue::Position>;
  static std::map<uint64_t, Answer> AnswersOf(const Sink& sink) {
    std::map<uint64_t, Answer> answers;
    for (const PublishOutcome& outcome : sink->outcomes) {
      for (uint32_t i = 0; i < outcome.count; ++i)
        answers[outcome.first_sequence + i] = Answer(outcome.kind, outcome.first + i);
    }
    return answers;
  }
  bool Answered(const Sink& sink, uint64_t messages) {
    return w_.world.RunUntil([&] {
      uint64_t answered = 0;
      for (const PublishOutcome& outcome : sink->outcomes) answered += outcome.count;
      return answered >= messages;
    });
  }
};

TEST_F(SmallFramesTest, ThoseOfATurnShareAnEntryAndAnAnswer) {
  auto consumer = Attach("s");
  auto sink = MakeSink();
  const uint64_t epoch = Open("p");
  size_t bytes = 0;
  uint64_t next = 1;
  for (const auto& bodies : {std::vector<std::string>{"a"}, {"b", "c"}, {"d"}}) {
    Publish(sink, "p", epoch, next, bodies);
    next += bodies.size();
    bytes += BatchOf(bodies).size();
  }
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 4; }));
  ASSERT_EQ(sink->outcomes.size(), 1u);
  EXPECT_EQ(sink->outcomes[0].kind, Kind::kOk);
  EXPECT_EQ(sink->outcomes[0].first_sequence, 1u);
  EXPECT_EQ(sink->outcomes[0].count, 4u);
  EXPECT_EQ(sink->freed, bytes);
  ASSERT_EQ(consumer->runs.size(), 1u);
  EXPECT_EQ(consumer->runs[0].slots.first, sink->outcomes[0].first);
  EXPECT_THAT(BodiesOf(consumer->runs[0].batch), ElementsAre("a", "b", "c", "d"));
}

// Safety rule 6: each frame keeps its own sequences, so a retry of any of them is known, also by the next leader.
TEST_F(SmallFramesTest, ARetryOfOneOfSeveralFramesOfAnEntryIsADuplicateAfterAFailover) {
  auto sink = MakeSink();
  const uint64_t epoch = Open("p");
  for (uint64_t i = 1; i <= 3; ++i) Publish(sink, "p", epoch, i, {"x"});
  ASSERT_TRUE(Answered(sink, 3));
  const queue::Position first = sink->outcomes[0].first;
  FailOver();
  auto again = MakeSink();
  // Two that were stored, and new ones behind them in the same turn.
  for (uint64_t i = 2; i <= 5; ++i) Publish(again, "p", epoch, i, {"x"});
  ASSERT_TRUE(Answered(again, 4));
  const std::map<uint64_t, Answer> answers = AnswersOf(again);
  EXPECT_EQ(answers.at(2), Answer(Kind::kDuplicate, first + 1));
  EXPECT_EQ(answers.at(3), Answer(Kind::kDuplicate, first + 2));
  EXPECT_EQ(answers.at(4).first, Kind::kOk);
  EXPECT_EQ(answers.at(5), Answer(Kind::kOk, answers.at(4).second + 1));
  EXPECT_EQ(Describe().published, 5u);
}

// What does not belong together stays apart: another producer, a gap in the sequences, too many bytes.
TEST_F(SmallFramesTest, FramesThatDoNotFollowEachOtherHaveEntriesOfTheirOwn) {
  auto sink = MakeSink(), other = MakeSink();
  const uint64_t p = Open("p"), q = Open("q");
  Publish(sink, "p", p, 1, {"a"});
  Publish(other, "q", q, 1, {"b"});
  Publish(sink, "p", p, 3, {"c"});
  Publish(sink, "p", p, 5, {"d"});
  Publish(sink, "p", p, 6, {std::string(60'000, 'x')});
  Publish(sink, "p", p, 7, {std::string(60'000, 'y')});
  ASSERT_TRUE(Answered(sink, 5));
  ASSERT_TRUE(Answered(other, 1));
  std::set<uint64_t> indexes = {other->outcomes[0].first.index()};
  const std::map<uint64_t, Answer> answers = AnswersOf(sink);
  for (const auto& [sequence, answer] : answers) {
    EXPECT_EQ(answer.first, Kind::kOk) << sequence;
    indexes.insert(answer.second.index());
  }
  EXPECT_EQ(answers.at(5).second.index(), answers.at(6).second.index());  // d and x
  EXPECT_EQ(indexes.size(), 5u);
}

// Safety rule 6: a retry that comes in the same turn waits for what it may be a retry of.
TEST_F(SmallFramesTest, ARetryWhileTheEntryIsUnderWayGetsThePositionOfItsOwnFrame) {
  auto sink = MakeSink(), again = MakeSink();
  const uint64_t epoch = Open("p");
  for (uint64_t i = 1; i <= 3; ++i) Publish(sink, "p", epoch, i, {"x"});
  Publish(again, "p", epoch, 2, {"x"});
  Publish(again, "p", epoch, 3, {"x", "y"});  // half of it is new
  ASSERT_TRUE(Answered(sink, 3));
  ASSERT_TRUE(Answered(again, 3));
  const queue::Position first = sink->outcomes[0].first;
  const std::map<uint64_t, Answer> answers = AnswersOf(again);
  EXPECT_EQ(answers.at(2), Answer(Kind::kDuplicate, first + 1));
  EXPECT_EQ(answers.at(3), Answer(Kind::kDuplicate, first + 2));
  EXPECT_EQ(answers.at(4).first, Kind::kOk);
  EXPECT_NE(answers.at(4).second.index(), first.index());
  EXPECT_EQ(Describe().published, 4u);
}

// A hole that is filled later: what lies around it in the window is not stored again, and takes nothing with it.
TEST_F(SmallFramesTest, FramesThatFillAHoleStopAtWhatIsStored) {
  auto sink = MakeSink();
  const uint64_t epoch = Open("p");
  Publish(sink, "p", epoch, 4, {"d"});
  ASSERT_TRUE(Answered(sink, 1));
  for (uint64_t i = 1; i <= 6; ++i) Publish(sink, "p", epoch, i, {std::string(1, static_cast<char>('a' + i - 1))});
  ASSERT_TRUE(Answered(sink, 7));
  for (const auto& [sequence, answer] : AnswersOf(sink))
    EXPECT_EQ(answer.first, sequence == 4 ? Kind::kDuplicate : Kind::kOk) << sequence;
  EXPECT_EQ(Describe().published, 6u);
  auto consumer = Attach("s");
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 6; }));
  std::vector<std::string> bodies;
  for (const DeliveredRun& run : consumer->runs) {
    for (const std::string& body : BodiesOf(run.batch)) bodies.push_back(body);
  }
  EXPECT_THAT(bodies, ElementsAre("d", "a", "b", "c", "e", "f"));
}

// A frame that is refused takes none of its neighbours with it.
TEST_F(SmallFramesTest, ARefusedFrameAmongThemIsRefusedAlone) {
  auto sink = MakeSink();
  const uint64_t epoch = Open("p");
  for (const std::string& producer : {std::string("p"), std::string()}) {
    sink->outcomes.clear();
    Publish(sink, producer, epoch, 1, {"a"});
    w_.Serving()->Publish({sink, 7, producer, epoch, 2, raft::Bytes::Take("no batch")});
    Publish(sink, producer, epoch, 3, {"c"});
    ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 3; }));
    EXPECT_THAT(SequencesOf(sink), ElementsAre(2, 1, 3));
    EXPECT_EQ(sink->outcomes[0].kind, Kind::kRefused);
    EXPECT_EQ(sink->outcomes[1].kind, Kind::kOk);
    EXPECT_EQ(sink->outcomes[2].kind, Kind::kOk);
    // The refused sequence is a hole, and a named producer's window knows it as one.
    const bool together = sink->outcomes[1].first.index() == sink->outcomes[2].first.index();
    EXPECT_EQ(together, producer.empty());
  }
  Publish(sink, "p", epoch, 2, {"b"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == 4; }));
  EXPECT_EQ(sink->outcomes[3].kind, Kind::kOk);
  EXPECT_EQ(Describe().published, 5u);
}

// Producers without a name share entries: each hears of its own, and one that is gone silences nobody.
TEST_F(SmallFramesTest, FramesOfSeveralStreamsAreConfirmedToTheStreamThatSentThem) {
  const std::vector<Sink> sinks = {MakeSink(), MakeSink(), MakeSink()};
  for (uint64_t i = 0; i < 9; ++i) Publish(sinks[i % 3], "", 0, 1 + i, {"m" + std::to_string(i)});
  w_.Serving()->Forget(sinks[1].get());  // its stream breaks before the turn's end
  ASSERT_TRUE(w_.world.RunUntil([&] { return sinks[0]->outcomes.size() == 3 && sinks[2]->outcomes.size() == 3; }));
  EXPECT_THAT(SequencesOf(sinks[0]), ElementsAre(1, 4, 7));
  EXPECT_TRUE(sinks[1]->outcomes.empty());
  EXPECT_THAT(SequencesOf(sinks[2]), ElementsAre(3, 6, 9));
  auto consumer = Attach("s");
  ASSERT_TRUE(w_.world.RunUntil([&] { return consumer->messages() == 6; }));
  // Each was told where its message is.
  ASSERT_EQ(consumer->runs.size(), 1u);
  const std::vector<std::string> bodies = BodiesOf(consumer->runs[0].batch);
  for (const Sink& sink : {sinks[0], sinks[2]}) {
    for (const PublishOutcome& outcome : sink->outcomes) {
      ASSERT_EQ(outcome.first.index(), consumer->runs[0].slots.first.index());
      EXPECT_EQ(bodies.at(outcome.first.slot()), "m" + std::to_string(outcome.first_sequence - 1));
    }
  }
}

// A stream that breaks when its frames are in the log: they stay, and the others of the entry are answered.
TEST_F(SmallFramesTest, AStreamThatBreaksWhileTheEntryIsUnderWayIsNotAnswered) {
  auto broken = MakeSink(), other = MakeSink();
  Publish(broken, "", 0, 1, {"a"});
  Publish(other, "", 0, 1, {"b"});
  ASSERT_TRUE(w_.world.RunUntil([&] { return w_.Serving()->group()->uncommitted_bytes() > 0; }));
  w_.Serving()->Forget(broken.get());
  ASSERT_TRUE(w_.world.RunUntil([&] { return other->outcomes.size() == 1; }));
  EXPECT_TRUE(broken->outcomes.empty());
  EXPECT_EQ(other->outcomes[0].first.slot(), 1u);
  EXPECT_EQ(Describe().published, 2u);
}

// Safety rule 17.
TEST_F(SmallFramesTest, AnEntryStaysWellBelowItsLimit) {
  auto sink = MakeSink();
  const uint64_t epoch = Open("p");
  const size_t frames = 3'000;
  for (size_t i = 0; i < frames; ++i) Publish(sink, "p", epoch, 1 + i, {std::string(100, 'x')});
  // The smallest messages there are: their checksums weigh more than they do.
  for (size_t i = 0; i < 2; ++i) Publish(sink, "", 0, 1, std::vector<std::string>(20'000, ""));
  ASSERT_TRUE(Answered(sink, frames + 40'000));
  std::set<uint64_t> indexes;
  size_t largest = 0;
  for (const PublishOutcome& outcome : sink->outcomes) {
    ASSERT_EQ(outcome.kind, Kind::kOk);
    const raft::Entry* entry = w_.Serving()->group()->TailEntry(raft::Index(outcome.first.index()));
    if (entry == nullptr) continue;
    indexes.insert(outcome.first.index());
    largest = std::max(largest, entry->data.size());
  }
  EXPECT_GE(indexes.size(), 3u);
  EXPECT_LE(largest, size_t{256} << 10);
  EXPECT_LT(indexes.size(), 20u);
}

}  // namespace
}  // namespace trireme::broker::testing
