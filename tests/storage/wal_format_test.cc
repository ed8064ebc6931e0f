#include "storage/wal_format.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/storage/fault_file_system.h"

namespace trireme::storage {
namespace {

using raft::Bytes;
using raft::Entry;
using raft::EntryType;
using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::ReplicaId;
using raft::Term;

constexpr uint32_t kSalt = 77;

class WalFormatTest : public ::testing::Test {
 protected:
  WalFormatTest() : file_(*fs_.Open("/f", FileSystem::Mode::kCreate)) {}
  BatchScanner Scan(uint32_t salt = kSalt) { return BatchScanner(file_.get(), 0, *file_->Size(), salt); }

  FaultFileSystem fs_;
  std::unique_ptr<File> file_;
};

TEST_F(WalFormatTest, RecordsComeBackAsTheyWere) {
  const raft::Membership members = raft::VotersOnly({ReplicaId(4), ReplicaId(6)});
  std::vector<Entry> entries = {{Term(2), Index(9), EntryType::kCommand, Bytes::Copy("nine")},
                                {Term(2), Index(10), EntryType::kNoop, Bytes()},
                                {Term(2), Index(11), EntryType::kCommand, Bytes::Copy(std::string(5000, 'e'))},
                                {Term(3), Index(12), EntryType::kConfig, raft::EncodeMembership(members)}};
  BatchBuilder builder(kSalt);
  builder.Start();
  builder.AddGroupCreated(GroupId(4), ReplicaId(5), "who is in it");
  builder.AddHardState(GroupId(4), {Term(3), ReplicaId(6), Index(7)});
  uint32_t at = builder.AddEntries(GroupId(4), entries);
  EXPECT_EQ(builder.last_record_bytes(), EntriesRecordBytes(entries));
  builder.AddSnapshotPart(GroupId(4), {Index(8), Term(2), 100, 104, "members", "part"});
  builder.AddGroupDeleted(GroupId(5));
  std::string_view bytes = builder.Finish(12, 11, 3);
  EXPECT_EQ(bytes.size() % kBlockBytes, 0u);
  ASSERT_TRUE(file_->Write(0, bytes).ok());

  BatchScanner scanner = Scan();
  auto batch = *scanner.Next();
  ASSERT_TRUE(batch.has_value());
  EXPECT_EQ(batch->header.sequence, 12u);
  EXPECT_EQ(batch->header.synced, 11u);
  EXPECT_EQ(batch->header.begin, 3u);
  ASSERT_EQ(batch->records.size(), 5u);
  auto created = DecodeGroupCreated(batch->records[0].payload);
  EXPECT_EQ(created->replica, ReplicaId(5));
  EXPECT_EQ(created->descriptor, "who is in it");
  EXPECT_EQ(DecodeHardState(batch->records[1].payload), (HardState{Term(3), ReplicaId(6), Index(7)}));
  EXPECT_EQ(batch->records[2].offset, at);
  EXPECT_EQ(DecodeEntries(batch->records[2].payload, nullptr), entries);
  auto summary = SummarizeEntries(batch->records[2].payload);
  EXPECT_EQ(summary->terms, (std::vector<Term>{Term(2), Term(2), Term(2), Term(3)}));
  EXPECT_EQ(summary->memberships, (std::vector<raft::MembershipAt>{{Index(12), members}}));
  EXPECT_EQ(DecodeSnapshotPart(batch->records[3])->bytes, "part");
  EXPECT_EQ(DecodeSnapshotPart(batch->records[3])->membership, "members");
  EXPECT_EQ(batch->records[4].type, RecordType::kGroupDeleted);
  EXPECT_FALSE((*scanner.Next()).has_value());
}

TEST_F(WalFormatTest, ScanningStepsOverWhatIsDamaged) {
  BatchBuilder builder(kSalt);
  uint64_t at = 0;
  std::vector<uint64_t> offsets;
  for (uint64_t sequence = 1; sequence <= 50; ++sequence) {
    builder.Start();
    builder.AddEntries(
        GroupId(1), {{Term(1), Index(sequence), EntryType::kCommand, Bytes::Take(std::string(sequence * 400, 'x'))}});
    std::string_view bytes = builder.Finish(sequence, sequence - 1, 1);
    ASSERT_TRUE(file_->Write(at, bytes).ok());
    offsets.push_back(at);
    at += bytes.size();
  }
  fs_.FlipBit("/f", offsets[20] + 300, 4);
  fs_.FlipBit("/f", offsets[30] + 34, 7);  // its length
  BatchScanner scanner = Scan();
  std::vector<uint64_t> found;
  for (;;) {
    auto batch = *scanner.Next();
    if (!batch) break;
    found.push_back(batch->header.sequence);
  }
  EXPECT_EQ(found.size(), 48u);
  EXPECT_THAT(found, ::testing::Not(::testing::Contains(21)));
  EXPECT_THAT(found, ::testing::Not(::testing::Contains(31)));
  EXPECT_FALSE((*Scan(kSalt + 1).Next()).has_value()) << "another store's";
}

TEST_F(WalFormatTest, HostilePayloadsAreRefused) {
  EXPECT_FALSE(SummarizeEntries("").has_value());
  EXPECT_FALSE(SummarizeEntries(std::string(16, '\xff')).has_value());
  EXPECT_FALSE(SummarizeEntries(std::string(40, '\0')).has_value());
  // An entry of type kConfig that holds no membership.
  BatchBuilder builder(kSalt);
  builder.Start();
  std::vector<Entry> config = {{Term(1), Index(1), EntryType::kConfig, raft::Bytes::Copy("no members")}};
  uint32_t at = builder.AddEntries(GroupId(1), config);
  std::optional<Record> record = DecodeRecord(builder.Finish(1, 0, 1).substr(at), kSalt);
  ASSERT_TRUE(record.has_value());
  EXPECT_FALSE(SummarizeEntries(record->payload).has_value());
  EXPECT_FALSE(DecodeHardState("short").has_value());
  std::string zeroes(39, '\0'), ones(48, '\xff');
  for (RecordType type : {RecordType::kMemberlessSnapshotPart, RecordType::kSnapshotPart}) {
    EXPECT_FALSE(DecodeSnapshotPart(Record{type, GroupId(1), ones, 0, 48}).has_value());
  }
  EXPECT_FALSE(DecodeSnapshotPart(Record{RecordType::kSnapshotPart, GroupId(1), zeroes, 0, 39}).has_value());
  EXPECT_FALSE(DecodeGroupCreated("short").has_value());
  EXPECT_FALSE(DecodeRecord(std::string(24, '\xff'), kSalt).has_value());
}

}  // namespace
}  // namespace trireme::storage
