// Errors as clients see them: a gRPC status whose details say the reason, the name and the limit.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "broker/ops/error.h"

namespace trireme::broker {

// With google.rpc.ErrorInfo in its details, and back: what another node answered passes on whole.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);
// The ErrorInfo reason of a status that another node answered with; empty if there is none.
std::string ReasonOf(const grpc::Status& status);

// Said by a node that was asked, by another node, for what only the leader can do. Nothing was done.
absl::Status NotLeaderError(absl::string_view queue);

}  // namespace trireme::broker
