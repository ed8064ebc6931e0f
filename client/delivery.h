// A delivered message.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "trireme/v1/message.pb.h"

namespace trireme::client {

// A view of a message in the frame that it came in, which lives as long as any copy of a Delivery from it. Copies are
// cheap. Reading is safe from any thread.
class Delivery {
 public:
  Delivery() = default;
  // `record` is the encoded Message, inside of what `frame` owns.
  Delivery(std::shared_ptr<const void> frame, std::string_view record, std::string_view body, uint64_t position,
           uint64_t checkout_index, uint32_t deliveries)
      : frame_(std::move(frame)),
        record_(record),
        body_(body),
        position_(position),
        checkout_index_(checkout_index),
        deliveries_(deliveries) {}

  std::string_view body() const { return body_; }
  // The message's address in its queue: 48 bits of log index, 16 of slot.
  uint64_t position() const { return position_; }
  // With the position: what fences this delivery against later ones of the same message.
  uint64_t checkout_index() const { return checkout_index_; }
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
  uint64_t position_ = 0;
  uint64_t checkout_index_ = 0;
  uint32_t deliveries_ = 0;
};

}  // namespace trireme::client
