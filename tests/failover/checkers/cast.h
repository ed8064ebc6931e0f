// What a history says of its producers and consumers, for the checkers that need to know.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "tests/failover/history/event.h"

namespace trireme::failover {

// A message, as its producer calls it.
struct MessageName {
  uint32_t producer = 0;
  uint64_t sequence = 0;

  friend bool operator==(const MessageName&, const MessageName&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const MessageName& name) {
    return H::combine(std::move(h), name.producer, name.sequence);
  }
};

// A stored message, as the broker calls it.
struct Place {
  uint32_t queue = 0;
  uint64_t position = 0;

  friend bool operator==(const Place&, const Place&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Place& place) {
    return H::combine(std::move(h), place.queue, place.position);
  }
};

class Cast {
 public:
  void Add(const QueueMade& made) { queues_[made.queue] = made.name; }
  void Add(const ProducerMade& made) { producers_[made.producer] = made; }
  void Add(const ConsumerMade& made) { consumers_[made.consumer] = made; }

  // One that was never made belongs to queue 0.
  const ProducerMade& producer(uint32_t number) const { return Find(producers_, number); }
  const ConsumerMade& consumer(uint32_t number) const { return Find(consumers_, number); }
  const absl::flat_hash_map<uint32_t, std::string>& queues() const { return queues_; }

  std::string QueueName(uint32_t queue) const {
    const auto it = queues_.find(queue);
    return it == queues_.end() ? absl::StrCat("queue ", queue) : it->second;
  }
  Place PlaceOf(const Delivered& run, uint32_t slot) const {
    return {consumer(run.consumer).queue, run.position + slot};
  }
  std::string Describe(const Place& place) const {
    // As the broker's documentation has it: 48 bits of log index, 16 of slot.
    return absl::StrCat(QueueName(place.queue), " ", place.position >> 16, "/", place.position & 0xffff);
  }
  std::string Describe(const MessageName& name) const {
    return absl::StrCat("message ", name.sequence, " of producer ", name.producer, " (", producer(name.producer).label,
                        ")");
  }
  std::string Consumer(uint32_t number) const {
    return absl::StrCat("consumer ", number, " (", consumer(number).label, ")");
  }

 private:
  template <class Made>
  static const Made& Find(const absl::flat_hash_map<uint32_t, Made>& made, uint32_t number) {
    static const Made kNone{};
    const auto it = made.find(number);
    return it == made.end() ? kNone : it->second;
  }

  absl::flat_hash_map<uint32_t, std::string> queues_;
  absl::flat_hash_map<uint32_t, ProducerMade> producers_;
  absl::flat_hash_map<uint32_t, ConsumerMade> consumers_;
};

}  // namespace trireme::failover
