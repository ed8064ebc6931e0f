#pragma once

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/message_table.h"

namespace trireme::failover {

// A producer's messages lie in the queue in the order in which it published them, and a queue's messages come out in
// the order in which they lie there: to each consumer, and, by the checkouts, over all of them. Messages that are
// delivered again are out of it.
class Order : public Checker {
 public:
  std::string_view name() const override { return "order"; }
  std::string_view promise() const override {
    return "messages are stored in their producer's order, and first delivered in the order of their positions";
  }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ProducerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const Publish& call) override {
    for (uint32_t i = 0; i < call.count; ++i) ++messages_.At({call.producer, call.first + i}).tries;
  }
  void See(uint64_t at_us, const Published& done) override {
    if (done.position == 0) return;
    Case(done.count);
    for (uint32_t i = 0; i < done.count; ++i) {
      Message& message = messages_.At({done.producer, done.first + i});
      message.position = done.position + i;
      message.at_us = at_us;
    }
  }
  void See(uint64_t at_us, const Delivered& run) override {
    const ConsumerMade& consumer = cast_.consumer(run.consumer);
    // Single receives come back on calls of their own, which overtake each other, and their tokens have no order.
    if (run.deliveries != 1 || consumer.session_timeout_us == 0) return;
    uint64_t& last = last_arrival_[run.consumer];
    if (run.position <= last) {
      Broken(at_us, cast_.Consumer(run.consumer), " got ", cast_.Describe(Place{consumer.queue, run.position}),
             " after ", cast_.Describe(Place{consumer.queue, last}));
    }
    last = std::max(last, run.position + run.count - 1);
    checkouts_[consumer.queue].push_back({run.token, run.position, run.count, at_us});
  }

  void Finish() override {
    MessageName before{};
    uint64_t position = 0;
    messages_.ForEach([&](const MessageName& name, const Message& message) {
      if (name.producer != before.producer) position = 0;
      before.producer = name.producer;
      // One that was tried again lies where its last try put it.
      if (message.position == 0 || message.tries > 1) return;
      if (message.position < position) {
        const uint32_t queue = cast_.producer(name.producer).queue;
        Broken(message.at_us, cast_.Describe(name), " lies at ", cast_.Describe(Place{queue, message.position}),
               ", before message ", before.sequence, " at ", cast_.Describe(Place{queue, position}));
      }
      before = name;
      position = message.position;
    });
    for (auto& [queue, runs] : checkouts_) {
      std::stable_sort(runs.begin(), runs.end(), [](const Checkout& a, const Checkout& b) {
        return std::tie(a.token, a.position) < std::tie(b.token, b.position);
      });
      uint64_t last = 0;
      for (const Checkout& run : runs) {
        if (run.position < last) {
          Broken(run.at_us, "checkout ", run.token, " took ", cast_.Describe(Place{queue, run.position}),
                 " although an earlier one had taken ", cast_.Describe(Place{queue, last}));
        }
        last = std::max(last, run.position + run.count - 1);
      }
    }
  }

 private:
  struct Message {
    uint64_t position = 0;
    uint64_t at_us = 0;
    uint32_t tries = 0;
  };
  struct Checkout {
    uint64_t token = 0;
    uint64_t position = 0;
    uint32_t count = 0;
    uint64_t at_us = 0;
  };

  Cast cast_;
  MessageTable<Message> messages_;
  absl::flat_hash_map<uint32_t, uint64_t> last_arrival_;
  std::map<uint32_t, std::vector<Checkout>> checkouts_;
};

}  // namespace trireme::failover
