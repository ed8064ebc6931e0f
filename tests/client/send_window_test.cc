#include "client/send_window.h"

#include "gtest/gtest.h"

namespace trireme::client {
namespace {

class SendWindowTest : public testing::Test {
 protected:
  Batch MakeBatch(uint32_t count, size_t bytes = 100) {
    Batch batch;
    batch.bytes = grpc::Slice(std::string(bytes, static_cast<char>('a' + next_ticket_ % 26)));
    batch.first_ticket = next_ticket_;
    batch.count = count;
    batch.published = Time(std::chrono::milliseconds(next_ticket_));
    next_ticket_ += count;
    return batch;
  }
  static v1::Confirm MakeConfirm(uint64_t first, uint32_t count, v1::Outcome outcome, uint64_t position = 0) {
    v1::Confirm confirm;
    confirm.set_first_sequence(first);
    confirm.set_count(count);
    confirm.set_outcome(outcome);
    confirm.set_first_position(position);
    confirm.set_reason("because");
    return confirm;
  }
  // As "first+count outcome@position".
  std::vector<std::string> Text() {
    std::vector<std::string> text;
    for (const Resolved& one : resolved_) {
      const Confirmation& c = one.confirmation;
      text.push_back(std::to_string(c.first_ticket) + "+" + std::to_string(c.count) + " " +
                     v1::Outcome_Name(c.outcome).substr(8) + "@" + std::to_string(c.first_position));
    }
    resolved_.clear();
    return text;
  }
  using Texts = std::vector<std::string>;

