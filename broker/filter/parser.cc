#include "broker/filter/parser.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "broker/filter/filter.h"
#include "broker/filter/lexer.h"

namespace trireme::filter {
namespace {

using Kind = Token::Kind;

constexpr absl::string_view kFieldPrefix = "sys.";
constexpr std::array<std::pair<absl::string_view, uint32_t>, 9> kFields = {{
    {"key", message::kKey},
    {"id", message::kId},
    {"priority", message::kPriority},
    {"content_type", message::kContentType},
    {"correlation_id", message::kCorrelationId},
    {"reply_to", message::kReplyTo},
    {"routing_key", message::kRoutingKey},
    {"expires_at_ms", message::kExpiresAtMs},
    {"due_at_ms", message::kDueAtMs},
}};

std::string Shown(const Token& token) {
  constexpr size_t kShown = 32;
  const std::string text =
      absl::Utf8SafeCHexEscape(token.text.substr(0, kShown)) + (token.text.size() > kShown ? "..." : "");
  switch (token.kind) {
    case Kind::kEnd:
      return "the end";
    case Kind::kText:
      return absl::StrCat("the text '", text, "'");
    case Kind::kQuotedName:
      return absl::StrCat("the name \"", text, "\"");
    default:
      return text;
  }
}

// One pass, by recursive descent; what is wrong first is kept in error_, and ends it.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text), lexer_(text) { Advance(); }

  absl::StatusOr<Expression> Parse() {
    Condition(0);
    if (error_.ok() && token_.kind != Kind::kEnd)
      Wrong(absl::StrCat("expected AND, OR or the end, not ", Shown(token_)));
    if (!error_.ok()) return error_;
    // A node is added after all that it holds, so the root is the last.
    return Expression(std::move(nodes_), std::move(literals_), std::move(references_));
  }

 private:
  // Nodes' numbers; of no meaning once error_ is set.
  uint32_t Condition(int nesting) {
    return Series(Node::Kind::kOr, "OR", [this, nesting] { return Term(nesting); });
  }
  uint32_t Term(int nesting) {
    return Series(Node::Kind::kAnd, "AND", [this, nesting] { return Factor(nesting); });
  }

  template <typename Part>
  uint32_t Series(Node::Kind kind, std::string_view keyword, Part part) {
    const uint32_t first = part();
    if (!IsKeyword(keyword)) return first;
    Node node{.kind = kind, .children = {first}};
    while (error_.ok() && TakeKeyword(keyword)) node.children.push_back(part());
    return Add(std::move(node));
  }

  uint32_t Factor(int nesting) {
    if (!IsKeyword("NOT") && !IsSymbol("(")) return Test();
    if (nesting >= kMaxNesting) {
      Wrong(absl::StrCat("parentheses and NOTs nest more than ", kMaxNesting, " deep"));
      return 0;
    }
    if (TakeKeyword("NOT")) {
      const uint32_t inner = Factor(nesting + 1);
      if (error_.ok()) nodes_[inner].negated = !nodes_[inner].negated;
      return inner;
    }
    TakeSymbol("(");
    const uint32_t inner = Condition(nesting + 1);
    if (error_.ok() && !TakeSymbol(")")) Wrong(absl::StrCat("expected ')', not ", Shown(token_)));
    return inner;
  }

  uint32_t Test() {
    Node node{.kind = Node::Kind::kBoolean};
    const Token first = token_;
    node.operands.push_back(ParseOperand());
    if (!error_.ok()) return 0;
    if (std::optional<Comparison> comparison = TakeComparison()) return Compared(std::move(node), first, *comparison);
    if (TakeKeyword("IS")) {
      node.kind = Node::Kind::kIsNull;
      node.negated = TakeKeyword("NOT");
      if (!TakeKeyword("NULL")) Wrong(absl::StrCat("expected NULL, not ", Shown(token_)));
      return Add(std::move(node));
    }
    node.negated = TakeKeyword("NOT");
    if (TakeKeyword("BETWEEN")) return Between(std::move(node), first);
    if (TakeKeyword("IN")) return In(std::move(node));
    if (TakeKeyword("LIKE")) return Like(std::move(node));
    if (node.negated) {
      Wrong(absl::StrCat("expected BETWEEN, IN or LIKE, not ", Shown(token_)));
    } else if (node.operands[0].literal && !IsBoolean(first)) {
      Wrong(absl::StrCat("expected a comparison after ", Shown(first), ", not ", Shown(token_)));
    }
    return Add(std::move(node));
  }

