// A queue on three simulated nodes, for tests of what its replica answers.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/broker/queue_cluster.h"

namespace trireme::broker::testing {

// What tests ask of the replica that serves; each waits for its answer.
class QueueTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(w_.Up()); }

  // The producer's epoch; 0 = refused.
  uint64_t Open(const std::string& producer, uint64_t epoch = 0) {
    uint64_t got = 0;
    bool done = false;
    w_.Serving()->OpenProducer(producer, epoch, [&](absl::StatusOr<QueueReplica::OpenedProducer> o) {
      done = true;
      if (o.ok()) got = o->epoch;
    });
    EXPECT_TRUE(w_.world.RunUntil([&] { return done; }));
    return got;
  }
  // Only sent.
  void Publish(const std::shared_ptr<NotingPublishSink>& sink, const std::string& producer, uint64_t epoch,
               uint64_t first, const std::vector<std::string>& bodies) {
    w_.Serving()->Publish({sink, 7, producer, epoch, first, BatchOf(bodies)});
  }
  // By nobody in particular, one message per entry; stored when it returns.
  void PublishEach(const std::vector<std::string>& bodies) {
    auto sink = std::make_shared<NotingPublishSink>();
    for (size_t i = 0; i < bodies.size(); ++i) {
      Publish(sink, "", 0, 1, {bodies[i]});
      // What comes in one turn shares an entry.
      ASSERT_TRUE(w_.world.RunUntil([&] { return sink->outcomes.size() == i + 1; }));
    }
  }
  std::shared_ptr<NotingConsumerSink> Attach(const std::string& session, std::vector<queue::Token> held = {},
                                             uint32_t max_messages = 100, uint32_t timeout_ms = 30'000,
                                             const std::string& subscription = "default") {
    auto sink = StartAttach(session, std::move(held), max_messages, timeout_ms, subscription);
    EXPECT_TRUE(w_.world.RunUntil([&] { return sink->attached || sink->cut; }));
    return sink;
  }
  // Only asked for.
  std::shared_ptr<NotingConsumerSink> StartAttach(const std::string& session, std::vector<queue::Token> held = {},
                                                  uint32_t max_messages = 100, uint32_t timeout_ms = 30'000,
                                                  const std::string& subscription = "default") {
    auto sink = std::make_shared<NotingConsumerSink>();
    w_.Serving()->Attach(
        {session, "test", timeout_ms, {w_.group, std::move(held)}, max_messages, 1 << 20, subscription}, sink);
    return sink;
  }
  std::vector<DeliveredRun> Receive(uint32_t max_messages, milliseconds wait, milliseconds lease,
                                    const std::string& subscription = "default") {
    std::optional<std::vector<DeliveredRun>> got;
    w_.Serving()->Receive(subscription, max_messages, wait, lease,
                          [&](absl::StatusOr<Received> r) { got = std::move(r->runs); });
    EXPECT_TRUE(w_.world.RunUntil([&] { return got.has_value(); }, wait + milliseconds(1'000)));
    return got.value_or(std::vector<DeliveredRun>());
  }
  QueueFigures Describe() {
    std::optional<QueueFigures> figures;
    w_.Serving()->Describe([&](absl::StatusOr<QueueFigures> f) { figures = *f; });
    EXPECT_TRUE(w_.world.RunUntil([&] { return figures.has_value(); }));
    return *figures;
  }
  // The leader's process dies; another takes over.
  void FailOver() {
    const uint64_t old = w_.Leader();
    w_.Kill(old);
    ASSERT_TRUE(w_.world.RunUntil([&] { return w_.Leader() != 0 && w_.Leader() != old; }));
    w_.world.Start(old);
  }

  QueueWorld w_{3};
};

}  // namespace trireme::broker::testing
