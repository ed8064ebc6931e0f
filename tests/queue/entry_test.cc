#include "broker/queue/entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "broker/queue/batch.h"
#include "tests/queue/log.h"
#include "tests/queue/sealed.h"
#include "tests/queue/text.h"

namespace trireme::queue {
namespace {

using ::testing::HasSubstr;

// A batch of messages that differ, so that one cannot stand for another.
raft::Bytes SomePublished() {
  const std::string batch = RecordOf("first") + RecordOf("") + RecordOf(std::string(200, 'x')) + RecordOf("last");
  fact::Published fact{"producer", 7, 100, 4, *CheckBatch(batch, {})};
  return EncodePublished(fact, 1'700'000'000'000, batch);
}

raft::Bytes SomeFacts() {
  std::vector<Fact> facts;
  for (const char* text :
       {"settle ack 1:0+3@4 9:7+1@12", "checkout a@3 from=9:8 to=12:1 waiting=9:8+2,12:0+1 returned=3:4+1",
        "attach session epoch=3 consumer=c timeout=30000", "open producer epoch=9"})
    facts.push_back(ParseFact(script::Split(text)));
  return EncodeFacts(facts, 1'700'000'000'000);
}

raft::Bytes Changed(const raft::Bytes& entry, size_t byte, int bit) {
  std::string bytes(entry.view());
  bytes[byte] = static_cast<char>(bytes[byte] ^ (1 << bit));
  return raft::Bytes::Copy(bytes);
}

TEST(EntryTest, FactsComeOutAsTheyWentIn) {
  const std::vector<std::string> texts = {
      "open p epoch=1",
      "open a-name-that-is-longer-than-one-that-fits-in-place epoch=18446744073709551615",
      "forget p epoch=3 last=77",
      "attach a epoch=1",
      "attach a epoch=300 consumer=label timeout=3600000",
      "detach a epoch=4294967296",
      "checkout a@1 from=0:0 to=1:3 waiting=1:0+3",
      "checkout until=1700000000000 from=5:2 to=9:0 waiting=5:2+1,6:0+65535,7:9+3",
      "checkout a@2 from=9:0 to=9:0 returned=3:1+1,2:0+4",
      "checkout a@2 from=281474976710655:65534 to=281474976710655:65534",
      "settle ack 1:0+3@4",
      "settle requeue 9:0+1@12 1:0+3@4 1:3+1@4",
      "settle reject",
      "extend until=1 1:0+1@2",
      "expire now=1700000000000 1:0+1@2 5:6+7@8",
      "purge",
      "raise 1",
      "settle ack 1:0+3@4 subscription=9",
      "checkout a@2 from=9:0 to=9:0 returned=3:1+1,2:0+4 keys=1",
      "defer from=9:0 to=12:1 waiting=9:0+7,12:0+1 subscription=3",
      "release returned=3:1+1,2:0+4",
      "change single=1",
      "change filter=3 keys=1",
  };
  std::vector<Fact> all;
  for (const std::string& text : texts) {
    all.push_back(ParseFact(script::Split(text)));
    EXPECT_EQ(Describe(all.back()), text);
    const raft::Bytes entry = EncodeFacts({&all.back(), 1}, 42);
    auto decoded = DecodeEntry(entry);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ASSERT_EQ(decoded->facts.size(), 1u);
    EXPECT_EQ(Describe(decoded->facts[0]), text);
    EXPECT_EQ(decoded->facts[0], all.back());
    EXPECT_EQ(decoded->time_ms, 42);
    EXPECT_TRUE(CheckEntry(entry).ok());
    EXPECT_EQ(DecodePublished(entry).status().code(), absl::StatusCode::kNotFound);
  }
  auto together = DecodeEntry(EncodeFacts(all, -1));
  ASSERT_TRUE(together.ok()) << together.status();
  EXPECT_EQ(together->facts, all);
  EXPECT_EQ(together->time_ms, -1);
}

TEST(EntryTest, ABatchComesOutAsItWentIn) {
  const raft::Bytes entry = SomePublished();
  auto view = DecodePublished(entry);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->producer, "producer");
  EXPECT_EQ(view->epoch, 7u);
  EXPECT_EQ(view->first_sequence, 100u);
  EXPECT_EQ(view->count, 4u);
  EXPECT_EQ(view->time_ms, 1'700'000'000'000);
  auto decoded = DecodeEntry(entry);
  ASSERT_TRUE(decoded.ok());
  ASSERT_EQ(decoded->facts.size(), 1u);
  EXPECT_EQ(Describe(decoded->facts[0]), "publish 4 as=producer@7 seq=100");
  EXPECT_EQ(decoded->batch, view->batch);
  // Any run of its messages, checked.
  for (uint32_t from = 0; from < 4; ++from) {
    for (uint32_t count = 1; from + count <= 4; ++count) {
      auto part = CheckedMessages(*view, from, count);
      ASSERT_TRUE(part.ok()) << part.status();
      EXPECT_EQ(*part, SliceBatch(view->batch, from, count));
    }
  }
  EXPECT_EQ(CheckedMessages(*view, 3, 2).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(CheckedMessages(*view, 4, 1).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(CheckedMessages(*view, 0xffff'ffff, 0xffff'ffff).status().code(), absl::StatusCode::kDataLoss);
}

// Safety rule 17: a flipped bit is found, wherever it is: before a follower keeps the entry, and before it is applied.
TEST(EntryTest, AFlippedBitInAnyByteOfAnEntryIsFound) {
  for (const raft::Bytes& entry : {SomePublished(), SomeFacts()}) {
    ASSERT_TRUE(CheckEntry(entry).ok());
    const bool publishes = DecodePublished(entry).ok();
    const size_t batch = publishes ? entry.size() - DecodePublished(entry)->batch.size() : entry.size();
    for (size_t byte = 0; byte < entry.size(); ++byte) {
      for (int bit = 0; bit < 8; ++bit) {
        const raft::Bytes bad = Changed(entry, byte, bit);
        EXPECT_EQ(CheckEntry(bad).code(), absl::StatusCode::kDataLoss) << "byte " << byte << " bit " << bit;
        if (byte >= batch) continue;
        EXPECT_EQ(DecodeEntry(bad).status().code(), absl::StatusCode::kDataLoss) << "byte " << byte << " bit " << bit;
        EXPECT_EQ(DecodePublished(bad).status().code(), absl::StatusCode::kDataLoss)
            << "byte " << byte << " bit " << bit;
      }
    }
  }
}

// Safety rule 17: before a consumer is served, too; damage in another slot of the batch is not its business, unless the
// way to its own leads over it.
TEST(EntryTest, AFlippedBitInAMessageIsFoundBeforeItIsDelivered) {
  const raft::Bytes entry = SomePublished();
  const size_t batch = entry.size() - DecodePublished(entry)->batch.size();
  for (uint32_t slot = 0; slot < 4; ++slot) {
    const raft::Bytes good = *CheckedMessages(*DecodePublished(entry), slot, 1);
    const auto begin = static_cast<size_t>(good.data() - entry.data());
    for (size_t byte = batch; byte < entry.size(); ++byte) {
      for (int bit = 0; bit < 8; ++bit) {
        auto served = CheckedMessages(*DecodePublished(Changed(entry, byte, bit)), slot, 1);
        const bool own = byte >= begin && byte < begin + good.size();
        if (own) {
          EXPECT_EQ(served.status().code(), absl::StatusCode::kDataLoss)
              << "slot " << slot << " byte " << byte << " bit " << bit;
        } else if (served.ok()) {
          EXPECT_EQ(*served, good);
        }
      }
    }
  }
}

// Safety rule 17: a torn entry is no entry.
TEST(EntryTest, AnEntryThatIsCutShortIsRefused) {
  for (const raft::Bytes& entry : {SomePublished(), SomeFacts()}) {
    for (size_t size = 0; size < entry.size(); ++size) {
      // In a block of its own, so that a step beyond it is noticed.
      const raft::Bytes cut = raft::Bytes::Copy(entry.view().substr(0, size));
      EXPECT_EQ(CheckEntry(cut).code(), absl::StatusCode::kDataLoss) << size;
      // The header may be whole, and the batch not.
      auto view = DecodePublished(cut);
      if (view.ok()) {
        EXPECT_EQ(CheckedMessages(*view, 0, view->count).status().code(), absl::StatusCode::kDataLoss) << size;
      } else {
        EXPECT_EQ(view.status().code(), absl::StatusCode::kDataLoss) << size;
        EXPECT_EQ(DecodeEntry(cut).status().code(), absl::StatusCode::kDataLoss) << size;
      }
    }
    // Nor is one with something behind it.
    for (const char* more : {"x", "\x0a", "\x0a\x01"}) {
      EXPECT_EQ(CheckEntry(raft::Bytes::Copy(std::string(entry.view()) + more)).code(), absl::StatusCode::kDataLoss);
    }
  }
}

// Right checksums around wrong contents: they are refused by what they say, not by luck.
TEST(EntryTest, AHeaderThatLiesIsRefused) {
  auto header = [](uint64_t count, size_t checksums) {
    raft::Writer out;
    out.Signed(0);
    out.Counted("p");
    out.Varint(1);
    out.Varint(1);
    out.Varint(count);
    for (size_t i = 0; i < checksums; ++i) out.Fixed32(0);
    return out.Take();
  };
  for (auto [count, checksums] : std::vector<std::pair<uint64_t, size_t>>{
           {0, 0}, {1, 0}, {1, 2}, {2, 1}, {65'536, 65'536}, {uint64_t{1} << 62, 0}, {(uint64_t{1} << 62) + 1, 1}}) {
    const raft::Bytes entry = SealedEntry(1, kPublishedKind, header(count, checksums), BatchOf(1));
    EXPECT_EQ(DecodePublished(entry).status().code(), absl::StatusCode::kDataLoss) << count << " " << checksums;
    EXPECT_EQ(CheckEntry(entry).code(), absl::StatusCode::kDataLoss) << count << " " << checksums;
  }
  // One message more in the batch than the header says, and one less.
  for (uint32_t in_batch : {0u, 1u, 3u}) {
    const std::string checked = BatchOf(2);
    const raft::Bytes entry =
        EncodePublished({.producer = "", .count = 2, .checksums = *CheckBatch(checked, {})}, 0, BatchOf(in_batch));
    EXPECT_EQ(CheckEntry(entry).code(), absl::StatusCode::kDataLoss) << in_batch;
  }
  // Facts: a count that is not there, bytes left over, a disposition that is none.
  raft::Writer many, over, disposition;
  many.Signed(0);
  many.Varint(uint64_t{1} << 40);
  over.Signed(0);
  over.Varint(1);
  over.Byte(9);
  over.Byte(0);
  disposition.Signed(0);
  disposition.Varint(1);
  disposition.Byte(6);
  disposition.Varint(0);
  disposition.Byte(5);
  disposition.Varint(0);
  for (const raft::Writer* bad : {&many, &over, &disposition}) {
    EXPECT_EQ(DecodeEntry(SealedEntry(1, kFactsKind, bad->bytes())).status().code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(DecodeEntry(SealedEntry(1, kFactsKind, std::string(2, 0), "batch")).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_TRUE(DecodeEntry(SealedEntry(1, kFactsKind, std::string(2, 0))).ok());
}

// Safety rule 17: an entry of facts stays within 256 KiB, however many there are and however large they are.
TEST(EntryTest, ManyFactsGoIntoEntriesOfABoundedSize) {
  std::vector<Fact> facts;
  // Tokens as far apart as they can be, so that each takes as many bytes as it can.
  fact::Settled scattered{0, Disposition::kAcknowledge, {}};
  for (uint64_t i = 0; i < 8'192; ++i) {
    scattered.tokens.push_back(
        {{Position(i % 2 == 0 ? 1 : kMaxLogIndex, 65'000), 535}, i % 2 == 0 ? ~uint64_t{0} >> 1 : 1});
  }
  for (int i = 0; i < 20; ++i) facts.emplace_back(scattered);
  for (int i = 0; i < 5'000; ++i)
    facts.emplace_back(
        fact::Attached{0, std::string(64, 's'), static_cast<uint64_t>(i), std::string(255, 'c'), 30'000});
  std::vector<Fact> read;
  size_t entries = 0;
  for (std::span<const Fact> rest = facts; !rest.empty(); ++entries) {
    const FactsEntryBytes some = EncodeSomeFacts(rest, 42);
    ASSERT_GT(some.count, 0u);
    EXPECT_LE(some.entry.size(), kMaxFactsBytes);
    auto decoded = DecodeEntry(some.entry);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ASSERT_EQ(decoded->facts.size(), some.count);
    EXPECT_EQ(decoded->time_ms, 42);
    read.insert(read.end(), decoded->facts.begin(), decoded->facts.end());
    rest = rest.subspan(some.count);
  }
  EXPECT_EQ(read, facts);
  EXPECT_LT(entries, 30u);  // and they are not cut more than they must be
  // What fits one entry goes into one, byte for byte as without a bound.
  const FactsEntryBytes one = EncodeSomeFacts({facts.data() + 20, 3}, 42);
  EXPECT_EQ(one.count, 3u);
  EXPECT_EQ(one.entry, EncodeFacts({facts.data() + 20, 3}, 42));
}

// Safety rule 3: what a version to come wrote is kept by a follower, and stopped at by apply, which says what it met.
TEST(EntryTest, AnEntryOfALaterVersionIsKeptAndNotRead) {
  for (const raft::Bytes& entry : {SealedEntry(2, kFactsKind, "anything"), SealedEntry(1, 9, "anything", "at all")}) {
    EXPECT_TRUE(CheckEntry(entry).ok());
    EXPECT_EQ(DecodeEntry(entry).status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_EQ(DecodePublished(entry).status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(DecodeEntry(entry).status().message()), HasSubstr("run a newer version"));
    // Damaged, it is not kept.
    EXPECT_EQ(CheckEntry(Changed(entry, 9, 0)).code(), absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace trireme::queue
