#include "raft/grpc/frame.h"

#include <google/protobuf/arena.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"
#include "raft/grpc/buffers.h"
#include "trireme/peer/v1/peer.pb.h"

namespace trireme::raft {
namespace {

namespace pb = trireme::peer::v1;

// Entries below this are copied into one slice with their neighbours: a slice costs more than so short a copy.
constexpr size_t kSpliceFrom = 1024;
constexpr size_t kMessageOverhead = 64;
constexpr size_t kEntryOverhead = 12;
constexpr int kChunksMax = 16;

constexpr uint64_t kHeaderTag = (1 << 3) | 2;
constexpr uint64_t kPayloadTag = (2 << 3) | 2;
constexpr uint64_t kChecksumTag = (3 << 3) | 5;

// Safety rule 17: what commands have of their own, for the rest of a frame.
uint32_t Checksum(std::string_view header, const Frame& frame) {
  uint32_t crc = Crc32c(header);
  auto add = [&](const std::vector<Entry>& entries) {
    for (const Entry& entry : entries) {
      if (entry.type != EntryType::kCommand) crc = Crc32c(entry.data.view(), crc);
    }
  };
  for (const GroupMessage& message : frame.messages) add(message.message.entries);
  for (const SnapshotChunk& chunk : frame.chunks) add(chunk.entries);
  return crc;
}

void ToWire(const Entry& from, pb::EntryHeader* to) {
  to->set_term(from.term.value());
  to->set_type(static_cast<uint32_t>(from.type));
  to->set_size(static_cast<uint32_t>(from.data.size()));
}

void ToWire(const GroupMessage& from, pb::RaftMessage* to) {
  const Message& m = from.message;
  to->set_group(from.group.value());
  to->set_from(m.from.value());
  to->set_to(m.to.value());
  to->set_type(static_cast<pb::RaftMessageType>(m.type));
  to->set_term(m.term.value());
  to->set_log_index(m.log_index.value());
  to->set_log_term(m.log_term.value());
  to->set_commit(m.commit.value());
  to->set_reject(m.reject);
  to->set_hint_index(m.hint_index.value());
  to->set_hint_term(m.hint_term.value());
  to->set_read_context(m.read_context);
  to->set_all_match(m.all_match.value());
  to->set_leader_lost(m.leader_lost);
  to->set_leader_asked(m.leader_asked);
  to->set_lease_ms(m.lease_ms);
  to->set_lease_sent_ns(m.lease_sent.count());
  if (m.membership != nullptr) to->set_membership(std::string(EncodeMembership(*m.membership).view()));
  to->set_quiet(m.quiet);
  for (const Entry& entry : m.entries) ToWire(entry, to->add_entries());
}

void ToWire(const NodeHeartbeat& from, pb::NodeHeartbeat* to) {
  to->set_sequence(from.sequence);
  to->set_peer_incarnation(from.peer_incarnation);
  to->set_heard(from.heard);
  to->set_promised(from.promised);
  to->set_peer_synced(from.peer_synced);
  to->set_peer_forgot(from.peer_forgot);
}

NodeHeartbeat FromWire(const pb::NodeHeartbeat& from) {
  return {.sequence = from.sequence(),
          .peer_incarnation = from.peer_incarnation(),
          .heard = from.heard(),
          .promised = from.promised(),
          .peer_synced = from.peer_synced(),
          .peer_forgot = from.peer_forgot()};
}

void ToWire(const SnapshotPosition& from, pb::SnapshotPosition* to) {
  to->set_entry(from.entry.value());
  to->set_entries(from.entries);
  to->set_state_bytes(from.state_bytes);
  to->set_row(from.row);
  to->set_rows(from.rows);
}

SnapshotPosition FromWire(const pb::SnapshotPosition& from) {
  return {.entry = Index(from.entry()),
          .entries = from.entries(),
          .state_bytes = from.state_bytes(),
          .row = from.row(),
          .rows = from.rows()};
}

void ToWire(const SnapshotChunk& from, pb::SnapshotChunk* to) {
  ToWire(GroupMessage{from.group, from.header}, to->mutable_header());
  to->set_number(from.number);
  ToWire(from.at, to->mutable_at());
  for (const Entry& entry : from.entries) {
    pb::LiveEntry* live = to->add_entries();
    live->set_index(entry.index.value());
    ToWire(entry, live->mutable_header());
  }
  to->set_rows_size(static_cast<uint32_t>(from.rows.size()));
  to->set_rows_checksum(from.rows_checksum);
  to->set_state_size(static_cast<uint32_t>(from.state.size()));
  to->set_last(from.last);
  to->set_state_checksum(from.state_checksum);
}

void ToWire(const SnapshotAnswer& from, pb::SnapshotAnswer* to) {
  to->set_group(from.group.value());
  to->set_from(from.from.value());
  to->set_to(from.to.value());
  to->set_index(from.index.value());
  to->set_number(from.number);
  ToWire(from.at, to->mutable_at());
  to->set_result(static_cast<pb::SnapshotResult>(from.result));
}

void ToWire(const StateDigest& from, pb::StateDigest* to) {
  to->set_group(from.group.value());
  to->set_from(from.from.value());
  to->set_to(from.to.value());
  to->set_index(from.index.value());
  to->set_digest(from.digest);
  to->set_differs(from.differs);
}

StateDigest FromWire(const pb::StateDigest& from) {
  return {.group = GroupId(from.group()),
          .from = ReplicaId(from.from()),
          .to = ReplicaId(from.to()),
          .index = Index(from.index()),
          .digest = from.digest(),
          .differs = from.differs()};
}

// Of the same sender at the same time, and empty.
Frame Like(const Frame& frame) {
  return {.wall_ms = frame.wall_ms,
          .incarnation = frame.incarnation,
          .last_synced = frame.last_synced,
          .disk_low = frame.disk_low,
          .opened = frame.opened};
}

// Takes entries' bytes off the payload, one behind the other.
class Payload {
 public:
  explicit Payload(Bytes bytes) : bytes_(std::move(bytes)) {}
  // False when it holds less.
  bool Take(size_t size, Bytes* out) {
    if (size > bytes_.size() - taken_) return false;
    if (size > 0) *out = bytes_.Sub(taken_, size);
    taken_ += size;
    return true;
  }
  bool empty() const { return taken_ == bytes_.size(); }

