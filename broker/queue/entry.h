// A log entry's bytes, which are the disk's and the wire's format: a checked header, then either one batch as its
// producer encoded it, or facts.
//
//   byte version | byte kind | CRC-32C of the rest of the header (fixed32) | header length (varint) | header | batch
//
// The version is that of this layout; what facts mean is versioned by fact::VersionRaised.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/queue/facts.h"
#include "raft/core/bytes.h"
#include "raft/core/coding.h"

namespace trireme::queue {

// `time_ms`: queue time, decided by the leader (Safety rule 7). Batches one behind the other are a batch. One copy of
// each.
raft::Bytes EncodePublished(const fact::Published& published, int64_t time_ms,
                            std::span<const std::string_view> batches);
inline raft::Bytes EncodePublished(const fact::Published& published, int64_t time_ms, std::string_view batch) {
  return EncodePublished(published, time_ms, std::span(&batch, 1));
}
// None of the facts is Published.
raft::Bytes EncodeFacts(std::span<const Fact> facts, int64_t time_ms);
// An entry of several facts is at most this large (Safety rule 17).
inline constexpr size_t kMaxFactsBytes = size_t{256} << 10;
// As many of the facts, from the first on, as go into one entry; and how many those are, at least one.
struct FactsEntryBytes {
  raft::Bytes entry;
  size_t count = 0;
};
FactsEntryBytes EncodeSomeFacts(std::span<const Fact> facts, int64_t time_ms);

// As facts and snapshots hold them.
void EncodeSettings(raft::Writer& out, const SubscriptionSettings& settings);
SubscriptionSettings DecodeSettings(raft::Reader& in);
void EncodeSettings(raft::Writer& out, const QueueSettings& settings);
QueueSettings DecodeQueueSettings(raft::Reader& in);

// An entry, decoded. Shares its memory.
struct DecodedEntry {
  int64_t time_ms = 0;
  std::vector<Fact> facts;
  // With a Published fact, which is then the only one.
  raft::Bytes batch;
};
// DATA_LOSS: the header's checksum is wrong, or it does not parse. UNIMPLEMENTED: a layout or a fact that this version
// does not know; says which version it has and which it met (Safety rule 3).
absl::StatusOr<DecodedEntry> DecodeEntry(const raft::Bytes& entry);

// What the message path wants to know of a published entry, without decoding its facts. Views share the entry's memory.
struct PublishedView {
  int64_t time_ms = 0;
  std::string_view producer;
  uint64_t epoch = 0;
  uint64_t first_sequence = 0;
  uint32_t count = 0;
  std::string_view checksums;  // 4 bytes each
  // Of messages for later: their times.
  std::string_view due = {};
  // Of a release: what it releases.
  std::string_view release = {};
  raft::Bytes batch;

  bool parked() const { return !due.empty(); }
  std::vector<int64_t> due_ms() const;
  Release released() const;

  uint32_t checksum(uint32_t slot) const;
};
// As DecodeEntry; NOT_FOUND if the entry is whole but publishes nothing, or for later only.
absl::StatusOr<PublishedView> DecodePublished(const raft::Bytes& entry);
// Likewise, but with what is for later: whatever has a batch.
absl::StatusOr<PublishedView> DecodeStored(const raft::Bytes& entry);

// Whether the entry is whole: its header, and each message of its batch (Safety rule 17). DATA_LOSS says what is
// damaged. An entry of a later layout passes when its header is whole: it is for apply to stop at.
absl::Status CheckEntry(const raft::Bytes& entry);

// The messages `slots` of a published entry, each checked (Safety rule 17). DATA_LOSS if one is damaged or not there.
absl::StatusOr<raft::Bytes> CheckedMessages(const PublishedView& published, uint32_t from, uint32_t count);

}  // namespace trireme::queue
