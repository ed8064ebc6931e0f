// Faults of disks that are full, empty, or of yesterday.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/failover/faults/fault.h"

namespace trireme::failover {
namespace {

// Fills the node's file system but for `leave_bytes`, and keeps it so.
class Ballast : public Fault {
 public:
  Ballast(int node, uint64_t leave_bytes) : node_(node), leave_bytes_(leave_bytes) {}
  absl::Status Begin(World& world) override {
    path_ = world.cluster.data_folder(node_) + "/ballast";
    // With no room at all its write-ahead log or RocksDB may fail, and a node whose disk fails ends (Safety rule 16).
    world.cluster.Excuse(node_, true);
    return Fill(world);
  }
  absl::Status Tick(World& world) override { return Fill(world); }
  absl::Status End(World& world) override {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
    world.cluster.Watch();
    world.cluster.Excuse(node_, false);
    return world.cluster.StartNodes({node_});
  }
  std::string Describe() const override {
    return absl::StrCat("node ", node_, "'s disk filled but for ", leave_bytes_ >> 20, " MiB");
  }

 private:
  absl::Status Fill(World& world) const {
    struct statvfs about;
    if (::statvfs(world.cluster.data_folder(node_).c_str(), &about) != 0) return absl::ErrnoToStatus(errno, "statvfs");
    const uint64_t free = uint64_t{about.f_bavail} * about.f_frsize;
    if (free <= leave_bytes_) return absl::OkStatus();
    const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path_));
    const std::vector<char> piece(1 << 20);
    uint64_t left = free - leave_bytes_;
    while (left > 0) {
      const ssize_t written = ::write(fd, piece.data(), std::min<uint64_t>(left, piece.size()));
      if (written <= 0) break;
      left -= static_cast<uint64_t>(written);
    }
    ::close(fd);
    return absl::OkStatus();
  }

  const int node_;
  const uint64_t leave_bytes_;
  std::string path_;
};

// Safety rule 12: a node that has forgotten must not take part under the identity that it had. It ends, and says why.
// Its own data is put back in the end.
class Forgetting : public Fault {
 public:
  explicit Forgetting(int node) : node_(node) {}
  absl::Status End(World& world) override {
    std::error_code error;
    if (!std::filesystem::exists(kept_, error)) return world.cluster.StartNodes({node_});
    world.cluster.Watch();
    if (world.cluster.Running(node_) && std::chrono::steady_clock::now() - replaced_ > kNotices) {
      world.cluster.Report(node_, "goes on although it has forgotten what it had promised", true);
    }
    world.cluster.Kill(node_);
    std::filesystem::remove_all(data_, error);
    std::filesystem::rename(kept_, data_, error);
    if (error) return absl::UnavailableError(absl::StrCat("cannot move ", kept_, " back: ", error.message()));
    world.cluster.Excuse(node_, false);
    return world.cluster.StartNodes({node_});
  }

 protected:
  void Find(World& world) {
    data_ = world.cluster.data_folder(node_) + "/data";
    kept_ = world.cluster.data_folder(node_) + "/kept";
  }
  // Starts it on that folder's data instead; empty = on none.
  absl::Status Replace(World& world, const std::string& other) {
    world.cluster.Kill(node_);
    std::error_code error;
    std::filesystem::rename(data_, kept_, error);
    if (!error && !other.empty()) std::filesystem::rename(other, data_, error);
    if (error) return absl::UnavailableError(absl::StrCat("cannot move ", data_, ": ", error.message()));
    world.cluster.Excuse(node_, true);
    replaced_ = std::chrono::steady_clock::now();
    // It may end before it listens.
    world.cluster.StartNodes({node_}).IgnoreError();
    return absl::OkStatus();
  }

  const int node_;
  std::string data_, kept_;

 private:
  // Where the others have a leader of the metadata group, or can elect one, within that time.
  static constexpr std::chrono::seconds kNotices{6};

  std::chrono::steady_clock::time_point replaced_;
};

class Wipe : public Forgetting {
 public:
  using Forgetting::Forgetting;
  absl::Status Begin(World& world) override {
    Find(world);
    return Replace(world, "");
  }
  std::string Describe() const override { return absl::StrCat("node ", node_, " started without its data"); }
};

class Rollback : public Forgetting {
 public:
  using Forgetting::Forgetting;
  absl::Status Begin(World& world) override {
    Find(world);
    older_ = world.cluster.data_folder(node_) + "/older";
    world.cluster.Kill(node_);
    std::error_code error;
    std::filesystem::copy(data_, older_, std::filesystem::copy_options::recursive, error);
    if (error) return absl::UnavailableError(absl::StrCat("cannot copy ", data_, ": ", error.message()));
    due_ = std::chrono::steady_clock::now() + kGoesOn;
    return world.cluster.StartNodes({node_});
  }
  absl::Status Tick(World& world) override {
    if (older_.empty() || std::chrono::steady_clock::now() < due_) return absl::OkStatus();
    return Replace(world, std::exchange(older_, ""));
  }
  absl::Status End(World& world) override {
    std::error_code ignored;
    if (!older_.empty()) std::filesystem::remove_all(older_, ignored);
    return Forgetting::End(world);
  }
  std::string Describe() const override {
    return absl::StrCat("node ", node_, " started, and, ", kGoesOn.count(),
                        " s later, started on a copy of its data from before");
  }

 private:
  // So that it has promised something that the copy does not know of.
  static constexpr std::chrono::seconds kGoesOn{4};

  std::string older_;
  std::chrono::steady_clock::time_point due_;
};

}  // namespace

std::unique_ptr<Fault> MakeWipe(const std::vector<int>& nodes) {
  return std::make_unique<Wipe>(nodes[0]);
}
std::unique_ptr<Fault> MakeRollback(const std::vector<int>& nodes) {
  return std::make_unique<Rollback>(nodes[0]);
}
// Between nothing and the broker's own limit, which the scenarios with small disks set to 64 MiB.
std::unique_ptr<Fault> MakeDiskLow(const std::vector<int>& nodes) {
  return std::make_unique<Ballast>(nodes[0], uint64_t{32} << 20);
}
std::unique_ptr<Fault> MakeDiskFull(const std::vector<int>& nodes) {
  return std::make_unique<Ballast>(nodes[0], 0);
}

}  // namespace trireme::failover
