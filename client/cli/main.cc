// trireme: the command line of the broker.
#include <csignal>
#include <cstdlib>

#include "absl/synchronization/mutex.h"
#include "client/cli/command.h"
#include "client/cli/program.h"

namespace {

void Interrupt(int) {
  // The second one ends the program at once.
  if (trireme::client::interrupted.exchange(true)) std::_Exit(130);
}

}  // namespace

int main(int argc, char** argv) {
  // A library that was built for debugging looks for cycles at every lock, gRPC's included: about 2 % of a profile.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::signal(SIGINT, Interrupt);
  std::signal(SIGTERM, Interrupt);
  std::signal(SIGPIPE, SIG_IGN);
  return trireme::client::RunProgram({argv + 1, argv + argc});
}
