#include "broker/ops/disk_monitor.h"

#include <sys/statvfs.h>

#include <utility>

#include "broker/ops/log.h"

namespace trireme::broker {

int64_t DiskMonitor::StatFreeBytes(const std::string& path) {
  struct statvfs figures {};
  if (statvfs(path.c_str(), &figures) != 0) return -1;
  return static_cast<int64_t>(figures.f_bavail) * static_cast<int64_t>(figures.f_frsize);
}

DiskMonitor::DiskMonitor(std::string path, uint64_t low_bytes, FreeBytes free_bytes)
    : path_(std::move(path)), low_bytes_(low_bytes), read_(std::move(free_bytes)) {
  Check();
}

void DiskMonitor::Check() {
  int64_t got = read_(path_);
  // What cannot be told changes nothing: the write that fails will say.
  if (got < 0) return;
  auto free = static_cast<uint64_t>(got);
  free_.store(free, std::memory_order_relaxed);
  bool was = low();
  // A tenth more to come back, so that the answer does not flap.
  bool now = was ? free < low_bytes_ + low_bytes_ / 10 : free < low_bytes_;
  if (now == was) return;
  low_.store(now, std::memory_order_relaxed);
  Log(now ? LogLevel::kWarn : LogLevel::kInfo, now ? "low disk: publishing is refused" : "disk is no longer low",
      "path", path_, "free_bytes", free, "low_bytes", low_bytes_);
}

}  // namespace trireme::broker
