// What requests must keep to, where several of them have the same field. Errors name the value and the limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trireme::broker {

// OK from `low` to `high`. `unit` may be empty.
absl::Status CheckRange(absl::string_view field, uint64_t value, uint64_t low, uint64_t high, absl::string_view unit);
absl::Status CheckRange(absl::string_view field, std::chrono::milliseconds value, std::chrono::milliseconds low,
                        std::chrono::milliseconds high);
// `by_node`: on behalf of another node, which names producers at exchanges.
absl::Status CheckProducer(const std::string& name, bool by_node = false);
// What a producer at an exchange is called in the queues. Sequences count per producer and exchange, and an exchange
// that was deleted and made again is another.
absl::StatusOr<std::string> ProducerAtExchange(uint64_t exchange_id, const std::string& name);
// Empty means "default".
absl::StatusOr<std::string> SubscriptionName(const std::string& name);
// A requeue's.
absl::Status CheckDelay(uint32_t delay_ms);
// Of an enum trireme.v1.Disposition, as it came.
absl::Status CheckDisposition(int disposition);

}  // namespace trireme::broker
