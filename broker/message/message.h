// What a trireme.v1.Message holds, and its headers' values.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "broker/message/wire.h"

namespace trireme::message {

// Field numbers: the encoding is the disk format, they never change meaning (proto/trireme/v1/message.proto).
inline constexpr uint32_t kBody = 1, kKey = 2, kId = 3, kHeaders = 4, kExpiresAtMs = 5, kDueAtMs = 6, kPriority = 7,
                          kReplyTo = 8, kCorrelationId = 9, kContentType = 10, kRoutingKey = 11;
// Of an entry of `headers`, which is a protobuf map.
inline constexpr uint32_t kMapKey = 1, kMapValue = 2;
// The kinds of trireme.v1.Value.
inline constexpr uint32_t kText = 1, kInteger = 2, kReal = 3, kBoolean = 4, kBinary = 5;

struct Binary {
  std::string_view bytes;
};

// A header's value. It points into the message, or into the OwnedValue, that it came from. std::monostate: absent, or
// of a kind that this program does not know.
using Value = std::variant<std::monostate, std::string_view, int64_t, double, bool, Binary>;

inline bool IsNull(const Value& value) {
  return value.index() == 0;
}

// Numbers compare by value, exactly, whether integer or real; text and binary bytewise (UTF-8: in the order of code
// points); false before true. Unordered: values of different kinds, NaN, and nulls.
std::partial_ordering Compare(const Value& a, const Value& b);

// A value that holds its own bytes.
class OwnedValue {
 public:
  OwnedValue() = default;
  explicit OwnedValue(const Value& value);
  Value view() const;

 private:
  Value value_;  // of what needs no bytes; of the rest the kind
  std::string bytes_;
};

// Reads an encoded trireme.v1.Value; false if it is none.
bool ReadValue(std::string_view encoded, Value* value);

// Reads one entry of `headers`; false if it is none.
bool ReadHeader(std::string_view entry, std::string_view* name, Value* value);

// Calls visit(name, value) for each header, in the order in which they lie there; a later one replaces an earlier one
// of its name. False if the bytes are no message.
template <typename Visit>
bool WalkHeaders(std::string_view message, Visit visit) {
  return WalkFields(message, [&](const Field& field) {
    if (field.number != kHeaders || field.type != WireType::kCounted) return true;
    std::string_view name;
    Value value;
    if (!ReadHeader(field.contents, &name, &value)) return false;
    visit(name, value);
    return true;
  });
}

// When it is not to be delivered any more, in milliseconds since the Unix epoch; 0: never said.
int64_t ExpiresAtMs(std::string_view message);

// What an exchange routes by; empty if the message has none or is no message.
std::string_view RoutingKey(std::string_view message);

}  // namespace trireme::message
