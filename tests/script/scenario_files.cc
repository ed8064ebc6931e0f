#include "tests/script/scenario_files.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace trireme::script {

std::string Replay(const std::string& text, Interpreter& interpreter) {
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
    for (const std::string& command : commands) out << interpreter.Do(command);
    commands.clear();
    while (std::getline(in, line) && !line.empty()) {
    }
    if (!in.eof()) out << '\n';
  }
  EXPECT_TRUE(commands.empty()) << "commands without ---- behind them: " << commands.front();
  return out.str();
}

std::vector<std::string> ScenariosIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() == ".txt") names.push_back(file.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void GoesAsWritten(const std::string& folder, const std::string& name, Interpreter& interpreter) {
  const std::filesystem::path path = std::filesystem::path(folder) / (name + ".txt");
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  const std::string now = Replay(text.str(), interpreter);
  EXPECT_FALSE(interpreter.violated()) << now;
  if (std::getenv("TRIREME_UPDATE") != nullptr) {
    std::ofstream(path) << now;
    return;
  }
  EXPECT_EQ(now, text.str()) << "if this is as it should be, run it again with TRIREME_UPDATE=1";
}

}  // namespace trireme::script
