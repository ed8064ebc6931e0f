#include "broker/cluster/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace trireme::broker {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

absl::Status Failed(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

}  // namespace

absl::Status SyncDirectory(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Failed("opening", path);
  absl::Cleanup close_fd = [fd] { close(fd); };
  return fsync(fd) == 0 ? absl::OkStatus() : Failed("syncing", path);
}

absl::StatusOr<std::optional<std::string>> ReadSmallFile(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return std::nullopt;
    return Failed("opening", path);
  }
  absl::Cleanup close_fd = [fd] { close(fd); };
  std::string out;
  char buffer[4096];
  while (out.size() <= kMaxFileBytes) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("reading", path);
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
  }
  return absl::DataLossError(absl::StrCat(path, " is larger than ", kMaxFileBytes, " bytes"));
}

absl::Status WriteDurably(const std::string& directory, const std::string& name, std::string_view bytes) {
  std::string file = absl::StrCat(directory, "/", name);
  std::string temporary = absl::StrCat(file, ".new");
  int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd < 0) return Failed("creating", temporary);
  absl::Cleanup close_fd = [fd] { close(fd); };
  while (!bytes.empty()) {
    ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("writing", temporary);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  // Safety rule 16: a failed sync is not retried on the same file; the next write begins a new one.
  if (fsync(fd) != 0) return Failed("syncing", temporary);
  if (rename(temporary.c_str(), file.c_str()) != 0) return Failed("renaming", temporary);
  return SyncDirectory(directory);
}

}  // namespace trireme::broker
