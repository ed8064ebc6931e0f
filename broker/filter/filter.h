// Which messages a subscription takes: a condition over headers and fields, parsed once, asked for each message.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "broker/filter/expression.h"

namespace trireme::filter {

inline constexpr size_t kMaxFilterBytes = 4'096;
// Of parentheses and NOTs.
inline constexpr int kMaxNesting = 32;

// A value; copies are deep. Evaluating is a pure function of filter and message, and may be done on any thread.
//
//   condition  = term { OR term }
//   term       = factor { AND factor }
//   factor     = NOT factor | "(" condition ")" | test
//   test       = operand                                   a boolean
//              | operand ( = <> < <= > >= ) operand        <> may be written !=
//              | operand [NOT] BETWEEN operand AND operand
//              | operand [NOT] IN "(" literal { "," literal } ")"
//              | operand [NOT] LIKE 'text' [ESCAPE 'c']    % stands for any characters, _ for one
//              | operand IS [NOT] NULL
//   operand    = literal | reference
//   literal    = 'text' (a quote in it is doubled) | integer | real | TRUE | FALSE
//   reference  = name | "any header's name" | sys.field
//
// Keywords are written in any case, names as they are: a letter, _ or $, then letters, digits, _, $ and dots. The
// fields are key, id, priority, content_type, correlation_id, reply_to, routing_key, expires_at_ms and due_at_ms; one
// that the producer did not set is NULL, except priority, which is 0. Text compares bytewise, numbers by value. What
// compares with NULL, or with another kind of value, is unknown; so is LIKE of a text longer than kMaxLikeBytes.
class Filter {
 public:
  // INVALID_ARGUMENT: what is wrong, and at which column (characters, from 1).
  static absl::StatusOr<Filter> Parse(std::string_view text);

  // `message` is an encoded trireme.v1.Message; its body is passed over. Unknown for what is no message.
  Truth Evaluate(std::string_view message) const { return expression_.Evaluate(message); }
  bool Matches(std::string_view message) const { return Evaluate(message) == Truth::kTrue; }

  // As it was parsed.
  const std::string& text() const { return text_; }

 private:
  Filter(std::string text, Expression expression) : text_(std::move(text)), expression_(std::move(expression)) {}

  std::string text_;
  Expression expression_;
};

}  // namespace trireme::filter