  uint32_t Compared(Node node, const Token& left, Comparison comparison) {
    node.kind = Node::Kind::kCompare;
    node.comparison = comparison;
    const Token right = token_;
    node.operands.push_back(ParseOperand());
    if (comparison != Comparison::kEqual && comparison != Comparison::kNotEqual) {
      RefuseBoolean(left);
      RefuseBoolean(right);
    }
    return Add(std::move(node));
  }

  uint32_t Between(Node node, const Token& first) {
    node.kind = Node::Kind::kBetween;
    const Token low = token_;
    node.operands.push_back(ParseOperand());
    if (error_.ok() && !TakeKeyword("AND")) Wrong(absl::StrCat("expected BETWEEN's AND, not ", Shown(token_)));
    const Token high = token_;
    if (error_.ok()) node.operands.push_back(ParseOperand());
    for (const Token* token : {&first, &low, &high}) RefuseBoolean(*token);
    return Add(std::move(node));
  }

  uint32_t In(Node node) {
    node.kind = Node::Kind::kIn;
    if (!TakeSymbol("(")) Wrong(absl::StrCat("expected IN's '(', not ", Shown(token_)));
    do {
      if (error_.ok()) node.operands.push_back(ParseLiteral());
    } while (error_.ok() && TakeSymbol(","));
    if (error_.ok() && !TakeSymbol(")")) Wrong(absl::StrCat("expected ',' or ')' in IN's list, not ", Shown(token_)));
    return Add(std::move(node));
  }

  uint32_t Like(Node node) {
    node.kind = Node::Kind::kLike;
    const Token pattern = token_;
    if (pattern.kind != Kind::kText)
      Wrong(absl::StrCat("expected LIKE's pattern in single quotes, not ", Shown(token_)));
    Advance();
    std::string escape;
    if (error_.ok() && TakeKeyword("ESCAPE")) {
      escape = token_.text;
      if (token_.kind != Kind::kText || escape.empty() || CharacterBytes(escape) != escape.size()) {
        Wrong(absl::StrCat("expected one character in single quotes after ESCAPE, not ", Shown(token_)));
      }
      Advance();
    }
    if (!error_.ok()) return 0;
    if (std::optional<size_t> bad = LikePattern::FindBadEscape(pattern.text, escape)) {
      // Quotes in the text before it stand there twice.
      const auto quotes = std::count(pattern.text.begin(), pattern.text.begin() + static_cast<ptrdiff_t>(*bad), '\'');
      WrongAt(pattern.offset + 1 + *bad + static_cast<size_t>(quotes),
              "the escape character must stand before %, _ or itself");
    }
    node.pattern = LikePattern(pattern.text, escape);
    return Add(std::move(node));
  }

  Operand ParseOperand() {
    if (token_.kind != Kind::kName && token_.kind != Kind::kQuotedName) return ParseLiteral();
    Reference reference{.header = token_.text};
    if (token_.kind == Kind::kName && absl::StartsWithIgnoreCase(token_.text, kFieldPrefix)) {
      const std::string name = token_.text.substr(kFieldPrefix.size());
      const auto* field = std::find_if(kFields.begin(), kFields.end(), [&](const auto& f) { return f.first == name; });
      if (field == kFields.end()) {
        std::string known;
        for (const auto& [n, number] : kFields) absl::StrAppend(&known, known.empty() ? "" : ", ", n);
        Wrong(absl::StrCat("a message has no field ", Shown(token_), "; it has ", kFieldPrefix, known));
        return {};
      }
      reference = {.field = field->second};
    }
    Advance();
    auto there = std::find(references_.begin(), references_.end(), reference);
    const auto index = static_cast<uint32_t>(there - references_.begin());
    if (there == references_.end()) references_.push_back(std::move(reference));
    return {.literal = false, .index = index};
  }

