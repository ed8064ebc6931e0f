#include "tests/filter/twin.h"

#include <array>
#include <cctype>
#include <cstdio>

namespace trireme::filter {
namespace {

using Random = std::mt19937_64;

uint64_t Pick(Random& random, uint64_t n) {
  return random() % n;
}

std::string Blank(Random& random) {
  return std::string(1 + Pick(random, 2), Pick(random, 8) == 0 ? '\n' : ' ');
}

std::string Keyword(Random& random, std::string word) {
  if (Pick(random, 3) == 0) {
    for (char& c : word) c = Pick(random, 2) == 0 ? static_cast<char>(std::tolower(c)) : c;
  }
  return Blank(random) + word + Blank(random);
}

std::string Quoted(const std::string& text, char quote) {
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote) out += c;
    out += c;
  }
  return out + quote;
}

// ---------------------------------------------------------------- values

// Few of them, so that they meet; texts that LIKE has trouble with among them.
const std::vector<std::string> kTexts = {"", "a", "b", "ab", "aab", "a%b", "a_b", "it's", "\u00e9a", "aaaa", "ba"};
const std::vector<double> kReals = {0.0, 1.0, 1.5, -2.25, 9007199254740992.0, 1e300, 9223372036854775808.0};
const std::vector<int64_t> kIntegers = {0, 1, 2, -2, 9007199254740993, INT64_MAX, INT64_MIN};

TwinValue RandomValue(Random& random, bool literal) {
  switch (Pick(random, literal ? 7 : 10)) {
    case 0:
    case 1:
    case 2:
      return kTexts[Pick(random, kTexts.size())];
    case 3:
    case 4:
      return kIntegers[Pick(random, kIntegers.size())];
    case 5:
      return kReals[Pick(random, kReals.size())];
    case 6:
    case 7:
      return Pick(random, 2) == 0;
    case 8:
      return TwinBinary{kTexts[Pick(random, 3)]};
    default:
      return {};
  }
}

// -1, 0, 1; nothing if they do not compare.
std::optional<int> Compare(const TwinValue& a, const TwinValue& b) {
  auto number = [](const TwinValue& v) -> std::optional<long double> {  // holds both kinds exactly
    if (const auto* i = std::get_if<int64_t>(&v)) return static_cast<long double>(*i);
    if (const auto* d = std::get_if<double>(&v)) return static_cast<long double>(*d);
    return std::nullopt;
  };
  static_assert(std::numeric_limits<long double>::digits >= 64);
  if (auto x = number(a), y = number(b); x && y) return *x < *y ? -1 : *x > *y ? 1 : 0;
  if (a.index() != b.index() || a.index() == 0) return std::nullopt;
  auto bytes = [](const TwinValue& v) -> std::optional<std::string> {
    if (const auto* s = std::get_if<std::string>(&v)) return *s;
    if (const auto* s = std::get_if<TwinBinary>(&v)) return s->bytes;
    if (const auto* s = std::get_if<bool>(&v)) return *s ? "1" : "0";
    return std::nullopt;
  };
  if (auto x = bytes(a), y = bytes(b); x && y) return x->compare(*y) < 0 ? -1 : x->compare(*y) > 0 ? 1 : 0;
  return std::nullopt;
}

bool Ordered(const TwinValue& v) {
  return !std::holds_alternative<bool>(v) && !std::holds_alternative<TwinBinary>(v);
}

std::optional<bool> Holds(const TwinValue& a, const std::string& op, const TwinValue& b) {
  std::optional<int> c = Compare(a, b);
  if (!c) return std::nullopt;
  if (op == "=") return *c == 0;
  if (op == "<>" || op == "!=") return *c != 0;
  if (!Ordered(a)) return std::nullopt;
  if (op == "<") return *c < 0;
  if (op == "<=") return *c <= 0;
  if (op == ">") return *c > 0;
  return *c >= 0;
}

