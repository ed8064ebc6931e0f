// Batches of messages as producers encode them, for tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "raft/core/coding.h"

namespace trireme::queue {

// One record of a MessageBatch with nothing but a body, and a time at which it expires.
inline std::string RecordOf(std::string_view body, int64_t expires_at_ms = 0) {
  raft::Writer message;
  if (!body.empty()) {
    message.Byte(0x0a);  // Message.body
    message.Counted(body);
  }
  if (expires_at_ms != 0) {
    message.Byte(0x28);  // Message.expires_at_ms
    message.Varint(static_cast<uint64_t>(expires_at_ms));
  }
  raft::Writer record;
  record.Byte(0x0a);  // MessageBatch.messages
  record.Counted(message.bytes());
  return record.Take();
}

inline std::string BatchOf(uint32_t count, std::string_view body = "x", int64_t expires_at_ms = 0) {
  std::string batch;
  for (uint32_t i = 0; i < count; ++i) batch += RecordOf(body, expires_at_ms);
  return batch;
}

}  // namespace trireme::queue
