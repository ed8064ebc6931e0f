#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/failover/workload/body.h"
#include "tests/failover/workload/runs.h"
#include "tests/failover/workload/worker.h"

namespace trireme::failover {
namespace {

TEST(Body, SaysWhoseItIs) {
  for (size_t size : {size_t{0}, kMinBodyBytes, size_t{27}, size_t{28}, size_t{100}, size_t{100'000}}) {
    const std::string body = MakeBody({70'000, uint64_t{1} << 40}, size);
    EXPECT_EQ(body.size(), std::max(size, kMinBodyBytes));
    const absl::StatusOr<BodyName> name = ReadBody(body);
    ASSERT_TRUE(name.ok()) << name.status();
    EXPECT_EQ(name->producer, 70'000u);
    EXPECT_EQ(name->sequence, uint64_t{1} << 40);
  }
}

TEST(Body, ShowsEveryChange) {
  const std::string body = MakeBody({1, 2}, 64);
  for (size_t bit = 0; bit < body.size() * 8; ++bit) {
    std::string changed = body;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(ReadBody(changed).ok()) << "bit " << bit;
  }
  EXPECT_FALSE(ReadBody(body.substr(0, 63)).ok());
  EXPECT_FALSE(ReadBody("").ok());
}

client::Delivery Delivered(const std::shared_ptr<std::string>& body, uint64_t position, uint64_t token,
                           uint32_t count) {
  return client::Delivery(body, *body, *body, {1, position, token}, count);
}

TEST(Runs, JoinWhatContinues) {
  std::vector<std::shared_ptr<std::string>> bodies;
  for (uint64_t sequence : {1, 2, 3, 5, 6}) {
    bodies.push_back(std::make_shared<std::string>(MakeBody({7, sequence}, 30)));
  }
  bodies.push_back(std::make_shared<std::string>("garbage"));
  const std::vector<client::Delivery> deliveries = {Delivered(bodies[0], 100, 9, 1), Delivered(bodies[1], 101, 9, 1),
                                                    Delivered(bodies[2], 102, 9, 2), Delivered(bodies[3], 103, 9, 2),
                                                    Delivered(bodies[4], 104, 9, 2), Delivered(bodies[5], 105, 9, 2)};
  std::vector<Event> events;
  AppendDelivered(4, deliveries, events);
  std::string text;
  for (const Event& event : events) AppendLine(1, event, text);
  EXPECT_THAT(text, testing::StartsWith("1 delivered 4 100 9 2 1 7 1 0 .\n"
                                        "1 delivered 4 102 9 1 2 7 3 0 .\n"
                                        "1 delivered 4 103 9 2 2 7 5 0 .\n"
                                        "1 corrupt 4 105 "));
  events.clear();
  uint64_t serial = 10;
  AppendSettles(4, deliveries, Disposition::kRequeue, serial, events);
  EXPECT_EQ(serial, 11u);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(std::get<Settle>(events[0]).count, 6u);
}

TEST(Worker, IsToldWhatItIsSentAsText) {
  WorkerSpec spec;
  spec.worker = 3;
  spec.seed = UINT64_MAX;
  spec.servers = "10.77.0.1:7650,10.77.0.2:7650";
  spec.history = "/a folder/history";
  spec.epoch_us = 1ull << 50;
  ActorSpec actor;
  actor.role = Role::kReceiver;
  actor.number = 301;
  actor.queue = 2;
  actor.queue_name = "calm";
  actor.lease_ms = 4'000;
  spec.actors = {ActorSpec{}, actor};
  const absl::StatusOr<WorkerSpec> again = DecodeWorker(EncodeWorker(spec));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(EncodeWorker(*again), EncodeWorker(spec));
  EXPECT_EQ(again->actors[1].role, Role::kReceiver);
  EXPECT_EQ(again->actors[1].queue_name, "calm");
  for (const char* text : {"", "{}", "[1]", R"({"worker":1})"}) EXPECT_FALSE(DecodeWorker(text).ok()) << text;
}

}  // namespace
}  // namespace trireme::failover
