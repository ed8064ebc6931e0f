#include "broker/cluster/names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"

namespace trireme::broker {
namespace {

bool Allowed(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("._-:/").find(c) != std::string_view::npos;
}

std::string Shown(std::string_view name) {
  constexpr size_t kShown = 64;
  return absl::StrCat("\"", absl::CHexEscape(absl::string_view(name.data(), std::min(name.size(), kShown))),
                      name.size() > kShown ? "...\"" : "\"");
}

// `what`: "queue", "exchange" or "subscription".
absl::Status Validate(absl::string_view what, absl::string_view reason, std::string_view name) {
  auto bad = [&](absl::string_view why) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = reason, .limit = "1 to 255 bytes"},
                 absl::StrCat(what, " name ", Shown(name), why));
  };
  if (name.empty()) return bad(" is empty: it takes 1 to 255 bytes");
  if (name.size() > kMaxNameBytes) {
    return bad(absl::StrCat(" has ", name.size(), " bytes; the limit is ", kMaxNameBytes));
  }
  for (size_t i = 0; i < name.size(); ++i) {
    if (Allowed(name[i])) continue;
    return bad(absl::StrCat(" has a byte at offset ", i, " that is not a letter, a digit, or one of . _ - : /"));
  }
  if (!absl::ascii_isalnum(static_cast<unsigned char>(name[0]))) {
    return bad(absl::StrCat(" starts with '", std::string(1, name[0]), "'; it must start with a letter or a digit"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateQueueName(std::string_view name) {
  if (name.substr(0, kTemporaryPrefix.size()) == kTemporaryPrefix) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_QUEUE_NAME"},
                 absl::StrCat("queue name ", Shown(name),
                              " is a temporary queue's: the broker gives such names, and no binding leads to such a "
                              "queue; publish to it by its name"));
  }
  return Validate("queue", "BAD_QUEUE_NAME", name);
}

absl::Status ValidateExchangeName(std::string_view name) {
  return Validate("exchange", "BAD_EXCHANGE_NAME", name);
}

absl::Status ValidateSubscriptionName(std::string_view name) {
  return Validate("subscription", "BAD_SUBSCRIPTION_NAME", name);
}

absl::Status NoSuchQueue(const std::string& name) {
  return Error(absl::StatusCode::kNotFound, {.reason = "QUEUE_NOT_FOUND", .name = name},
               absl::StrCat("no queue named \"", name, "\""));
}

absl::Status NoSuchExchange(const std::string& name) {
  return Error(absl::StatusCode::kNotFound, {.reason = "EXCHANGE_NOT_FOUND", .name = name},
               absl::StrCat("no exchange named \"", name, "\""));
}

}  // namespace trireme::broker
