#include "broker/filter/filter.h"

#include <utility>

#include "broker/filter/parser.h"

namespace trireme::filter {

absl::StatusOr<Filter> Filter::Parse(std::string_view text) {
  absl::StatusOr<Expression> expression = ParseExpression(text);
  if (!expression.ok()) return expression.status();
  return Filter(std::string(text), *std::move(expression));
}

}  // namespace trireme::filter