std::optional<bool> And(std::optional<bool> a, std::optional<bool> b) {
  if (a == false || b == false) return false;
  if (!a || !b) return std::nullopt;
  return true;
}

std::optional<bool> Not(std::optional<bool> a) {
  if (!a) return a;
  return !*a;
}

// ---------------------------------------------------------------- operands

struct Operand {
  std::string name;  // of a header or field; empty: a literal
  TwinValue literal;

  TwinValue Of(const TwinMessage& message) const {
    if (name.empty()) return literal;
    auto found = message.find(name);
    return found == message.end() ? TwinValue() : found->second;
  }
  std::string Write(Random& random) const {
    if (!name.empty()) {
      const bool needs = name.find('-') != std::string::npos || name == "in";
      return needs || (name.rfind("sys.", 0) != 0 && Pick(random, 4) == 0) ? Quoted(name, '"') : name;
    }
    if (const auto* text = std::get_if<std::string>(&literal)) return Quoted(*text, '\'');
    if (const auto* integer = std::get_if<int64_t>(&literal)) return std::to_string(*integer);
    if (const auto* real = std::get_if<double>(&literal)) {
      std::array<char, 64> out;
      std::snprintf(out.data(), out.size(), "%.17e", *real);
      return out.data();
    }
    return std::get<bool>(literal) ? "TRUE" : "false";
  }
};

const std::vector<std::string> kNames = {"h",   "g", "x-y", "in", "app.v", "sys.key", "sys.priority", "sys.due_at_ms",
                                         "none"};

Operand RandomOperand(Random& random) {
  if (Pick(random, 3) != 0) return {kNames[Pick(random, kNames.size())], {}};
  return {"", RandomValue(random, /*literal=*/true)};
}

// One that may stand where an order is asked for.
Operand RandomOrdered(Random& random) {
  while (true) {
    Operand operand = RandomOperand(random);
    if (!operand.name.empty() || Ordered(operand.literal)) return operand;
  }
}

// ---------------------------------------------------------------- nodes

struct Series final : Twin {
  bool all = false;
  std::vector<std::unique_ptr<Twin>> parts;
  std::optional<bool> Judge(const TwinMessage& m) const override {
    // OR by De Morgan: with AND written once, both are.
    std::optional<bool> out = true;
    for (const auto& part : parts) out = And(out, all ? part->Judge(m) : Not(part->Judge(m)));
    return all ? out : Not(out);
  }
  std::string Write(Random& random) const override {
    std::string out;
    for (const auto& part : parts) {
      if (!out.empty()) out += Keyword(random, all ? "AND" : "OR");
      out += "(" + part->Write(random) + ")";
    }
    return out;
  }
};

struct Negation final : Twin {
  std::unique_ptr<Twin> part;
  std::optional<bool> Judge(const TwinMessage& m) const override { return Not(part->Judge(m)); }
  std::string Write(Random& random) const override { return Keyword(random, "NOT") + "(" + part->Write(random) + ")"; }
};

struct Comparison final : Twin {
  Operand a, b;
  std::string op;
  std::optional<bool> Judge(const TwinMessage& m) const override { return Holds(a.Of(m), op, b.Of(m)); }
  std::string Write(Random& random) const override {
    const std::string blank = Pick(random, 2) == 0 ? "" : Blank(random);
    return a.Write(random) + blank + op + blank + b.Write(random);
  }
};

struct Between final : Twin {
  Operand a, low, high;
  bool negated = false;
  std::optional<bool> Judge(const TwinMessage& m) const override {
    auto in = And(Holds(low.Of(m), "<=", a.Of(m)), Holds(a.Of(m), "<=", high.Of(m)));
    return negated ? Not(in) : in;
  }
  std::string Write(Random& random) const override {
    return a.Write(random) + (negated ? Keyword(random, "NOT") : "") + Keyword(random, "BETWEEN") + low.Write(random) +
           Keyword(random, "AND") + high.Write(random);
  }
};

