// Every checker against hand-made histories, cases/CHECKER.accept*.history and cases/CHECKER.reject*.history: it must
// accept the former, having looked at something, and reject the latter; and no other checker may find fault with
// either.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/str_split.h"
#include "tests/failover/checkers/checker.h"

namespace trireme::failover {
namespace {

const std::filesystem::path kCases = "tests/failover/cases";

struct Case {
  std::string checker;
  bool accept = false;
  std::filesystem::path path;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const auto& entry : std::filesystem::directory_iterator(kCases)) {
    const std::vector<std::string> parts = absl::StrSplit(entry.path().filename().string(), '.');
    cases.push_back({parts.at(0), parts.at(1).starts_with("accept"), entry.path()});
  }
  return cases;
}

std::string Text(const Checker& checker) {
  std::string text = absl::StrCat(std::string(checker.name()), ": ", checker.verdict().why);
  for (const std::string& example : checker.verdict().examples) absl::StrAppend(&text, "\n  ", example);
  return text;
}

TEST(Checkers, JudgeHandMadeHistoriesAsTheyShould) {
  for (const Case& each : Cases()) {
    SCOPED_TRACE(each.path.string());
    absl::StatusOr<Judgement> judgement = Judge(each.path);
    ASSERT_TRUE(judgement.ok()) << judgement.status();
    EXPECT_EQ(judgement->read.torn, 0u);
    bool known = false;
    for (const auto& checker : judgement->checkers) {
      const Verdict& verdict = checker->verdict();
      const bool concerned = checker->name() == each.checker;
      known |= concerned;
      if (concerned && !each.accept) {
        EXPECT_EQ(verdict.outcome, Verdict::Outcome::kBroken) << Text(*checker);
        EXPECT_GT(verdict.violations, 0u);
        EXPECT_FALSE(verdict.examples.empty());
        continue;
      }
      EXPECT_EQ(verdict.violations, 0u) << Text(*checker);
      if (concerned) {
        EXPECT_EQ(verdict.outcome, Verdict::Outcome::kHeld) << Text(*checker);
        EXPECT_GT(verdict.cases, 0u) << "it has looked at nothing";
      }
    }
    EXPECT_TRUE(known) << "no checker has this name";
  }
}

TEST(Checkers, HaveEachAHistoryToAcceptAndOneToReject) {
  std::map<std::string, std::set<bool>> had;
  for (const Case& each : Cases()) had[each.checker].insert(each.accept);
  for (const auto& checker : AllCheckers()) {
    EXPECT_THAT(had[std::string(checker->name())], testing::SizeIs(2)) << checker->name();
    EXPECT_FALSE(checker->promise().empty());
  }
}

// A history that was broken off proves nothing, and is not taken for one that does.
TEST(Checkers, DoNotDecideOnAHistoryThatWasBrokenOff) {
  std::ifstream file(kCases / "nothing-lost.accept.history");
  std::stringstream whole;
  whole << file.rdbuf();
  std::string text = whole.str();
  text.erase(text.rfind("9600 ended"));
  absl::StatusOr<Judgement> judgement = JudgeText(text);
  ASSERT_TRUE(judgement.ok()) << judgement.status();
  EXPECT_FALSE(judgement->held());
  for (const auto& checker : judgement->checkers) {
    if (checker->name() == "nothing-lost" || checker->name() == "progress") {
      EXPECT_EQ(checker->verdict().outcome, Verdict::Outcome::kUndecided);
      EXPECT_THAT(checker->verdict().why, testing::Not(testing::IsEmpty()));
    }
  }
}

}  // namespace
}  // namespace trireme::failover
