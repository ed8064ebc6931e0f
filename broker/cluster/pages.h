// Lists come in pages.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"

namespace trireme::broker {

// How many a page holds for a client that asked for `limit`; 0 = as many as we think.
inline absl::StatusOr<size_t> PageSize(uint32_t limit) {
  constexpr uint32_t kMost = 10'000, kDefault = 1'000;
  if (limit > kMost) {
    return Error(absl::StatusCode::kInvalidArgument, {.reason = "OUT_OF_RANGE", .name = "limit", .limit = "1 to 10000"},
                 absl::StrCat("limit is ", limit, "; it must be 1 to ", kMost));
  }
  return limit == 0 ? kDefault : limit;
}

}  // namespace trireme::broker
