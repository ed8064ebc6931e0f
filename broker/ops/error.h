// Statuses that say what they are about, in a form that programs can read.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace trireme::broker {

// A status with a stable reason (UPPER_SNAKE_CASE) and what it is about; empty parts are left out.
struct ErrorFacts {
  absl::string_view reason = {};
  absl::string_view name = {};   // of the queue, the field, ... concerned
  absl::string_view limit = {};  // that was passed, with its unit
};
// The reason that says: nothing was done, because another node is to do it.
inline constexpr absl::string_view kNotLeader = "NOT_LEADER";

absl::Status Error(absl::StatusCode code, const ErrorFacts& facts, absl::string_view message);

// What Error was given; a status that was not made by it has its code as the reason.
struct OwnedErrorFacts {
  std::string reason, name, limit;
};
OwnedErrorFacts FactsOf(const absl::Status& status);

}  // namespace trireme::broker
