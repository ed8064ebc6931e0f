#include "broker/message/message.h"

#include <bit>
#include <cmath>

namespace trireme::message {
namespace {

std::partial_ordering CompareNumbers(int64_t a, double b) {
  constexpr double kTwoTo63 = 9223372036854775808.0;
  if (std::isnan(b)) return std::partial_ordering::unordered;
  if (b >= kTwoTo63) return std::partial_ordering::less;
  if (b < -kTwoTo63) return std::partial_ordering::greater;
  // Within the integers' range the whole part converts exactly.
  const double whole = std::trunc(b);
  if (auto order = a <=> static_cast<int64_t>(whole); order != 0) return order;
  return whole <=> b;
}

}  // namespace

std::partial_ordering Compare(const Value& a, const Value& b) {
  if (const auto* i = std::get_if<int64_t>(&a)) {
    if (const auto* other = std::get_if<int64_t>(&b)) return *i <=> *other;
    if (const auto* real = std::get_if<double>(&b)) return CompareNumbers(*i, *real);
    return std::partial_ordering::unordered;
  }
  if (const auto* r = std::get_if<double>(&a)) {
    if (const auto* other = std::get_if<double>(&b)) return *r <=> *other;
    if (const auto* integer = std::get_if<int64_t>(&b)) return 0 <=> CompareNumbers(*integer, *r);
    return std::partial_ordering::unordered;
  }
  if (a.index() != b.index()) return std::partial_ordering::unordered;
  if (const auto* text = std::get_if<std::string_view>(&a)) return *text <=> std::get<std::string_view>(b);
  if (const auto* boolean = std::get_if<bool>(&a)) return *boolean <=> std::get<bool>(b);
  if (const auto* binary = std::get_if<Binary>(&a)) return binary->bytes <=> std::get<Binary>(b).bytes;
  return std::partial_ordering::unordered;
}

OwnedValue::OwnedValue(const Value& value) : value_(value) {
  if (const auto* text = std::get_if<std::string_view>(&value)) bytes_ = *text;
  if (const auto* binary = std::get_if<Binary>(&value)) bytes_ = binary->bytes;
}

Value OwnedValue::view() const {
  if (std::holds_alternative<std::string_view>(value_)) return std::string_view(bytes_);
  if (std::holds_alternative<Binary>(value_)) return Binary{bytes_};
  return value_;
}

bool ReadValue(std::string_view encoded, Value* value) {
  return WalkFields(encoded, [value](const Field& field) {
    // A oneof: the last one counts. A field of another wire type is unknown to every parser.
    switch (field.number) {
      case kText:
        if (field.type == WireType::kCounted) *value = field.contents;
        break;
      case kInteger:
        if (field.type == WireType::kVarint) {
          *value = static_cast<int64_t>(field.integer >> 1) ^ -static_cast<int64_t>(field.integer & 1);
        }
        break;
      case kReal:
        if (field.type == WireType::kFixed64) *value = std::bit_cast<double>(field.integer);
        break;
      case kBoolean:
        if (field.type == WireType::kVarint) *value = field.integer != 0;
        break;
      case kBinary:
        if (field.type == WireType::kCounted) *value = Binary{field.contents};
        break;
      default:
        break;
    }
    return true;
  });
}

bool ReadHeader(std::string_view entry, std::string_view* name, Value* value) {
  return WalkFields(entry, [name, value](const Field& field) {
    if (field.type != WireType::kCounted) return true;
    if (field.number == kMapKey) *name = field.contents;
    return field.number != kMapValue || ReadValue(field.contents, value);
  });
}

int64_t ExpiresAtMs(std::string_view message) {
  int64_t at = 0;  // the last one counts
  WalkFields(message, [&](const Field& field) {
    if (field.number == kExpiresAtMs && field.type == WireType::kVarint) at = static_cast<int64_t>(field.integer);
    return true;
  });
  return at;
}

std::string_view RoutingKey(std::string_view message) {
  std::string_view key;
  const bool whole = WalkFields(message, [&key](const Field& field) {
    if (field.number == kRoutingKey && field.type == WireType::kCounted) key = field.contents;
    return true;
  });
  return whole ? key : std::string_view();
}

}  // namespace trireme::message
