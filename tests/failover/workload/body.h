// What a message's body says of it: who made it, as which of its messages, and that none of its bytes has changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace trireme::failover {

struct BodyName {
  uint32_t producer = 0;
  uint64_t sequence = 0;
};

constexpr size_t kMinBodyBytes = 20;

// `size` bytes, at least kMinBodyBytes: the name, bytes that depend on it, a checksum of all.
std::string MakeBody(const BodyName& name, size_t size);
// DATA_LOSS says what is wrong with it.
absl::StatusOr<BodyName> ReadBody(std::string_view body);

}  // namespace trireme::failover
