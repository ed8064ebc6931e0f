// What a run has of this machine: hosts with a network between them if it may, a mount namespace, a folder that goes
// with it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/failover/network/host.h"

namespace trireme::failover {

class Sandbox {
 public:
  // The nodes' hosts first, then the harness's own, then `clients` more. To be called before the process has a second
  // thread. With `network` false, or where namespaces cannot be had, there are no hosts, and why_not says why.
  // `data_parent`: where the folder is made; what runs that were killed have left there is removed. UNAVAILABLE: not
  // even that.
  static absl::StatusOr<std::unique_ptr<Sandbox>> Make(int nodes, int clients, bool network,
                                                       const std::string& data_parent);
  // Removes the folder.
  ~Sandbox();

  bool has_network() const { return !hosts_.empty(); }
  // File systems may be mounted that nobody else sees.
  bool has_mounts() const { return has_mounts_; }
  const std::string& why_not() const { return why_not_; }
  const std::vector<Host>& hosts() const { return hosts_; }
  const std::string& folder() const { return folder_; }
  // At the end the folder stays.
  void Keep() { keep_ = true; }

 private:
  Sandbox() = default;

  std::vector<Host> hosts_;
  bool has_mounts_ = false;
  bool keep_ = false;
  std::string why_not_;
  std::string folder_;
  int lock_ = -1;
};

}  // namespace trireme::failover
