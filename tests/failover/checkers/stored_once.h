#pragma once

#include <algorithm>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/message_table.h"

namespace trireme::failover {

// A position holds one message for ever, the one that was confirmed there; a message has one position, unless its
// producer has no sequences and published it again.
class StoredOnce : public Checker {
 public:
  std::string_view name() const override { return "stored-once"; }
  std::string_view promise() const override {
    return "a producer with sequences has each message stored once, where it was confirmed; one without, once per try";
  }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ProducerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const Publish& call) override {
    for (uint32_t i = 0; i < call.count; ++i) ++messages_.At({call.producer, call.first + i}).tries;
  }
  void See(uint64_t at_us, const Published& done) override {
    if (done.position == 0) return;
    const uint32_t queue = cast_.producer(done.producer).queue;
    for (uint32_t i = 0; i < done.count; ++i) {
      Found(at_us, {done.producer, done.first + i}, {queue, done.position + i});
    }
  }
  void See(uint64_t at_us, const Delivered& run) override {
    for (uint32_t i = 0; i < run.count; ++i) {
      Found(at_us, {run.producer, run.first + i}, cast_.PlaceOf(run, i));
    }
  }

 private:
  struct Message {
    uint64_t position = 0;
    uint32_t tries = 0;
  };

  void Found(uint64_t at_us, const MessageName& name, const Place& place) {
    const auto [it, first_here] = places_.emplace(place, name);
    if (!first_here) {
      if (it->second != name) {
        Broken(at_us, cast_.Describe(place), " holds ", cast_.Describe(name), ", and held ",
               cast_.Describe(it->second));
      }
      return;
    }
    Case();
    Message& message = messages_.At(name);
    if (message.position == 0) {
      message.position = place.position;
      return;
    }
    // A second position, or a further one.
    const uint32_t copies = ++copies_[name] + 1;
    const bool sequenced = cast_.producer(name.producer).sequenced;
    if (copies <= (sequenced ? 1 : message.tries)) return;
    Broken(at_us, cast_.Describe(name), " is stored ", copies, " times (", message.tries, " tries): at ",
           cast_.Describe(Place{place.queue, message.position}), " and at ", cast_.Describe(place));
  }

  Cast cast_;
  MessageTable<Message> messages_;
  absl::flat_hash_map<Place, MessageName> places_;
  absl::flat_hash_map<MessageName, uint32_t> copies_;
};

}  // namespace trireme::failover
