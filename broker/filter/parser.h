// From a filter's text to its tree.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "broker/filter/expression.h"

namespace trireme::filter {

// As Filter::Parse.
absl::StatusOr<Expression> ParseExpression(std::string_view text);

}  // namespace trireme::filter
