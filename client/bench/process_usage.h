// What other processes on this machine use, as /proc tells.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "absl/status/statusor.h"

namespace trireme::client {

struct ProcessUsage {
  pid_t pid = 0;
  // User and system time since its start.
  double cpu_seconds = 0;
  uint64_t resident_bytes = 0;
  // The most that it ever was.
  uint64_t peak_resident_bytes = 0;
  // Handed to the block layer since its start; 0 where it may not be read.
  uint64_t written_bytes = 0;
};

// NOT_FOUND: no such process.
absl::StatusOr<ProcessUsage> ReadProcessUsage(pid_t pid);

}  // namespace trireme::client
