// A message that goes from one queue to another, and back: the headers that say why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme::message {

// What is known of a message that has left its queue. Its headers are called kDeadQueue and so on.
struct DeadLetter {
  std::string queue;
  std::string subscription;
  uint64_t position = 0;  // packed
  std::string reason;
  uint32_t deliveries = 0;
  int64_t time_ms = 0;
  // Replaces the message's own; empty: it keeps that.
  std::string routing_key = {};
};

inline constexpr char kDeadQueue[] = "trireme-dead-queue";
inline constexpr char kDeadSubscription[] = "trireme-dead-subscription";
inline constexpr char kDeadPosition[] = "trireme-dead-position";
inline constexpr char kDeadReason[] = "trireme-dead-reason";
inline constexpr char kDeadDeliveries[] = "trireme-dead-deliveries";
inline constexpr char kDeadTime[] = "trireme-dead-time-ms";
// How often it went from queue to queue, with this time, since it was published or redriven.
inline constexpr char kDeadHops[] = "trireme-dead-hops";

// So much longer a message gets, at most: with names and a routing key of 255 bytes each.
inline constexpr size_t kMaxDeadLetterBytes = 2'048;

// The encoded message with these headers behind it, in place of those of an earlier time. It expires no more by a time
// of its own.
std::string WithDeadLetter(std::string_view message, const DeadLetter& letter);
// As it was before the first time. What is no dead letter comes back as it is.
std::string_view WithoutDeadLetter(std::string_view message);
// The same, without a time of its own at which it expires: that ended with its first hop.
std::string Redriven(std::string_view message);
// How often it was a dead letter; 0: never.
uint64_t DeadLetterHops(std::string_view message);
// The queue that it came from last; empty: it is no dead letter.
std::string_view DeadLetterQueue(std::string_view message);

}  // namespace trireme::message
