// What a broker says of an error beside its words (google.rpc.ErrorInfo), kept with the absl::Status.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace trireme::client {

struct ErrorFacts {
  // UPPER_SNAKE_CASE, as the broker's: QUEUE_NOT_FOUND, NO_CLUSTER, ... Empty: no broker said it.
  std::string reason;
  // The name and the limit concerned; empty where there is none.
  std::string name;
  std::string limit;
};

ErrorFacts FactsOf(const absl::Status& status);
// A broker's words, and not those of a connection or of this client's own clock.
bool SaidByBroker(const absl::Status& status);
// `status` in other words, and perhaps with another code, with what was attached to `from`.
absl::Status WithFacts(absl::StatusCode code, const std::string& message, const absl::Status& from);

absl::Status ToStatus(const grpc::Status& status);

}  // namespace trireme::client
