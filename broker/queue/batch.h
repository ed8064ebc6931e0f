// A walk over an encoded trireme.v1.MessageBatch without decoding it. The batch is stored and delivered as the producer
// encoded it, so what is let in here must parse at every consumer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/queue/position.h"

namespace trireme::queue {

struct BatchLimits {
  // Of one message's encoding. 3.5 MiB, so that a stock gRPC client (4 MiB) can receive it.
  size_t message_bytes = 3'670'016;
  // Of a batch with more than one message.
  size_t batch_bytes = size_t{256} << 10;
  uint32_t messages = kMaxBatchMessages;
  // Of Message.key and Message.id.
  size_t name_bytes = 255;
};

// One message within its batch: the record (tag, length and value) and the value alone. A run of consecutive records is
// itself a batch.
struct Record {
  uint32_t offset = 0;
  uint32_t size = 0;
  uint32_t value_offset = 0;
  uint32_t value_size = 0;

  std::string_view Bytes(std::string_view batch) const { return batch.substr(offset, size); }
  std::string_view Value(std::string_view batch) const { return batch.substr(value_offset, value_size); }
};

// Steps over the records. Looks at their frames only, not into the messages; safe on hostile bytes.
//
//   BatchCursor cursor(batch);
//   for (Record r; cursor.Next(&r);) ...
//   if (!cursor.ok()) ...
class BatchCursor {
 public:
  // `batch` is below 4 GiB and outlives the cursor.
  explicit BatchCursor(std::string_view batch) : batch_(batch) {}

  // False at the end, and for good once something was wrong.
  bool Next(Record* record);
  bool ok() const { return ok_; }
  // Where the walk stands: the offset of the next record, or of the damage.
  size_t offset() const { return offset_; }

 private:
  std::string_view batch_;
  size_t offset_ = 0;
  bool ok_ = true;
};

// Whether the batch may be stored: records only; each message well-formed down to its headers (known text is UTF-8, no
// groups, no field 0, lengths that fit; unknown fields are allowed); everything within `limits`. Returns the number of
// messages and, if `checksums` is not null, replaces its content by one CRC-32C per message, of the record's value
// (Safety rule 17). No allocation per message beyond growing that vector.
//
// INVALID_ARGUMENT: empty, malformed, a name too long, too many messages. RESOURCE_EXHAUSTED: a message or the batch
// over its limit. The text names the value and the limit.
absl::StatusOr<uint32_t> CheckBatch(std::string_view batch, const BatchLimits& limits,
                                    std::vector<uint32_t>* checksums);

// The records `first`, ... `first + count - 1` as a batch of their own, sharing the bytes. Empty if they are not there.
std::string_view CutBatch(std::string_view batch, uint32_t first, uint32_t count);

}  // namespace trireme::queue
