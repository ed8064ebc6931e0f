// The frame around what the metadata group keeps: version, checksum, an encoded protobuf message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"

namespace trireme::broker {

// The versions that this program knows: 1 to kMetadataVersion. What is written has the lowest that its content needs,
// so that a program of that version can read it.
inline constexpr uint8_t kMetadataVersion = 3;
// From which on there are exchanges and bindings.
inline constexpr uint8_t kVersionOfExchanges = 2;
// From which on nodes and replicas are replaced.
inline constexpr uint8_t kVersionOfReplacements = 3;

inline constexpr size_t kFrameHeaderBytes = 5;
// Byte `version`, CRC-32C of version and message (little-endian), the message.
std::string EncodeFramed(const google::protobuf::MessageLite& message, uint8_t version);

// `what` is for the error. DATA_LOSS: the checksum or the encoding is wrong. UNIMPLEMENTED: a later version than
// kMetadataVersion; the message names it (Safety rule 3).
absl::Status DecodeFramed(std::string_view data, const char* what, google::protobuf::MessageLite* message);

}  // namespace trireme::broker
