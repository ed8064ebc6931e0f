// What the process ends with, as sysexits.h has them: what a supervisor may tell apart.
#pragma once

namespace trireme::broker {

inline constexpr int kExitUsage = 64, kExitCannotStart = 69, kExitCannotGoOn = 70;

}  // namespace trireme::broker
