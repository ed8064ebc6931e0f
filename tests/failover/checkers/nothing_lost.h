#pragma once

#include "tests/failover/checkers/checker.h"
#include "tests/failover/checkers/message_table.h"

namespace trireme::failover {

// The one that the rest is for: what was confirmed to its producer has come to a consumer, once all queues are empty.
class NothingLost : public Checker {
 public:
  std::string_view name() const override { return "nothing-lost"; }
  std::string_view promise() const override { return "every message that was confirmed to its producer was delivered"; }

  void See(uint64_t, const QueueMade& made) override { cast_.Add(made); }
  void See(uint64_t, const ProducerMade& made) override { cast_.Add(made); }
  void See(uint64_t at_us, const Published& done) override {
    if (done.outcome != Stored::kStored && done.outcome != Stored::kDuplicate) return;
    Case(done.count);
    for (uint32_t i = 0; i < done.count; ++i) {
      Message& message = messages_.At({done.producer, done.first + i});
      message.confirmed_us = at_us;
      message.position = done.position == 0 ? 0 : done.position + i;
    }
  }
  void See(uint64_t, const Delivered& run) override {
    for (uint32_t i = 0; i < run.count; ++i) messages_.At({run.producer, run.first + i}).delivered = true;
  }
  void See(uint64_t, const Ended& ended) override { drained_ = ended.drained; }

  void Finish() override {
    uint64_t missing = 0;
    messages_.ForEach([&](const MessageName& name, const Message& message) {
      if (message.confirmed_us == 0 || message.delivered) return;
      ++missing;
      if (!drained_) return;
      Broken(message.confirmed_us, cast_.Describe(name), " was confirmed at ",
             cast_.Describe(Place{cast_.producer(name.producer).queue, message.position}), " and never delivered");
    });
    if (!drained_) {
      Undecided(absl::StrCat("the run did not end with empty queues; ", missing, " confirmed messages may be in them"));
    }
  }

 private:
  struct Message {
    uint64_t confirmed_us = 0;
    uint64_t position = 0;
    bool delivered = false;
  };

  Cast cast_;
  MessageTable<Message> messages_;
  bool drained_ = false;
};

}  // namespace trireme::failover
