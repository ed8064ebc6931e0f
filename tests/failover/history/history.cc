#include "tests/failover/history/history.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trireme::failover {
namespace {

constexpr std::string_view kFirstLine = "trireme-history 1\n";

absl::Status Failed(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

void WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      std::fprintf(stderr, "cannot write the history: %s\n", std::strerror(errno));
      std::abort();
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

uint64_t MonotonicUs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
}

absl::StatusOr<HistoryWriter> HistoryWriter::Open(const std::string& path, uint64_t epoch_us) {
  // Appending, so that every write lands behind the others', whoever made them.
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return Failed("cannot open the history", path);
  struct stat about;
  if (::fstat(fd, &about) == 0 && about.st_size == 0) WriteAll(fd, kFirstLine);
  return HistoryWriter(fd, epoch_us);
}

HistoryWriter::HistoryWriter(HistoryWriter&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), epoch_us_(other.epoch_us_) {}

HistoryWriter::~HistoryWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void HistoryWriter::Append(std::span<const Event> events) {
  absl::MutexLock lock(&mutex_);
  // Under the lock, so that one process's lines are in the order of their times.
  const uint64_t now = NowUs();
  // Another writer may have been killed within a line of its own: this one begins a new one.
  buffer_.assign(1, '\n');
  for (const Event& event : events) AppendLine(now, event, buffer_);
  WriteAll(fd_, buffer_);
}

absl::StatusOr<HistoryRead> ReadHistoryText(std::string_view text, std::span<Observer* const> observers) {
  if (!text.starts_with(kFirstLine)) {
    return absl::InvalidArgumentError(absl::StrCat("not a history: it does not begin with '",
                                                   std::string(kFirstLine.substr(0, kFirstLine.size() - 1)), "'"));
  }
  struct Line {
    uint64_t at_us;
    uint64_t offset;
    uint64_t size;
  };
  HistoryRead read;
  std::vector<Line> lines;
  for (size_t at = kFirstLine.size(); at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    uint64_t at_us = 0;
    if (!line.empty() && line.front() != '#') {
      if (LineTime(line, at_us)) {
        lines.push_back({at_us, at, line.size()});
      } else {
        ++read.torn;
      }
    }
    at = end + 1;
  }
  // A process that was paused between looking at the clock and writing left its line late.
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.at_us < b.at_us; });
  for (const Line& line : lines) {
    absl::StatusOr<TimedEvent> timed = ParseLine(text.substr(line.offset, line.size));
    if (!timed.ok()) return timed.status();
    ++read.events;
    std::visit(
        [&](const auto& known) {
          for (Observer* observer : observers) observer->See(timed->at_us, known);
        },
        timed->event);
  }
  return read;
}

absl::StatusOr<HistoryRead> ReadHistory(const std::string& path, std::span<Observer* const> observers) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Failed("cannot open the history", path);
  struct stat about;
  if (::fstat(fd, &about) != 0 || about.st_size == 0) {
    ::close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));
  }
  const auto size = static_cast<size_t>(about.st_size);
  void* bytes = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  ::close(fd);
  if (bytes == MAP_FAILED) return Failed("cannot map", path);
  absl::StatusOr<HistoryRead> read =
      ReadHistoryText(std::string_view(static_cast<const char*>(bytes), size), observers);
  ::munmap(bytes, size);
  return read;
}

}  // namespace trireme::failover
