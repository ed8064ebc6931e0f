// A delivered message.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "trireme/v1/message.pb.h"

namespace trireme::client {

// What a delivery is settled by (Safety rule 4).
struct DeliveryToken {
  uint64_t group = 0;
  uint64_t position = 0;
  uint64_t checkout_index = 0;
};

// A view of a message in the frame that it came in, which lives as long as any copy of a Delivery from it. Copies are
// cheap. Reading is safe from any thread.
class Delivery {
 public:
  Delivery() = default;
  // `record` is the encoded Message, inside of what `frame` owns.
  Delivery(std::shared_ptr<const void> frame, std::string_view record, std::string_view body,
           const DeliveryToken& token, uint32_t deliveries)
      : frame_(std::move(frame)), record_(record), body_(body), token_(token), deliveries_(deliveries) {}

  std::string_view body() const { return body_; }
  // The message's address in its queue: 48 bits of log index, 16 of slot.
  uint64_t position() const { return token_.position; }
  // With the position: what fences this delivery against later ones of the same message.
  uint64_t checkout_index() const { return token_.checkout_index; }
  // The queue for good: one that is deleted and made again under its name has another id, and its own positions.
  uint64_t group() const { return token_.group; }
  // How often the message was delivered on this subscription, this time included: 1 at first. Exact across failovers.
  uint32_t deliveries() const { return deliveries_; }

  // The message as its producer encoded it.
  std::string_view record() const { return record_; }
  // Key, headers and the rest, decoded. DATA_LOSS: the bytes do not parse (a producer's mistake that no broker
  // accepts).
  absl::StatusOr<v1::Message> Decode() const;

 private:
  std::shared_ptr<const void> frame_;
  std::string_view record_;
  std::string_view body_;
  DeliveryToken token_;
  uint32_t deliveries_ = 0;
};

}  // namespace trireme::client