 private:
  Bytes bytes_;
  size_t taken_ = 0;
};

// Of any type; without entries.
void FromWire(const pb::RaftMessage& from, GroupMessage* to) {
  to->group = GroupId(from.group());
  Message& m = to->message;
  m.type = static_cast<MessageType>(from.type());
  m.from = ReplicaId(from.from());
  m.to = ReplicaId(from.to());
  m.term = Term(from.term());
  m.log_index = Index(from.log_index());
  m.log_term = Term(from.log_term());
  m.commit = Index(from.commit());
  m.reject = from.reject();
  m.hint_index = Index(from.hint_index());
  m.hint_term = Term(from.hint_term());
  m.read_context = from.read_context();
  m.all_match = Index(from.all_match());
  m.leader_lost = from.leader_lost();
  m.leader_asked = from.leader_asked();
  m.quiet = from.quiet();
  m.lease_ms = from.lease_ms();
  m.lease_sent = Monotonic(from.lease_sent_ns());
}

absl::Status FromWire(const pb::EntryHeader& from, Index index, Payload* payload, Entry* to) {
  if (from.type() > static_cast<uint32_t>(EntryType::kConfig)) {
    return absl::InvalidArgumentError(absl::StrCat("an entry of type ", from.type()));
  }
  to->term = Term(from.term());
  to->index = index;
  to->type = static_cast<EntryType>(from.type());
  if (!payload->Take(from.size(), &to->data)) {
    return absl::InvalidArgumentError("entries are longer than the frame's payload");
  }
  return absl::OkStatus();
}

absl::Status FromWire(const pb::RaftMessage& from, Payload* payload, GroupMessage* to) {
  if (from.type() == pb::RAFT_MESSAGE_TYPE_UNSPECIFIED || from.type() == pb::RAFT_MESSAGE_TYPE_SNAPSHOT ||
      !pb::RaftMessageType_IsValid(from.type())) {
    return absl::InvalidArgumentError(absl::StrCat("a message of type ", from.type()));
  }
  FromWire(from, to);
  Message& m = to->message;
  size_t count = static_cast<size_t>(from.entries_size());
  if (count == 0) return absl::OkStatus();
  if (m.type != MessageType::kAppend) return absl::InvalidArgumentError("entries in what is no append");
  if (m.log_index.value() > std::numeric_limits<uint64_t>::max() - count) {
    return absl::InvalidArgumentError(absl::StrCat("an index of ", m.log_index.value()));
  }
  m.entries.resize(count);
  Index index = m.log_index;
  for (size_t i = 0; i < count; ++i) {
    absl::Status status = FromWire(from.entries(static_cast<int>(i)), ++index, payload, &m.entries[i]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status FromWire(const pb::SnapshotChunk& from, Payload* payload, SnapshotChunk* to) {
  if (from.header().type() != pb::RAFT_MESSAGE_TYPE_SNAPSHOT || from.header().entries_size() > 0) {
    return absl::InvalidArgumentError(absl::StrCat("a snapshot's header of type ", from.header().type()));
  }
  std::optional<Membership> membership = DecodeMembership(from.header().membership());
  if (!membership) return absl::InvalidArgumentError("a snapshot without the members of its group");
  GroupMessage header;
  FromWire(from.header(), &header);
  to->group = header.group;
  to->header = std::move(header.message);
  to->header.membership = std::make_shared<const Membership>(*std::move(membership));
  to->number = from.number();
  to->at = FromWire(from.at());
  to->entries.resize(static_cast<size_t>(from.entries_size()));
  for (int i = 0; i < from.entries_size(); ++i) {
    const pb::LiveEntry& live = from.entries(i);
    absl::Status status = FromWire(live.header(), Index(live.index()), payload, &to->entries[static_cast<size_t>(i)]);
    if (!status.ok()) return status;
  }
  if (!payload->Take(from.rows_size(), &to->rows)) {
    return absl::InvalidArgumentError("rows that are longer than the frame's payload");
  }
  to->rows_checksum = from.rows_checksum();
  if (!payload->Take(from.state_size(), &to->state)) {
    return absl::InvalidArgumentError("a state that is longer than the frame's payload");
  }
  to->last = from.last();
  to->state_checksum = from.state_checksum();
  return absl::OkStatus();
}

absl::StatusOr<SnapshotAnswer> FromWire(const pb::SnapshotAnswer& from) {
  if (from.result() == pb::SNAPSHOT_RESULT_UNSPECIFIED || !pb::SnapshotResult_IsValid(from.result())) {
    return absl::InvalidArgumentError(absl::StrCat("an answer to a snapshot of kind ", from.result()));
  }
  return SnapshotAnswer{.group = GroupId(from.group()),
                        .from = ReplicaId(from.from()),
                        .to = ReplicaId(from.to()),
                        .index = Index(from.index()),
                        .number = from.number(),
                        .at = FromWire(from.at()),
                        .result = static_cast<SnapshotAnswer::Result>(from.result())};
}

// Passes over a field that is not known here.
bool Skip(uint64_t tag, Reader* in) {
  switch (tag & 7) {
    case 0:
      in->Varint();
      return in->ok();
    case 1:
      in->Fixed64();
      return in->ok();
    case 2:
      in->Counted();
      return in->ok();
    case 5:
      in->Fixed32();
      return in->ok();
    default:
      return false;
  }
}

// Before a header is parsed, for what is empty in it takes two bytes there and hundreds in memory: no more than fit in
// a frame by the reckoning of WireSize, which is what SplitFrame goes by.
absl::Status CheckCounts(std::string_view header) {
  constexpr uint64_t kMessages = (pb::RaftFrameHeader::kMessagesFieldNumber << 3) | 2;
  constexpr uint64_t kChunks = (pb::RaftFrameHeader::kSnapshotChunksFieldNumber << 3) | 2;
  constexpr uint64_t kAnswers = (pb::RaftFrameHeader::kSnapshotAnswersFieldNumber << 3) | 2;
  constexpr uint64_t kDigests = (pb::RaftFrameHeader::kDigestsFieldNumber << 3) | 2;
  size_t messages = 0, entries = 0;
  const auto count_entries = [&entries](std::string_view part, uint64_t field) {
    Reader in(part);
    while (in.ok() && !in.empty()) {
      const uint64_t tag = in.Varint();
      entries += tag == ((field << 3) | 2) ? 1 : 0;
      if (!Skip(tag, &in)) return false;
    }
    return in.ok();
  };
  Reader in(header);
  bool whole = true;
  while (whole && in.ok() && !in.empty()) {
    const uint64_t tag = in.Varint();
    if (tag == kMessages || tag == kChunks) {
      ++messages;
      whole = count_entries(in.Counted(), tag == kMessages ? uint64_t{pb::RaftMessage::kEntriesFieldNumber}
                                                           : uint64_t{pb::SnapshotChunk::kEntriesFieldNumber});
    } else {
      messages += tag == kAnswers || tag == kDigests ? 1 : 0;
      whole = Skip(tag, &in);
    }
  }
  if (!whole || !in.ok()) return absl::InvalidArgumentError("a frame whose header is no RaftFrameHeader");
  if (messages > kFrameBytesMax / kMessageOverhead || entries > kFrameBytesMax / kEntryOverhead) {
    return absl::InvalidArgumentError(absl::StrCat("a frame with ", messages, " messages and ", entries,
                                                   " entries; the limits are ", kFrameBytesMax / kMessageOverhead,
                                                   " and ", kFrameBytesMax / kEntryOverhead));
  }
  return absl::OkStatus();
}

// What the payload is made of, in order.
void ForEachBody(const Frame& frame, absl::FunctionRef<void(const Bytes&)> body) {
  for (const GroupMessage& message : frame.messages) {
    for (const Entry& entry : message.message.entries) body(entry.data);
  }
  for (const SnapshotChunk& chunk : frame.chunks) {
    for (const Entry& entry : chunk.entries) body(entry.data);
    body(chunk.rows);
    body(chunk.state);
  }
}

}  // namespace

size_t WireSize(const GroupMessage& message) {
  size_t bytes = kMessageOverhead;
  for (const Entry& entry : message.message.entries) bytes += kEntryOverhead + entry.data.size();
  return bytes;
}

grpc::ByteBuffer EncodeFrame(const Frame& frame) {
  google::protobuf::Arena arena;
  auto* header = google::protobuf::Arena::CreateMessage<pb::RaftFrameHeader>(&arena);
  header->set_wall_ms(frame.wall_ms);
  header->set_incarnation(frame.incarnation);
  header->set_last_synced(frame.last_synced);
  header->set_disk_low(frame.disk_low);
  if (frame.opened.has_value()) header->set_opened(*frame.opened);
  if (frame.heartbeat.has_value()) ToWire(*frame.heartbeat, header->mutable_heartbeat());
  for (const GroupMessage& message : frame.messages) ToWire(message, header->add_messages());
  for (const SnapshotChunk& chunk : frame.chunks) ToWire(chunk, header->add_snapshot_chunks());
  for (const SnapshotAnswer& answer : frame.answers) ToWire(answer, header->add_snapshot_answers());
  for (const StateDigest& digest : frame.digests) ToWire(digest, header->add_digests());
  size_t payload = 0;
  ForEachBody(frame, [&](const Bytes& body) { payload += body.size(); });

  Writer out;
  const std::string header_bytes = header->SerializeAsString();
  out.Varint(kChecksumTag);
  out.Fixed32(Checksum(header_bytes, frame));
  out.Varint(kHeaderTag);
  out.Counted(header_bytes);
  std::vector<grpc::Slice> slices;
  if (payload > 0) {
    out.Varint(kPayloadTag);
    out.Varint(payload);
    ForEachBody(frame, [&](const Bytes& body) {
      if (body.size() < kSpliceFrom) return out.Raw(body.view());
      if (out.size() > 0) slices.push_back(TakeToSlice(out.Take()));
      out = Writer();
      slices.push_back(ToSlice(body));
    });
  }
  if (out.size() > 0) slices.push_back(TakeToSlice(out.Take()));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

absl::StatusOr<Frame> DecodeFrame(const grpc::ByteBuffer& buffer) {
  if (buffer.Length() > kFrameBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", buffer.Length(), " bytes; the limit is ", kFrameBytesMax));
  }
  absl::StatusOr<Bytes> bytes = FromBuffer(buffer);
  if (!bytes.ok()) return bytes.status();

  std::string_view header_bytes;
  Bytes payload_bytes;
  std::optional<uint32_t> checksum;
  Reader in(bytes->view());
  while (in.ok() && !in.empty()) {
    uint64_t tag = in.Varint();
    if (tag == kHeaderTag && header_bytes.empty()) {
      header_bytes = in.Counted();
    } else if (tag == kChecksumTag && !checksum.has_value()) {
      checksum = in.Fixed32();
    } else if (tag == kPayloadTag && payload_bytes.empty()) {
      std::string_view payload = in.Counted();
      if (!payload.empty()) {
        payload_bytes = bytes->Sub(static_cast<size_t>(payload.data() - bytes->data()), payload.size());
      }
    } else if (tag == kHeaderTag || tag == kPayloadTag || tag == kChecksumTag || !Skip(tag, &in)) {
      return absl::InvalidArgumentError(absl::StrCat("a frame with an impossible tag ", tag));
    }
  }
  if (!in.ok()) return absl::InvalidArgumentError("a frame that ends too soon");

  if (absl::Status s = CheckCounts(header_bytes); !s.ok()) return s;
  google::protobuf::Arena arena;
  auto* header = google::protobuf::Arena::CreateMessage<pb::RaftFrameHeader>(&arena);
  if (!header->ParseFromArray(header_bytes.data(), static_cast<int>(header_bytes.size()))) {
    return absl::InvalidArgumentError("a frame whose header is no RaftFrameHeader");
  }
  Frame frame;
  frame.wall_ms = header->wall_ms();
  frame.incarnation = header->incarnation();
  frame.last_synced = header->last_synced();
  frame.disk_low = header->disk_low();
  if (header->has_opened()) frame.opened = header->opened();
  if (header->has_heartbeat()) frame.heartbeat = FromWire(header->heartbeat());
  frame.messages.resize(static_cast<size_t>(header->messages_size()));
  Payload payload(std::move(payload_bytes));
  for (int i = 0; i < header->messages_size(); ++i) {
    absl::Status status = FromWire(header->messages(i), &payload, &frame.messages[static_cast<size_t>(i)]);
    if (!status.ok()) return status;
  }
  // SplitFrame puts one in a frame.
  if (header->snapshot_chunks_size() > kChunksMax) {
    return absl::InvalidArgumentError(absl::StrCat(header->snapshot_chunks_size(), " parts of snapshots in a frame"));
  }
  frame.chunks.resize(static_cast<size_t>(header->snapshot_chunks_size()));
  for (int i = 0; i < header->snapshot_chunks_size(); ++i) {
    absl::Status status = FromWire(header->snapshot_chunks(i), &payload, &frame.chunks[static_cast<size_t>(i)]);
    if (!status.ok()) return status;
  }
  if (!payload.empty()) return absl::InvalidArgumentError("a frame with more payload than its entries have");
  for (const pb::SnapshotAnswer& wire : header->snapshot_answers()) {
    absl::StatusOr<SnapshotAnswer> answer = FromWire(wire);
    if (!answer.ok()) return answer.status();
    frame.answers.push_back(*answer);
  }
  for (const pb::StateDigest& wire : header->digests()) frame.digests.push_back(FromWire(wire));
  if (const uint32_t found = Checksum(header_bytes, frame); checksum != found) {
    return absl::InvalidArgumentError(absl::StrCat("a damaged frame: its checksum is ", found, ", expected ",
                                                   checksum.has_value() ? absl::StrCat(*checksum) : "one"));
  }
  return frame;
}

Lane LaneOf(const Message& message) {
  return message.type == MessageType::kAppend ? Lane::kAppend : Lane::kControl;
}

LaneFrames SplitFrame(Frame frame, size_t bytes_max) {
  LaneFrames split;
  size_t bytes[kLanes] = {};
  if (frame.heartbeat.has_value()) {
    std::vector<Frame>& control = split.lanes[static_cast<size_t>(Lane::kControl)];
    control.push_back(Like(frame));
    control.back().heartbeat = frame.heartbeat;
  }
  for (GroupMessage& message : frame.messages) {
    auto lane = static_cast<size_t>(LaneOf(message.message));
    size_t size = WireSize(message);
    std::vector<Frame>& frames = split.lanes[lane];
    if (frames.empty() || bytes[lane] + size > bytes_max) {
      frames.push_back(Like(frame));
      bytes[lane] = 0;
    }
    bytes[lane] += size;
    frames.back().messages.push_back(std::move(message));
  }
  if (!frame.answers.empty() || !frame.digests.empty()) {
    std::vector<Frame>& control = split.lanes[static_cast<size_t>(Lane::kControl)];
    if (control.empty()) control.push_back(Like(frame));
    control.back().answers = std::move(frame.answers);
    control.back().digests = std::move(frame.digests);
  }
  for (SnapshotChunk& chunk : frame.chunks) {
    std::vector<Frame>& snapshots = split.lanes[static_cast<size_t>(Lane::kSnapshot)];
    snapshots.push_back(Like(frame));
    snapshots.back().chunks.push_back(std::move(chunk));
  }
  return split;
}

}  // namespace trireme::raft
