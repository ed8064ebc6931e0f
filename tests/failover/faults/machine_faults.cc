// Faults of a node's disk and clock, through the library that is loaded into its process; and damage to its files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/failover/faults/fault.h"

namespace trireme::failover {
namespace {

class DiskSlow : public Fault {
 public:
  explicit DiskSlow(int node) : node_(node) {}
  absl::Status Begin(World& world) override {
    delay_us_ = static_cast<uint32_t>(world.Draw(5'000, 200'000));
    world.cluster.machine(node_)->control().sync_delay_us = delay_us_;
    return absl::OkStatus();
  }
  absl::Status End(World& world) override {
    world.cluster.machine(node_)->control().sync_delay_us = 0;
    return absl::OkStatus();
  }
  std::string Describe() const override {
    return absl::StrCat("node ", node_, "'s syncs take ", delay_us_ / 1'000, " ms more");
  }

 private:
  const int node_;
  uint32_t delay_us_ = 0;
};

class DiskStall : public Fault {
 public:
  explicit DiskStall(int node) : node_(node) {}
  absl::Status Begin(World& world) override {
    world.cluster.machine(node_)->control().stalled = 1;
    return absl::OkStatus();
  }
  absl::Status End(World& world) override {
    world.cluster.machine(node_)->control().stalled = 0;
    return absl::OkStatus();
  }
  std::string Describe() const override { return absl::StrCat("node ", node_, "'s disk answers nothing"); }

 private:
  const int node_;
};

// Safety rule 16: a node whose disk fails ends at once.
class DiskFails : public Fault {
 public:
  DiskFails(int node, bool writes) : node_(node), writes_(writes) {}
  absl::Status Begin(World& world) override {
    world.cluster.Excuse(node_, true);
    began_ = std::chrono::steady_clock::now();
    Error(world) = EIO;
    return absl::OkStatus();
  }
  absl::Status End(World& world) override {
    world.cluster.Watch();
    // All nodes write several times a second here.
    if (world.cluster.Running(node_) && std::chrono::steady_clock::now() - began_ > std::chrono::seconds(1)) {
      world.cluster.Report(node_, "goes on although its disk has returned errors for a second", true);
    }
    Error(world) = 0;
    world.cluster.Excuse(node_, false);
    return world.cluster.StartNodes({node_});
  }
  std::string Describe() const override {
    return absl::StrCat("node ", node_, "'s disk returns an error on every ", writes_ ? "write" : "sync");
  }

 private:
  std::atomic<uint32_t>& Error(World& world) {
    Control& control = world.cluster.machine(node_)->control();
    return writes_ ? control.write_error : control.sync_error;
  }

  const int node_;
  const bool writes_;
  std::chrono::steady_clock::time_point began_;
};

class PowerLoss : public Fault {
 public:
  explicit PowerLoss(std::vector<int> nodes) : nodes_(std::move(nodes)) {}
  absl::Status Begin(World& world) override {
    // All of them at once, before any disk is looked at.
    for (int node : nodes_) world.cluster.Kill(node);
    for (int node : nodes_) {
      absl::StatusOr<int> lost = world.cluster.machine(node)->LosePower(world.chance);
      if (!lost.ok()) return lost.status();
      lost_.push_back(*lost);
    }
    return absl::OkStatus();
  }
  absl::Status End(World& world) override { return world.cluster.StartNodes(nodes_); }
  std::string Describe() const override {
    return absl::StrCat("power lost at ", nodes_.size() == 1 ? "node " : "nodes ", absl::StrJoin(nodes_, ", "),
                        "; writes that were not synced: ", absl::StrJoin(lost_, ", "));
  }

 private:
  const std::vector<int> nodes_;
  std::vector<int> lost_;
};

// A node that finds damage says so and does not start; one whose damaged bit nobody needs any more does. Afterwards the
// bit is turned back where it has not been overwritten.
class BitFlip : public Fault {
 public:
  explicit BitFlip(int node) : node_(node) {}
  absl::Status Begin(World& world) override {
    world.cluster.Kill(node_);
    if (absl::Status flipped = Flip(world); !flipped.ok()) return flipped;
    world.cluster.Excuse(node_, true);
    started_ = world.cluster.StartNodes({node_}).ok();
    return absl::OkStatus();
  }
  absl::Status End(World& world) override {
    world.cluster.Watch();
    world.cluster.Kill(node_);
    if (ReadBlock() == flipped_) WriteByte(static_cast<char>(flipped_[at_ - block_] ^ bit_));
    world.cluster.Excuse(node_, false);
    return world.cluster.StartNodes({node_});
  }
  std::string Describe() const override {
    return absl::StrCat("a bit turned in node ", node_, "'s ", std::filesystem::path(path_).filename().string(), " at ",
                        at_, started_ ? "; it started" : "; it did not start");
  }

 private:
  static constexpr uint64_t kBlock = 4'096;

