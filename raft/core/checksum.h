// CRC-32C (Castagnoli), with the processor's instruction where it has one.
#pragma once

#include <cstdint>
#include <string_view>

namespace trireme::raft {

// The checksum of `crc`'s bytes followed by `data`; start with 0. The same on every machine.
uint32_t Crc32c(std::string_view data, uint32_t crc = 0);

}  // namespace trireme::raft