struct In final : Twin {
  Operand a;
  std::vector<Operand> list;
  bool negated = false;
  std::optional<bool> Judge(const TwinMessage& m) const override {
    std::optional<bool> none = true;
    for (const Operand& one : list) none = And(none, Holds(a.Of(m), "<>", one.Of(m)));
    return negated ? none : Not(none);
  }
  std::string Write(Random& random) const override {
    std::string out = a.Write(random) + (negated ? Keyword(random, "NOT") : "") + Keyword(random, "IN") + "(";
    for (size_t i = 0; i < list.size(); ++i) out += (i > 0 ? "," : "") + list[i].Write(random);
    return out + ")";
  }
};

struct Null final : Twin {
  Operand a;
  bool negated = false;
  std::optional<bool> Judge(const TwinMessage& m) const override { return (a.Of(m).index() == 0) != negated; }
  std::string Write(Random& random) const override {
    return a.Write(random) + Keyword(random, "IS") + (negated ? Keyword(random, "NOT") : "") + Keyword(random, "NULL");
  }
};

struct Boolean final : Twin {
  Operand a;
  std::optional<bool> Judge(const TwinMessage& m) const override {
    const TwinValue value = a.Of(m);
    const bool* boolean = std::get_if<bool>(&value);
    return boolean == nullptr ? std::nullopt : std::optional<bool>(*boolean);
  }
  std::string Write(Random& random) const override { return a.Write(random); }
};

struct Like final : Twin {
  // A literal character, or one of the two that are none.
  struct Piece {
    char wild;  // 0: literal
    std::string character;
  };
  Operand a;
  std::vector<Piece> pattern;
  std::string escape;
  bool negated = false;

  static std::vector<std::string> Characters(const std::string& text) {
    std::vector<std::string> out;
    for (char c : text) {
      if ((static_cast<unsigned char>(c) & 0xc0) == 0x80 && !out.empty()) {
        out.back() += c;
      } else {
        out.emplace_back(1, c);
      }
    }
    return out;
  }
  // By trying everything.
  bool Fits(size_t p, const std::vector<std::string>& text, size_t t) const {
    if (p == pattern.size()) return t == text.size();
    if (pattern[p].wild == '%') return Fits(p + 1, text, t) || (t < text.size() && Fits(p, text, t + 1));
    return t < text.size() && (pattern[p].wild == '_' || pattern[p].character == text[t]) && Fits(p + 1, text, t + 1);
  }
  std::optional<bool> Judge(const TwinMessage& m) const override {
    const TwinValue value = a.Of(m);
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return std::nullopt;
    return Fits(0, Characters(*text), 0) != negated;
  }
  std::string Write(Random& random) const override {
    std::string text;
    for (const Piece& piece : pattern) {
      const bool special = piece.character == "%" || piece.character == "_" || piece.character == escape;
      text += piece.wild != 0 ? std::string(1, piece.wild) : (special ? escape : "") + piece.character;
    }
    std::string out =
        a.Write(random) + (negated ? Keyword(random, "NOT") : "") + Keyword(random, "LIKE") + Quoted(text, '\'');
    if (!escape.empty()) out += Keyword(random, "ESCAPE") + Quoted(escape, '\'');
    return out;
  }
};

std::unique_ptr<Twin> RandomLike(Random& random) {
  auto like = std::make_unique<Like>();
  like->a = RandomOperand(random);
  like->negated = Pick(random, 3) == 0;
  const std::vector<std::string> escapes = {"!", "\\", "\u00e9", "'"};
  like->escape = escapes[Pick(random, escapes.size())];
  const std::vector<std::string> characters = {"a", "a", "b", "%", "_", "\u00e9", "!", "'"};
  for (uint64_t n = Pick(random, 6); n > 0; --n) {
    const uint64_t kind = Pick(random, 4);
    like->pattern.push_back(kind == 0   ? Like::Piece{'%', ""}
                            : kind == 1 ? Like::Piece{'_', ""}
                                        : Like::Piece{0, characters[Pick(random, characters.size())]});
  }
  return like;
}

