#include "broker/filter/lexer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace trireme::filter {
namespace {

constexpr std::array<std::string_view, 11> kKeywords = {"AND",  "BETWEEN", "ESCAPE", "FALSE", "IN",  "IS",
                                                        "LIKE", "NOT",     "NULL",   "OR",    "TRUE"};

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

bool StartsName(char c) {
  return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$';
}

bool IsBlank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

}  // namespace

absl::Status SyntaxError(std::string_view text, size_t offset, std::string_view what) {
  size_t column = 1;
  for (char c : text.substr(0, offset)) column += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return absl::InvalidArgumentError(
      absl::StrCat("filter, column ", column, ": ", absl::string_view(what.data(), what.size())));
}

absl::StatusOr<Token> Lexer::Next() {
  while (at_ < text_.size() && IsBlank(text_[at_])) ++at_;
  if (at_ == text_.size()) return Token{.kind = Token::Kind::kEnd, .offset = at_};
  const char c = text_[at_];
  if (c == '\'' || c == '"') return Quoted(c);
  if (StartsName(c)) return Word();
  if (IsDigit(c) || (c == '.' && at_ + 1 < text_.size() && IsDigit(text_[at_ + 1]))) return Number();
  return Symbol();
}

absl::StatusOr<Token> Lexer::Quoted(char quote) {
  Token token{.kind = quote == '"' ? Token::Kind::kQuotedName : Token::Kind::kText, .offset = at_};
  for (size_t i = at_ + 1; i < text_.size(); ++i) {
    if (text_[i] != quote) {
      token.text += text_[i];
    } else if (i + 1 < text_.size() && text_[i + 1] == quote) {
      token.text += text_[i++];
    } else {
      at_ = i + 1;
      if (quote == '"' && token.text.empty()) return SyntaxError(text_, token.offset, "a header's name is empty");
      return token;
    }
  }
  return SyntaxError(
      text_, token.offset,
      quote == '"' ? "a name that starts here has no closing \"" : "a text that starts here has no closing '");
}

absl::StatusOr<Token> Lexer::Number() {
  Token token{.kind = Token::Kind::kInteger, .offset = at_};
  size_t end = at_;
  auto digits = [&] {
    while (end < text_.size() && IsDigit(text_[end])) ++end;
  };
  digits();
  if (end < text_.size() && text_[end] == '.') {
    token.kind = Token::Kind::kReal;
    ++end;
    digits();
  }
  if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
    token.kind = Token::Kind::kReal;
    ++end;
    if (end < text_.size() && (text_[end] == '+' || text_[end] == '-')) ++end;
    if (end == text_.size() || !IsDigit(text_[end])) {
      return SyntaxError(text_, at_, "a number's exponent has no digits");
    }
    digits();
  }
  if (end < text_.size() && (StartsName(text_[end]) || text_[end] == '.')) {
    return SyntaxError(text_, end, "a number goes on with something that is no digit");
  }
  token.text = std::string(text_.substr(at_, end - at_));
  at_ = end;
  if (token.kind == Token::Kind::kInteger) {
    constexpr uint64_t kTwoTo63 = uint64_t{1} << 63;
    if (!absl::SimpleAtoi(token.text, &token.integer) || token.integer > kTwoTo63) {
      return SyntaxError(text_, token.offset, "an integer is beyond 64 bits");
    }
  } else if (!absl::SimpleAtod(token.text, &token.real) || !std::isfinite(token.real)) {
    return SyntaxError(text_, token.offset, "a number is beyond what a real holds");
  }
  return token;
}

Token Lexer::Word() {
  Token token{.kind = Token::Kind::kName, .offset = at_};
  size_t end = at_;
  while (end < text_.size() && (StartsName(text_[end]) || IsDigit(text_[end]) || text_[end] == '.')) ++end;
  token.text = std::string(text_.substr(at_, end - at_));
  at_ = end;
  std::string upper = absl::AsciiStrToUpper(token.text);
  if (std::find(kKeywords.begin(), kKeywords.end(), upper) != kKeywords.end()) {
    token.kind = Token::Kind::kKeyword;
    token.text = std::move(upper);
  }
  return token;
}

absl::StatusOr<Token> Lexer::Symbol() {
  Token token{.kind = Token::Kind::kSymbol, .offset = at_};
  const std::string_view rest = text_.substr(at_);
  for (std::string_view symbol : {"<>", "<=", ">=", "!=", "=", "<", ">", "(", ")", ",", "-"}) {
    if (rest.substr(0, symbol.size()) != symbol) continue;
    at_ += symbol.size();
    token.text = std::string(symbol == "!=" ? "<>" : symbol);
    return token;
  }
  size_t end = 1;
  while (end < rest.size() && (static_cast<unsigned char>(rest[end]) & 0xc0) == 0x80) ++end;
  return SyntaxError(
      text_, at_,
      absl::StrCat(
          "'", absl::Utf8SafeCHexEscape(absl::string_view(rest.data(), end)),
          "' has no meaning here; names with other characters than letters, digits, _ $ . go in double quotes"));
}

}  // namespace trireme::filter
