#include "broker/api/tokens.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "broker/api/errors.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"

namespace trireme::broker {
namespace {
constexpr uint8_t kVersion = 1;
}

std::string EncodeToken(const OpaqueToken& token) {
  raft::Writer out;
  out.Byte(kVersion);
  out.Varint(token.group.value());
  out.Varint(token.subscription);
  out.Varint(token.token.slots.first.packed());
  out.Varint(token.token.checkout_index);
  out.Fixed32(raft::Crc32c(out.bytes()));
  return out.Take();
}

absl::StatusOr<OpaqueToken> DecodeToken(std::string_view bytes) {
  auto bad = [&] {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_TOKEN"},
                 absl::StrCat("not a token of this broker (", bytes.size(), " bytes, ",
                              absl::BytesToHexString(std::string(bytes.substr(0, 16))), bytes.size() > 16 ? "..." : "",
                              "); pass the bytes of ReceivedMessage.token unchanged"));
  };
  if (bytes.size() < 5 || bytes.size() > 64) return bad();
  raft::Reader in(bytes.substr(0, bytes.size() - 4));
  raft::Reader tail(bytes.substr(bytes.size() - 4));
  if (tail.Fixed32() != raft::Crc32c(bytes.substr(0, bytes.size() - 4)) || in.Byte() != kVersion) return bad();
  OpaqueToken token;
  token.group = raft::GroupId(in.Varint());
  token.subscription = static_cast<queue::SubscriptionId>(in.Varint());
  token.token.slots = {queue::Position(in.Varint()), 1};
  token.token.checkout_index = in.Varint();
  if (!in.done()) return bad();
  return token;
}

}  // namespace trireme::broker
