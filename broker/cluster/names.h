// What a queue, an exchange or a subscription may be called, and that there is none of that name.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace trireme::broker {

inline constexpr size_t kMaxNameBytes = 255;
// Of queues that no metadata knows: broker/temporary names them.
inline constexpr std::string_view kTemporaryPrefix = "$temp/";

// OK for 1 to 255 bytes of ASCII letters, digits and . _ - : / with a letter or digit first. INVALID_ARGUMENT names the
// value (shortened, unprintable bytes escaped) and the limit that it breaks.
absl::Status ValidateQueueName(std::string_view name);
absl::Status ValidateExchangeName(std::string_view name);
absl::Status ValidateSubscriptionName(std::string_view name);

// NOT_FOUND. Said only of what a linearizable read did not find (Safety rule 21).
absl::Status NoSuchQueue(const std::string& name);
absl::Status NoSuchExchange(const std::string& name);

}  // namespace trireme::broker
