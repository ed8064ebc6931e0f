// A parsed condition: a small tree in one vector, and what it refers to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "broker/filter/like.h"
#include "broker/message/message.h"

namespace trireme::filter {

// In this order AND is the least of its terms, OR the greatest, and NOT turns it round.
enum class Truth : uint8_t { kFalse = 0, kUnknown = 1, kTrue = 2 };

enum class Comparison : uint8_t { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual };

// What a name in the text stands for: the header of that name, or the message's field of that number.
struct Reference {
  uint32_t field = message::kHeaders;
  std::string header = {};  // with kHeaders

  friend bool operator==(const Reference&, const Reference&) = default;
};

// An index into Expression::literals or Expression::references.
struct Operand {
  bool literal = false;
  uint32_t index = 0;
};

struct Node {
  enum class Kind : uint8_t { kAnd, kOr, kBoolean, kCompare, kBetween, kIn, kLike, kIsNull };
  Kind kind = Kind::kAnd;
  // NOT, of the whole node.
  bool negated = false;
  Comparison comparison = Comparison::kEqual;  // kCompare
  // kAnd, kOr: of nodes, all with lower indices than this one's.
  std::vector<uint32_t> children = {};
  // The rest: kBoolean, kLike, kIsNull 1; kCompare 2; kBetween 3; kIn the value and the list.
  std::vector<Operand> operands = {};
  LikePattern pattern = {};  // kLike
};

class Expression {
 public:
  // The last node is the root; there is one at least. `references` are different from each other.
  Expression(std::vector<Node> nodes, std::vector<message::OwnedValue> literals, std::vector<Reference> references);

  Truth Evaluate(std::string_view message) const;

 private:
  using Values = absl::Span<const message::Value>;

  Truth Evaluate(const Node& node, Values values) const;
  Truth EvaluatePlain(const Node& node, Values values) const;
  message::Value ValueOf(Operand operand, Values values) const;
  // Which of references_ a header's name is, or -1.
  int Find(std::string_view header) const;

  std::vector<Node> nodes_;
  std::vector<message::OwnedValue> literals_;
  std::vector<Reference> references_;
  std::vector<uint32_t> headers_;  // those of references_ that are headers, by name
  std::vector<uint32_t> fields_;   // the others
};

}  // namespace trireme::filter