std::unique_ptr<Twin> RandomTest(Random& random) {
  switch (Pick(random, 6)) {
    case 0: {
      auto boolean = std::make_unique<Boolean>();
      do {
        boolean->a = RandomOperand(random);
      } while (boolean->a.name.empty() && !std::holds_alternative<bool>(boolean->a.literal));
      return boolean;
    }
    case 1: {
      auto between = std::make_unique<Between>();
      between->a = RandomOrdered(random);
      between->low = RandomOrdered(random);
      between->high = RandomOrdered(random);
      between->negated = Pick(random, 3) == 0;
      return between;
    }
    case 2: {
      auto in = std::make_unique<In>();
      in->a = RandomOperand(random);
      for (uint64_t n = 1 + Pick(random, 4); n > 0; --n)
        in->list.push_back({"", RandomValue(random, /*literal=*/true)});
      in->negated = Pick(random, 3) == 0;
      return in;
    }
    case 3: {
      auto null = std::make_unique<Null>();
      null->a = RandomOperand(random);
      null->negated = Pick(random, 2) == 0;
      return null;
    }
    case 4:
      return RandomLike(random);
    default: {
      auto comparison = std::make_unique<Comparison>();
      const std::vector<std::string> ops = {"=", "<>", "!=", "<", "<=", ">", ">="};
      comparison->op = ops[Pick(random, ops.size())];
      const bool ordering = comparison->op[0] == '<' ? comparison->op != "<>" : comparison->op[0] == '>';
      comparison->a = ordering ? RandomOrdered(random) : RandomOperand(random);
      comparison->b = ordering ? RandomOrdered(random) : RandomOperand(random);
      return comparison;
    }
  }
}

}  // namespace

std::unique_ptr<Twin> RandomCondition(Random& random, int depth) {
  const uint64_t kind = depth == 0 ? 9 : Pick(random, 5);
  if (kind == 0) {
    auto negation = std::make_unique<Negation>();
    negation->part = RandomCondition(random, depth - 1);
    return negation;
  }
  if (kind <= 2) {
    auto series = std::make_unique<Series>();
    series->all = kind == 1;
    for (uint64_t n = 1 + Pick(random, 4); n > 0; --n) series->parts.push_back(RandomCondition(random, depth - 1));
    return series;
  }
  return RandomTest(random);
}

TwinMessage RandomMessage(Random& random, trireme::v1::Message* encoded) {
  TwinMessage message;
  message["sys.priority"] = int64_t{0};
  for (const char* name : {"h", "g", "x-y", "in", "app.v", "other"}) {
    if (Pick(random, 3) == 0) continue;
    const TwinValue value = RandomValue(random, /*literal=*/false);
    trireme::v1::Value& header = (*encoded->mutable_headers())[name];
    message[name] = value;
    if (const auto* text = std::get_if<std::string>(&value)) header.set_text(*text);
    if (const auto* integer = std::get_if<int64_t>(&value)) header.set_integer(*integer);
    if (const auto* real = std::get_if<double>(&value)) header.set_real(*real);
    if (const auto* boolean = std::get_if<bool>(&value)) header.set_boolean(*boolean);
    if (const auto* binary = std::get_if<TwinBinary>(&value)) header.set_binary(binary->bytes);
  }
  if (Pick(random, 2) == 0) {
    const std::string key = kTexts[1 + Pick(random, kTexts.size() - 1)];
    encoded->set_key(key);
    message["sys.key"] = key;
  }
  if (Pick(random, 2) == 0) {
    encoded->set_priority(static_cast<uint32_t>(Pick(random, 3)));
    message["sys.priority"] = static_cast<int64_t>(encoded->priority());
  }
  if (Pick(random, 2) == 0) {
    encoded->set_due_at_ms(kIntegers[1 + Pick(random, 6)]);
    message["sys.due_at_ms"] = encoded->due_at_ms();
  }
  encoded->set_body("a body");
  return message;
}

}  // namespace trireme::filter
