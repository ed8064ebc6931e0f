#include "tests/failover/cluster/process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trireme::failover {
namespace {

constexpr int kCannotExec = 127;

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> Process::Start(const Command& command) {
  // Everything is made before the fork: another thread may hold the allocator's lock at that moment.
  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) environment.emplace_back(*variable);
  environment.insert(environment.end(), command.environment.begin(), command.environment.end());
  const std::vector<char*> argv = Pointers(arguments), envp = Pointers(environment);
  int input[2];
  if (::pipe2(input, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  const int log = ::open(command.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    const absl::Status status = absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", command.log));
    ::close(input[0]);
    ::close(input[1]);
    return status;
  }
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // A group of its own: an interrupt from the terminal is the harness's alone.
    ::setpgid(0, 0);
    if (::getppid() != parent) ::_exit(kCannotExec);
    if (command.namespace_fd >= 0 && ::setns(command.namespace_fd, CLONE_NEWNET) != 0) ::_exit(kCannotExec);
    ::dup2(input[0], STDIN_FILENO);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(kCannotExec);
  }
  const int error = errno;
  ::close(input[0]);
  ::close(log);
  if (pid < 0) {
    ::close(input[1]);
    return absl::ErrnoToStatus(error, "cannot fork");
  }
  return std::unique_ptr<Process>(new Process(pid, input[1]));
}

Process::~Process() {
  Signal(SIGKILL);
  WaitEnded(std::chrono::seconds(10));
  CloseInput();
}

void Process::CloseInput() {
  if (input_ >= 0) ::close(std::exchange(input_, -1));
}

std::optional<std::string> Process::Ended() {
  int how = 0;
  // Until it is waited for its number is not given out again, so a signal cannot reach another process.
  if (!ended_.has_value() && ::waitpid(pid_, &how, WNOHANG) == pid_) {
    ended_ = WIFSIGNALED(how) ? absl::StrCat("signal ", WTERMSIG(how)) : absl::StrCat("exit code ", WEXITSTATUS(how));
  }
  return ended_;
}

std::optional<std::string> Process::WaitEnded(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!Ended().has_value() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return ended_;
}

void Process::Signal(int number) {
  if (!Ended().has_value()) ::kill(pid_, number);
}

}  // namespace trireme::failover
