#include "broker/ops/error.h"

#include "absl/strings/cord.h"

namespace trireme::broker {
namespace {

constexpr char kReason[] = "trireme/reason", kName[] = "trireme/name", kLimit[] = "trireme/limit";

void Attach(absl::Status& status, const char* key, absl::string_view value) {
  if (!value.empty()) status.SetPayload(key, absl::Cord(value));
}

std::string Attached(const absl::Status& status, const char* key) {
  auto value = status.GetPayload(key);
  return value ? std::string(*value) : std::string();
}

}  // namespace

absl::Status Error(absl::StatusCode code, const ErrorFacts& facts, absl::string_view message) {
  absl::Status status(code, message);
  Attach(status, kReason, facts.reason);
  Attach(status, kName, facts.name);
  Attach(status, kLimit, facts.limit);
  return status;
}

OwnedErrorFacts FactsOf(const absl::Status& status) {
  OwnedErrorFacts facts{Attached(status, kReason), Attached(status, kName), Attached(status, kLimit)};
  if (facts.reason.empty()) facts.reason = absl::StatusCodeToString(status.code());
  return facts;
}

}  // namespace trireme::broker
