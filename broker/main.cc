// The broker process.

#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "broker/api/services.h"
#include "broker/node.h"
#include "broker/ops/config.h"
#include "broker/ops/exit_code.h"
#include "broker/ops/log.h"

int main(int argc, char** argv) {
  using namespace trireme::broker;
  // A library that was built for debugging looks for cycles at every lock, gRPC's included: about 2 % of a profile.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::vector<std::string> environment;
  for (char** e = environ; *e != nullptr; ++e) environment.emplace_back(*e);
  absl::StatusOr<CommandLine> line = ReadConfig(std::vector<std::string>(argv + 1, argv + argc), environment);
  if (!line.ok()) {
    std::fprintf(stderr, "trireme-broker: %s\n", std::string(line.status().message()).c_str());
    return kExitUsage;
  }
  if (line->action == CommandLine::Action::kPrint) {
    std::fputs(line->text.c_str(), stdout);
    return 0;
  }
  if (absl::Status level = SetLogLevel(line->config.log_level); !level.ok()) {
    std::fprintf(stderr, "trireme-broker: %s\n", std::string(level.message()).c_str());
    return kExitUsage;
  }
  for (const std::string& warning : line->warnings) Log(LogLevel::kWarn, warning);
  absl::StatusOr<std::unique_ptr<Node>> node = Node::Start(line->config, &Services::Make);
  if (!node.ok()) {
    Log(LogLevel::kError, "cannot start", "error", node.status());
    return kExitCannotStart;
  }
  if (absl::Status ended = (*node)->Run(); !ended.ok()) {
    Log(LogLevel::kError, "stopped", "error", ended);
    return kExitCannotGoOn;
  }
  return 0;
}
