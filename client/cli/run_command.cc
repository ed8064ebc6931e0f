#include "client/cli/run_command.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace trireme::client {
namespace {

absl::Status Failed(const char* what) {
  return absl::InternalError(absl::StrCat("cannot ", what, ": ", std::strerror(errno)));
}

absl::Status StatusOf(const std::string& command, int status) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(WIFEXITED(status)
                                           ? absl::StrCat("'", command, "' ended with ", WEXITSTATUS(status))
                                           : absl::StrCat("'", command, "' was ended by signal ", WTERMSIG(status)));
}

}  // namespace

absl::StatusOr<std::string> RunShell(const std::string& command, std::string_view input, size_t limit) {
  // A file, so that neither side waits for the other to read.
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::tmpfile(), std::fclose);
  if (in == nullptr) return Failed("make a temporary file");
  if (std::fwrite(input.data(), 1, input.size(), in.get()) != input.size() || std::fflush(in.get()) != 0 ||
      std::fseek(in.get(), 0, SEEK_SET) != 0) {
    return Failed("write a temporary file");
  }
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) return Failed("make a pipe");
  const pid_t child = fork();
  if (child == 0) {
    // Other threads are gone: only what is safe in a signal handler.
    if (dup2(fileno(in.get()), STDIN_FILENO) < 0 || dup2(out[1], STDOUT_FILENO) < 0) _exit(126);
    execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  close(out[1]);
  if (child < 0) {
    close(out[0]);
    return Failed("start a process");
  }
  std::string output;
  char bytes[1 << 16];
  for (ssize_t n;
       output.size() <= limit && ((n = read(out[0], bytes, sizeof(bytes))) > 0 || (n < 0 && errno == EINTR));)
    if (n > 0) output.append(bytes, static_cast<size_t>(n));
  // One that writes on gets SIGPIPE.
  close(out[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (output.size() > limit)
    return absl::ResourceExhaustedError(absl::StrCat("'", command, "' wrote more than ", limit, " bytes"));
  if (absl::Status ended = StatusOf(command, status); !ended.ok()) return ended;
  return output;
}

}  // namespace trireme::client
