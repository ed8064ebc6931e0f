// A node's clock and disk, where the preloaded library lets them be had (preload/control.h).
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/failover/preload/control.h"

namespace trireme::failover {

class Machine {
 public:
  // `data`: the folder whose files are the node's disk; `own`: a folder, made here, for the page and what is
  // remembered.
  static absl::StatusOr<std::unique_ptr<Machine>> Make(const std::string& preload, const std::string& data,
                                                       const std::string& own);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // For the broker's process, "NAME=value".
  std::vector<std::string> environment() const;
  Control& control() { return *control_; }

  // To be called while the node does not run and control().remember was set before it last started: what it wrote and
  // never synced is gone from its disk, as a whole or in sectors, as chance has it. How many writes that concerned.
  absl::StatusOr<int> LosePower(std::mt19937_64& chance);

 private:
  Machine(std::string preload, std::string data, std::string own, Control* control)
      : preload_(std::move(preload)), data_(std::move(data)), own_(std::move(own)), control_(control) {}

  const std::string preload_, data_, own_;
  Control* const control_;
};

}  // namespace trireme::failover
