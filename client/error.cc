#include "client/error.h"

#include "absl/strings/cord.h"
#include "google/rpc/error.pb.h"

namespace trireme::client {
namespace {

constexpr char kDomain[] = "trireme";
constexpr char kReason[] = "trireme/reason", kName[] = "trireme/name", kLimit[] = "trireme/limit";

std::string Attached(const absl::Status& status, const char* key) {
  const auto value = status.GetPayload(key);
  return value ? std::string(*value) : std::string();
}

void Attach(absl::Status& status, const char* key, const std::string& value) {
  if (!value.empty()) status.SetPayload(key, absl::Cord(value));
}

void Attach(absl::Status& status, const ErrorFacts& facts) {
  Attach(status, kReason, facts.reason);
  Attach(status, kName, facts.name);
  Attach(status, kLimit, facts.limit);
}

}  // namespace

ErrorFacts FactsOf(const absl::Status& status) {
  return {Attached(status, kReason), Attached(status, kName), Attached(status, kLimit)};
}

bool SaidByBroker(const absl::Status& status) {
  return status.GetPayload(kReason).has_value();
}

absl::Status WithFacts(absl::StatusCode code, const std::string& message, const absl::Status& from) {
  absl::Status status(code, message);
  Attach(status, FactsOf(from));
  return status;
}

absl::Status ToStatus(const grpc::Status& status) {
  absl::Status out(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status details;
  if (status.ok() || !details.ParseFromString(status.error_details())) return out;
  for (const auto& any : details.details()) {
    google::rpc::ErrorInfo info;
    if (!any.Is<google::rpc::ErrorInfo>() || !any.UnpackTo(&info) || info.domain() != kDomain) continue;
    const auto of = [&](const char* key) {
      const auto found = info.metadata().find(key);
      return found == info.metadata().end() ? std::string() : found->second;
    };
    Attach(out, {info.reason(), of("name"), of("limit")});
    break;
  }
  return out;
}

}  // namespace trireme::client
