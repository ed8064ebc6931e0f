// Batches of messages as producers encode them, for tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "raft/core/coding.h"

namespace trireme::queue {

// One record of a MessageBatch with nothing but a body.
inline std::string RecordOf(std::string_view body) {
  raft::Writer message;
  if (!body.empty()) {
    message.Byte(0x0a);  // Message.body
    message.Counted(body);
  }
  raft::Writer record;
  record.Byte(0x0a);  // MessageBatch.messages
  record.Counted(message.bytes());
  return record.Take();
}

inline std::string BatchOf(uint32_t count, std::string_view body = "x") {
  std::string batch;
  for (uint32_t i = 0; i < count; ++i) batch += RecordOf(body);
  return batch;
}

}  // namespace trireme::queue
