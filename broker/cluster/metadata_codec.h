// The frame around what the metadata group keeps: version, checksum, an encoded protobuf message.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"

namespace trireme::broker {

inline constexpr uint8_t kMetadataVersion = 1;

// Byte `version`, CRC-32C of version and message (little-endian), the message.
std::string EncodeFramed(const google::protobuf::MessageLite& message, uint8_t version = kMetadataVersion);

// `what` is for the error. DATA_LOSS: the checksum or the encoding is wrong. UNIMPLEMENTED: a later version than
// kMetadataVersion; the message names it (Safety rule 3).
absl::Status DecodeFramed(std::string_view data, const char* what, google::protobuf::MessageLite* message);

}  // namespace trireme::broker
