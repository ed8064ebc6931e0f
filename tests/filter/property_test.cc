// The filter against its twin, and against texts that nobody meant to write.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "broker/filter/filter.h"
#include "tests/filter/twin.h"

namespace trireme::filter {
namespace {

Truth ToTruth(std::optional<bool> truth) {
  return !truth ? Truth::kUnknown : *truth ? Truth::kTrue : Truth::kFalse;
}

class Filters : public testing::TestWithParam<uint64_t> {};

TEST_P(Filters, JudgeAsTheirTwinsDo) {
  SCOPED_TRACE("replay: filter_property_test --gtest_filter=*Filters* (seed " + std::to_string(GetParam()) + ")");
  std::mt19937_64 random(GetParam());
  int seen[3] = {0, 0, 0};
  for (int i = 0; i < 600; ++i) {
    auto twin = RandomCondition(random, static_cast<int>(random() % 4));
    const std::string text = twin->Write(random);
    if (text.size() > kMaxFilterBytes) continue;
    absl::StatusOr<Filter> filter = Filter::Parse(text);
    ASSERT_TRUE(filter.ok()) << text << "\n" << filter.status();
    const Filter copy = *filter;
    for (int j = 0; j < 12; ++j) {
      trireme::v1::Message encoded;
      const TwinMessage message = RandomMessage(random, &encoded);
      const Truth truth = copy.Evaluate(encoded.SerializeAsString());
      ASSERT_EQ(truth, ToTruth(twin->Judge(message))) << text << "\n" << encoded.DebugString();
      ++seen[static_cast<int>(truth)];
    }
  }
  // A comparison that says little proves little.
  for (int n : seen) EXPECT_GT(n, 500);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Filters, testing::Range<uint64_t>(1, 21));

// What is refused is refused at a column of the text; what is taken can be evaluated. Nothing else happens.
void Try(const std::string& text, const std::string& message, int* taken) {
  const std::vector<char> exact(text.begin(), text.end());  // for the address sanitizer
  absl::StatusOr<Filter> filter = Filter::Parse({exact.data(), exact.size()});
  if (filter.ok()) {
    ++*taken;
    filter->Evaluate(message);
    return;
  }
  ASSERT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string error(filter.status().message());
  const std::string head = "filter, column ";
  ASSERT_EQ(error.rfind(head, 0), 0u) << error;
  const size_t column = std::stoul(error.substr(head.size()));
  ASSERT_GE(column, 1u);
  ASSERT_LE(column, text.size() + 1) << text << "\n" << error;
}

class Texts : public testing::TestWithParam<uint64_t> {};

TEST_P(Texts, MutatedOrRandomAreTakenOrRefused) {
  std::mt19937_64 random(GetParam());
  const std::vector<std::string> words = {
      "AND", "OR", "NOT", "IN",   "LIKE",    "ESCAPE", "BETWEEN", "IS", "NULL", "TRUE",  "(",
      ")",   ",",  "=",   "<>",   "<",       "a",      "'x'",     "'",  "\"",   "\"b\"", "1",
      "-",   ".5", "1e9", "'%_'", "sys.key", "sys.",   "\n",      "!",  "\xc3", "\xff",  std::string(1, '\0')};
  trireme::v1::Message encoded;
  RandomMessage(random, &encoded);
  const std::string message = encoded.SerializeAsString();
  int taken = 0;
  for (int i = 0; i < 4'000 && !HasFatalFailure(); ++i) {
    std::string text;
    switch (random() % 3) {
      case 0:  // words in any order
        for (uint64_t n = random() % 12; n > 0; --n)
          text += words[random() % words.size()] + (random() % 3 == 0 ? "" : " ");
        break;
      case 1:  // bytes
        for (uint64_t n = random() % 40; n > 0; --n) text += static_cast<char>(random());
        break;
      default: {  // a good one with a few bytes changed, taken out or put in
        text = RandomCondition(random, 2)->Write(random);
        if (text.size() > kMaxFilterBytes) continue;
        for (uint64_t n = random() % 3; n > 0 && !text.empty(); --n) {
          const size_t at = random() % text.size();
          const uint64_t kind = random() % 3;
          if (kind == 0) text[at] = static_cast<char>(random());
          if (kind == 1) text.erase(at, 1 + random() % 4);
          if (kind == 2 && text.size() < kMaxFilterBytes - 10) text.insert(at, words[random() % words.size()]);
        }
      }
    }
    Try(text, message, &taken);
  }
  EXPECT_GT(taken, 200);
  EXPECT_LT(taken, 3'000);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Texts, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace trireme::filter