  absl::Status Flip(World& world) {
    // Those that messages lie in, and all.
    std::vector<std::string> logs, files;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(world.cluster.data_folder(node_), ignored)) {
      if (!entry.is_regular_file(ignored) || entry.file_size(ignored) == 0) continue;
      files.push_back(entry.path());
      const std::string kind = entry.path().extension();
      if (kind == ".seg" || kind == ".sst" || kind == ".blob") logs.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    std::sort(logs.begin(), logs.end());
    // Logs are sparse; one that hits zeros has proved nothing.
    for (int tries = 0; tries < 1'000 && !files.empty(); ++tries) {
      const std::vector<std::string>& from = !logs.empty() && world.Draw(0, 2) > 0 ? logs : files;
      path_ = from[world.Draw(0, from.size() - 1)];
      at_ = world.Draw(0, std::filesystem::file_size(path_, ignored) - 1);
      block_ = at_ / kBlock * kBlock;
      flipped_ = ReadBlock();
      if (std::all_of(flipped_.begin(), flipped_.end(), [](char c) { return c == 0; })) continue;
      bit_ = static_cast<char>(1 << world.Draw(0, 7));
      flipped_[at_ - block_] = static_cast<char>(flipped_[at_ - block_] ^ bit_);
      WriteByte(flipped_[at_ - block_]);
      return absl::OkStatus();
    }
    return absl::NotFoundError(absl::StrCat("node ", node_, " has no file with anything in it"));
  }
  std::string ReadBlock() const {
    std::string block(kBlock, '\0');
    const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t size = ::pread(fd, block.data(), block.size(), static_cast<off_t>(block_));
    ::close(fd);
    block.resize(static_cast<size_t>(std::max<ssize_t>(0, size)));
    return block;
  }
  void WriteByte(char byte) const {
    const int fd = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    [[maybe_unused]] const ssize_t written = ::pwrite(fd, &byte, 1, static_cast<off_t>(at_));
    ::close(fd);
  }

  const int node_;
  std::string path_;
  uint64_t at_ = 0, block_ = 0;
  char bit_ = 0;
  std::string flipped_;
  bool started_ = false;
};

class ClockFault : public Fault {
 public:
  ClockFault(int node, bool drift) : node_(node), drift_(drift) {}
  absl::Status Begin(World& world) override {
    Control& control = world.cluster.machine(node_)->control();
    const bool back = world.Draw(0, 1) == 0;
    if (drift_) {
      ppm_ = static_cast<int64_t>(world.Draw(10'000, 500'000)) * (back ? -1 : 1);
      control.drift_since_us = static_cast<int64_t>(MonotonicUs());
      control.clock_drift_ppm = ppm_;
    } else {
      step_us_ = static_cast<int64_t>(world.Draw(200'000, world.Draw(0, 1) == 0 ? 4'000'000 : 3'600'000'000)) *
                 (back ? -1 : 1);
      control.clock_offset_us = step_us_;
    }
    return absl::OkStatus();
  }
  absl::Status End(World& world) override {
    Control& control = world.cluster.machine(node_)->control();
    control.clock_drift_ppm = 0;
    control.clock_offset_us = 0;
    return absl::OkStatus();
  }
  std::string Describe() const override {
    return drift_ ? absl::StrFormat("node %d's clock runs %s by %.0f %%", node_, ppm_ > 0 ? "fast" : "slow",
                                    static_cast<double>(std::abs(ppm_)) / 1e4)
                  : absl::StrFormat("node %d's clock steps by %+.1f s", node_, static_cast<double>(step_us_) / 1e6);
  }

 private:
  const int node_;
  const bool drift_;
  int64_t ppm_ = 0, step_us_ = 0;
};

}  // namespace

std::unique_ptr<Fault> MakeDiskSlow(const std::vector<int>& nodes) {
  return std::make_unique<DiskSlow>(nodes[0]);
}
std::unique_ptr<Fault> MakeDiskStall(const std::vector<int>& nodes) {
  return std::make_unique<DiskStall>(nodes[0]);
}
std::unique_ptr<Fault> MakeSyncFails(const std::vector<int>& nodes) {
  return std::make_unique<DiskFails>(nodes[0], false);
}
std::unique_ptr<Fault> MakeWriteFails(const std::vector<int>& nodes) {
  return std::make_unique<DiskFails>(nodes[0], true);
}
std::unique_ptr<Fault> MakePowerLoss(const std::vector<int>& nodes) {
  return std::make_unique<PowerLoss>(nodes);
}
std::unique_ptr<Fault> MakeBitFlip(const std::vector<int>& nodes) {
  return std::make_unique<BitFlip>(nodes[0]);
}
std::unique_ptr<Fault> MakeClockStep(const std::vector<int>& nodes) {
  return std::make_unique<ClockFault>(nodes[0], false);
}
std::unique_ptr<Fault> MakeClockDrift(const std::vector<int>& nodes) {
  return std::make_unique<ClockFault>(nodes[0], true);
}

}  // namespace trireme::failover
