// Runs the files in scenarios/. With TRIREME_UPDATE=1 they are rewritten with what happened, for you to read and
// commit.
#include "tests/raft/scenario.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace trireme::raft {
namespace {

const char kFolder[] = "tests/raft/scenarios";

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// A file is comments, and blocks of commands, "----", and their output up to an empty line.
std::string Replay(const std::string& text, bool* violated) {
  Scenario scenario;
  std::ostringstream out;
  std::istringstream in(text);
  std::vector<std::string> commands;
  for (std::string line; std::getline(in, line);) {
    if (line != "----") {
      out << line << '\n';
      if (!line.empty() && line[0] != '#') commands.push_back(line);
      continue;
    }
    out << "----\n";
    for (const std::string& command : commands) out << scenario.Do(command);
    commands.clear();
    while (std::getline(in, line) && !line.empty()) {
    }
    if (!in.eof()) out << '\n';
  }
  EXPECT_TRUE(commands.empty()) << "commands without ---- behind them: " << commands.front();
  *violated = scenario.violated();
  return out.str();
}

class ScenarioFile : public ::testing::TestWithParam<std::string> {};

TEST_P(ScenarioFile, GoesAsWritten) {
  const std::filesystem::path path = std::filesystem::path(kFolder) / (GetParam() + ".txt");
  const std::string text = ReadAll(path);
  bool violated = false;
  const std::string now = Replay(text, &violated);
  EXPECT_FALSE(violated) << now;
  if (std::getenv("TRIREME_UPDATE") != nullptr) {
    std::ofstream(path) << now;
    return;
  }
  EXPECT_EQ(now, text) << "if this is as it should be: TRIREME_UPDATE=1 build/dev/tests/raft_scenario_test";
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(kFolder)) {
    if (file.path().extension() == ".txt") names.push_back(file.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Each, ScenarioFile, ::testing::ValuesIn(Names()), [](const auto& file) { return file.param; });

TEST(Scenarios, ThereAreSome) {
  EXPECT_GE(Names().size(), 15u);
}

}  // namespace
}  // namespace trireme::raft
