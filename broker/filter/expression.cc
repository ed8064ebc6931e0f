#include "broker/filter/expression.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "raft/core/check.h"

namespace trireme::filter {
namespace {

using message::Value;
using message::WireType;

constexpr Truth ToTruth(bool value) {
  return value ? Truth::kTrue : Truth::kFalse;
}

constexpr Truth Not(Truth truth) {
  return static_cast<Truth>(2 - static_cast<uint8_t>(truth));
}

bool IsOrdering(Comparison comparison) {
  return comparison != Comparison::kEqual && comparison != Comparison::kNotEqual;
}

Truth Holds(const Value& a, Comparison comparison, const Value& b) {
  const std::partial_ordering order = message::Compare(a, b);
  if (order == std::partial_ordering::unordered) return Truth::kUnknown;
  // Truth values and bytes of unknown meaning are equal or not, and no more.
  if (IsOrdering(comparison) && (std::holds_alternative<bool>(a) || std::holds_alternative<message::Binary>(a))) {
    return Truth::kUnknown;
  }
  switch (comparison) {
    case Comparison::kEqual:
      return ToTruth(order == 0);
    case Comparison::kNotEqual:
      return ToTruth(order != 0);
    case Comparison::kLess:
      return ToTruth(order < 0);
    case Comparison::kLessOrEqual:
      return ToTruth(order <= 0);
    case Comparison::kGreater:
      return ToTruth(order > 0);
    case Comparison::kGreaterOrEqual:
      return ToTruth(order >= 0);
  }
  return Truth::kUnknown;
}

bool IsNumber(uint32_t field) {
  return field == message::kPriority || field == message::kExpiresAtMs || field == message::kDueAtMs;
}

// A field that is not a header, of its own wire type. Zero and empty are how "not set" is encoded; a priority of 0 is
// one.
Value FieldValue(const message::Field& field) {
  if (field.number == message::kPriority) return int64_t{static_cast<uint32_t>(field.integer)};
  if (IsNumber(field.number)) return field.integer == 0 ? Value() : Value(static_cast<int64_t>(field.integer));
  return field.contents.empty() ? Value() : Value(field.contents);
}

}  // namespace

Expression::Expression(std::vector<Node> nodes, std::vector<message::OwnedValue> literals,
                       std::vector<Reference> references)
    : nodes_(std::move(nodes)), literals_(std::move(literals)), references_(std::move(references)) {
  TRIREME_CHECK(!nodes_.empty());
  for (uint32_t i = 0; i < references_.size(); ++i) {
    (references_[i].field == message::kHeaders ? headers_ : fields_).push_back(i);
  }
  std::sort(headers_.begin(), headers_.end(),
            [this](uint32_t a, uint32_t b) { return references_[a].header < references_[b].header; });
}

int Expression::Find(std::string_view header) const {
  auto at = std::partition_point(headers_.begin(), headers_.end(),
                                 [&](uint32_t i) { return references_[i].header < header; });
  return at == headers_.end() || references_[*at].header != header ? -1 : static_cast<int>(*at);
}

Truth Expression::Evaluate(std::string_view encoded) const {
  absl::InlinedVector<Value, 8> values(references_.size());
  for (uint32_t i : fields_) {
    if (references_[i].field == message::kPriority) values[i] = int64_t{0};
  }
  const bool whole = message::WalkFields(encoded, [&](const message::Field& field) {
    if (field.number == message::kBody) return true;
    if (field.number == message::kHeaders && field.type == WireType::kCounted) {
      std::string_view name;
      Value value;
      if (!message::ReadHeader(field.contents, &name, &value)) return false;
      if (const int i = Find(name); i >= 0) values[i] = value;
      return true;
    }
    for (uint32_t i : fields_) {
      if (references_[i].field != field.number) continue;
      // Of another wire type it is unknown to every parser.
      if (field.type == (IsNumber(field.number) ? WireType::kVarint : WireType::kCounted))
        values[i] = FieldValue(field);
    }
    return true;
  });
  if (!whole) return Truth::kUnknown;
  return Evaluate(nodes_.back(), values);
}

Value Expression::ValueOf(Operand operand, Values values) const {
  return operand.literal ? literals_[operand.index].view() : values[operand.index];
}

Truth Expression::Evaluate(const Node& node, Values values) const {
  const Truth truth = EvaluatePlain(node, values);
  return node.negated ? Not(truth) : truth;
}

Truth Expression::EvaluatePlain(const Node& node, Values values) const {
  switch (node.kind) {
    case Node::Kind::kAnd: {
      Truth least = Truth::kTrue;
      for (uint32_t child : node.children) {
        least = std::min(least, Evaluate(nodes_[child], values));
        if (least == Truth::kFalse) break;
      }
      return least;
    }
    case Node::Kind::kOr: {
      Truth greatest = Truth::kFalse;
      for (uint32_t child : node.children) {
        greatest = std::max(greatest, Evaluate(nodes_[child], values));
        if (greatest == Truth::kTrue) break;
      }
      return greatest;
    }
    case Node::Kind::kBoolean: {
      const Value value = ValueOf(node.operands[0], values);
      const bool* boolean = std::get_if<bool>(&value);
      return boolean == nullptr ? Truth::kUnknown : ToTruth(*boolean);
    }
    case Node::Kind::kCompare:
      return Holds(ValueOf(node.operands[0], values), node.comparison, ValueOf(node.operands[1], values));
    case Node::Kind::kBetween: {
      const Value value = ValueOf(node.operands[0], values);
      return std::min(Holds(value, Comparison::kGreaterOrEqual, ValueOf(node.operands[1], values)),
                      Holds(value, Comparison::kLessOrEqual, ValueOf(node.operands[2], values)));
    }
    case Node::Kind::kIn: {
      const Value value = ValueOf(node.operands[0], values);
      Truth greatest = Truth::kFalse;
      for (size_t i = 1; i < node.operands.size() && greatest != Truth::kTrue; ++i) {
        greatest = std::max(greatest, Holds(value, Comparison::kEqual, ValueOf(node.operands[i], values)));
      }
      return greatest;
    }
    case Node::Kind::kLike: {
      const Value value = ValueOf(node.operands[0], values);
      const auto* text = std::get_if<std::string_view>(&value);
      if (text == nullptr || text->size() > kMaxLikeBytes) return Truth::kUnknown;
      return ToTruth(node.pattern.Matches(*text));
    }
    case Node::Kind::kIsNull:
      return ToTruth(message::IsNull(ValueOf(node.operands[0], values)));
  }
  return Truth::kUnknown;
}

}  // namespace trireme::filter
