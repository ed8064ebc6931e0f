// What a Send is answered, from what became of its messages.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "broker/replica/sinks.h"
#include "trireme/v1/broker.pb.h"

namespace trireme::broker {

// Outcomes come in parts, in any order. A status says that none of the batch was stored, so a call ends with one only
// where one outcome covers all of it; else each part is told its own.
class SendAnswer {
 public:
  // `messages`: of the batch.
  explicit SendAnswer(uint32_t messages) : messages_(messages), left_(messages) {}

  // The answer, once it is known of all messages.
  std::optional<absl::StatusOr<v1::SendResponse>> Add(const PublishOutcome& outcome);

 private:
  const uint32_t messages_;
  uint32_t left_;
  v1::SendResponse response_;
};

}  // namespace trireme::broker
