#include "broker/queue/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "broker/queue/position.h"
#include "raft/core/checksum.h"
#include "tests/queue/batches.h"

namespace trireme::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A record with these bytes as its message.
std::string Record(std::string_view message) {
  raft::Writer out;
  out.Byte(0x0a);
  out.Counted(message);
  return out.Take();
}

// A length-delimited field of a message.
std::string Field(uint32_t number, std::string_view contents) {
  raft::Writer out;
  out.Varint(uint64_t{number} << 3 | 2);
  out.Counted(contents);
  return out.Take();
}

std::string Problem(std::string_view batch, const BatchLimits& limits = {}) {
  // In a block of its own, so that a step beyond it is noticed.
  const raft::Bytes own = raft::Bytes::Copy(batch);
  auto checked = CheckBatch(own.view(), limits);
  return checked.ok() ? "" : std::string(checked.status().message());
}

std::vector<std::string> Messages(std::string_view batch) {
  std::vector<std::string> messages;
  for (BatchWalker walker(batch); walker.Next();) messages.emplace_back(walker.message());
  return messages;
}

TEST(BatchTest, ItsMessagesAreFoundAndCounted) {
  const std::string batch = Record("") + Record(Field(1, "body")) + Record(Field(2, "key") + Field(1, ""));
  auto checksums = CheckBatch(batch, {});
  ASSERT_TRUE(checksums.ok()) << checksums.status();
  EXPECT_THAT(*checksums, ElementsAre(raft::Crc32c(""), raft::Crc32c(Field(1, "body")),
                                      raft::Crc32c(Field(2, "key") + Field(1, ""))));
  EXPECT_THAT(Messages(batch), ElementsAre("", Field(1, "body"), Field(2, "key") + Field(1, "")));
}

TEST(BatchTest, WhatIsRefusedIsNamedWithItsValueAndLimit) {
  EXPECT_EQ(Problem(""), "the batch has no messages; it must have at least 1");
  EXPECT_EQ(Problem("x"), "the batch of 1 bytes does not parse as a trireme.v1.MessageBatch after message 0");
  EXPECT_EQ(Problem(RecordOf("a") + "x"),
            "the batch of 6 bytes does not parse as a trireme.v1.MessageBatch after message 1");
  EXPECT_EQ(Problem(RecordOf("1234567"), {.max_message_bytes = 8}),
            "message 0 of the batch has 9 bytes; the limit is 8");
  EXPECT_EQ(Problem(RecordOf("12") + RecordOf("1234567"), {.max_message_bytes = 8}),
            "message 1 of the batch has 9 bytes; the limit is 8");
  EXPECT_EQ(Problem(RecordOf("123456"), {.max_message_bytes = 8, .max_batch_bytes = 5}), "");  // one message
  EXPECT_EQ(Problem(RecordOf("1") + RecordOf("1"), {.max_message_bytes = 8, .max_batch_bytes = 9}),
            "the batch has 10 bytes; the limit for more than one message is 9");
  EXPECT_EQ(Problem(Record("\x01")), "message 0 of the batch does not parse as a trireme.v1.Message");
  EXPECT_EQ(Problem(Record(Field(2, std::string(255, 'k')))), "");
  EXPECT_EQ(Problem(Record(Field(2, std::string(256, 'k')))),
            "the key of message 0 of the batch has 256 bytes; the limit is 255");
  EXPECT_EQ(Problem(RecordOf("") + Record(Field(3, std::string(300, 'i')))),
            "the id of message 1 of the batch has 300 bytes; the limit is 255");
}

TEST(BatchTest, ABatchHasAsManyMessagesAsASlotCanSay) {
  EXPECT_EQ(Problem(BatchOf(kMaxBatchMessages, ""), {.max_batch_bytes = 1 << 20}), "");
  EXPECT_EQ(Problem(BatchOf(kMaxBatchMessages + 1, ""), {.max_batch_bytes = 1 << 20}),
            "the batch has more than 65535 messages, which is the limit");
}

