#include "broker/ops/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "broker/ops/disk_monitor.h"
#include "broker/ops/log.h"
#include "tests/broker/temp_dir.h"

namespace trireme::broker {
namespace {

using testing::HasSubstr;

absl::StatusOr<Config> Read(std::vector<std::string> args, std::vector<std::string> environment = {}) {
  auto read = ReadConfig(args, environment);
  if (!read.ok()) return read.status();
  EXPECT_EQ(read->action, CommandLine::Action::kRun) << read->text;
  return read->config;
}

TEST(Config, Defaults) {
  auto config = Read({"--data", "/d"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->data, "/d");
  EXPECT_EQ(config->advertise, config->listen);
  EXPECT_EQ(config->join, std::vector<std::string>{config->listen});
  EXPECT_EQ(config->tick, std::chrono::milliseconds(50));
  EXPECT_EQ(config->young_log_bytes, uint64_t{512} << 20);
  EXPECT_EQ(config->max_message_bytes, 3'670'016u);
  EXPECT_EQ(config->replica_lag_bytes, uint64_t{256} << 20);
  EXPECT_EQ(config->replica_lag_entries, 1'000'000u);
}

TEST(Config, FlagsBeatTheEnvironmentWhichBeatsTheFile) {
  TempDir dir;
  std::string file = dir.path() + "/trireme.toml";
  std::ofstream(file) << "data = \"/from-file\"\ntick_ms = 20\nlog_level = \"debug\"\nlisten = \"127.0.0.1:1\"\n"
                         "join = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n";
  auto config = Read({"--config", file, "--log-level", "error"},
                     {"TRIREME_LOG_LEVEL=warn", "TRIREME_TICK_MS=30", "TRIREME_SERVER=x", "HOME=/"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->data, "/from-file");
  EXPECT_EQ(config->tick, std::chrono::milliseconds(30));
  EXPECT_EQ(config->log_level, "error");
  EXPECT_EQ(config->join.size(), 2u);
  auto by_environment = Read({}, {"TRIREME_CONFIG=" + file});
  ASSERT_TRUE(by_environment.ok());
  EXPECT_EQ(by_environment->tick, std::chrono::milliseconds(20));
}

TEST(Config, BadValuesAreNamedWithTheirSourceAndLimit) {
  struct Case {
    std::vector<std::string> args;
    std::vector<std::string> said;
  };
  for (const Case& c : std::vector<Case>{
           {{}, {"--data"}},
           {{"--data", ""}, {"--data"}},
           {{"--data", "/d", "--tick-ms", "4"}, {"--tick-ms", "\"4\"", "5 to 10000"}},
           {{"--data", "/d", "--tick-ms", "-50"}, {"--tick-ms", "-50"}},
           {{"--data", "/d", "--tick-ms", "50ms"}, {"--tick-ms", "50ms"}},
           {{"--data", "/d", "--tick-ms", "99999999999999999999"}, {"--tick-ms", "99999999999999999999", "10000"}},
           {{"--data", "/d", "--election-ticks", "2"}, {"--election-ticks", "3 to 1000"}},
           {{"--data", "/d", "--shards", "65"}, {"--shards", "1 to 64"}},
           {{"--data", "/d", "--shards", "0"}, {"--shards", "1 to 64"}},
           {{"--data", "/d", "--log-level", "loud"}, {"--log-level", "loud", "debug, info, warn, error"}},
           {{"--data", "/d", "--listen", "nowhere"}, {"--listen", "nowhere", "host:port"}},
           {{"--data", "/d", "--listen", "a:0"}, {"--listen", "a:0", "1 to 65535"}},
           {{"--data", "/d", "--listen", "a:65536"}, {"--listen", "65535"}},
           {{"--data", "/d", "--listen", "a b:1"}, {"--listen", "a b:1"}},
           {{"--data", "/d", "--listen", std::string(300, 'a') + ":1"}, {"--listen", "302 bytes", "255"}},
           {{"--data", "/d", "--listen", "0.0.0.0:7650"}, {"0.0.0.0:7650", "--advertise"}},
           {{"--data", "/d", "--join", "a:1,b:1"}, {"--advertise", "a:1,b:1", "127.0.0.1:7650"}},
           {{"--data", "/d", "--advertise", "a:1", "--join", "a:1,b:1,a:1"}, {"--join", "a:1 twice"}},
           {{"--data", "/d", "--max-message-bytes", "15728641"},
            {"--max-message-bytes", "15728640", "fit into one frame"}},
           {{"--data", "/d", "--young-log-mb", "1"}, {"--young-log-mb", "128"}},
           {{"--data", "/d", "--no-such-option"}, {"--no-such-option"}},
           {{"--data", "/d", "stray"}, {"stray"}},
           {{"--data", "/d", "--config", "/no/such/file"}, {"/no/such/file"}},
       }) {
    auto config = Read(c.args);
    EXPECT_FALSE(config.ok()) << testing::PrintToString(c.args);
    for (const std::string& part : c.said) EXPECT_THAT(std::string(config.status().message()), HasSubstr(part));
  }
  EXPECT_THAT(std::string(Read({"--data", "/d"}, {"TRIREME_TICK_MS=x"}).status().message()),
              HasSubstr("TRIREME_TICK_MS"));
}

TEST(Config, BadFilesAreNamedWithTheLine) {
  TempDir dir;
  std::string file = dir.path() + "/trireme.toml";
  for (const auto& [text, said] : std::vector<std::pair<std::string, std::string>>{
           {"data = \"/d\"\ntick_ms = 1\n", "line 2"},
           {"data = \"/d\"\n\nno_such = 1\n", "no such option"},
           {"data = /d\n", "line 1"},
           {"data = \"/d\"\ntick_ms = 1.5\n", "tick_ms"},
           {"data = \"/d\"\njoin = [1, 2]\n", "strings only"},
           {"[section]\ndata = \"/d\"\n", "section"},
       }) {
    std::ofstream(file) << text;
    auto config = Read({"--config", file});
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(said));
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(file));
  }
}

TEST(Config, EveryOptionIsInHelpAndDocsWithItsUnitAndDefault) {
  auto help = ReadConfig({"--help"}, {});
  auto docs = ReadConfig({"--print-config-docs"}, {});
  ASSERT_TRUE(help.ok());
  ASSERT_TRUE(docs.ok());
  EXPECT_EQ(help->action, CommandLine::Action::kPrint);
  for (const OptionSpec& option : Options()) {
    for (const std::string& text : {help->text, docs->text}) {
      EXPECT_THAT(text, HasSubstr("--" + std::string(option.name)));
      EXPECT_THAT(text, HasSubstr(std::string(option.default_text)));
    }
    EXPECT_FALSE(option.help.empty());
  }
  EXPECT_THAT(docs->text, HasSubstr("`TRIREME_YOUNG_LOG_MB`"));
  EXPECT_THAT(docs->text, HasSubstr("MiB"));
  EXPECT_EQ(ReadConfig({"--version"}, {})->text, TRIREME_VERSION "\n");
}

TEST(Config, TheDocumentationIsCurrent) {
  std::ifstream in("docs/configuration.md");
  std::string text{std::istreambuf_iterator<char>(in), {}};
  EXPECT_THAT(text, HasSubstr(ConfigDocs())) << "replace the table by what trireme-broker --print-config-docs prints";
}

TEST(Config, UnknownEnvironmentIsWarnedOf) {
  auto read = ReadConfig({"--data", "/d"}, {"TRIREME_TIK_MS=5"});
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->warnings.size(), 1u);
  EXPECT_THAT(read->warnings[0], HasSubstr("TRIREME_TIK_MS"));
}

TEST(Config, Addresses) {
  EXPECT_EQ(ParseHostPort("[::1]:80")->host, "[::1]");
  EXPECT_EQ(ParseHostPort("a.b-c:65535")->port, 65535);
  EXPECT_TRUE(ParseHostPort("a:0", 0).ok());
  for (const char* bad : {"", ":1", "a", "a:", "a:x", "a:-1", "::1:80", "a:1 ", "a\n:1"}) {
    EXPECT_FALSE(ParseHostPort(bad).ok()) << bad;
  }
}

TEST(Config, AFileThatIsNoneIsRefusedWithWhatNamedIt) {
  TempDir dir;
  const auto said = [](std::vector<std::string> args, std::vector<std::string> environment) {
    auto read = ReadConfig(args, environment);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(read.status().message());
  };
  const std::string path = dir.path(), missing = path + "/none.toml";
  EXPECT_EQ(said({"--data", "/d", "--config", path}, {}),
            "--config: \"" + path + "\" is a directory: it takes a TOML file");
  EXPECT_EQ(said({"--data", "/d", "--config", missing}, {}),
            "--config: \"" + missing + "\" is not there: it takes a TOML file");
  EXPECT_EQ(said({"--data", "/d"}, {"TRIREME_CONFIG=" + missing}),
            "TRIREME_CONFIG: \"" + missing + "\" is not there: it takes a TOML file");
  // A flag beats the environment here, too.
  EXPECT_THAT(said({"--data", "/d", "--config", path}, {"TRIREME_CONFIG=" + missing}), HasSubstr("--config: "));
}

TEST(Log, TheLinesHaveTheOptionsNamesOfLevels) {
  ASSERT_TRUE(SetLogLevel("debug").ok());
  testing::internal::CaptureStderr();
  Log(LogLevel::kDebug, "a");
  Log(LogLevel::kInfo, "b");
  Log(LogLevel::kWarn, "c");
  Log(LogLevel::kError, "d");
  spdlog::warn("from below");
  spdlog::critical("worst");
  const std::string lines = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(SetLogLevel("info").ok());
  for (const char* line :
       {"level=debug event=a\n", "level=info event=b\n", "level=warn event=c\n", "level=error event=d\n",
        "level=warn event=\"from below\"\n", "level=error event=\"worst\"\n"}) {
    EXPECT_THAT(lines, HasSubstr(line));
  }
}

TEST(Log, LevelsAreNamed) {
  for (const char* level : {"debug", "info", "warn", "error"}) EXPECT_TRUE(SetLogLevel(level).ok());
  EXPECT_EQ(SetLogLevel("loud").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(SetLogLevel("info").ok());
}

TEST(Log, ValuesAreQuotedWhereTheyNeedIt) {
  std::string out;
  log_internal::Fields(out, "a", 1, "b", "plain", "c", "two words", "d", "", "e", "x=\"y\"'\n\\\x01", "f",
                       absl::NotFoundError("gone"));
  EXPECT_EQ(out, R"( a=1 b=plain c="two words" d="" e="x=\"y\"'\n\\\x01" f="NOT_FOUND: gone")");
}

// Safety rule 19: publishing stops before the disk is full, and comes back without flapping.
TEST(DiskMonitor, LowBelowTheLimitUntilATenthMoreIsFree) {
  int64_t free = 2000;
  DiskMonitor monitor("/d", 1000, [&](const std::string& path) {
    EXPECT_EQ(path, "/d");
    return free;
  });
  auto low_at = [&](int64_t bytes) {
    free = bytes;
    monitor.Check();
    return monitor.low();
  };
  EXPECT_FALSE(monitor.low());
  EXPECT_FALSE(low_at(1000));
  EXPECT_TRUE(low_at(999));
  EXPECT_EQ(monitor.free_bytes(), 999u);
  EXPECT_TRUE(low_at(1099));
  EXPECT_TRUE(low_at(-1)) << "what cannot be told changes nothing";
  EXPECT_FALSE(low_at(1100));
  EXPECT_FALSE(low_at(-1));
  DiskMonitor never("/d", 0, [](const std::string&) { return int64_t{0}; });
  EXPECT_FALSE(never.low());
  EXPECT_GT(DiskMonitor::StatFreeBytes("/"), 0);
  EXPECT_LT(DiskMonitor::StatFreeBytes("/no/such/path"), 0);
}

}  // namespace
}  // namespace trireme::broker
