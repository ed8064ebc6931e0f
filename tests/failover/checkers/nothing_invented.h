#pragma once

#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/message_table.h"

namespace trireme::failover {

// What is delivered was published, byte for byte, and not refused. "Refused" is a promise, too: its producer may
// publish the message elsewhere.
class NothingInvented : public Checker {
 public:
  std::string_view name() const override { return "nothing-invented"; }
  std::string_view promise() const override {
    return "every message that was delivered had been published, with that body, and not been refused";
  }

  void See(uint64_t, const ProducerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ConsumerMade& made) override { cast_.Add(made); }
  void See(uint64_t, const Publish& call) override {
    for (uint32_t i = 0; i < call.count; ++i) ++messages_.At({call.producer, call.first + i}).invoked;
  }
  void See(uint64_t, const Published& done) override {
    if (done.outcome != Stored::kRefused) return;
    for (uint32_t i = 0; i < done.count; ++i) ++messages_.At({done.producer, done.first + i}).refused;
  }
  void See(uint64_t at_us, const Delivered& run) override {
    Case(run.count);
    for (uint32_t i = 0; i < run.count; ++i) {
      const MessageName name{run.producer, run.first + i};
      Message& message = messages_.At(name);
      message.delivered_us = at_us;
      if (message.invoked == 0) Broken(at_us, cast_.Describe(name), " was delivered and never published");
    }
  }
  void See(uint64_t at_us, const Corrupt& corrupt) override {
    Broken(at_us, cast_.Consumer(corrupt.consumer), " got a body that nobody made: ", corrupt.what);
  }
  void Finish() override {
    messages_.ForEach([&](const MessageName& name, const Message& message) {
      if (message.delivered_us == 0 || message.invoked == 0 || message.refused < message.invoked) return;
      Broken(message.delivered_us, cast_.Describe(name), " was delivered although it had been refused");
    });
  }

 private:
  struct Message {
    uint64_t delivered_us = 0;
    uint32_t invoked = 0;
    uint32_t refused = 0;
  };

  Cast cast_;
  MessageTable<Message> messages_;
};

}  // namespace trireme::failover
