// Runs the files in scenarios/.
#include "tests/queue/scenario.h"

#include <gtest/gtest.h>

#include <string>

namespace trireme::queue {
namespace {

const char kFolder[] = "tests/queue/scenarios";

class QueueScenarioFile : public ::testing::TestWithParam<std::string> {};

TEST_P(QueueScenarioFile, GoesAsWritten) {
  Scenario scenario;
  script::GoesAsWritten(kFolder, GetParam(), scenario);
}

INSTANTIATE_TEST_SUITE_P(Each, QueueScenarioFile, ::testing::ValuesIn(script::ScenariosIn(kFolder)),
                         [](const auto& file) { return file.param; });

TEST(QueueScenarios, ThereAreSome) {
  EXPECT_GE(script::ScenariosIn(kFolder).size(), 10u);
}

}  // namespace
}  // namespace trireme::queue