// What a consumer's parser would not take is not stored: it could never be delivered.
TEST(BatchTest, WhatAParserWouldNotTakeIsRefused) {
  const std::string good[] = {
      Field(2, "key") + Field(3, "id") + Field(8, "reply") + Field(9, "correlation") + Field(10, "type"),
      Field(1, "\xff\xfe any bytes"),                           // a body is bytes
      Field(4, Field(1, "name") + Field(2, Field(1, "text"))),  // a header
      Field(4, Field(1, "name") + Field(2, Field(2, "\xff"))),  // whose value is bytes
      Field(99, "\xff of a version to come"),                   // unknown fields are kept
      std::string("\x28\x05", 2),                               // a varint
      std::string("\x29"
                  "12345678",
                  9),
      std::string("\x2d"
                  "1234",
                  5),                                    // fixed
      Field(2, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),  // 2, 3 and 4 bytes of UTF-8
  };
  for (const std::string& message : good) EXPECT_EQ(Problem(Record(message)), "") << ::testing::PrintToString(message);
  const std::string bad[] = {
      Field(2, "\xff"),
      Field(3, "\xc3"),
      Field(8, "\x80"),
      Field(9, "\xc0\xaf"),
      Field(10, "\xed\xa0\x80"),
      Field(11, "\xf4\x90\x80\x80"),
      Field(2, "12345678\xe2\x82"),
      Field(2, "\xe0\x80\xaf"),
      Field(2, "\xf0\x80\x80\xaf"),
      Field(4, Field(1, "\xff")),
      Field(4, Field(2, Field(1, "\xff"))),
      Field(4, "\x01"),
      std::string("\x02\x00", 2),  // field 0
      std::string("\x0b\x0c", 2),  // a group
      std::string("\x0e", 1),
      std::string("\x0f", 1),  // no wire type
      std::string("\x0a\x05"
                  "abc",
                  5),                                                   // a length beyond the end
      std::string("\x8a\x80\x80\x80\x80\x00\x01x", 8),                  // a tag of six bytes
      std::string("\x0a\x81\x80\x80\x80\x80\x00x", 8),                  // a length of six bytes
      std::string("\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11),  // a varint above 64 bits
      std::string("\x29"
                  "1234567",
                  8),
      std::string("\x2d"
                  "123",
                  4),
      std::string("\x28", 1),
  };
  for (const std::string& message : bad)
    EXPECT_THAT(Problem(Record(message)), HasSubstr("does not parse")) << ::testing::PrintToString(message);
}

// Safety rule 17: what CheckBatch says of a batch finds every flipped bit in it.
TEST(BatchTest, AFlippedBitInAnyByteOfABatchIsFound) {
  const std::string batch = RecordOf("first") + RecordOf("") + Record(Field(2, "key") + Field(1, "second"));
  const std::vector<uint32_t> checksums = *CheckBatch(batch, {});
  for (size_t byte = 0; byte < batch.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = batch;
      bad[byte] = static_cast<char>(bad[byte] ^ (1 << bit));
      auto checked = CheckBatch(raft::Bytes::Copy(bad).view(), {});
      EXPECT_FALSE(checked.ok() && *checked == checksums) << "byte " << byte << " bit " << bit;
    }
  }
}

// Safety rule 17: no end of a batch is missed, wherever it is cut.
TEST(BatchTest, ABatchThatIsCutShortIsRefusedOrShorter) {
  const std::string batch = RecordOf("first") + RecordOf("") + RecordOf(std::string(300, 'x'));
  const size_t ends[] = {RecordOf("first").size(), RecordOf("first").size() + RecordOf("").size()};
  for (size_t size = 0; size < batch.size(); ++size) {
    const raft::Bytes cut = raft::Bytes::Copy(std::string_view(batch).substr(0, size));
    auto checked = CheckBatch(cut.view(), {});
    // Between two messages the cut cannot be seen in the batch; its entry's header has the count.
    const bool between = size == ends[0] || size == ends[1];
    EXPECT_EQ(checked.ok(), between) << size;
    if (between) {
      EXPECT_EQ(checked->size(), size == ends[0] ? 1u : 2u);
    }
    BatchWalker walker(cut.view());
    while (walker.Next()) {
    }
    EXPECT_EQ(walker.whole(), between || size == 0) << size;
    EXPECT_FALSE(walker.Next());
  }
}

TEST(BatchTest, APartOfABatchIsABatch) {
  const std::string batch = RecordOf("a") + RecordOf("") + RecordOf("ccc");
  const raft::Bytes bytes = raft::Bytes::Copy(batch);
  EXPECT_EQ(SliceBatch(bytes, 0, 3).view(), batch);
  EXPECT_EQ(SliceBatch(bytes, 0, 1).view(), RecordOf("a"));
  EXPECT_EQ(SliceBatch(bytes, 1, 2).view(), RecordOf("") + RecordOf("ccc"));
  EXPECT_EQ(SliceBatch(bytes, 2, 1).data(), bytes.data() + batch.size() - RecordOf("ccc").size());  // no copy
  for (auto [from, count] : std::vector<std::pair<uint32_t, uint32_t>>{{0, 0}, {3, 1}, {2, 2}, {0, 4}, {9, 9}})
    EXPECT_TRUE(SliceBatch(bytes, from, count).empty()) << from << " " << count;
  EXPECT_THAT(Messages(SliceBatch(raft::Bytes::Copy(RecordOf("a") + "x"), 0, 2).view()), IsEmpty());
}

}  // namespace
}  // namespace trireme::queue
