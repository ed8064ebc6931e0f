// An encoded trireme.v1.MessageBatch, read without making objects of it: where its messages lie, and whether a
// consumer's parser will take them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "raft/core/bytes.h"

namespace trireme::queue {

struct BatchLimits {
  // Of one message, encoded.
  size_t max_message_bytes = 3'670'016;
  // Of a batch with more than one message.
  size_t max_batch_bytes = size_t{256} << 10;
};
// Of a message's key and id.
inline constexpr size_t kMaxKeyBytes = 255;

// Walks the records of a batch. Never reads past its end, whatever the bytes are.
class BatchWalker {
 public:
  explicit BatchWalker(std::string_view batch) : rest_(batch) {}
  // Goes to the next message; false at the end, or when what follows is no record.
  bool Next();
  // Of the message that Next went to: its encoding, and its record (with tag and length).
  std::string_view message() const { return message_; }
  std::string_view record() const { return record_; }
  // The walk ended where the batch does.
  bool whole() const { return rest_.empty(); }

 private:
  std::string_view rest_, message_, record_;
};

// Checks a producer's batch and gives the CRC-32C of each message's encoding (so their number, too). INVALID_ARGUMENT
// for an empty batch, one that does not parse, or a key or id that is too long; RESOURCE_EXHAUSTED for a message or
// batch above the limits. The message names the value and the limit.
// `expires`, unless null, says whether one of them has a time at which it expires.
absl::StatusOr<std::vector<uint32_t>> CheckBatch(std::string_view batch, const BatchLimits& limits,
                                                 bool* expires = nullptr);

// The messages [from, from + count) as a batch of their own: records lie one behind the other. Empty if there are not
// so many.
raft::Bytes SliceBatch(const raft::Bytes& batch, uint32_t from, uint32_t count);

}  // namespace trireme::queue
