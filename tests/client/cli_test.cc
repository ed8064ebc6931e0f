#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "client/bench/process_usage.h"
#include "client/cli/command.h"
#include "client/cli/program.h"
#include "client/error.h"
#include "gmock/gmock.h"
#include "google/rpc/error.pb.h"
#include "gtest/gtest.h"

namespace trireme::client {
namespace {

TEST(ExpandNamesTest, PutsTheNumberIn) {
  EXPECT_EQ(*ExpandNames("q", 1), (std::vector<std::string>{"q"}));
  EXPECT_EQ(*ExpandNames("q-%d", 3), (std::vector<std::string>{"q-1", "q-2", "q-3"}));
  EXPECT_EQ(*ExpandNames("q-%d", 1), (std::vector<std::string>{"q-1"}));
  absl::StatusOr<std::vector<std::string>> bad = ExpandNames("q", 3);
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(bad.status().message().find("q-%d"), absl::string_view::npos);
}

TEST(TextTest, FormatsNumbersPositionsAndTimes) {
  EXPECT_EQ(Thousands(0), "0");
  EXPECT_EQ(Thousands(999), "999");
  EXPECT_EQ(Thousands(1'000), "1,000");
  EXPECT_EQ(Thousands(1'234'567), "1,234,567");
  EXPECT_EQ(PositionText(uint64_t{12} << 16 | 3), "12:3");
  EXPECT_EQ(TimeText(0), "1970-01-01T00:00:00Z");
}

TEST(TextTest, ClusterIdsAreHexadecimal) {
  EXPECT_EQ(*ParseClusterId("000102030405060708090a0b0c0d0e0F"),
            std::string("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f", 16));
  EXPECT_EQ(Hex(*ParseClusterId("000102030405060708090a0b0c0d0e0f")), "000102030405060708090a0b0c0d0e0f");
  for (const char* bad : {"", "00", "zz0102030405060708090a0b0c0d0e0f", "000102030405060708090a0b0c0d0e0f00"}) {
    EXPECT_EQ(ParseClusterId(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(TableTest, AlignsColumns) {
  Table table({"NAME", "N"});
  table.Add({"a", "1"});
  table.Add({"longer", "22"});
  EXPECT_EQ(table.Text(), "NAME    N\na       1\nlonger  22\n");
}

class CommandTest : public testing::Test {
 protected:
  // The exit code; what was written goes to output_ and error_.
  int Run(const std::vector<std::string>& arguments) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = RunProgram(arguments);
    output_ = testing::internal::GetCapturedStdout();
    error_ = testing::internal::GetCapturedStderr();
    return code;
  }

  std::string output_, error_;
};

TEST_F(CommandTest, EveryCommandsHelpHasExamplesAndExitCodes) {
  for (std::vector<std::string> path : std::vector<std::vector<std::string>>{{"cluster", "init"},
                                                                             {"cluster", "status"},
                                                                             {"queue", "create"},
                                                                             {"queue", "list"},
                                                                             {"queue", "describe"},
                                                                             {"queue", "replicas"},
                                                                             {"queue", "delete"},
                                                                             {"queue", "purge"},
                                                                             {"exchange", "create"},
                                                                             {"exchange", "list"},
                                                                             {"exchange", "describe"},
                                                                             {"exchange", "delete"},
                                                                             {"binding", "create"},
                                                                             {"binding", "list"},
                                                                             {"binding", "delete"},
                                                                             {"publish"},
                                                                             {"consume"},
                                                                             {"bench"}}) {
    path.push_back("--help");
    EXPECT_EQ(Run(path), kExitOk) << path[0];
    EXPECT_NE(output_.find("Examples:\n  "), std::string::npos) << path[0];
    EXPECT_NE(output_.find("Exit codes:"), std::string::npos) << path[0];
    for (const char* shared : {"--server", "--timeout", "--output"}) {
      EXPECT_NE(output_.find(shared), std::string::npos) << path[0] << " " << shared;
    }
  }
}

TEST_F(CommandTest, AGroupsHelpIsAboutTheGroup) {
  for (const char* group : {"cluster", "queue", "exchange", "binding"}) {
    EXPECT_EQ(Run({group, "--help"}), kExitOk);
    EXPECT_NE(output_.find(absl::StrCat("`trireme ", group, " COMMAND --help`")), std::string::npos) << output_;
    EXPECT_EQ(output_.find("trireme bench"), std::string::npos) << output_;
  }
  EXPECT_EQ(Run({"--help"}), kExitOk);
  EXPECT_NE(output_.find("trireme bench"), std::string::npos) << output_;
}

TEST_F(CommandTest, WhatIsMisspeltIsNamedWithWhatWasMeant) {
  const auto says = [&](const std::vector<std::string>& arguments, const std::string& first, const std::string& last) {
    EXPECT_EQ(Run(arguments), kExitUsage);
    EXPECT_EQ(error_, absl::StrCat("trireme: ", first, "\n", last, "\n"));
  };
  says({"queue", "lst"}, "trireme queue has no command 'lst'; did you mean list?",
       "`trireme queue --help` says what it takes");
  says({"queu"}, "trireme has no command 'queu'; did you mean queue?", "`trireme --help` says what it takes");
  says({"zzzzz"}, "trireme has no command 'zzzzz'", "`trireme --help` says what it takes");
  says({"queue", "create", "-bad"}, "trireme queue create has no option -bad",
       "`trireme queue create --help` says what it takes");
  says({"queue", "create", "q", "--replcias", "3"},
       "trireme queue create has no option --replcias; did you mean --replicas?",
       "`trireme queue create --help` says what it takes");
  says({"queue", "create", "q", "--replcias=3"},
       "trireme queue create has no option --replcias=3; did you mean --replicas?",
       "`trireme queue create --help` says what it takes");
  says({"queue", "list", "--tmieout", "3"}, "trireme queue list has no option --tmieout; did you mean --timeout?",
       "`trireme queue list --help` says what it takes");
  says({"queue", "create", "q", "r"}, "trireme queue create has no use for 'r'",
       "`trireme queue create --help` says what it takes");
  says({"queue", "create"}, "trireme queue create: NAME is required",
       "`trireme queue create --help` says what it takes");
}

TEST_F(CommandTest, NumbersOutOfRangeAreShort) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"bench", "--duration", "0"}, {"consume", "q", "--count", "0"}, {"queue", "list", "--limit", "0"}}) {
    EXPECT_EQ(Run(arguments), kExitUsage);
    EXPECT_NE(error_.find("0 is no number above 0"), std::string::npos) << error_;
    EXPECT_LT(error_.size(), 150u) << error_;
  }
}

TEST_F(CommandTest, ErrorsAreJsonWhereThatIsAskedFor) {
  const auto code = [&](const std::vector<std::string>& arguments) -> std::string {
    EXPECT_EQ(Run(arguments), kExitUsage);
    const Json json = Json::parse(output_, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return "no JSON: " + output_;
    EXPECT_EQ(json["error"]["exit_code"], kExitUsage);
    EXPECT_NE(json["error"]["message"], "");
    return json["error"]["code"];
  };
  EXPECT_EQ(code({"queue", "list", "--nonsense", "--output", "json"}), "INVALID_ARGUMENT");
  EXPECT_EQ(code({"--output=json", "queue", "create"}), "INVALID_ARGUMENT");
  EXPECT_EQ(code({"queue", "create", "q", "--count", "3", "--output", "json"}), "INVALID_ARGUMENT");
  EXPECT_EQ(code({"--server", "host:0", "queue", "list", "--output", "json"}), "INVALID_ARGUMENT");
  EXPECT_EQ(Run({"queue", "create"}), kExitUsage);
  EXPECT_EQ(output_, "");
}

TEST_F(CommandTest, WhatIsGivenTwiceOrInVainIsRefused) {
  EXPECT_EQ(Run({"publish", "q", "text", "--lines"}), kExitUsage);
  EXPECT_NE(error_.find("--lines"), std::string::npos) << error_;
  EXPECT_EQ(Run({"publish", "q", "text", "--first-sequence", "1"}), kExitUsage);
  EXPECT_NE(error_.find("--producer"), std::string::npos) << error_;
  EXPECT_EQ(Run({"publish", "q", "text", "--producer", "p", "--first-sequence", "0"}), kExitUsage);
  EXPECT_EQ(Run({"bench", "--queues", "2", "--queue", "x"}), kExitUsage);
  EXPECT_NE(error_.find("x-%d"), std::string::npos) << error_;
}

TEST(NearestTest, FindsOneThatIsNearAndNoOther) {
  EXPECT_EQ(Nearest("lst", {"create", "list", "purge"}), "list");
  EXPECT_EQ(Nearest("--replcias", {"--replicas", "--output"}), "--replicas");
  EXPECT_EQ(Nearest("x", {"list"}), "");
  EXPECT_EQ(Nearest("destroy", {"delete", "create"}), "");
}

TEST(ErrorTest, KeepsWhatABrokerAttaches) {
  EXPECT_FALSE(SaidByBroker(ToStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "no connection"))));
  google::rpc::ErrorInfo info;
  info.set_domain("trireme");
  info.set_reason("QUEUE_NOT_FOUND");
  (*info.mutable_metadata())["name"] = "orders";
  google::rpc::Status details;
  details.add_details()->PackFrom(info);
  const absl::Status status =
      ToStatus(grpc::Status(grpc::StatusCode::NOT_FOUND, "no queue", details.SerializeAsString()));
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_TRUE(SaidByBroker(status));
  const absl::Status other = WithFacts(absl::StatusCode::kDeadlineExceeded, "other words", status);
  EXPECT_EQ(FactsOf(other).reason, "QUEUE_NOT_FOUND");
  EXPECT_EQ(FactsOf(other).name, "orders");
  EXPECT_EQ(other.message(), "other words");
}

TEST_F(CommandTest, WrongUsageIsToldApartAndNamesTheValue) {
  EXPECT_EQ(Run({}), kExitUsage);
  EXPECT_EQ(Run({"nonsense"}), kExitUsage);
  EXPECT_EQ(Run({"queue", "create"}), kExitUsage);
  EXPECT_EQ(Run({"queue", "create", "q", "--count", "0"}), kExitUsage);
  EXPECT_EQ(Run({"queue", "list", "--output", "xml"}), kExitUsage);
  EXPECT_NE(error_.find("xml"), std::string::npos);
  EXPECT_EQ(Run({"publish", "q", "text", "--file", "f"}), kExitUsage);
}

TEST(ParseHeaderTest, TextsNumbersTruthsAndPresence) {
  EXPECT_EQ(ParseHeader("a=b=c")->name, "a");
  EXPECT_EQ(ParseHeader("a=b=c")->value.text(), "b=c");
  EXPECT_EQ(ParseHeader("a=3")->value.text(), "3");
  EXPECT_EQ(ParseHeader("a:=3")->value.integer(), 3);
  EXPECT_EQ(ParseHeader("a:=-9223372036854775808")->value.integer(), INT64_MIN);
  EXPECT_EQ(ParseHeader("a:=9223372036854775808")->value.real(), 9223372036854775808.0);
  EXPECT_EQ(ParseHeader("a:=2.5")->value.real(), 2.5);
  EXPECT_TRUE(ParseHeader("a:=true")->value.boolean());
  EXPECT_EQ(ParseHeader("a:=\"t\"")->value.text(), "t");
  EXPECT_EQ(ParseHeader("a=")->value.kind_case(), v1::Value::kText);
  EXPECT_EQ(ParseHeader("a")->value.kind_case(), v1::Value::KIND_NOT_SET);
  for (const char* bad : {"", "=x", ":=1", "a:=", "a:=x", "a:=[1]", "a:=null"}) {
    EXPECT_EQ(ParseHeader(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST_F(CommandTest, ABindingLeadsToOneThing) {
  EXPECT_EQ(Run({"binding", "create", "e"}), kExitUsage);
  EXPECT_EQ(Run({"binding", "create", "e", "--queue", "q", "--to-exchange", "f"}), kExitUsage);
  EXPECT_EQ(Run({"binding", "create", "e", "--queue", "q", "--match", "some"}), kExitUsage);
  EXPECT_EQ(Run({"binding", "create", "e", "--queue", "q", "--header", "a:=x"}), kExitUsage);
  EXPECT_NE(error_.find("--header a:=x"), std::string::npos) << error_;
  EXPECT_EQ(Run({"exchange", "create", "e"}), kExitUsage);
  EXPECT_EQ(Run({"exchange", "create", "e", "--type", "round"}), kExitUsage);
}

TEST_F(CommandTest, ABadServerIsNamed) {
  EXPECT_EQ(Run({"--server", "host:99999", "queue", "list"}), kExitUsage);
  EXPECT_NE(error_.find("\"host:99999\""), std::string::npos) << error_;
  EXPECT_NE(error_.find("TRIREME_SERVER"), std::string::npos) << error_;
}

TEST_F(CommandTest, BadBenchOptionsNameTheLimit) {
  EXPECT_EQ(Run({"bench", "--size", "10"}), kExitUsage);
  EXPECT_NE(error_.find("--size is 10; it must be 24 to"), std::string::npos) << error_;
}

TEST_F(CommandTest, BadHeadersAndFilesAreNamed) {
  EXPECT_EQ(Run({"publish", "q", "x", "--header", "nonsense"}), kExitUsage);
  EXPECT_NE(error_.find("--header nonsense is not NAME=VALUE"), std::string::npos) << error_;
}

TEST_F(CommandTest, MissingFilesAreNamed) {
  EXPECT_EQ(Run({"publish", "q", "--file", "/nowhere/at/all"}), kExitUsage);
  EXPECT_NE(error_.find("/nowhere/at/all"), std::string::npos) << error_;
}

TEST(ProcessUsageTest, ReadsThisProcess) {
  absl::StatusOr<ProcessUsage> usage = ReadProcessUsage(getpid());
  ASSERT_TRUE(usage.ok()) << usage.status();
  EXPECT_GT(usage->resident_bytes, 1u << 20);
  EXPECT_GE(usage->peak_resident_bytes, usage->resident_bytes);
  EXPECT_EQ(ReadProcessUsage(-1).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace trireme::client
