// Runs the files in scenarios/.
#include "tests/raft/scenario.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace trireme::raft {
namespace {

const char kFolder[] = "tests/raft/scenarios";

class ScenarioFile : public ::testing::TestWithParam<std::string> {};

TEST_P(ScenarioFile, GoesAsWritten) {
  Scenario scenario;
  script::GoesAsWritten(kFolder, GetParam(), scenario);
}

INSTANTIATE_TEST_SUITE_P(Each, ScenarioFile, ::testing::ValuesIn(script::ScenariosIn(kFolder)),
                         [](const auto& file) { return file.param; });

// Every section of the dissertation that the core relies on has a scenario that begins with its name.
TEST(Scenarios, EverySectionHasOne) {
  EXPECT_GE(script::ScenariosIn(kFolder).size(), 50u);
  std::string titles;
  for (const std::string& name : script::ScenariosIn(kFolder)) {
    std::string title;
    std::getline(std::ifstream(std::string(kFolder) + "/" + name + ".txt") >> std::ws, title);
    titles += title + "\n";
  }
  for (const char* section : {"3.6", "3.10", "4.1", "4.2", "4.3", "4.4", "6.2", "6.4", "9.6", "10.2"}) {
    EXPECT_NE(titles.find(std::string("Dissertation ") + section), std::string::npos) << section;
  }
}

}  // namespace
}  // namespace trireme::raft
