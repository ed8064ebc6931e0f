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

absl::Status Bad(const std::string& what) {
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_QUEUE_NAME", .limit = "1 to 255 bytes"}, what);
}

}  // namespace

absl::Status ValidateQueueName(std::string_view name) {
  if (name.empty()) return Bad("queue name \"\" is empty: it takes 1 to 255 bytes");
  if (name.size() > kMaxQueueNameBytes) {
    return Bad(
        absl::StrCat("queue name ", Shown(name), " has ", name.size(), " bytes; the limit is ", kMaxQueueNameBytes));
  }
  for (size_t i = 0; i < name.size(); ++i) {
    if (Allowed(name[i])) continue;
    return Bad(absl::StrCat("queue name ", Shown(name), " has a byte at offset ", i,
                            " that is not a letter, a digit, or one of . _ - : /"));
  }
  if (!absl::ascii_isalnum(static_cast<unsigned char>(name[0]))) {
    return Bad(absl::StrCat("queue name ", Shown(name), " starts with '", std::string(1, name[0]),
                            "'; it must start with a letter or a digit"));
  }
  return absl::OkStatus();
}

}  // namespace trireme::broker
