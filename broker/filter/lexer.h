// The words of a filter's text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme::filter {

struct Token {
  enum class Kind : uint8_t {
    kEnd,
    kKeyword,     // `text` in upper case
    kName,        // `text` as written
    kQuotedName,  // `text` without its quotes
    kText,        // `text` without its quotes
    kInteger,
    kReal,
    kSymbol,  // `text`: = <> < <= > >= ( ) , -
  };
  Kind kind = Kind::kEnd;
  size_t offset = 0;  // where it starts, in bytes
  std::string text = {};
  uint64_t integer = 0;  // a number is without sign; up to 2^63, which a minus may turn into the least integer
  double real = 0;
};

// INVALID_ARGUMENT, at a column that counts characters from 1.
absl::Status SyntaxError(std::string_view text, size_t offset, std::string_view what);

class Lexer {
 public:
  // `text` outlives the lexer.
  explicit Lexer(std::string_view text) : text_(text) {}
  // The next token; kEnd for ever at the end.
  absl::StatusOr<Token> Next();

 private:
  absl::StatusOr<Token> Quoted(char quote);
  absl::StatusOr<Token> Number();
  Token Word();
  absl::StatusOr<Token> Symbol();

  const std::string_view text_;
  size_t at_ = 0;
};

}  // namespace trireme::filter
