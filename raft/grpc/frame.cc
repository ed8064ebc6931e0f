#include "raft/grpc/frame.h"

#include <google/protobuf/arena.h>

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>

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

constexpr uint64_t kHeaderTag = (1 << 3) | 2;
constexpr uint64_t kPayloadTag = (2 << 3) | 2;
constexpr uint64_t kChecksumTag = (3 << 3) | 5;

// Safety rule 17: what commands have of their own, for the rest of a frame.
uint32_t Checksum(std::string_view header, const std::vector<GroupMessage>& messages) {
  uint32_t crc = Crc32c(header);
  for (const GroupMessage& message : messages) {
    for (const Entry& entry : message.message.entries) {
      if (entry.type != EntryType::kCommand) crc = Crc32c(entry.data.view(), crc);
    }
  }
  return crc;
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
  for (const Entry& entry : m.entries) {
    pb::EntryHeader* header = to->add_entries();
    header->set_term(entry.term.value());
    header->set_type(static_cast<uint32_t>(entry.type));
    header->set_size(static_cast<uint32_t>(entry.data.size()));
  }
}

void ToWire(const NodeHeartbeat& from, pb::NodeHeartbeat* to) {
  to->set_sequence(from.sequence);
  to->set_peer_incarnation(from.peer_incarnation);
  to->set_heard(from.heard);
  to->set_promised(from.promised);
  to->set_peer_synced(from.peer_synced);
}

NodeHeartbeat FromWire(const pb::NodeHeartbeat& from) {
  return {.sequence = from.sequence(),
          .peer_incarnation = from.peer_incarnation(),
          .heard = from.heard(),
          .promised = from.promised(),
          .peer_synced = from.peer_synced()};
}

// Of the same sender at the same time, and empty.
Frame Like(const Frame& frame) {
  return {.wall_ms = frame.wall_ms, .incarnation = frame.incarnation, .last_synced = frame.last_synced};
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
    const pb::EntryHeader& header = from.entries(static_cast<int>(i));
    Entry& entry = m.entries[i];
    if (header.type() > static_cast<uint32_t>(EntryType::kConfig)) {
      return absl::InvalidArgumentError(absl::StrCat("an entry of type ", header.type()));
    }
    entry.term = Term(header.term());
    entry.index = ++index;
    entry.type = static_cast<EntryType>(header.type());
    if (!payload->Take(header.size(), &entry.data)) {
      return absl::InvalidArgumentError("entries are longer than the frame's payload");
    }
  }
  return absl::OkStatus();
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
  if (frame.heartbeat.has_value()) ToWire(*frame.heartbeat, header->mutable_heartbeat());
  size_t payload = 0;
  for (const GroupMessage& message : frame.messages) {
    ToWire(message, header->add_messages());
    for (const Entry& entry : message.message.entries) payload += entry.data.size();
  }

  Writer out;
  const std::string header_bytes = header->SerializeAsString();
  out.Varint(kChecksumTag);
  out.Fixed32(Checksum(header_bytes, frame.messages));
  out.Varint(kHeaderTag);
  out.Counted(header_bytes);
  std::vector<grpc::Slice> slices;
  if (payload > 0) {
    out.Varint(kPayloadTag);
    out.Varint(payload);
    for (const GroupMessage& message : frame.messages) {
      for (const Entry& entry : message.message.entries) {
        if (entry.data.size() < kSpliceFrom) {
          out.Raw(entry.data.view());
          continue;
        }
        if (out.size() > 0) slices.push_back(TakeToSlice(out.Take()));
        out = Writer();
        slices.push_back(ToSlice(entry.data));
      }
    }
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

  google::protobuf::Arena arena;
  auto* header = google::protobuf::Arena::CreateMessage<pb::RaftFrameHeader>(&arena);
  if (!header->ParseFromArray(header_bytes.data(), static_cast<int>(header_bytes.size()))) {
    return absl::InvalidArgumentError("a frame whose header is no RaftFrameHeader");
  }
  Frame frame;
  frame.wall_ms = header->wall_ms();
  frame.incarnation = header->incarnation();
  frame.last_synced = header->last_synced();
  if (header->has_heartbeat()) frame.heartbeat = FromWire(header->heartbeat());
  frame.messages.resize(static_cast<size_t>(header->messages_size()));
  Payload payload(std::move(payload_bytes));
  for (int i = 0; i < header->messages_size(); ++i) {
    absl::Status status = FromWire(header->messages(i), &payload, &frame.messages[static_cast<size_t>(i)]);
    if (!status.ok()) return status;
  }
  if (!payload.empty()) return absl::InvalidArgumentError("a frame with more payload than its entries have");
  if (const uint32_t found = Checksum(header_bytes, frame.messages); checksum != found) {
    return absl::InvalidArgumentError(absl::StrCat("a damaged frame: its checksum is ", found, ", expected ",
                                                   checksum.has_value() ? absl::StrCat(*checksum) : "one"));
  }
  return frame;
}

std::string EncodeSnapshotHeader(const GroupMessage& header) {
  pb::RaftMessage wire;
  ToWire(header, &wire);
  return wire.SerializeAsString();
}

absl::StatusOr<GroupMessage> DecodeSnapshotHeader(std::string_view bytes) {
  pb::RaftMessage wire;
  if (!wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::InvalidArgumentError("a snapshot whose header is no RaftMessage");
  }
  if (wire.type() != pb::RAFT_MESSAGE_TYPE_SNAPSHOT || wire.entries_size() > 0) {
    return absl::InvalidArgumentError(absl::StrCat("a snapshot's header of type ", wire.type()));
  }
  std::optional<Membership> membership = DecodeMembership(wire.membership());
  if (!membership) return absl::InvalidArgumentError("a snapshot without the members of its group");
  GroupMessage header;
  FromWire(wire, &header);
  header.message.membership = std::make_shared<const Membership>(*std::move(membership));
  return header;
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
  return split;
}

}  // namespace trireme::raft