  uint64_t next_ticket_ = 1;
  std::vector<Resolved> resolved_;
};

TEST_F(SendWindowTest, ASequenceThatWasGivenHoldsWhateverTheBrokerHas) {
  SendWindow window(true, /*first_sequence=*/3);
  window.Bound(/*last_sequence=*/4, 1'000);
  window.Add(MakeBatch(3));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 3u);
  window.Confirm(MakeConfirm(3, 2, v1::OUTCOME_DUPLICATE, 65'536), resolved_);
  window.Confirm(MakeConfirm(5, 1, v1::OUTCOME_OK, 131'072), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+2 DUPLICATE@65536", "3+1 OK@131072"}));
  // Nothing is left, and another binding does not renumber either.
  window.Bound(/*last_sequence=*/100, 1'000);
  EXPECT_EQ(window.next_sequence(), 6u);
}

TEST_F(SendWindowTest, NumbersMessagesAndConfirmsThem) {
  SendWindow window(true);
  window.Bound(0, 1'000);
  window.Add(MakeBatch(3));
  window.Add(MakeBatch(2));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 1u);
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 4u);
  EXPECT_FALSE(window.Next(out));
  EXPECT_EQ(window.under_way(), 2u);
  window.Confirm(MakeConfirm(1, 3, v1::OUTCOME_OK, 65'536), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+3 OK@65536"}));
  EXPECT_EQ(window.frames(), 1u);
  EXPECT_EQ(window.TakeFreedBytes(), 100u);
  window.Confirm(MakeConfirm(4, 2, v1::OUTCOME_DUPLICATE, 70'000), resolved_);
  EXPECT_EQ(Text(), (Texts{"4+2 DUPLICATE@70000"}));
  EXPECT_EQ(window.frames(), 0u);
  EXPECT_EQ(window.under_way(), 0u);
}

TEST_F(SendWindowTest, GoesOnAfterTheLastSequenceThatIsStored) {
  SendWindow window(true);
  window.Bound(41, 1'000);
  window.Add(MakeBatch(3));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 42u);
  window.Confirm(MakeConfirm(42, 3, v1::OUTCOME_OK, 1), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+3 OK@1"}));
  // A later binding that knows less (another leader's answer) does not lead back.
  window.Bound(10, 1'000);
  window.Add(MakeBatch(1));
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 45u);
}

// Safety rule 6: a retry has the same sequences and the same bytes, and the order stays.
TEST_F(SendWindowTest, SendsWhatIsUnconfirmedAgainUnchangedAndInOrder) {
  SendWindow window(true);
  window.Bound(0, 10'000);
  std::vector<SendWindow::Out> first(3);
  for (int i = 0; i < 3; ++i) window.Add(MakeBatch(2));
  for (auto& out : first) ASSERT_TRUE(window.Next(out));
  window.Confirm(MakeConfirm(3, 2, v1::OUTCOME_OK, 7), resolved_);
  EXPECT_EQ(Text(), (Texts{"3+2 OK@7"}));
  window.Lost("cut", resolved_);
  EXPECT_EQ(Text(), (Texts{}));
  EXPECT_EQ(window.under_way(), 0u);
  // What comes before the new binding is numbered behind.
  window.Add(MakeBatch(1));
  window.Bound(4, 10'000);
  std::vector<uint64_t> again;
  SendWindow::Out out;
  while (window.Next(out)) {
    again.push_back(out.first_sequence);
    for (const auto& old : first) {
      if (old.first_sequence != out.first_sequence) continue;
      EXPECT_EQ(std::string(old.bytes.begin(), old.bytes.end()), std::string(out.bytes.begin(), out.bytes.end()));
    }
  }
  EXPECT_EQ(again, (std::vector<uint64_t>{1, 5, 7}));
}

TEST_F(SendWindowTest, APartThatWasResolvedIsNotReportedTwice) {
  SendWindow window(true);
  window.Bound(0, 10'000);
  window.Add(MakeBatch(10));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  window.Confirm(MakeConfirm(1, 4, v1::OUTCOME_DUPLICATE, 100), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+4 DUPLICATE@100"}));
  window.Lost("cut", resolved_);
  window.Bound(4, 10'000);
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 1u);
  window.Confirm(MakeConfirm(1, 6, v1::OUTCOME_DUPLICATE, 100), resolved_);
  window.Confirm(MakeConfirm(7, 4, v1::OUTCOME_OK, 200), resolved_);
  EXPECT_EQ(Text(), (Texts{"5+2 DUPLICATE@104", "7+4 OK@200"}));
  EXPECT_EQ(window.frames(), 0u);
}

TEST_F(SendWindowTest, OneConfirmMayCoverSeveralFrames) {
  SendWindow window(true);
  window.Bound(0, 10'000);
  SendWindow::Out out;
  for (int i = 0; i < 3; ++i) {
    window.Add(MakeBatch(2));
    ASSERT_TRUE(window.Next(out));
  }
  window.Confirm(MakeConfirm(2, 4, v1::OUTCOME_REFUSED), resolved_);
  EXPECT_EQ(Text(), (Texts{"2+4 REFUSED@0"}));
  EXPECT_EQ(window.frames(), 3u);
  window.Confirm(MakeConfirm(1, 6, v1::OUTCOME_OK, 50), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+1 OK@50", "6+1 OK@55"}));
}

TEST_F(SendWindowTest, WhatGoesOnWithAnotherOutcomeOrElsewhereIsReportedApart) {
  SendWindow window(true);
  window.Bound(0, 10'000);
  SendWindow::Out out;
  for (int i = 0; i < 5; ++i) {
    window.Add(MakeBatch(2));
    ASSERT_TRUE(window.Next(out));
  }
  window.Confirm(MakeConfirm(1, 2, v1::OUTCOME_OK, 50), resolved_);
  window.Confirm(MakeConfirm(3, 2, v1::OUTCOME_OK, 52), resolved_);
  window.Confirm(MakeConfirm(5, 2, v1::OUTCOME_OK, 90), resolved_);
  window.Confirm(MakeConfirm(7, 2, v1::OUTCOME_DUPLICATE, 92), resolved_);
  window.Confirm(MakeConfirm(9, 2, v1::OUTCOME_REFUSED), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+4 OK@50", "5+2 OK@90", "7+2 DUPLICATE@92", "9+2 REFUSED@0"}));
  EXPECT_EQ(window.frames(), 0u);
}

TEST_F(SendWindowTest, CallbacksAreTakenOutOfTheRanges) {
  SendWindow window(true);
  window.Bound(0, 10'000);
  Batch batch = MakeBatch(5);
  batch.callbacks.emplace_back(1, [](const Confirmation&) {});
  batch.callbacks.emplace_back(4, [](const Confirmation&) {});
  window.Add(std::move(batch));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  window.Confirm(MakeConfirm(1, 5, v1::OUTCOME_OK, 10), resolved_);
  ASSERT_EQ(resolved_.size(), 4u);
  EXPECT_EQ(resolved_[0].callback, nullptr);
  EXPECT_NE(resolved_[1].callback, nullptr);
  EXPECT_EQ(resolved_[2].callback, nullptr);
  EXPECT_NE(resolved_[3].callback, nullptr);
  EXPECT_EQ(Text(), (Texts{"1+1 OK@10", "2+1 OK@11", "3+2 OK@12", "5+1 OK@14"}));
}

TEST_F(SendWindowTest, UnknownIsTriedAgainAFewTimesAndThenSaid) {
  SendWindow window(true);
  window.Bound(0, 10'000);
  window.Add(MakeBatch(2));
  window.Add(MakeBatch(2));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  ASSERT_TRUE(window.Next(out));
  for (uint32_t i = 0; i < SendWindow::kMaxRetries; ++i) {
    window.Confirm(MakeConfirm(1, 2, v1::OUTCOME_UNKNOWN), resolved_);
    EXPECT_EQ(Text(), (Texts{}));
    EXPECT_EQ(window.waiting(), 1u);
    ASSERT_TRUE(window.Next(out));
    EXPECT_EQ(out.first_sequence, 1u);
  }
  window.Confirm(MakeConfirm(1, 2, v1::OUTCOME_UNKNOWN), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+2 UNKNOWN@0"}));
}

TEST_F(SendWindowTest, RefusedAfterAnEarlierTryIsUnknown) {
  SendWindow window(true);
  window.Bound(0, 10'000);
  window.Add(MakeBatch(2));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  window.Lost("cut", resolved_);
  window.Bound(0, 10'000);
  ASSERT_TRUE(window.Next(out));
  window.Confirm(MakeConfirm(1, 2, v1::OUTCOME_REFUSED), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+2 UNKNOWN@0"}));
}

TEST_F(SendWindowTest, WithoutSequencesNothingIsSentTwice) {
  SendWindow window(false);
  window.Bound(0, 10'000);
  for (int i = 0; i < 3; ++i) window.Add(MakeBatch(5));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 1u);
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 2u);
  // Frames are counted, not messages.
  window.Confirm(MakeConfirm(1, 1, v1::OUTCOME_OK, 10), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+5 OK@10"}));
  window.Lost("cut", resolved_);
  EXPECT_EQ(Text(), (Texts{"6+5 UNKNOWN@0"}));
  window.Bound(0, 10'000);
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 1u);
  window.Confirm(MakeConfirm(1, 1, v1::OUTCOME_OK, 20), resolved_);
  EXPECT_EQ(Text(), (Texts{"11+5 OK@20"}));
}

TEST_F(SendWindowTest, HoldsBackAtTheBytesThatTheBrokerGrants) {
  SendWindow window(true);
  window.Bound(0, 250);
  for (int i = 0; i < 3; ++i) window.Add(MakeBatch(1));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  ASSERT_TRUE(window.Next(out));
  EXPECT_FALSE(window.Next(out));
  window.Confirm(MakeConfirm(1, 1, v1::OUTCOME_OK, 1), resolved_);
  EXPECT_TRUE(window.Next(out));
  // One that is larger than the window goes alone.
  SendWindow large(true);
  large.Bound(0, 10);
  large.Add(MakeBatch(1, 1'000));
  large.Add(MakeBatch(1, 1'000));
  EXPECT_TRUE(large.Next(out));
  EXPECT_FALSE(large.Next(out));
}

// Safety rule 6: no more is unconfirmed than the broker can tell apart.
TEST_F(SendWindowTest, StaysWithinTheBrokersMemory) {
  SendWindow frames(true);
  frames.Bound(0, 1 << 30);
  for (size_t i = 0; i < SendWindow::kMaxFrames; ++i) {
    ASSERT_TRUE(frames.Admits(1));
    frames.Add(MakeBatch(1));
  }
  EXPECT_FALSE(frames.Admits(1));
  SendWindow sequences(true);
  sequences.Bound(0, 1 << 30);
  sequences.Add(MakeBatch(1));
  sequences.Add(MakeBatch(65'000));
  EXPECT_TRUE(sequences.Admits(535));
  EXPECT_FALSE(sequences.Admits(536));
  SendWindow::Out out;
  ASSERT_TRUE(sequences.Next(out));
  ASSERT_TRUE(sequences.Next(out));
  // What counts is the lowest that is open, not how many are.
  sequences.Confirm(MakeConfirm(2, 65'000, v1::OUTCOME_OK, 9), resolved_);
  EXPECT_FALSE(sequences.Admits(536));
  sequences.Confirm(MakeConfirm(1, 1, v1::OUTCOME_OK, 1), resolved_);
  EXPECT_TRUE(sequences.Admits(65'535));
}

TEST_F(SendWindowTest, StaysWithinTheMessagesThatTheBrokerGrants) {
  SendWindow window(true);
  window.Bound(0, 1 << 30, 1'000);
  window.Add(MakeBatch(400));
  EXPECT_TRUE(window.Admits(600));
  EXPECT_FALSE(window.Admits(601));
  window.Bound(0, 1 << 30);
  EXPECT_TRUE(window.Admits(601)) << "0 is as many as there may be";
}

TEST_F(SendWindowTest, AtAnExchangeThereAreNoPositions) {
  SendWindow window(true);
  window.Bound(0, 1'000);
  window.Add(MakeBatch(4));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  window.Confirm(MakeConfirm(1, 1, v1::OUTCOME_OK), resolved_);
  window.Confirm(MakeConfirm(2, 1, v1::OUTCOME_UNROUTABLE), resolved_);
  window.Confirm(MakeConfirm(3, 2, v1::OUTCOME_DUPLICATE), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+1 OK@0", "2+1 UNROUTABLE@0", "3+2 DUPLICATE@0"}));
}

TEST_F(SendWindowTest, UnroutableAfterAnEarlierTryIsUnknown) {
  SendWindow window(true);
  window.Bound(0, 1'000);
  window.Add(MakeBatch(1));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  window.Lost("", resolved_);
  ASSERT_TRUE(window.Next(out));
  // The first try may have found a binding that is gone by now.
  window.Confirm(MakeConfirm(1, 1, v1::OUTCOME_UNROUTABLE), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+1 UNKNOWN@0"}));
}

TEST_F(SendWindowTest, ExpiryTellsSentFromUnsent) {
  SendWindow window(true);
  window.Bound(0, 100);
  window.Add(MakeBatch(1));
  window.Add(MakeBatch(1));
  window.Add(MakeBatch(1));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  EXPECT_FALSE(window.Next(out));
  window.Expire(Time(std::chrono::milliseconds(2)), resolved_);
  EXPECT_EQ(Text(), (Texts{"1+1 UNKNOWN@0", "2+1 REFUSED@0"}));
  // A confirm that comes late is not believed twice.
  window.Confirm(MakeConfirm(1, 1, v1::OUTCOME_OK, 5), resolved_);
  EXPECT_EQ(Text(), (Texts{}));
  ASSERT_TRUE(window.Next(out));
  EXPECT_EQ(out.first_sequence, 3u);
}

TEST_F(SendWindowTest, AbortTellsSentFromUnsent) {
  SendWindow window(true);
  window.Bound(0, 100);
  window.Add(MakeBatch(1));
  window.Add(MakeBatch(1));
  SendWindow::Out out;
  ASSERT_TRUE(window.Next(out));
  window.Abort(v1::OUTCOME_FENCED, "gone", resolved_);
  EXPECT_EQ(Text(), (Texts{"1+1 UNKNOWN@0", "2+1 FENCED@0"}));
  EXPECT_EQ(window.frames(), 0u);
  EXPECT_EQ(window.waiting(), 0u);
  window.Refuse(MakeBatch(2), v1::OUTCOME_REFUSED, "closed", resolved_);
  EXPECT_EQ(Text(), (Texts{"3+2 REFUSED@0"}));
  EXPECT_EQ(window.TakeFreedBytes(), 300u);
}

}  // namespace
}  // namespace trireme::client
