#include "tests/failover/cluster/sandbox.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace trireme::failover {

absl::StatusOr<std::unique_ptr<Sandbox>> Sandbox::Make(int nodes, int clients, bool network,
                                                       const std::string& data_parent) {
  std::unique_ptr<Sandbox> sandbox(new Sandbox);
  std::string folder = data_parent + "/trireme-failover-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot make a folder in ", data_parent, ": ", std::strerror(errno)));
  }
  sandbox->folder_ = folder;
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
  if (keep_) return;
  std::error_code ignored;
  // Mounted file systems are emptied, and go with the namespace.
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    ::umount2(entry.path().c_str(), MNT_DETACH);
  }
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace trireme::failover
