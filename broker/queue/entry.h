// A queue's log entry as bytes: what the disk holds and what replicas exchange.
//
//   version   1 byte    the version of facts that a reader must know
//   kind      1 byte
//   checksum  4 bytes   CRC-32C of version, kind, and everything behind it up to the end of the header
//   length    varint    of the header, which begins right behind
//   header              queue time (signed varint), then:
//     kPublished        producer, epoch, first sequence, count, size of the batch, a CRC-32C per message
//     kFacts            a count and the facts
//   batch               kPublished only: the producer's bytes, to the end of the entry
//
// Safety rules 3 and 17.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/queue/facts.h"
#include "raft/core/bytes.h"

namespace trireme::queue {

enum class EntryKind : uint8_t { kPublished = 1, kFacts = 2 };

// An entry with its header read, and the rest still as it lies. Views into the entry's bytes.
struct EntryView {
  EntryKind kind = EntryKind::kFacts;
  // Queue time at the leader when it appended, in milliseconds since the Unix epoch.
  int64_t time_ms = 0;

  // kPublished:
  std::string_view producer;
  uint64_t epoch = 0;
  uint64_t first_sequence = 0;
  uint32_t count = 0;
  std::string_view checksums;  // 4 little-endian bytes per message
  std::string_view batch;

  // kFacts: the encoded list.
  std::string_view facts;

  // Of message `i`, which must be below count.
  uint32_t checksum(uint32_t i) const;
};

// An entry decoded whole.
struct DecodedEntry {
  int64_t time_ms = 0;
  // One Published, or any number of others.
  std::vector<Fact> facts;
  // With Published only. A view into the entry's bytes.
  std::string_view batch;
};

// One contiguous buffer with one copy of the batch. `fact` as CheckBatch gave its count and checksums.
raft::Bytes EncodePublished(const fact::Published& fact, int64_t time_ms, std::string_view batch);
// `facts` holds no Published and at least one fact.
raft::Bytes EncodeFacts(std::span<const Fact> facts, int64_t time_ms);
// About how many bytes EncodeFacts spends on a fact; never less than it does.
size_t EncodedSizeBound(const Fact& fact);

// Reads and verifies the header, not the messages. Cheap: proportional to the header.
// FAILED_PRECONDITION: of a later version than this program knows; the text says which one it needs (Safety rule 3).
// DATA_LOSS: damaged.
absl::StatusOr<EntryView> DecodeHeader(std::string_view entry);

// The facts of an entry of kind kFacts, in place of what `facts` held. Errors as above; then `facts` is unspecified.
absl::Status DecodeFacts(const EntryView& entry, std::vector<Fact>* facts);

// Everything. Errors as above.
absl::StatusOr<DecodedEntry> Decode(std::string_view entry);

// Whether the entry is whole: the header's checksum and that of every message (Safety rule 17). Asked before a follower
// persists and before a consumer is served. An empty entry (a new leader's first) is whole.
absl::Status CheckEntry(std::string_view entry);

}  // namespace trireme::queue
