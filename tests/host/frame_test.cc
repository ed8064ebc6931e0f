// Frames on the wire: what goes in comes out, entries are shared and not copied, hostile bytes are refused.
#include "raft/grpc/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "raft/core/checksum.h"
#include "raft/core/coding.h"
#include "raft/grpc/buffers.h"
#include "raft/grpc/peer_identity.h"
#include "raft/host/index_rows.h"
#include "trireme/peer/v1/peer.pb.h"

namespace trireme::raft {
namespace {

GroupMessage Append(uint64_t group, uint64_t log_index, std::vector<std::string> bodies) {
  GroupMessage m{GroupId(group), {}};
  m.message.type = MessageType::kAppend;
  m.message.from = ReplicaId(11);
  m.message.to = ReplicaId(12);
  m.message.term = Term(7);
  m.message.log_index = Index(log_index);
  m.message.log_term = Term(6);
  m.message.commit = Index(5);
  m.message.all_match = Index(4);
  for (std::string& body : bodies) {
    m.message.entries.push_back({Term(7), Index(++log_index), EntryType::kCommand, Bytes::Take(std::move(body))});
  }
  return m;
}

GroupMessage Vote() {
  GroupMessage m{GroupId(~uint64_t{0}), {}};
  m.message.type = MessageType::kPreVote;
  m.message.term = Term(1);
  m.message.leader_lost = true;
  m.message.leader_asked = true;
  m.message.reject = true;
  m.message.hint_index = Index(3);
  m.message.hint_term = Term(2);
  m.message.read_context = 99;
  m.message.lease_ms = 300;
  m.message.lease_sent = Monotonic(1'234'567'890'123);
  return m;
}

void ExpectEqual(const Message& a, const Message& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.from, b.from);
  EXPECT_EQ(a.to, b.to);
  EXPECT_EQ(a.term, b.term);
  EXPECT_EQ(a.log_index, b.log_index);
  EXPECT_EQ(a.log_term, b.log_term);
  EXPECT_EQ(a.commit, b.commit);
  EXPECT_EQ(a.reject, b.reject);
  EXPECT_EQ(a.hint_index, b.hint_index);
  EXPECT_EQ(a.hint_term, b.hint_term);
  EXPECT_EQ(a.read_context, b.read_context);
  EXPECT_EQ(a.lease_ms, b.lease_ms);
  EXPECT_EQ(a.lease_sent, b.lease_sent);
  EXPECT_EQ(a.all_match, b.all_match);
  EXPECT_EQ(a.leader_lost, b.leader_lost);
  EXPECT_EQ(a.leader_asked, b.leader_asked);
  EXPECT_EQ(a.entries, b.entries);
}

Frame Sample() {
  Frame frame{1'700'000'000'000, {}};
  frame.messages.push_back(Vote());
  frame.messages.push_back(Append(3, 41, {"short", "", std::string(5000, 'x'), "tail"}));
  frame.messages.push_back(Append(4, 0, {std::string(70'000, 'y'), std::string(2000, 'z')}));
  frame.messages[1].message.entries[1].type = EntryType::kNoop;
  return frame;
}

std::string Flat(const grpc::ByteBuffer& buffer) {
  return std::string(FromBuffer(buffer)->view());
}
grpc::ByteBuffer Buffer(const std::string& bytes) {
  return ToBuffer(Bytes::Copy(bytes));
}

TEST(FrameTest, RoundTrip) {
  Frame frame = Sample();
  absl::StatusOr<Frame> back = DecodeFrame(EncodeFrame(frame));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->wall_ms, frame.wall_ms);
  ASSERT_EQ(back->messages.size(), frame.messages.size());
  for (size_t i = 0; i < frame.messages.size(); ++i) {
    EXPECT_EQ(back->messages[i].group, frame.messages[i].group);
    ExpectEqual(back->messages[i].message, frame.messages[i].message);
  }
}

// The bytes are those of peer.proto's RaftFrame, so that any protobuf reader understands them.
TEST(FrameTest, IsTheProtobufMessage) {
  peer::v1::RaftFrame frame;
  ASSERT_TRUE(frame.ParseFromString(Flat(EncodeFrame(Sample()))));
  EXPECT_EQ(frame.header().messages_size(), 3);
  EXPECT_EQ(frame.header().messages(1).entries(2).size(), 5000u);
  EXPECT_EQ(frame.payload().size(), 5 + 5000 + 4 + 70'000 + 2000u);
  // And one that protobuf wrote is read.
  EXPECT_TRUE(DecodeFrame(Buffer(frame.SerializeAsString())).ok());
}

SnapshotChunk Chunk() {
  SnapshotChunk chunk{.group = GroupId(9), .header = {}, .number = 77, .at = {Index(12), 3, 0}};
  Message& header = chunk.header;
  header.type = MessageType::kSnapshot;
  header.from = ReplicaId(11);
  header.to = ReplicaId(12);
  header.term = Term(7);
  header.log_index = Index(41);
  header.log_term = Term(6);
  const Membership members{{{ReplicaId(11), NodeId(1)}, {ReplicaId(12), NodeId(2), Standing::kLearner}}};
  header.membership = std::make_shared<const Membership>(members);
  chunk.entries = {{Term(2), Index(13), EntryType::kCommand, Bytes::Copy("alive")},
                   {Term(5), Index(40), EntryType::kCommand, Bytes::Copy(std::string(3000, 'z'))}};
  return chunk;
}

TEST(FrameTest, PartsOfSnapshotsAndTheirAnswersRoundTrip) {
  Frame frame = Sample();
  frame.chunks.push_back(Chunk());
  SnapshotChunk last = Chunk();
  last.entries.clear();
  last.at.state_bytes = 9;
  last.state = Bytes::Copy(std::string(2000, 's'));
  last.last = true;
  last.state_checksum = 0xdeadbeef;
  frame.chunks.push_back(last);
  SnapshotChunk rows = Chunk();
  rows.entries.clear();
  rows.at.row = std::string("key\0\xff", 5);
  rows.at.rows = 17;
  rows.rows = EncodeRows({{"key 1", std::string(2000, 'v')}, {"key 2", ""}});
  rows.rows_checksum = 0xfeedbeef;
  frame.chunks.push_back(rows);
  frame.answers.push_back({.group = GroupId(8),
                           .from = ReplicaId(1),
                           .to = ReplicaId(2),
                           .index = Index(3),
                           .number = 4,
                           .at = {Index(5), 6, 7, "key", 8},
                           .result = SnapshotAnswer::Result::kRefused});
  absl::StatusOr<Frame> back = DecodeFrame(EncodeFrame(frame));
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->messages.size(), 3u);
  ASSERT_EQ(back->chunks.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const SnapshotChunk& a = back->chunks[i];
    const SnapshotChunk& b = frame.chunks[i];
    EXPECT_EQ(a.group, b.group);
    ExpectEqual(a.header, b.header);
    EXPECT_EQ(*a.header.membership, *b.header.membership);
    EXPECT_EQ(a.number, b.number);
    EXPECT_EQ(a.at, b.at);
    EXPECT_EQ(a.entries, b.entries);
    EXPECT_EQ(a.rows, b.rows);
    EXPECT_EQ(a.rows_checksum, b.rows_checksum);
    EXPECT_EQ(a.state, b.state);
    EXPECT_EQ(a.last, b.last);
    EXPECT_EQ(a.state_checksum, b.state_checksum);
  }
  ASSERT_EQ(back->answers.size(), 1u);
  const SnapshotAnswer& answer = back->answers[0];
  EXPECT_EQ(answer.group, GroupId(8));
  EXPECT_EQ(answer.from, ReplicaId(1));
  EXPECT_EQ(answer.to, ReplicaId(2));
  EXPECT_EQ(answer.index, Index(3));
  EXPECT_EQ(answer.number, 4u);
  EXPECT_EQ(answer.at, (SnapshotPosition{Index(5), 6, 7, "key", 8}));
  EXPECT_EQ(answer.result, SnapshotAnswer::Result::kRefused);
}

TEST(FrameTest, DigestsRoundTrip) {
  Frame frame{5};
  frame.digests.push_back({GroupId(8), ReplicaId(1), ReplicaId(2), Index(3), 0xfedc'ba98'7654'3210, true});
  absl::StatusOr<Frame> back = DecodeFrame(EncodeFrame(frame));
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->digests.size(), 1u);
  EXPECT_EQ(back->digests[0].group, GroupId(8));
  EXPECT_EQ(back->digests[0].from, ReplicaId(1));
  EXPECT_EQ(back->digests[0].to, ReplicaId(2));
  EXPECT_EQ(back->digests[0].index, Index(3));
  EXPECT_EQ(back->digests[0].digest, 0xfedc'ba98'7654'3210u);
  EXPECT_TRUE(back->digests[0].differs);
  EXPECT_EQ(SplitFrame(frame, 1000).lanes[static_cast<size_t>(Lane::kControl)].at(0).digests.size(), 1u);
}

TEST(FrameTest, BrokenPartsOfSnapshotsAreRefused) {
  Frame whole{5};
  whole.chunks.push_back(Chunk());
  const std::string bytes = Flat(EncodeFrame(whole));
  for (size_t cut = 0; cut < bytes.size(); ++cut) (void)DecodeFrame(Buffer(bytes.substr(0, cut)));
  Frame as_message{5};
  as_message.messages.push_back({GroupId(9), Chunk().header});
  EXPECT_FALSE(DecodeFrame(EncodeFrame(as_message)).ok());
  Frame no_members = whole;
  no_members.chunks[0].header.membership = nullptr;
  EXPECT_FALSE(DecodeFrame(EncodeFrame(no_members)).ok());
  Frame another_type = whole;
  another_type.chunks[0].header.type = MessageType::kHeartbeat;
  EXPECT_FALSE(DecodeFrame(EncodeFrame(another_type)).ok());
  Frame no_result{5};
  no_result.answers.push_back({});
  no_result.answers[0].result = static_cast<SnapshotAnswer::Result>(9);
  EXPECT_FALSE(DecodeFrame(EncodeFrame(no_result)).ok());
}

TEST(FrameTest, PartsOfSnapshotsHaveALaneOfTheirOwn) {
  Frame frame = Sample();
  frame.chunks = {Chunk(), Chunk()};
  frame.answers.emplace_back();
  LaneFrames split = SplitFrame(std::move(frame), 1 << 20);
  EXPECT_EQ(split.lanes[static_cast<size_t>(Lane::kSnapshot)].size(), 2u);
  ASSERT_EQ(split.lanes[static_cast<size_t>(Lane::kControl)].size(), 1u);
  EXPECT_EQ(split.lanes[static_cast<size_t>(Lane::kControl)][0].answers.size(), 1u);
  for (const Frame& append : split.lanes[static_cast<size_t>(Lane::kAppend)]) EXPECT_TRUE(append.chunks.empty());
}

TEST(FrameTest, EmptyFrame) {
  absl::StatusOr<Frame> frame = DecodeFrame(EncodeFrame(Frame{.wall_ms = 5}));
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(frame->wall_ms, 5);
  EXPECT_FALSE(DecodeFrame(grpc::ByteBuffer()).ok()) << "without a checksum";
}

TEST(FrameTest, WhatNodesTellEachOther) {
  Frame frame{.wall_ms = 5, .incarnation = 7, .last_synced = 1'000'000, .disk_low = true};
  frame.heartbeat = NodeHeartbeat{.sequence = 1, .peer_incarnation = 2, .heard = 3, .promised = 4, .peer_synced = 5};
  frame.messages.push_back(Vote());
  frame.messages.back().message.quiet = true;
  frame.messages.push_back(Append(1, 0, {"x"}));
  auto back = DecodeFrame(EncodeFrame(frame));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->incarnation, 7u);
  EXPECT_EQ(back->last_synced, 1'000'000u);
  EXPECT_TRUE(back->disk_low);
  ASSERT_TRUE(back->heartbeat.has_value());
  EXPECT_EQ(back->heartbeat->sequence, 1u);
  EXPECT_EQ(back->heartbeat->peer_incarnation, 2u);
  EXPECT_EQ(back->heartbeat->heard, 3u);
  EXPECT_EQ(back->heartbeat->promised, 4u);
  EXPECT_EQ(back->heartbeat->peer_synced, 5u);
  EXPECT_TRUE(back->messages[0].message.quiet);
  // Split by lane, every part says whose it is; the heartbeat goes with the votes, once.
  LaneFrames split = SplitFrame(std::move(frame), 1000);
  EXPECT_TRUE(split.lanes[static_cast<size_t>(Lane::kSnapshot)].empty());
  for (Lane which : {Lane::kControl, Lane::kAppend}) {
    const std::vector<Frame>& lane = split.lanes[static_cast<size_t>(which)];
    ASSERT_EQ(lane.size(), 1u);
    EXPECT_EQ(lane[0].incarnation, 7u);
    EXPECT_EQ(lane[0].last_synced, 1'000'000u);
    EXPECT_TRUE(lane[0].disk_low);
    EXPECT_EQ(lane[0].messages.size(), 1u);
  }
  EXPECT_TRUE(split.lanes[static_cast<size_t>(Lane::kControl)][0].heartbeat.has_value());
  EXPECT_FALSE(split.lanes[static_cast<size_t>(Lane::kAppend)][0].heartbeat.has_value());
}

TEST(FrameTest, LargeEntriesAreSharedNotCopied) {
  Frame frame = Sample();
  grpc::ByteBuffer buffer = EncodeFrame(frame);
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(buffer.Dump(&slices).ok());
  const char* body = frame.messages[2].message.entries[0].data.data();
  EXPECT_TRUE(std::any_of(slices.begin(), slices.end(),
                          [&](const grpc::Slice& s) { return reinterpret_cast<const char*>(s.begin()) == body; }));
  // And out of the received slice.
  Bytes flat = Bytes::Take(Flat(buffer));
  absl::StatusOr<Frame> back = DecodeFrame(ToBuffer(flat));
  ASSERT_TRUE(back.ok());
  const char* data = back->messages[2].message.entries[0].data.data();
  EXPECT_GE(data, flat.data());
  EXPECT_LT(data, flat.data() + flat.size());
}

// With the checksum that its header ought to have.
peer::v1::RaftFrame Sealed(peer::v1::RaftFrame frame) {
  frame.set_checksum(Crc32c(frame.header().SerializeAsString()));
  return frame;
}

// Safety rule 17: of what has no checksum of its own no flipped bit passes.
TEST(FrameTest, EveryFlippedBitIsFound) {
  Frame frame{.wall_ms = 5, .incarnation = 3, .last_synced = 77};
  frame.heartbeat = NodeHeartbeat{.sequence = 9, .peer_incarnation = 2, .heard = 8, .promised = 8, .peer_synced = 40};
  frame.messages.push_back(Vote());
  GroupMessage append = Append(3, 41, {});
  append.message.entries = {{Term(7), Index(42), EntryType::kConfig, Bytes::Copy("who the members are")}};
  frame.messages.push_back(std::move(append));
  SnapshotChunk chunk = Chunk();
  chunk.entries = {{Term(2), Index(13), EntryType::kConfig, Bytes::Copy("who they were then")}};
  frame.chunks.push_back(std::move(chunk));
  const std::string good = Flat(EncodeFrame(frame));
  ASSERT_TRUE(DecodeFrame(Buffer(good)).ok());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeFrame(Buffer(bad)).ok()) << "bit " << bit;
  }
}

TEST(FrameTest, RefusesWhatEncodeWouldNotWrite) {
  using peer::v1::RaftFrame;
  auto refused = [](const RaftFrame& f) { return !DecodeFrame(Buffer(Sealed(f).SerializeAsString())).ok(); };
  RaftFrame good;
  auto* m = good.mutable_header()->add_messages();
  m->set_type(peer::v1::RAFT_MESSAGE_TYPE_APPEND);
  auto* e = m->add_entries();
  e->set_type(1);
  e->set_size(4);
  good.set_payload("four");
  EXPECT_FALSE(refused(good));

  RaftFrame bad = good;
  bad.set_payload("fou");
  EXPECT_TRUE(refused(bad)) << "payload too short";
  bad.set_payload("fourr");
  EXPECT_TRUE(refused(bad)) << "payload too long";
  bad = good;
  bad.mutable_header()->mutable_messages(0)->set_type(peer::v1::RAFT_MESSAGE_TYPE_HEARTBEAT);
  EXPECT_TRUE(refused(bad)) << "entries in a heartbeat";
  bad = good;
  bad.mutable_header()->mutable_messages(0)->set_type(static_cast<peer::v1::RaftMessageType>(77));
  EXPECT_TRUE(refused(bad)) << "unknown type of message";
  bad = good;
  bad.mutable_header()->mutable_messages(0)->mutable_entries(0)->set_type(3);
  EXPECT_TRUE(refused(bad)) << "unknown type of entry";
  bad = good;
  bad.mutable_header()->mutable_messages(0)->mutable_entries(0)->set_size(~0u);
  EXPECT_TRUE(refused(bad)) << "an entry beyond all";
  bad = good;
  bad.mutable_header()->mutable_messages(0)->set_log_index(~uint64_t{0});
  EXPECT_TRUE(refused(bad)) << "an index that overflows";

  std::string bytes = Sealed(good).SerializeAsString();
  EXPECT_TRUE(DecodeFrame(Buffer(bytes)).ok());
  EXPECT_FALSE(DecodeFrame(Buffer(good.SerializeAsString())).ok()) << "without a checksum";
  EXPECT_FALSE(DecodeFrame(Buffer(bytes + bytes)).ok()) << "two headers";
  EXPECT_FALSE(DecodeFrame(Buffer(bytes.substr(0, bytes.size() - 1))).ok()) << "cut short";
  EXPECT_TRUE(DecodeFrame(Buffer(bytes + std::string("\x20\x05", 2))).ok()) << "an unknown field is passed over";
  EXPECT_FALSE(DecodeFrame(Buffer(bytes + std::string("\x1b", 1))).ok()) << "an unknown group is not";
  EXPECT_FALSE(DecodeFrame(Buffer(std::string(kFrameBytesMax + 1, '\0'))).ok()) << "beyond the limit";
}

// What is empty takes two bytes on the wire, and hundreds once it is read.
TEST(FrameTest, MoreMessagesThanAFrameCanHoldAreRefusedUnread) {
  auto refused = [](const std::string& header) {
    Writer out;
    out.Varint((3 << 3) | 5);
    out.Fixed32(Crc32c(header));
    out.Varint((1 << 3) | 2);
    out.Counted(header);
    return std::string(DecodeFrame(Buffer(out.Take())).status().message());
  };
  std::string messages, entries;
  for (int i = 0; i < 300'000; ++i) messages += std::string("\x0a\x00", 2);
  EXPECT_THAT(refused(messages), testing::HasSubstr("300000 messages"));
  for (int i = 0; i < 1'500'000; ++i) entries += std::string("\x72\x00", 2);
  Writer append;
  append.Varint((1 << 3) | 2);
  append.Counted(entries);
  EXPECT_THAT(refused(append.Take()), testing::HasSubstr("1500000 entries"));
}

// Random bytes, and good frames with random damage: refused or read, never more than that.
TEST(FrameTest, HostileBytes) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string bytes;
    if (seed % 3 == 0) {
      bytes.resize(random() % 300);
      for (char& c : bytes) c = static_cast<char>(random());
    } else {
      Frame frame;
      for (uint64_t n = random() % 4; n > 0; --n) {
        std::vector<std::string> bodies;
        for (uint64_t b = random() % 4; b > 0; --b) bodies.push_back(std::string(random() % 2000, 'b'));
        frame.messages.push_back(random() % 2 ? Append(random(), random() % 100, std::move(bodies)) : Vote());
      }
      if (random() % 2) frame.heartbeat = NodeHeartbeat{.sequence = random(), .heard = random(), .promised = random()};
      if (random() % 3 == 0) frame.chunks.push_back(Chunk());
      if (random() % 3 == 0) {
        SnapshotAnswer& answer = frame.answers.emplace_back();
        answer.group = GroupId(random());
        answer.index = Index(random());
      }
      if (random() % 3 == 0)
        frame.digests.push_back({GroupId(random()), ReplicaId(1), ReplicaId(2), Index(3), random()});
      bytes = Flat(EncodeFrame(frame));
      for (uint64_t n = 1 + random() % 6; n > 0 && !bytes.empty(); --n) {
        // The header is where damage is interesting, and it lies in front.
        size_t at = random() % std::min<size_t>(bytes.size(), 200);
        switch (random() % 4) {
          case 0:
            bytes[at] = static_cast<char>(random());
            break;
          case 1:
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
            break;
          case 2:
            bytes.erase(at, 1 + random() % 8);
            break;
          case 3:
            bytes.insert(at, std::string(1 + random() % 8, static_cast<char>(random())));
            break;
        }
      }
    }
    absl::StatusOr<Frame> frame = DecodeFrame(Buffer(bytes));
    // What the checksum would keep away is let through every other time.
    if (peer::v1::RaftFrame damaged; !frame.ok() && seed % 2 == 0 && damaged.ParseFromString(bytes)) {
      bytes = Sealed(damaged).SerializeAsString();
      frame = DecodeFrame(Buffer(bytes));
    }
    if (!frame.ok()) continue;
    size_t total = 0;
    for (const GroupMessage& m : frame->messages) {
      for (const Entry& e : m.message.entries) total += e.data.size();
    }
    for (const SnapshotChunk& chunk : frame->chunks) {
      for (const Entry& e : chunk.entries) total += e.data.size();
      total += chunk.state.size();
    }
    EXPECT_LE(total, bytes.size());
  }
}

TEST(FrameTest, SplitsByLaneAndSizeInOrder) {
  Frame frame{9, {}};
  for (uint64_t i = 1; i <= 6; ++i) {
    frame.messages.push_back(Append(i, 0, {std::string(1000, 'x')}));
    frame.messages.push_back(Vote());
  }
  frame.messages.push_back(Append(7, 0, {}));  // empty, and yet behind the others
  LaneFrames split = SplitFrame(std::move(frame), 2500);
  const auto& control = split.lanes[static_cast<size_t>(Lane::kControl)];
  const auto& append = split.lanes[static_cast<size_t>(Lane::kAppend)];
  ASSERT_EQ(control.size(), 1u);
  EXPECT_EQ(control[0].messages.size(), 6u);
  EXPECT_EQ(control[0].wall_ms, 9);
  ASSERT_EQ(append.size(), 3u);
  uint64_t next = 1;
  for (const Frame& part : append) {
    for (const GroupMessage& m : part.messages) EXPECT_EQ(m.group, GroupId(next++));
  }
  EXPECT_EQ(next, 8u);
}

// ---- who calls

class Directory final : public PeerDirectory {
 public:
  std::optional<PeerRecord> Find(NodeId node) const override {
    if (node == NodeId(1)) return PeerRecord{"a:1", std::string(16, 'A')};
    if (node == NodeId(2)) return PeerRecord{"b:1", std::string(16, 'B')};
    if (node == NodeId(3)) return PeerRecord{"c:1", ""};  // never seen yet
    return std::nullopt;
  }
};

class HelloTest : public testing::Test {
 protected:
  static std::function<std::optional<std::string>(const std::string&)> Get(const CallMetadata& metadata) {
    return [&metadata](const std::string& key) -> std::optional<std::string> {
      for (const auto& [k, v] : metadata) {
        if (k == key) return v;
      }
      return std::nullopt;
    };
  }
  std::string Refusal() { return std::string(CheckHello(hello_, self_, directory_).message()); }

  Directory directory_;
  NodeIdentity self_{std::string(16, 'C'), NodeId(2), std::string(16, 'B'), 5, 2};
  Hello hello_{
      {std::string(16, 'C'), NodeId(1), std::string(16, 'A'), 3, 2}, NodeId(2), std::string(16, 'B'), 1, Lane::kAppend};
};

TEST_F(HelloTest, RoundTripAndAcceptance) {
  CallMetadata metadata = EncodeHello(hello_);
  absl::StatusOr<Hello> back = DecodeHello(Get(metadata));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(EncodeHello(*back), metadata);
  EXPECT_EQ(Refusal(), "");
  CallMetadata welcome = EncodeWelcome(self_);
  EXPECT_TRUE(CheckWelcome(Get(welcome), hello_).ok());
  self_.directory_id = "other";
  welcome = EncodeWelcome(self_);
  EXPECT_FALSE(CheckWelcome(Get(welcome), hello_).ok());
  EXPECT_FALSE(CheckWelcome(Get({}), hello_).ok());
}

TEST_F(HelloTest, EachMismatchIsNamed) {
  auto has = [](const std::string& text, const char* a, const char* b) {
    return text.find(a) != std::string::npos && text.find(b) != std::string::npos;
  };
  Hello good = hello_;
  hello_.from.cluster_id = std::string(16, 'D');
  EXPECT_TRUE(has(Refusal(), "4444444444", "not this node's")) << Refusal();
  EXPECT_FALSE(has(Refusal(), "cluster", "4343434343")) << "it is told what it should have said";
  hello_ = good;
  hello_.to = NodeId(1);
  EXPECT_TRUE(has(Refusal(), "is 1", "expected 2")) << Refusal();
  hello_ = good;
  hello_.to_directory_id = std::string(16, 'X');
  EXPECT_TRUE(has(Refusal(), "5858", "4242")) << Refusal();
  hello_ = good;
  hello_.from.shards = 4;
  EXPECT_TRUE(has(Refusal(), "is 4", "expected 2")) << Refusal();
  hello_ = good;
  hello_.shard = 2;
  EXPECT_TRUE(has(Refusal(), "is 2", "below 2")) << Refusal();
  hello_ = good;
  hello_.from.node = NodeId(2);
  EXPECT_NE(Refusal(), "");
  hello_.from.node = NodeId(9);
  EXPECT_TRUE(has(Refusal(), "node 9", "unknown")) << Refusal();
  hello_ = good;
  // Safety rule 11: the same node with another directory, and a node whose directory was never seen.
  hello_.from.directory_id = std::string(16, 'Z');
  EXPECT_TRUE(has(Refusal(), "5a5a", "4141")) << Refusal();
  hello_ = good;
  hello_.from.node = NodeId(3);
  hello_.from.directory_id = "";
  EXPECT_NE(Refusal(), "");
}

TEST_F(HelloTest, MissingAndBrokenMetadata) {
  CallMetadata metadata = EncodeHello(hello_);
  for (size_t i = 0; i < metadata.size(); ++i) {
    CallMetadata less = metadata;
    less.erase(less.begin() + static_cast<std::ptrdiff_t>(i));
    absl::Status status = DecodeHello(Get(less)).status();
    if (metadata[i].first == "trireme-nonce") {
      EXPECT_TRUE(status.ok()) << "an older version does not say it";
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(std::string(status.message()).find(metadata[i].first), std::string::npos);
  }
  for (auto& [key, value] : metadata) {
    if (key == "trireme-lane") value = "3";
  }
  EXPECT_FALSE(DecodeHello(Get(metadata)).ok());
}

}  // namespace
}  // namespace trireme::raft
