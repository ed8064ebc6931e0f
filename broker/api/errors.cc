#include "broker/api/errors.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "google/rpc/error.pb.h"

namespace trireme::broker {
namespace {

constexpr char kDomain[] = "trireme", kName[] = "name", kLimit[] = "limit";

std::optional<google::rpc::ErrorInfo> InfoOf(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& any : details.details()) {
    if (any.Is<google::rpc::ErrorInfo>() && any.UnpackTo(&info) && info.domain() == kDomain) return info;
  }
  return std::nullopt;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const OwnedErrorFacts facts = FactsOf(status);
  google::rpc::ErrorInfo info;
  info.set_reason(facts.reason);
  info.set_domain(kDomain);
  if (!facts.name.empty()) (*info.mutable_metadata())[kName] = facts.name;
  if (!facts.limit.empty()) (*info.mutable_metadata())[kLimit] = facts.limit;
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(std::string(status.message()));
  details.add_details()->PackFrom(info);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      details.SerializeAsString());
}

absl::Status FromGrpc(const grpc::Status& status) {
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const std::optional<google::rpc::ErrorInfo> info = InfoOf(status);
  if (!info) return absl::Status(code, status.error_message());
  auto of = [&](const char* key) {
    auto found = info->metadata().find(key);
    return found == info->metadata().end() ? std::string() : found->second;
  };
  const std::string name = of(kName), limit = of(kLimit);
  return Error(code, {.reason = info->reason(), .name = name, .limit = limit}, status.error_message());
}

std::string ReasonOf(const grpc::Status& status) {
  const std::optional<google::rpc::ErrorInfo> info = InfoOf(status);
  return info ? info->reason() : "";
}

absl::Status NotLeaderError(absl::string_view queue) {
  return Error(absl::StatusCode::kUnavailable, {.reason = kNotLeader, .name = queue},
               absl::StrCat("this node does not lead queue '", queue, "'; nothing was done"));
}

}  // namespace trireme::broker
