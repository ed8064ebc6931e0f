// Runs the files in scenarios/.
#include "tests/raft/scenario.h"

#include <gtest/gtest.h>

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

TEST(Scenarios, ThereAreSome) {
  EXPECT_GE(script::ScenariosIn(kFolder).size(), 15u);
}

}  // namespace
}  // namespace trireme::raft
