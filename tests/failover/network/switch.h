// The one thing between the hosts: reads what they send, and passes it on as each pair's rule says.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/failover/network/host.h"
#include "tests/failover/network/wire.h"

namespace trireme::failover {

// Thread-safe; has a thread of its own. Hosts are named by their index. What is held back is bounded by bytes per pair
// of hosts, and dropped beyond: TCP sends it again.
class Switch {
 public:
  struct Counts {
    uint64_t passed = 0, dropped = 0, doubled = 0, withheld = 0;
  };

  // The hosts outlive it.
  Switch(const std::vector<Host>& hosts, uint64_t seed);
  ~Switch();

  void SetRule(size_t from, size_t to, const WireRule& rule);
  void SetBoth(size_t one, size_t other, const WireRule& rule) {
    SetRule(one, other, rule);
    SetRule(other, one, rule);
  }
  // Every pair is as it was at first; what was withheld arrives.
  void Heal();
  // Since the start.
  Counts counts() const;

 private:
  static constexpr uint64_t kMaxHeldBytes = 16 << 20;

  struct Packet {
    Wire::Time due;
    // Packets due at one time go in the order in which they came.
    uint64_t number = 0;
    size_t to = 0;
    std::string bytes;
    bool operator<(const Packet& other) const { return due != other.due ? due > other.due : number > other.number; }
  };
  struct Pair {
    explicit Pair(uint64_t seed) : wire(seed) {}
    Wire wire;
    std::deque<std::string> withheld;
    uint64_t withheld_bytes = 0;
  };

  void Run();
  void Read(size_t from);
  void Take(size_t from, std::string_view bytes, Wire::Time now);
  void Write(size_t to, std::string_view bytes);
  // What is due; when the next one is.
  Wire::Time Deliver(Wire::Time now);
  void Wake();

  const std::vector<Host>& hosts_;
  // By IPv4 address, in network order.
  std::vector<uint32_t> addresses_;
  const int wake_;
  std::atomic<bool> stopping_{false};

  mutable absl::Mutex mutex_;
  std::vector<Pair> pairs_ ABSL_GUARDED_BY(mutex_);  // by from * hosts + to
  std::priority_queue<Packet> later_ ABSL_GUARDED_BY(mutex_);
  uint64_t later_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  Counts counts_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace trireme::failover
