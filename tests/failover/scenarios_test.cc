// The tables of faults, scenarios and suites fit together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/failover/faults/fault.h"
#include "tests/failover/faults/scenario.h"
#include "tests/failover/suites.h"

namespace trireme::failover {
namespace {

TEST(Scenarios, NameKnownFaultsAndAreNamedOnce) {
  std::set<std::string_view> names;
  for (const Scenario& scenario : Scenarios()) {
    SCOPED_TRACE(scenario.name);
    EXPECT_TRUE(names.insert(scenario.name).second);
    EXPECT_EQ(FindScenario(scenario.name), &scenario);
    EXPECT_FALSE(scenario.faults.empty());
    EXPECT_GE(scenario.at_once, 1);
    for (const FaultUse& use : scenario.faults) {
      ASSERT_NE(FindFaultKind(use.kind), nullptr) << use.kind;
      EXPECT_LE(use.least, use.most) << use.kind;
    }
  }
  for (const MissingScenario& missing : MissingScenarios()) EXPECT_TRUE(names.insert(missing.name).second);
  EXPECT_EQ(FindScenario("no-such-thing"), nullptr);
}

TEST(Scenarios, UseEveryFaultThatThereIs) {
  std::set<std::string_view> used;
  for (const Scenario& scenario : Scenarios()) {
    for (const FaultUse& use : scenario.faults) used.insert(use.kind);
  }
  for (const FaultKind& kind : FaultKinds()) EXPECT_TRUE(used.contains(kind.name)) << kind.name;
}

TEST(Scenarios, SayWhatTheyCannotDoWithout) {
  EXPECT_TRUE(CanRun(*FindScenario("kill-leader"), false, false, false));
  EXPECT_FALSE(CanRun(*FindScenario("ring"), false, true, true));
  EXPECT_TRUE(CanRun(*FindScenario("ring"), true, false, false));
  EXPECT_FALSE(CanRun(*FindScenario("disk-full"), true, false, true));
  EXPECT_FALSE(CanRun(*FindScenario("rolling-upgrade"), true, true, false));
  // What is left of it without a network is still something.
  EXPECT_TRUE(CanRun(*FindScenario("quick"), false, false, false));
}

TEST(Suites, AreMadeOfScenarios) {
  for (const Suite& suite : Suites()) {
    EXPECT_EQ(FindSuite(suite.name), &suite);
    for (const SuiteItem& item : suite.items) EXPECT_NE(FindScenario(item.scenario), nullptr) << item.scenario;
  }
  double minutes = 0;
  for (const SuiteItem& item : FindSuite("short")->items) minutes += item.minutes;
  EXPECT_LE(minutes, 8.5) << "beside starting, draining and judging, that is ten";
  EXPECT_EQ(FindSuite("long")->items.size(), Scenarios().size());
  EXPECT_EQ(FindSuite("no-such-thing"), nullptr);
}

}  // namespace
}  // namespace trireme::failover