  Operand ParseLiteral() {
    const bool minus = TakeSymbol("-");
    message::Value value;
    if (token_.kind == Kind::kInteger) {
      constexpr uint64_t kTwoTo63 = uint64_t{1} << 63;
      if (token_.integer == kTwoTo63 && !minus) Wrong("an integer is beyond 64 bits");
      value = static_cast<int64_t>(minus ? uint64_t{0} - token_.integer : token_.integer);
    } else if (token_.kind == Kind::kReal) {
      value = minus ? -token_.real : token_.real;
    } else if (minus) {
      Wrong(absl::StrCat("expected a number after '-', not ", Shown(token_)));
    } else if (token_.kind == Kind::kText) {
      value = std::string_view(token_.text);
    } else if (IsBoolean(token_)) {
      value = token_.text == "TRUE";
    } else if (IsKeyword("NULL")) {
      Wrong("nothing equals NULL; ask with IS NULL or IS NOT NULL");
    } else {
      Wrong(absl::StrCat("expected a name or a value, not ", Shown(token_)));
    }
    literals_.emplace_back(value);
    Advance();
    return {.literal = true, .index = static_cast<uint32_t>(literals_.size() - 1)};
  }

  std::optional<Comparison> TakeComparison() {
    constexpr std::array<std::pair<std::string_view, Comparison>, 6> kComparisons = {{
        {"=", Comparison::kEqual},
        {"<>", Comparison::kNotEqual},
        {"<", Comparison::kLess},
        {"<=", Comparison::kLessOrEqual},
        {">", Comparison::kGreater},
        {">=", Comparison::kGreaterOrEqual},
    }};
    for (const auto& [symbol, comparison] : kComparisons) {
      if (TakeSymbol(symbol)) return comparison;
    }
    return std::nullopt;
  }

  static bool IsBoolean(const Token& token) {
    return token.kind == Kind::kKeyword && (token.text == "TRUE" || token.text == "FALSE");
  }
  void RefuseBoolean(const Token& token) {
    if (IsBoolean(token)) WrongAt(token.offset, "TRUE and FALSE have no order; compare them with = or <>");
  }
  bool IsKeyword(std::string_view keyword) const { return token_.kind == Kind::kKeyword && token_.text == keyword; }
  bool IsSymbol(std::string_view symbol) const { return token_.kind == Kind::kSymbol && token_.text == symbol; }
  bool TakeKeyword(std::string_view keyword) {
    if (!IsKeyword(keyword)) return false;
    Advance();
    return true;
  }
  bool TakeSymbol(std::string_view symbol) {
    if (!IsSymbol(symbol)) return false;
    Advance();
    return true;
  }

  void Advance() {
    absl::StatusOr<Token> next = lexer_.Next();
    if (next.ok()) {
      token_ = *std::move(next);
    } else {
      error_.Update(next.status());
      token_ = Token{.kind = Kind::kEnd, .offset = text_.size()};
    }
  }

  uint32_t Add(Node node) {
    nodes_.push_back(std::move(node));
    return static_cast<uint32_t>(nodes_.size() - 1);
  }

  void Wrong(std::string_view what) { WrongAt(token_.offset, what); }
  void WrongAt(size_t offset, std::string_view what) { error_.Update(SyntaxError(text_, offset, what)); }

  const std::string_view text_;
  Lexer lexer_;
  Token token_;
  absl::Status error_;
  std::vector<Node> nodes_;
  std::vector<message::OwnedValue> literals_;
  std::vector<Reference> references_;
};

}  // namespace

absl::StatusOr<Expression> ParseExpression(std::string_view text) {
  if (text.size() > kMaxFilterBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the filter has ", text.size(), " bytes; the limit is ", kMaxFilterBytes));
  }
  return Parser(text).Parse();
}

}  // namespace trireme::filter
