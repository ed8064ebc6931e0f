// The opaque tokens of Receive, Settle and Extend.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "broker/queue/facts.h"
#include "raft/core/types.h"

namespace trireme::broker {

// What fences one delivery (Safety rule 4): group, subscription, position, and the log index of its checkout.
struct OpaqueToken {
  raft::GroupId group;
  queue::SubscriptionId subscription = 0;
  queue::Token token;  // one slot
};

std::string EncodeToken(const OpaqueToken& token);
// INVALID_ARGUMENT if these bytes were not made by EncodeToken.
absl::StatusOr<OpaqueToken> DecodeToken(std::string_view bytes);

}  // namespace trireme::broker
