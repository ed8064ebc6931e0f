#include <unistd.h>

#include "client/bench/process_usage.h"
#include "client/cli/command.h"
#include "gmock/gmock.h"
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

// One program's worth of commands.
class CommandTest : public testing::Test {
 protected:
  CommandTest() {
    app_.require_subcommand(1);
    app_.fallthrough();
    AddClusterCommands(app_, command_);
    AddQueueCommands(app_, command_);
    AddExchangeCommands(app_, command_);
    AddBindingCommands(app_, command_);
    AddPublishCommand(app_, command_);
    AddConsumeCommand(app_, command_);
    AddBenchCommand(app_, command_);
  }
  // The exit code; what was written goes to output_ and error_.
  int Run(std::vector<std::string> arguments) {
    std::reverse(arguments.begin(), arguments.end());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    int code;
    try {
      app_.parse(arguments);
      code = command_.Run();
    } catch (const CLI::ParseError& error) {
      code = app_.exit(error) == 0 ? kExitOk : kExitUsage;
    }
    output_ = testing::internal::GetCapturedStdout();
    error_ = testing::internal::GetCapturedStderr();
    return code;
  }

  CLI::App app_{"test", "trireme"};
  Command command_{app_};
  std::string output_, error_;
};

TEST_F(CommandTest, EveryCommandsHelpHasExamplesAndExitCodes) {
  for (std::vector<std::string> path : std::vector<std::vector<std::string>>{{"cluster", "init"},
                                                                             {"cluster", "status"},
                                                                             {"queue", "create"},
                                                                             {"queue", "list"},
                                                                             {"queue", "describe"},
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
  }
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
