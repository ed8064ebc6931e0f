// What a temporary queue is called: where it lives, so that every node finds it without asking anyone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "raft/core/types.h"

namespace trireme::broker {

// Safety rule 24: "$temp/NODE.INCARNATION/NUMBER". No other queue's name begins with '$'. A node that starts again has
// a higher incarnation, so no name is ever given twice, and one of an earlier incarnation is never taken for a later
// one's.
struct TemporaryName {
  raft::NodeId node;
  uint64_t incarnation = 0;
  // In that incarnation, from 1; below 2^63.
  uint64_t number = 0;

  friend bool operator==(const TemporaryName&, const TemporaryName&) = default;
};

// By its first bytes, whether or not the rest is well-formed.
bool IsTemporary(std::string_view queue);
// Nothing: it is no such name, or is not written as ToString writes it.
std::optional<TemporaryName> ParseTemporaryName(std::string_view queue);
std::string ToString(const TemporaryName& name);

// The group that tokens and requests name. Metadata gives ids from 1 on, and never comes near these.
raft::GroupId GroupOf(const TemporaryName& name);
bool IsTemporary(raft::GroupId group);

// NOT_FOUND with TEMPORARY_QUEUE_GONE; `why` completes "the temporary queue NAME is not there: ...".
absl::Status TemporaryQueueGone(std::string_view queue, std::string_view why);
// INVALID_ARGUMENT.
absl::Status BadTemporaryName(std::string_view queue);

}  // namespace trireme::broker
