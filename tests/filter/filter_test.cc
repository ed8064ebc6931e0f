#include "broker/filter/filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "trireme/v1/message.pb.h"

namespace trireme::filter {
namespace {

namespace v1 = trireme::v1;
using testing::HasSubstr;

// An order as the cases below know it. `absent` and whatever else is not here is NULL.
std::string Order() {
  v1::Message message;
  auto& headers = *message.mutable_headers();
  headers["colour"].set_text("red");
  headers["code"].set_text("50%_off");
  headers["town"].set_text("Besan\u00e7on");
  headers["count"].set_integer(7);
  headers["least"].set_integer(INT64_MIN);
  headers["weight"].set_real(2.5);
  headers["urgent"].set_boolean(true);
  headers["paid"].set_boolean(false);
  headers["blob"].set_binary("xyz");
  headers["blob2"].set_binary("xyz");
  headers["x-type"].set_text("dashed");
  headers["it's \"q\""].set_text("odd");
  headers["sys.key"].set_text("a header, not the key");
  headers["app.version"].set_integer(3);
  headers["nothing"];
  message.set_key("k-17");
  message.set_routing_key("eu.order");
  message.set_content_type("text/plain");
  message.set_due_at_ms(1'000);
  message.set_body(std::string(5, '\xff'));
  return message.SerializeAsString();
}

Truth Of(std::string_view text) {
  absl::StatusOr<Filter> filter = Filter::Parse(text);
  EXPECT_TRUE(filter.ok()) << text << ": " << filter.status();
  return filter.ok() ? filter->Evaluate(Order()) : Truth::kUnknown;
}

struct Case {
  const char* text;
  Truth truth;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.text;
}
constexpr Truth kTrue = Truth::kTrue, kFalse = Truth::kFalse, kUnknown = Truth::kUnknown;

class Conditions : public testing::TestWithParam<Case> {};

TEST_P(Conditions, AreJudged) {
  EXPECT_EQ(Of(GetParam().text), GetParam().truth);
}

INSTANTIATE_TEST_SUITE_P(
    Comparisons, Conditions,
    testing::Values(Case{"colour = 'red'", kTrue}, Case{"colour <> 'red'", kFalse}, Case{"colour != 'blue'", kTrue},
                    Case{"colour='Red'", kFalse}, Case{"'red' = colour", kTrue}, Case{"colour < 'reds'", kTrue},
                    Case{"colour >= 'red'", kTrue}, Case{"count > 6", kTrue}, Case{"count>6.5", kTrue},
                    Case{"count = 7.0", kTrue}, Case{"count <= 6", kFalse}, Case{"count = -7", kFalse},
                    Case{"least = -9223372036854775808", kTrue}, Case{"weight = 25e-1", kTrue},
                    Case{"weight < .5", kFalse}, Case{"weight > -3.", kTrue}, Case{"count > weight", kTrue},
                    Case{"1 < 2", kTrue}, Case{"urgent = TRUE", kTrue}, Case{"urgent <> false", kTrue},
                    Case{"paid = urgent", kFalse}, Case{"blob = blob2", kTrue}, Case{"blob <> blob2", kFalse}));

INSTANTIATE_TEST_SUITE_P(WhatDoesNotCompareIsUnknown, Conditions,
                         testing::Values(Case{"colour = 7", kUnknown}, Case{"colour <> 7", kUnknown},
                                         Case{"count = '7'", kUnknown}, Case{"absent = 1", kUnknown},
                                         Case{"absent <> 1", kUnknown}, Case{"absent = absent", kUnknown},
                                         Case{"nothing = 1", kUnknown}, Case{"urgent = 1", kUnknown},
                                         Case{"urgent > paid", kUnknown}, Case{"blob < blob2", kUnknown},
                                         Case{"blob = 'xyz'", kUnknown}, Case{"Colour = 'red'", kUnknown}));

INSTANTIATE_TEST_SUITE_P(
    ThreeTruths, Conditions,
    testing::Values(Case{"urgent", kTrue}, Case{"paid", kFalse}, Case{"absent", kUnknown}, Case{"colour", kUnknown},
                    Case{"TRUE", kTrue}, Case{"false", kFalse}, Case{"NOT urgent", kFalse},
                    Case{"NOT absent", kUnknown}, Case{"urgent AND absent", kUnknown}, Case{"paid AND absent", kFalse},
                    Case{"absent AND paid", kFalse}, Case{"absent AND absent", kUnknown},
                    Case{"urgent OR absent", kTrue}, Case{"absent OR urgent", kTrue}, Case{"paid OR absent", kUnknown},
                    Case{"NOT (absent = 1 OR paid)", kUnknown}, Case{"NOT NOT urgent", kTrue},
                    // AND binds more tightly than OR, NOT than both.
                    Case{"urgent OR urgent AND paid", kTrue}, Case{"(urgent OR urgent) AND paid", kFalse},
                    Case{"NOT paid AND paid", kFalse}, Case{"NOT (paid AND paid)", kTrue},
                    Case{"paid or paid or urgent and urgent", kTrue}));

INSTANTIATE_TEST_SUITE_P(
    InBetweenNull, Conditions,
    testing::Values(Case{"colour IN ('blue', 'red')", kTrue}, Case{"colour in('blue')", kFalse},
                    Case{"colour NOT IN ('blue')", kTrue}, Case{"count IN (1, 7.0)", kTrue},
                    Case{"count IN ('7', 7)", kTrue}, Case{"count IN ('7', 8)", kUnknown},
                    Case{"absent IN (1)", kUnknown}, Case{"absent NOT IN (1)", kUnknown},
                    Case{"count IN (-7, 0)", kFalse}, Case{"count BETWEEN 7 AND 7", kTrue},
                    Case{"count BETWEEN 8 AND 9", kFalse}, Case{"count NOT BETWEEN 8 AND 9", kTrue},
                    Case{"count BETWEEN weight AND 8 AND urgent", kTrue}, Case{"count BETWEEN 9 AND 'x'", kFalse},
                    Case{"count BETWEEN 1 AND absent", kUnknown}, Case{"colour BETWEEN 'a' AND 's'", kTrue},
                    Case{"absent IS NULL", kTrue}, Case{"nothing IS NULL", kTrue}, Case{"colour IS NULL", kFalse},
                    Case{"colour is not null", kTrue}, Case{"NOT absent IS NOT NULL", kTrue}));

INSTANTIATE_TEST_SUITE_P(
    Like, Conditions,
    testing::Values(Case{"colour LIKE 'r%'", kTrue}, Case{"colour LIKE '%d'", kTrue}, Case{"colour LIKE 'r_d'", kTrue},
                    Case{"colour LIKE '%'", kTrue}, Case{"colour LIKE ''", kFalse}, Case{"colour LIKE 'r'", kFalse},
                    Case{"colour LIKE '____'", kFalse}, Case{"colour NOT LIKE 'b%'", kTrue},
                    Case{"colour LIKE '%e%'", kTrue}, Case{"colour LIKE 'r%r'", kFalse},
                    Case{"code LIKE '50!%!_%' ESCAPE '!'", kTrue}, Case{"code LIKE '50!_%' ESCAPE '!'", kFalse},
                    Case{"code LIKE '%!_o%' escape '!'", kTrue}, Case{"town LIKE 'Besan_on'", kTrue},
                    Case{"town LIKE 'Besan__on'", kFalse}, Case{"town LIKE '%\u00e7%'", kTrue},
                    Case{"count LIKE '7'", kUnknown}, Case{"absent LIKE '%'", kUnknown},
                    Case{"absent NOT LIKE '%'", kUnknown}, Case{"blob LIKE 'xyz'", kUnknown}));

INSTANTIATE_TEST_SUITE_P(Names, Conditions,
                         testing::Values(Case{"\"x-type\" = 'dashed'", kTrue},
                                         Case{"\"it's \"\"q\"\"\" = 'odd'", kTrue}, Case{"app.version = 3", kTrue},
                                         Case{"sys.key = 'k-17'", kTrue}, Case{"SYS.key LIKE 'k%'", kTrue},
                                         Case{"\"sys.key\" LIKE 'a header%'", kTrue},
                                         Case{"sys.routing_key LIKE 'eu.%'", kTrue},
                                         Case{"sys.content_type = 'text/plain'", kTrue},
                                         Case{"sys.due_at_ms = 1000", kTrue}, Case{"sys.expires_at_ms IS NULL", kTrue},
                                         Case{"sys.id IS NULL", kTrue}, Case{"sys.priority = 0", kTrue},
                                         Case{"sys.correlation_id IS NULL AND sys.reply_to IS NULL", kTrue}));

TEST(Filter, PriorityAndIdAreTheMessagesOwn) {
  v1::Message message;
  message.set_priority(9);
  message.set_id("order-1");
  (*message.mutable_headers())["priority"].set_integer(1);
  absl::StatusOr<Filter> filter = Filter::Parse("sys.priority = 9 AND priority = 1 AND sys.id LIKE 'order-%'");
  ASSERT_TRUE(filter.ok());
  EXPECT_TRUE(filter->Matches(message.SerializeAsString()));
  EXPECT_EQ(filter->text(), "sys.priority = 9 AND priority = 1 AND sys.id LIKE 'order-%'");
}

TEST(Filter, UnknownDoesNotMatchAndDamageIsUnknown) {
  absl::StatusOr<Filter> filter = Filter::Parse("absent IS NULL");
  ASSERT_TRUE(filter.ok());
  EXPECT_TRUE(filter->Matches(""));
  EXPECT_EQ(filter->Evaluate("\x0a\x7f"), Truth::kUnknown);
  EXPECT_FALSE(filter->Matches("\x0a\x7f"));
}

TEST(Filter, AHeaderThatIsThereTwiceCountsAsTheLastOne) {
  v1::Message first, second;
  (*first.mutable_headers())["n"].set_integer(1);
  (*second.mutable_headers())["n"];
  absl::StatusOr<Filter> filter = Filter::Parse("n IS NULL");
  ASSERT_TRUE(filter.ok());
  EXPECT_FALSE(filter->Matches(second.SerializeAsString() + first.SerializeAsString()));
  EXPECT_TRUE(filter->Matches(first.SerializeAsString() + second.SerializeAsString()));
}

struct Refusal {
  const char* text;
  int column;
  const char* says;
};
void PrintTo(const Refusal& r, std::ostream* out) {
  *out << r.text;
}

class Refusals : public testing::TestWithParam<Refusal> {};

TEST_P(Refusals, NameTheColumn) {
  absl::StatusOr<Filter> filter = Filter::Parse(GetParam().text);
  ASSERT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(filter.status().message());
  EXPECT_THAT(message, HasSubstr("filter, column " + std::to_string(GetParam().column) + ": "));
  EXPECT_THAT(message, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, Refusals,
    testing::Values(
        Refusal{"", 1, "expected a name or a value, not the end"}, Refusal{"   ", 4, "not the end"},
        Refusal{"colour =", 9, "expected a name or a value, not the end"}, Refusal{"colour = = 1", 10, "not ="},
        Refusal{"colour 'red'", 8, "expected AND, OR or the end, not the text 'red'"},
        Refusal{"(a = 1", 7, "expected ')', not the end"}, Refusal{"a = 1)", 6, "not )"}, Refusal{"()", 2, "not )"},
        Refusal{"a = 'red", 5, "no closing '"}, Refusal{"\"a = 1", 1, "no closing \""}, Refusal{"\"\" = 1", 1, "empty"},
        Refusal{"a = 1 AND", 10, "not the end"}, Refusal{"AND a", 1, "not AND"},
        Refusal{"a NOT 1", 7, "BETWEEN, IN or LIKE"}, Refusal{"a IS 1", 6, "expected NULL, not 1"},
        Refusal{"a = NULL", 5, "IS NULL"}, Refusal{"a IN 1", 6, "IN's '('"}, Refusal{"a IN ()", 7, "not )"},
        Refusal{"a IN (1,)", 9, "not )"}, Refusal{"a IN (1 2)", 9, "',' or ')'"}, Refusal{"a IN (b)", 7, "not b"},
        Refusal{"a BETWEEN 1", 12, "BETWEEN's AND"}, Refusal{"a BETWEEN TRUE AND 2", 11, "no order"},
        Refusal{"TRUE < a", 1, "no order"}, Refusal{"a LIKE b", 8, "pattern in single quotes"},
        Refusal{"a LIKE 'b' ESCAPE ''", 19, "one character"}, Refusal{"a LIKE 'b' ESCAPE 'xy'", 19, "one character"},
        Refusal{"a LIKE 'b!c' ESCAPE '!'", 10, "escape"}, Refusal{"a LIKE '''!' ESCAPE '!'", 11, "escape"},
        Refusal{"a LIKE '\u00e7!c' ESCAPE '!'", 10, "escape"},
        Refusal{"x-type = 'a'", 2, "expected AND, OR or the end, not -"}, Refusal{"a = -'x'", 6, "number after '-'"},
        Refusal{"a = 1 + 1", 7, "'+' has no meaning here"}, Refusal{"\u00e9 = 1", 1, "double quotes"},
        Refusal{"'\u00e7\u00e7' = \u00e9", 8, "double quotes"}, Refusal{"a = 1x", 6, "no digit"},
        Refusal{"a = 1.2.3", 8, "no digit"}, Refusal{"a = 1e", 5, "exponent"},
        Refusal{"a = 9223372036854775808", 5, "beyond 64 bits"},
        Refusal{"a = -9223372036854775809", 6, "beyond 64 bits"},
        Refusal{"a = 99999999999999999999999", 5, "beyond 64 bits"},
        Refusal{"a = 1e999", 5, "beyond what a real holds"}, Refusal{"5", 2, "expected a comparison after 5"},
        Refusal{"'x' AND a", 5, "expected a comparison after the text 'x'"},
        Refusal{"sys.colour = 1", 1, "it has sys.key, id, priority"},
        Refusal{"a = 1; DROP TABLE", 6, "';' has no meaning"}));

TEST(Filter, LengthAndNestingAreBounded) {
  auto nested = [](int depth) { return std::string(depth, '(') + "a" + std::string(depth, ')'); };
  EXPECT_TRUE(Filter::Parse(nested(kMaxNesting)).ok());
  absl::Status deep = Filter::Parse(nested(kMaxNesting + 1)).status();
  EXPECT_THAT(std::string(deep.message()), HasSubstr("column 33: parentheses and NOTs nest more than 32 deep"));
  std::string nots;
  for (int i = 0; i <= kMaxNesting; ++i) nots += "NOT ";
  EXPECT_THAT(std::string(Filter::Parse(nots + "a").status().message()), HasSubstr("nest more than 32 deep"));

  // A long series is not deep.
  std::string series = "a=1";
  while (series.size() + 7 <= kMaxFilterBytes) series += " OR a=1";
  EXPECT_TRUE(Filter::Parse(series).ok());
  const std::string long_text = "a = '" + std::string(kMaxFilterBytes, 'x') + "'";
  EXPECT_THAT(std::string(Filter::Parse(long_text).status().message()), HasSubstr("has 4102 bytes; the limit is 4096"));
}

TEST(Filter, LikeLooksAtBoundedTextsOnly) {
  absl::StatusOr<Filter> filter = Filter::Parse("h LIKE '%a'");
  ASSERT_TRUE(filter.ok());
  v1::Message message;
  (*message.mutable_headers())["h"].set_text(std::string(kMaxLikeBytes, 'a'));
  EXPECT_EQ(filter->Evaluate(message.SerializeAsString()), Truth::kTrue);
  (*message.mutable_headers())["h"].set_text(std::string(kMaxLikeBytes + 1, 'a'));
  EXPECT_EQ(filter->Evaluate(message.SerializeAsString()), Truth::kUnknown);
}

}  // namespace
}  // namespace trireme::filter
