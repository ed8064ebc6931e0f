#include "tests/failover/cluster/sandbox.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace trireme::failover {

namespace {

constexpr char kPrefix[] = "trireme-failover-";
// A file in the folder, locked for as long as its run lives.
constexpr char kMarker[] = "/run";
// A run that has just made its folder may not have locked it yet.
constexpr std::chrono::seconds kYoung{60};

// -1: somebody else has it.
int Lock(const std::string& folder, int flags) {
  const int fd = ::open((folder + kMarker).c_str(), O_RDWR | O_CLOEXEC | flags, 0600);
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}

// What runs have left that were killed themselves.
void RemoveOrphans(const std::string& parent) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(parent, ignored)) {
    const std::string folder = entry.path().string();
    const auto made = std::filesystem::last_write_time(folder + kMarker, ignored);
    if (ignored || !entry.path().filename().string().starts_with(kPrefix) ||
        made + kYoung > std::filesystem::file_time_type::clock::now()) {
      continue;
    }
    const int lock = Lock(folder, 0);
    if (lock < 0) continue;
    std::filesystem::remove_all(folder, ignored);
    ::close(lock);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sandbox>> Sandbox::Make(int nodes, int clients, bool network,
                                                       const std::string& data_parent) {
  std::unique_ptr<Sandbox> sandbox(new Sandbox);
  RemoveOrphans(data_parent);
  std::string folder = absl::StrCat(data_parent, "/", kPrefix, "XXXXXX");
  if (::mkdtemp(folder.data()) == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot make a folder in ", data_parent, ": ", std::strerror(errno)));
  }
  sandbox->folder_ = folder;
  sandbox->lock_ = Lock(folder, O_CREAT);
  if (sandbox->lock_ < 0) return absl::UnavailableError(absl::StrCat("cannot lock ", folder, kMarker));
  if (::geteuid() != 0) {
    sandbox->why_not_ = "only root may make network namespaces";
    return sandbox;
  }
  // What is mounted from here on nobody else sees, and it goes with the last process of this run.
  sandbox->has_mounts_ =
      ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  if (!network) {
    sandbox->why_not_ = "it was asked to do without";
    return sandbox;
  }
  absl::StatusOr<std::vector<Host>> hosts = Host::Make(nodes + 1 + clients);
  if (!hosts.ok()) {
    sandbox->why_not_ = std::string(hosts.status().message());
    return sandbox;
  }
  sandbox->hosts_ = *std::move(hosts);
  if (absl::Status entered = sandbox->hosts_[static_cast<size_t>(nodes)].Enter(); !entered.ok()) return entered;
  return sandbox;
}

Sandbox::~Sandbox() {
  std::error_code ignored;
  if (keep_) {
    std::filesystem::remove(folder_ + kMarker, ignored);
    ::close(lock_);
    return;
  }
  // Mounted file systems are emptied, and go with the namespace.
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    ::umount2(entry.path().c_str(), MNT_DETACH);
  }
  std::filesystem::remove_all(folder_, ignored);
  ::close(lock_);
}

}  // namespace trireme::failover
