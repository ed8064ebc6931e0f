#include "tests/failover/verdict_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace trireme::failover {

const char* OutcomeText(Verdict::Outcome outcome) {
  switch (outcome) {
    case Verdict::Outcome::kHeld:
      return "held";
    case Verdict::Outcome::kBroken:
      return "BROKEN";
    case Verdict::Outcome::kUndecided:
      return "undecided";
  }
  return "";
}

int ExitCode(const Judgement& judgement) {
  if (judgement.held()) return 0;
  const bool broken = std::any_of(judgement.checkers.begin(), judgement.checkers.end(), [](const auto& checker) {
    return checker->verdict().outcome == Verdict::Outcome::kBroken;
  });
  return broken ? 1 : 3;
}

std::string VerdictText(const Judgement& judgement) {
  std::string text;
  for (const auto& checker : judgement.checkers) {
    const Verdict& verdict = checker->verdict();
    absl::StrAppendFormat(&text, "%-22s %-10s %12u  %s\n", std::string(checker->name()), OutcomeText(verdict.outcome),
                          verdict.cases, std::string(checker->promise()));
    if (!verdict.why.empty()) absl::StrAppend(&text, "    ", verdict.why, "\n");
    for (const std::string& example : verdict.examples) absl::StrAppend(&text, "    ", example, "\n");
    if (verdict.violations > verdict.examples.size()) {
      absl::StrAppend(&text, "    ... and ", verdict.violations - verdict.examples.size(), " more\n");
    }
  }
  constexpr const char* kVerdicts[] = {"every promise was held", "PROMISES WERE BROKEN", "", "undecided"};
  absl::StrAppend(&text, kVerdicts[ExitCode(judgement)], " (", judgement.read.events, " events",
                  judgement.read.torn > 0 ? absl::StrCat(", ", judgement.read.torn, " torn lines") : "", ")\n");
  return text;
}

}  // namespace trireme::failover
