#include "client/wire.h"

#include <google/protobuf/stubs/logging.h>

#include <random>

#include "gtest/gtest.h"

namespace trireme::client {
namespace {

v1::Message Rich() {
  v1::Message message;
  message.set_body("a body");
  message.set_key("k");
  message.set_id("id-1");
  (*message.mutable_headers())["number"].set_integer(-7);
  message.set_expires_at_ms(123);
  message.set_priority(9);
  message.set_routing_key("a.b");
  return message;
}

std::string Flat(const grpc::ByteBuffer& buffer) {
  return std::string(Frame(buffer).bytes());
}

std::shared_ptr<const Frame> ToFrame(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return std::make_shared<const Frame>(grpc::ByteBuffer(&slice, 1));
}

TEST(WireTest, ABatchOfRecordsIsTheBatchThatProtobufWrites) {
  v1::MessageBatch batch;
  std::string bytes;
  for (size_t size : {0, 1, 127, 128, 300, 20'000}) {
    const std::string body(size, 'b');
    batch.add_messages()->set_body(body);
    const size_t before = bytes.size();
    AppendBodyRecord(body, bytes);
    EXPECT_EQ(bytes.size() - before, RecordBytes(BodyMessageBytes(size)));
  }
  const v1::Message rich = Rich();
  *batch.add_messages() = rich;
  AppendRecord(rich, rich.ByteSizeLong(), bytes);
  EXPECT_EQ(bytes, batch.SerializeAsString());
}

TEST(WireTest, AnAppendFrameIsThePublishRequestThatProtobufReads) {
  for (uint32_t alias : {0u, 1u, 65'535u}) {
    for (uint64_t sequence : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) {
      for (size_t size : {size_t{1}, size_t{200}, size_t{262'144}}) {
        v1::PublishRequest expected;
        expected.mutable_append()->set_alias(alias);
        expected.mutable_append()->set_first_sequence(sequence);
        expected.mutable_append()->set_batch(std::string(size, 'x'));
        const grpc::ByteBuffer frame = AppendFrame(alias, sequence, grpc::Slice(std::string(size, 'x')));
        EXPECT_EQ(Flat(frame), expected.SerializeAsString());
      }
    }
  }
}

v1::ConsumeResponse SomeDeliver() {
  v1::ConsumeResponse response;
  v1::Run* run = response.mutable_deliver()->add_runs();
  run->set_first_position(uint64_t{5} << 16 | 2);
  run->set_checkout_index(9);
  run->set_count(3);
  run->set_deliveries(2);
  *run->mutable_batch()->add_messages() = Rich();
  run->mutable_batch()->add_messages();
  run->mutable_batch()->add_messages()->set_body("third");
  run = response.mutable_deliver()->add_runs();
  run->set_first_position(uint64_t{6} << 16);
  run->set_checkout_index(10);
  run->set_count(1);
  run->set_deliveries(1);
  run->mutable_batch()->add_messages()->set_body("other");
  return response;
}

TEST(WireTest, DeliveriesAreViewsWithTheirTokens) {
  Delivered delivered;
  const std::string bytes = SomeDeliver().SerializeAsString();
  ASSERT_TRUE(IsDeliver(bytes));
  ASSERT_EQ(ReadDeliver(ToFrame(bytes), 31, delivered), absl::OkStatus());
  ASSERT_EQ(delivered.messages.size(), 4u);
  ASSERT_EQ(delivered.runs.size(), 2u);
  EXPECT_EQ(delivered.messages[0].body(), "a body");
  EXPECT_EQ(delivered.messages[0].position(), uint64_t{5} << 16 | 2);
  EXPECT_EQ(delivered.messages[0].deliveries(), 2u);
  EXPECT_EQ(delivered.messages[0].Decode()->SerializeAsString(), Rich().SerializeAsString());
  EXPECT_EQ(delivered.messages[1].body(), "");
  EXPECT_EQ(delivered.messages[2].body(), "third");
  EXPECT_EQ(delivered.messages[2].position(), uint64_t{5} << 16 | 4);
  EXPECT_EQ(delivered.messages[2].checkout_index(), 9u);
  EXPECT_EQ(delivered.messages[2].group(), 31u);
  EXPECT_EQ(delivered.messages[3].position(), uint64_t{6} << 16);
}

TEST(WireTest, FramesInSeveralPiecesAreReadAsOne) {
  const std::string bytes = SomeDeliver().SerializeAsString();
  std::vector<grpc::Slice> slices;
  for (char byte : bytes) slices.emplace_back(std::string(1, byte));
  const grpc::ByteBuffer buffer(slices.data(), slices.size());
  Delivered delivered;
  ASSERT_EQ(ReadDeliver(std::make_shared<const Frame>(buffer), 31, delivered), absl::OkStatus());
  EXPECT_EQ(delivered.messages.size(), 4u);
}

TEST(WireTest, UnknownFieldsAreSteppedOver) {
  std::string bytes = SomeDeliver().SerializeAsString();
  v1::ConsumeResponse response;
  // A message with a field that this version does not know (number 100, each wire type but groups).
  v1::Run* run = response.mutable_deliver()->add_runs();
  run->set_count(1);
  run->set_first_position(1);
  std::string record = "\x0a\x02hi";
  record += std::string("\xa0\x06\x05", 3) + std::string("\xa2\x06\x01x", 4) +
            std::string(
                "\xa5\x06"
                "abcd",
                6) +
            std::string(
                "\xa1\x06"
                "abcdefgh",
                10);
  std::string batch = "\x0a";
  batch += static_cast<char>(record.size());
  batch += record;
  ASSERT_TRUE(run->mutable_batch()->ParseFromString(batch));
  Delivered delivered;
  ASSERT_EQ(ReadDeliver(ToFrame(response.SerializeAsString()), 31, delivered), absl::OkStatus());
  ASSERT_EQ(delivered.messages.size(), 1u);
  EXPECT_EQ(delivered.messages[0].body(), "hi");
}

TEST(WireTest, BrokenFramesAreErrorsAndNeverReadBeyondTheirEnd) {
  v1::ConsumeResponse wrong_count = SomeDeliver();
  wrong_count.mutable_deliver()->mutable_runs(0)->set_count(2);
  Delivered delivered;
  EXPECT_EQ(ReadDeliver(ToFrame(wrong_count.SerializeAsString()), 31, delivered).code(), absl::StatusCode::kDataLoss);
  const std::string good = SomeDeliver().SerializeAsString();
  google::protobuf::LogSilencer quiet;
  for (uint32_t seed = 1; seed <= 5'000; ++seed) {
    std::minstd_rand random(seed);
    // On the heap and of exactly its size, so that the address sanitizer sees every byte beyond.
    std::string bytes = good.substr(0, random() % 4 == 0 ? random() % good.size() : good.size());
    bytes.shrink_to_fit();
    for (uint32_t flips = random() % 4; flips > 0 && !bytes.empty(); --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    Delivered result;
    (void)IsDeliver(bytes);
    (void)ReadDeliver(ToFrame(bytes), 31, result);
    for (const Delivery& delivery : result.messages) (void)delivery.Decode();
  }
}

TEST(WireTest, OtherFramesAreNotDeliver) {
  v1::ConsumeResponse response;
  response.mutable_keep_alive();
  EXPECT_FALSE(IsDeliver(response.SerializeAsString()));
  response.mutable_opened()->set_resumed(true);
  EXPECT_FALSE(IsDeliver(response.SerializeAsString()));
  EXPECT_FALSE(IsDeliver(""));
}

}  // namespace
}  // namespace trireme::client
