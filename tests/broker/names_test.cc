#include "broker/cluster/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace trireme::broker {
namespace {

using testing::HasSubstr;

TEST(Names, GoodOnesPass) {
  for (const char* name : {"a", "Z", "0", "orders", "eu-west/orders.v2:retry_1", "9lives"}) {
    EXPECT_TRUE(ValidateQueueName(name).ok()) << name;
  }
  EXPECT_TRUE(ValidateQueueName(std::string(255, 'a')).ok());
}

TEST(Names, BadOnesAreNamedWithTheLimit) {
  struct Case {
    std::string name;
    const char* said;
  };
  for (const Case& c : {Case{"", "empty"},
                        {std::string(256, 'a'), "256 bytes; the limit is 255"},
                        {"a b", "offset 1"},
                        {"a\n", "\\n"},
                        {std::string("a\0b", 3), "offset 1"},
                        {"gr\xc3\xbc\xc3\x9f", "offset 2"},
                        {"-a", "starts with '-'"},
                        {".a", "starts with '.'"},
                        {"/a", "starts with '/'"},
                        {"a*", "letter, a digit, or one of . _ - : /"}}) {
    absl::Status status = ValidateQueueName(c.name);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.said));
    EXPECT_LT(status.message().size(), 400u);
  }
}

}  // namespace
}  // namespace trireme::broker
