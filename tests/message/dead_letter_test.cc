#include "broker/message/dead_letter.h"

#include <gtest/gtest.h>

#include <map>

#include "broker/message/message.h"
#include "raft/core/coding.h"

namespace trireme::message {
namespace {

std::string Message(const std::string& body, const std::string& routing_key = "") {
  raft::Writer out;
  out.Byte(kBody << 3 | 2);
  out.Counted(body);
  if (!routing_key.empty()) {
    out.Byte(kRoutingKey << 3 | 2);
    out.Counted(routing_key);
  }
  return out.Take();
}

std::map<std::string, OwnedValue> HeadersOf(const std::string& message) {
  std::map<std::string, OwnedValue> headers;
  EXPECT_TRUE(WalkHeaders(message, [&](std::string_view name, const Value& value) {
    EXPECT_TRUE(headers.emplace(name, OwnedValue(value)).second) << name << " is there twice";
  }));
  return headers;
}

std::string Text(const std::map<std::string, OwnedValue>& headers, const char* name) {
  return std::string(std::get<std::string_view>(headers.at(name).view()));
}
int64_t Number(const std::map<std::string, OwnedValue>& headers, const char* name) {
  return std::get<int64_t>(headers.at(name).view());
}

const DeadLetter kLetter{.queue = "jobs",
                         .subscription = "default",
                         .position = uint64_t{1} << 40,
                         .reason = "rejected",
                         .deliveries = 3,
                         .time_ms = 1'700'000'000'000};

TEST(DeadLetterTest, ItsHeadersTellAllAndComeOffAgain) {
  const std::string message = Message("body", "mine");
  const std::string dead = WithDeadLetter(message, kLetter);
  EXPECT_EQ(dead.substr(0, message.size()), message);
  EXPECT_LE(dead.size(), message.size() + kMaxDeadLetterBytes);
  const auto headers = HeadersOf(dead);
  EXPECT_EQ(Text(headers, kDeadQueue), "jobs");
  EXPECT_EQ(Text(headers, kDeadSubscription), "default");
  EXPECT_EQ(Number(headers, kDeadPosition), int64_t{1} << 40);
  EXPECT_EQ(Text(headers, kDeadReason), "rejected");
  EXPECT_EQ(Number(headers, kDeadDeliveries), int64_t{3});
  EXPECT_EQ(Number(headers, kDeadTime), int64_t{1'700'000'000'000});
  EXPECT_EQ(Number(headers, kDeadHops), int64_t{1});
  EXPECT_EQ(RoutingKey(dead), "mine");
  EXPECT_EQ(DeadLetterQueue(dead), "jobs");
  EXPECT_EQ(DeadLetterQueue(message), "");
  EXPECT_EQ(WithoutDeadLetter(dead), message);
  EXPECT_EQ(WithoutDeadLetter(message), message);
}

TEST(DeadLetterTest, AfterItsFirstHopItExpiresNoMore) {
  raft::Writer expires;
  expires.Byte(kExpiresAtMs << 3);
  expires.Varint(5'000);
  const std::string message = Message("body", "mine") + expires.Take();
  ASSERT_EQ(ExpiresAtMs(message), 5'000);
  DeadLetter letter = kLetter;
  letter.routing_key = "failed";
  const std::string once = WithDeadLetter(message, letter);
  EXPECT_EQ(ExpiresAtMs(once), 0);
  EXPECT_EQ(WithoutDeadLetter(once), message);
  EXPECT_LE(once.size(), message.size() + kMaxDeadLetterBytes);
  const std::string twice = WithDeadLetter(once, kLetter);
  EXPECT_EQ(ExpiresAtMs(twice), 0);
  EXPECT_EQ(DeadLetterHops(twice), 2u);
  EXPECT_EQ(WithoutDeadLetter(twice), message);
  EXPECT_EQ(ExpiresAtMs(Redriven(twice)), 0);
  EXPECT_EQ(Redriven(twice).substr(0, message.size()), message);
  EXPECT_EQ(Redriven(Message("body")), Message("body"));
}

TEST(DeadLetterTest, TheNextHopReplacesTheHeadersAndCounts) {
  const std::string message = Message("body", "mine");
  DeadLetter first = kLetter, second = kLetter;
  first.routing_key = "failed";
  second.queue = "jobs-dead";
  const std::string dead = WithDeadLetter(message, first);
  EXPECT_EQ(RoutingKey(dead), "failed");
  const std::string twice = WithDeadLetter(dead, second);
  const auto headers = HeadersOf(twice);
  EXPECT_EQ(Text(headers, kDeadQueue), "jobs-dead");
  EXPECT_EQ(Number(headers, kDeadHops), int64_t{2});
  EXPECT_EQ(RoutingKey(twice), "mine");
  EXPECT_EQ(WithoutDeadLetter(twice), message);
}

// A producer may write such headers himself: what is his is not cut off.
TEST(DeadLetterTest, WhatAProducerWroteStays) {
  raft::Writer forged;
  forged.Raw(WithDeadLetter(Message("body"), kLetter));
  forged.Byte(kKey << 3 | 2);
  forged.Counted("key");
  EXPECT_EQ(WithoutDeadLetter(forged.bytes()), forged.bytes());
  EXPECT_EQ(DeadLetterHops(forged.bytes()), 0u);
  EXPECT_EQ(WithoutDeadLetter(WithDeadLetter(forged.bytes(), kLetter)), forged.bytes());
  // Nor is anything read past the end of what is no message.
  for (size_t size = 0; size < forged.size(); ++size) {
    const std::string cut = forged.bytes().substr(0, size);
    EXPECT_LE(WithoutDeadLetter(cut).size(), cut.size());
  }
}

}  // namespace
}  // namespace trireme::message
