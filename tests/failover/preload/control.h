// What the harness tells the library that is loaded into a broker before all others. One page of memory that both have
// mapped; the harness writes, the broker reads.
#pragma once

#include <atomic>
#include <cstdint>

namespace trireme::failover {

struct Control {
  // Added to the wall clock; the drift, too, in millionths of the time since `drift_since_us` of the monotonic clock.
  std::atomic<int64_t> clock_offset_us;
  std::atomic<int64_t> clock_drift_ppm;
  std::atomic<int64_t> drift_since_us;
  // Writes and syncs of the node's files wait until it is 0 again.
  std::atomic<uint32_t> stalled;
  // A sync takes this much longer.
  std::atomic<uint32_t> sync_delay_us;
  // An errno that syncs, or writes, fail with; 0 = none.
  std::atomic<uint32_t> sync_error;
  std::atomic<uint32_t> write_error;
  // Remember what each write has overwritten until it is synced, so that a loss of power can take it back.
  std::atomic<uint32_t> remember;
};
static_assert(sizeof(Control) <= 4'096);
static_assert(std::atomic<int64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

// What is remembered of one write, in a file named by the inode number of the one written to. The bytes that were there
// follow, as far as the file then reached.
struct Remembered {
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t old_size = 0;
  // Of the bytes that follow.
  uint64_t old_bytes = 0;
};

// The environment: the page; the node's data, with a slash at its end; the folder for what is remembered.
constexpr const char* kControlVariable = "TRIREME_FAILOVER_CONTROL";
constexpr const char* kDataVariable = "TRIREME_FAILOVER_DATA";
constexpr const char* kMemoryVariable = "TRIREME_FAILOVER_MEMORY";

}  // namespace trireme::failover
