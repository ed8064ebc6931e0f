// How keys in RocksDB begin: with the group, and mostly its generation, so that all of either is one range.
#pragma once

#include <cstdint>
#include <string>

#include "raft/core/types.h"

namespace trireme::storage {

// Big-endian, so that bytes are in the order of the numbers.
inline void PutBig(std::string* out, uint64_t v, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out->push_back(static_cast<char>(v >> (8 * i)));
}

inline uint64_t GetBig(const char* p, int bytes) {
  uint64_t v = 0;
  for (int i = 0; i < bytes; ++i) v = v << 8 | static_cast<uint8_t>(p[i]);
  return v;
}

inline std::string GroupKey(raft::GroupId group) {
  std::string key;
  PutBig(&key, group.value(), 8);
  return key;
}

inline constexpr size_t kGenerationKeyBytes = 16;

inline std::string GenerationKey(raft::GroupId group, uint64_t generation) {
  std::string key = GroupKey(group);
  PutBig(&key, generation, 8);
  return key;
}

}  // namespace trireme::storage
