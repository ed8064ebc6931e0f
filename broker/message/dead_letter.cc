#include "broker/message/dead_letter.h"

#include "broker/message/message.h"
#include "raft/core/coding.h"

namespace trireme::message {
namespace {

void PutTag(raft::Writer& out, uint32_t number, WireType type) {
  out.Varint(uint64_t{number} << 3 | static_cast<uint64_t>(type));
}

void PutHeader(raft::Writer& out, std::string_view name, std::string_view value) {
  raft::Writer entry;
  PutTag(entry, kMapKey, WireType::kCounted);
  entry.Counted(name);
  PutTag(entry, kMapValue, WireType::kCounted);
  entry.Counted(value);
  PutTag(out, kHeaders, WireType::kCounted);
  out.Counted(entry.bytes());
}
void PutText(raft::Writer& out, std::string_view name, std::string_view text) {
  raft::Writer value;
  PutTag(value, kText, WireType::kCounted);
  value.Counted(text);
  PutHeader(out, name, value.bytes());
}
void PutInteger(raft::Writer& out, std::string_view name, int64_t number) {
  raft::Writer value;
  PutTag(value, kInteger, WireType::kVarint);
  value.Signed(number);
  PutHeader(out, name, value.bytes());
}

// The headers lie behind all that the producer wrote, beginning with that of the queue. `begin`: of that one; null:
// there is none, or it is not as written here.
const char* BeginOf(std::string_view message) {
  constexpr std::string_view kOurs = "trireme-dead-";
  const char* begin = nullptr;
  const bool whole = WalkFields(message, [&](const Field& field) {
    std::string_view name;
    Value value;
    const bool header =
        field.number == kHeaders && field.type == WireType::kCounted && ReadHeader(field.contents, &name, &value);
    const bool ours = header && name.substr(0, kOurs.size()) == kOurs;
    if (begin != nullptr && (ours || field.number == kRoutingKey || field.number == kExpiresAtMs)) return true;
    // What is behind them is the producer's, and so are they.
    begin = nullptr;
    if (!ours || name != kDeadQueue) return true;
    raft::Writer before;
    PutTag(before, kHeaders, WireType::kCounted);
    before.Varint(field.contents.size());
    const auto offset = static_cast<size_t>(field.contents.data() - message.data());
    if (offset >= before.size() && message.substr(offset - before.size(), before.size()) == before.bytes())
      begin = field.contents.data() - before.size();
    return true;
  });
  return whole ? begin : nullptr;
}

}  // namespace

std::string_view WithoutDeadLetter(std::string_view message) {
  const char* begin = BeginOf(message);
  return begin == nullptr ? message : message.substr(0, static_cast<size_t>(begin - message.data()));
}

namespace {

// The last one counts.
void PutNoExpiry(raft::Writer& out) {
  PutTag(out, kExpiresAtMs, WireType::kVarint);
  out.Varint(0);
}

}  // namespace

std::string Redriven(std::string_view message) {
  const std::string_view bare = WithoutDeadLetter(message);
  raft::Writer out;
  out.Raw(bare);
  if (ExpiresAtMs(bare) != 0) PutNoExpiry(out);
  return out.Take();
}

uint64_t DeadLetterHops(std::string_view message) {
  int64_t hops = 0;
  const std::string_view headers = message.substr(WithoutDeadLetter(message).size());
  WalkHeaders(headers, [&](std::string_view name, const Value& value) {
    const auto* number = std::get_if<int64_t>(&value);
    if (name == kDeadHops && number != nullptr) hops = *number;
  });
  return hops < 0 ? 0 : static_cast<uint64_t>(hops);
}

std::string_view DeadLetterQueue(std::string_view message) {
  std::string_view queue;
  const std::string_view headers = message.substr(WithoutDeadLetter(message).size());
  WalkHeaders(headers, [&](std::string_view name, const Value& value) {
    const auto* text = std::get_if<std::string_view>(&value);
    if (name == kDeadQueue && text != nullptr) queue = *text;
  });
  return queue;
}

std::string WithDeadLetter(std::string_view message, const DeadLetter& letter) {
  raft::Writer out;
  out.Raw(WithoutDeadLetter(message));
  PutText(out, kDeadQueue, letter.queue);
  PutText(out, kDeadSubscription, letter.subscription);
  PutInteger(out, kDeadPosition, static_cast<int64_t>(letter.position));
  PutText(out, kDeadReason, letter.reason);
  PutInteger(out, kDeadDeliveries, letter.deliveries);
  PutInteger(out, kDeadTime, letter.time_ms);
  PutInteger(out, kDeadHops, static_cast<int64_t>(DeadLetterHops(message) + 1));
  if (!letter.routing_key.empty()) {
    PutTag(out, kRoutingKey, WireType::kCounted);
    out.Counted(letter.routing_key);
  }
  if (ExpiresAtMs(WithoutDeadLetter(message)) != 0) PutNoExpiry(out);
  return out.Take();
}

}  // namespace trireme::message
