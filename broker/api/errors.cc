#include "broker/api/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error.pb.h"

namespace trireme::broker {
namespace {

constexpr char kReason[] = "trireme/reason", kName[] = "trireme/name", kLimit[] = "trireme/limit";

std::string Payload(const absl::Status& status, const char* key) {
  auto value = status.GetPayload(key);
  return value ? std::string(*value) : std::string();
}

}  // namespace

absl::Status Error(absl::StatusCode code, const ErrorFacts& facts, absl::string_view message) {
  absl::Status status(code, message);
  if (!facts.reason.empty()) status.SetPayload(kReason, absl::Cord(facts.reason));
  if (!facts.name.empty()) status.SetPayload(kName, absl::Cord(facts.name));
  if (!facts.limit.empty()) status.SetPayload(kLimit, absl::Cord(facts.limit));
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  std::string reason = Payload(status, kReason);
  return reason.empty() ? absl::StatusCodeToString(status.code()) : reason;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::ErrorInfo info;
  info.set_reason(ReasonOf(status));
  info.set_domain("trireme");
  if (std::string name = Payload(status, kName); !name.empty()) (*info.mutable_metadata())["name"] = name;
  if (std::string limit = Payload(status, kLimit); !limit.empty()) (*info.mutable_metadata())["limit"] = limit;
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(std::string(status.message()));
  details.add_details()->PackFrom(info);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      details.SerializeAsString());
}

std::string ReasonOf(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return "";
  google::rpc::ErrorInfo info;
  for (const auto& any : details.details()) {
    if (any.Is<google::rpc::ErrorInfo>() && any.UnpackTo(&info)) return info.reason();
  }
  return "";
}

absl::Status NotLeaderError(absl::string_view queue) {
  return Error(absl::StatusCode::kUnavailable, {.reason = kNotLeader, .name = queue},
               absl::StrCat("this node does not lead queue '", queue, "'; nothing was done"));
}

}  // namespace trireme::broker
