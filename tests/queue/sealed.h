// Entries and snapshots with a right checksum around any bytes: what a later version, or a liar, would write.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "raft/core/bytes.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"

namespace trireme::queue {

inline constexpr uint8_t kPublishedKind = 1, kFactsKind = 2;

inline raft::Bytes SealedEntry(uint8_t layout, uint8_t kind, std::string_view header, std::string_view batch = "") {
  raft::Writer front, counted;
  front.Byte(layout);
  front.Byte(kind);
  counted.Counted(header);
  front.Fixed32(raft::Crc32c(counted.bytes(), raft::Crc32c(front.bytes())));
  return raft::Bytes::Take(front.Take() + counted.Take() + std::string(batch));
}

inline raft::Bytes SealedSnapshot(std::string_view body) {
  raft::Writer out;
  out.Raw(body);
  out.Fixed32(raft::Crc32c(body));
  return raft::Bytes::Take(out.Take());
}

}  // namespace trireme::queue
