#include "broker/message/message.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>

#include "trireme/v1/message.pb.h"

namespace trireme::message {
namespace {

namespace v1 = trireme::v1;

// Everything of a message that is read here, as text, so that two readers compare.
std::string Described(const Value& value) {
  if (const auto* text = std::get_if<std::string_view>(&value)) return "text " + std::string(*text);
  if (const auto* integer = std::get_if<int64_t>(&value)) return "integer " + std::to_string(*integer);
  if (const auto* real = std::get_if<double>(&value)) {
    return "real " + std::to_string(std::bit_cast<uint64_t>(*real));
  }
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean ? "true" : "false";
  if (const auto* binary = std::get_if<Binary>(&value)) return "binary " + std::string(binary->bytes);
  return "null";
}

std::string Described(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kText:
      return "text " + value.text();
    case v1::Value::kInteger:
      return "integer " + std::to_string(value.integer());
    case v1::Value::kReal:
      return "real " + std::to_string(std::bit_cast<uint64_t>(value.real()));
    case v1::Value::kBoolean:
      return value.boolean() ? "true" : "false";
    case v1::Value::kBinary:
      return "binary " + value.binary();
    case v1::Value::KIND_NOT_SET:
      break;
  }
  return "null";
}

std::optional<std::map<std::string, std::string>> HeadersOf(std::string_view message) {
  std::map<std::string, std::string> headers;
  bool whole = WalkHeaders(
      message, [&](std::string_view name, const Value& value) { headers[std::string(name)] = Described(value); });
  if (!whole) return std::nullopt;
  return headers;
}

v1::Message RandomMessage(std::mt19937_64& random) {
  auto pick = [&](uint64_t n) { return random() % n; };
  v1::Message message;
  if (pick(2) == 0) message.set_body(std::string(pick(40), '\xff'));
  if (pick(2) == 0) message.set_routing_key("a." + std::to_string(pick(100)));
  if (pick(2) == 0) message.set_key("k");
  if (pick(2) == 0) message.set_expires_at_ms(static_cast<int64_t>(random()));
  for (uint64_t i = pick(5); i > 0; --i) {
    v1::Value& value = (*message.mutable_headers())["h" + std::to_string(pick(4))];
    switch (pick(6)) {
      case 0:
        value.set_text("t" + std::to_string(pick(3)));
        break;
      case 1:
        value.set_integer(static_cast<int64_t>(random()));
        break;
      case 2:
        value.set_real(static_cast<double>(static_cast<int64_t>(random())) / 7);
        break;
      case 3:
        value.set_boolean(pick(2) == 0);
        break;
      case 4:
        value.set_binary(std::string("\0\xff", 2));
        break;
      default:
        break;
    }
  }
  return message;
}

// Whatever protobuf's own parser takes is read here as it reads it; and nothing is read past its end (with the address
// sanitizer: from a copy on the heap, exact to the byte).
TEST(MessageView, ReadsWhatTheParserReads) {
  std::mt19937_64 random(7);
  google::protobuf::LogSilencer silence;
  int parsed = 0, refused = 0, groups = 0;
  for (int i = 0; i < 200'000; ++i) {
    v1::Message message = RandomMessage(random);
    std::string bytes = message.SerializeAsString();
    // Most are mutated; two messages one behind the other are one message to a parser.
    if (random() % 4 == 0) bytes += RandomMessage(random).SerializeAsString();
    for (uint64_t n = random() % 4; n > 0 && !bytes.empty(); --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random() % 3 == 0 ? random() : random() % 16);
    }
    if (random() % 8 == 0) bytes.resize(random() % (bytes.size() + 1));
    std::vector<char> exact(bytes.begin(), bytes.end());
    const std::string_view view(exact.data(), exact.size());

    v1::Message read;
    auto headers = HeadersOf(view);
    if (!read.ParseFromString(bytes)) {
      refused += 1;
      continue;
    }
    parsed += 1;
    if (!headers) {  // it has groups, which we do not take
      groups += 1;
      continue;
    }
    EXPECT_EQ(RoutingKey(view), read.routing_key());
    std::map<std::string, std::string> expected;
    for (const auto& [name, value] : read.headers()) expected[name] = Described(value);
    ASSERT_EQ(*headers, expected) << "message " << i;
  }
  EXPECT_GT(parsed, 20'000);
  EXPECT_GT(refused, 20'000);
  EXPECT_LT(groups, 2'000);
}

TEST(MessageView, TakesNoGroupsNoLongTagsAndNothingCutOff) {
  auto walks = [](std::string_view bytes) { return WalkFields(bytes, [](const Field&) { return true; }); };
  EXPECT_TRUE(walks(""));
  EXPECT_TRUE(walks(std::string_view("\x38\x05", 2)));
  EXPECT_FALSE(walks(std::string_view("\x38", 1)));
  EXPECT_FALSE(walks(std::string_view("\x0b\x0c", 2))) << "a group";
  EXPECT_FALSE(walks(std::string_view("\x00\x01", 2))) << "field 0";
  EXPECT_FALSE(walks(std::string_view("\xb8\x80\x80\x80\x80\x00\x05", 7))) << "a tag of six bytes";
  EXPECT_FALSE(walks(std::string_view("\x0a\x82\x80\x80\x80\x80\x00xy", 9))) << "a length of six bytes";
  EXPECT_FALSE(walks(std::string_view("\x0a\x03xy", 4))) << "a length past the end";
  EXPECT_EQ(RoutingKey(std::string_view("\x5a\x01k\x5a\x09", 5)), "") << "damaged behind the key";
}

TEST(Compare, NumbersByValueWhateverTheirKind) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max(), kMin = std::numeric_limits<int64_t>::min();
  using Order = std::partial_ordering;
  auto compare = [](Value a, Value b) {
    Order order = Compare(a, b), turned = Compare(b, a);
    EXPECT_TRUE(order == Order::unordered ? turned == Order::unordered : turned == (0 <=> order));
    return order;
  };
  EXPECT_EQ(compare(int64_t{1}, 1.0), Order::equivalent);
  EXPECT_EQ(compare(int64_t{1}, 1.5), Order::less);
  EXPECT_EQ(compare(int64_t{-1}, -1.5), Order::greater);
  EXPECT_EQ(compare(int64_t{0}, -0.0), Order::equivalent);
  // 2^63 - 1 has no real of its own: as a real it would be 2^63.
  EXPECT_EQ(compare(kMax, 9223372036854775808.0), Order::less);
  EXPECT_EQ(compare(kMin, -9223372036854775808.0), Order::equivalent);
  EXPECT_EQ(compare(int64_t{9007199254740993}, 9007199254740992.0), Order::greater);
  EXPECT_EQ(compare(kMin, -1e300), Order::greater);
  EXPECT_EQ(compare(kMax, std::numeric_limits<double>::infinity()), Order::less);
  EXPECT_EQ(compare(kMax, std::nan("")), Order::unordered);
  EXPECT_EQ(compare(std::nan(""), std::nan("")), Order::unordered);
}

TEST(Compare, OtherKindsOnlyWithTheirOwn) {
  using Order = std::partial_ordering;
  EXPECT_EQ(Compare(std::string_view("a"), std::string_view("b")), Order::less);
  EXPECT_EQ(Compare(std::string_view("\xc3\xa9"), std::string_view("z")), Order::greater) << "bytes, not signed chars";
  EXPECT_EQ(Compare(std::string_view("1"), int64_t{1}), Order::unordered);
  EXPECT_EQ(Compare(std::string_view("a"), Binary{"a"}), Order::unordered);
  EXPECT_EQ(Compare(Binary{"a"}, Binary{"a"}), Order::equivalent);
  EXPECT_EQ(Compare(true, int64_t{1}), Order::unordered);
  EXPECT_EQ(Compare(false, true), Order::less);
  EXPECT_EQ(Compare(Value(), Value()), Order::unordered);
}

TEST(OwnedValue, OutlivesWhatItCameFrom) {
  OwnedValue text, binary;
  {
    std::string bytes = "a text that is too long for a short string's own room";
    text = OwnedValue(std::string_view(bytes));
    binary = OwnedValue(Binary{bytes});
    bytes.assign(bytes.size(), 'x');
  }
  OwnedValue copy = text;
  text = OwnedValue(int64_t{5});
  EXPECT_EQ(std::get<std::string_view>(copy.view()).substr(0, 6), "a text");
  EXPECT_EQ(std::get<Binary>(binary.view()).bytes.substr(0, 6), "a text");
  EXPECT_EQ(std::get<int64_t>(text.view()), 5);
  EXPECT_TRUE(IsNull(OwnedValue().view()));
}

}  // namespace
}  // namespace trireme::message
