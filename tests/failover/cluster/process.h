// A child process that ends when its parent does, and is signalled by its own id only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace trireme::failover {

struct Command {
  std::vector<std::string> arguments;  // the program first
  // "NAME=value", beside our own environment.
  std::vector<std::string> environment = {};
  // Standard output and error go to its end.
  std::string log;
  // The network namespace to run in; -1 = ours.
  int namespace_fd = -1;
};

// For one thread, which has to live as long as its children are to live: the kernel kills them when it ends.
class Process {
 public:
  static absl::StatusOr<std::unique_ptr<Process>> Start(const Command& command);
  // Kills it if it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  bool Running() { return !Ended().has_value(); }
  // How it ended, in words ("exit code 70", "signal 9"), once it has.
  std::optional<std::string> Ended();
  std::optional<std::string> WaitEnded(std::chrono::milliseconds timeout);
  // Nothing, when it has ended.
  void Signal(int number);
  // Closed means: stop, to a child that reads its standard input.
  void CloseInput();

 private:
  Process(pid_t pid, int input) : pid_(pid), input_(input) {}

  const pid_t pid_;
  int input_;
  std::optional<std::string> ended_;
};

}  // namespace trireme::failover
