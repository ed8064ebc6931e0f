// Errors as clients see them: a gRPC status whose details say the reason, the name and the limit.
#pragma once

#include <grpcpp/support/status.h>

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
absl::Status Error(absl::StatusCode code, const ErrorFacts& facts, absl::string_view message);

// The reason of a status made by Error, or one that follows from its code.
std::string ReasonOf(const absl::Status& status);

// With google.rpc.ErrorInfo in its details.
grpc::Status ToGrpc(const absl::Status& status);
// The ErrorInfo reason of a status that another node answered with; empty if there is none.
std::string ReasonOf(const grpc::Status& status);

// Said by a node that was asked, by another node, for what only the leader can do. Nothing was done.
inline constexpr absl::string_view kNotLeader = "NOT_LEADER";
absl::Status NotLeaderError(absl::string_view queue);

}  // namespace trireme::broker
