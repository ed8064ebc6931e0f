// What a queue may be called.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace trireme::broker {

inline constexpr size_t kMaxQueueNameBytes = 255;

// OK for 1 to 255 bytes of ASCII letters, digits and . _ - : / with a letter or digit first. INVALID_ARGUMENT names the
// value (shortened, unprintable bytes escaped) and the limit that it breaks.
absl::Status ValidateQueueName(std::string_view name);

}  // namespace trireme::broker
