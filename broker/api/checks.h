// What requests must keep to, where several of them have the same field. Errors name the value and the limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace trireme::broker {

// OK from `low` to `high`. `unit` may be empty.
absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t low, uint64_t high, absl::string_view unit);
absl::Status CheckRange(absl::string_view field, std::chrono::milliseconds value, std::chrono::milliseconds low,
                        std::chrono::milliseconds high);
absl::Status CheckProducer(const std::string& name);
// Queues have one subscription so far, called "default"; empty means that one.
absl::Status CheckSubscription(const std::string& name);
// Of an enum trireme.v1.Disposition, as it came.
absl::Status CheckDisposition(int disposition);

}  // namespace trireme::broker
