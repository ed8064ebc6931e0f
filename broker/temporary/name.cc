#include "broker/temporary/name.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "broker/cluster/names.h"
#include "broker/ops/error.h"

namespace trireme::broker {
namespace {

constexpr std::string_view kPrefix = kTemporaryPrefix;
constexpr uint64_t kTemporaryGroups = uint64_t{1} << 63;
// Of a name that a client made up, as far as an error shows it.
constexpr size_t kShownBytes = 64;

absl::string_view View(std::string_view text) {
  return {text.data(), text.size()};
}

// Up to `end`, which is passed over.
bool TakeNumber(std::string_view& rest, char end, uint64_t* number) {
  const size_t at = end == 0 ? rest.size() : rest.find(end);
  if (at == std::string_view::npos || !absl::SimpleAtoi(View(rest.substr(0, at)), number)) return false;
  rest.remove_prefix(end == 0 ? at : at + 1);
  return true;
}

}  // namespace

bool IsTemporary(std::string_view queue) {
  return queue.substr(0, kPrefix.size()) == kPrefix;
}

std::optional<TemporaryName> ParseTemporaryName(std::string_view queue) {
  if (!IsTemporary(queue)) return std::nullopt;
  std::string_view rest = queue.substr(kPrefix.size());
  uint64_t node = 0;
  TemporaryName name;
  if (!TakeNumber(rest, '.', &node) || !TakeNumber(rest, '/', &name.incarnation) || !TakeNumber(rest, 0, &name.number))
    return std::nullopt;
  name.node = raft::NodeId(node);
  // One name for one queue: no signs, blanks or leading zeros.
  if (name.number == 0 || name.number >= kTemporaryGroups || ToString(name) != queue) return std::nullopt;
  return name;
}

std::string ToString(const TemporaryName& name) {
  return absl::StrCat(View(kPrefix), name.node.value(), ".", name.incarnation, "/", name.number);
}

raft::GroupId GroupOf(const TemporaryName& name) {
  return raft::GroupId(kTemporaryGroups | name.number);
}

bool IsTemporary(raft::GroupId group) {
  return group.value() >= kTemporaryGroups;
}

absl::Status TemporaryQueueGone(std::string_view queue, std::string_view why) {
  return Error(absl::StatusCode::kNotFound, {.reason = "TEMPORARY_QUEUE_GONE", .name = View(queue)},
               absl::StrCat("the temporary queue ", View(queue), " is not there: ", View(why)));
}

absl::Status BadTemporaryName(std::string_view queue) {
  const bool cut = queue.size() > kShownBytes;
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_QUEUE_NAME"},
               absl::StrCat("queue name \"", absl::CHexEscape(View(queue.substr(0, kShownBytes))), cut ? "..." : "",
                            "\" begins as a temporary queue's and is none; the broker gives such names, as "
                            "$temp/NODE.INCARNATION/NUMBER"));
}

}  // namespace trireme::broker
