// Watches the free space where the data lies. Low disk stops publishing, well before it stops the node; settling and
// deleting go on (Safety rule 19).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

namespace trireme::broker {

// Check() on one thread; low() and free_bytes() on any.
class DiskMonitor {
 public:
  // Bytes available to this process on the file system of `path`; negative when that cannot be told.
  using FreeBytes = std::function<int64_t(const std::string& path)>;
  static int64_t StatFreeBytes(const std::string& path);

  // Low below `low_bytes`, and until a tenth more than that is free again. 0 = never low.
  DiskMonitor(std::string path, uint64_t low_bytes, FreeBytes free_bytes = &StatFreeBytes);

  // Looks again; says in the log when the answer changes. To be called each second.
  void Check();

  bool low() const { return low_.load(std::memory_order_relaxed); }
  uint64_t free_bytes() const { return free_.load(std::memory_order_relaxed); }
  uint64_t low_bytes() const { return low_bytes_; }

 private:
  const std::string path_;
  const uint64_t low_bytes_;
  const FreeBytes read_;
  std::atomic<bool> low_{false};
  std::atomic<uint64_t> free_{0};
};

}  // namespace trireme::broker
