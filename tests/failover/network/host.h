// A host of its own for a process: a network namespace with a loopback and one TUN device, whose other end the harness
// holds. Namespace and device vanish with the last process and descriptor that use them, so nothing is left behind,
// whatever ends the harness.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace trireme::failover {

class Host {
 public:
  Host(Host&& other) noexcept;
  ~Host();
  Host& operator=(Host&&) = delete;

  const std::string& address() const { return address_; }
  // For setns, and for the switch.
  int namespace_fd() const { return namespace_; }
  int tun_fd() const { return tun_; }

  // `count` hosts, 10.77.0.1 and on. Needs root, and is to be called while this process has one thread: it goes through
  // the new namespaces, and comes back. UNAVAILABLE says what this machine lacks.
  static absl::StatusOr<std::vector<Host>> Make(int count);

  // From here on this thread, and those that it starts, are on this host.
  absl::Status Enter() const;

 private:
  Host(std::string address, int namespace_fd, int tun_fd)
      : address_(std::move(address)), namespace_(namespace_fd), tun_(tun_fd) {}

  std::string address_;
  int namespace_;
  int tun_;
};

}  // namespace trireme::failover
