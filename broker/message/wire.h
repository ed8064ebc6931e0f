// The fields of an encoded protobuf message, one behind the other.
#pragma once

#include <cstdint>
#include <string_view>

#include "raft/core/coding.h"

namespace trireme::message {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kCounted = 2, kFixed32 = 5 };

struct Field {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t integer = 0;            // of a varint or a fixed one
  std::string_view contents = {};  // of a counted one
};

// Parsers take tags and lengths of at most 5 bytes, however small the number is.
inline bool ReadShortVarint(raft::Reader& in, uint64_t* value) {
  constexpr size_t kMaxBytes = 5;
  const size_t before = in.rest().size();
  *value = in.Varint();
  return in.ok() && before - in.rest().size() <= kMaxBytes;
}

// A length and the bytes.
inline bool ReadCounted(raft::Reader& in, std::string_view* contents) {
  uint64_t size;
  if (!ReadShortVarint(in, &size) || size > in.rest().size()) return false;
  *contents = in.Raw(size);
  return true;
}

// Calls visit(const Field&) for each field in its order; ends early, with false, when visit gives false or the bytes
// are no message. Takes what every protobuf parser takes, but for groups: nobody writes them.
template <typename Visit>
bool WalkFields(std::string_view bytes, Visit visit) {
  constexpr uint64_t kMaxNumber = 0x1fffffff;
  raft::Reader in(bytes);
  while (!in.empty()) {
    uint64_t tag;
    if (!ReadShortVarint(in, &tag)) return false;
    if (tag >> 3 == 0 || tag >> 3 > kMaxNumber) return false;
    Field field{.number = static_cast<uint32_t>(tag >> 3), .type = static_cast<WireType>(tag & 7)};
    switch (field.type) {
      case WireType::kVarint:
        field.integer = in.Varint();
        break;
      case WireType::kFixed64:
        field.integer = in.Fixed64();
        break;
      case WireType::kFixed32:
        field.integer = in.Fixed32();
        break;
      case WireType::kCounted:
        if (!ReadCounted(in, &field.contents)) return false;
        break;
      default:
        return false;
    }
    if (!in.ok() || !visit(static_cast<const Field&>(field))) return false;
  }
  return true;
}

}  // namespace trireme::message
