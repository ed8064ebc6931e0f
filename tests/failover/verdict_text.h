// A judgement as text for a terminal.
#pragma once

#include <string>

#include "tests/failover/checkers/checker.h"

namespace trireme::failover {

// One line per promise, with what broke it; then the verdict.
std::string VerdictText(const Judgement& judgement);

// "held", "BROKEN", "undecided".
const char* OutcomeText(Verdict::Outcome outcome);

// The process's exit code: 0 all held, 1 something broken, 3 undecided.
int ExitCode(const Judgement& judgement);

}  // namespace trireme::failover
