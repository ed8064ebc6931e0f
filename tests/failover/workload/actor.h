// One producer or consumer of the workload, on a thread of its own, until it is told to stop.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/client.h"
#include "tests/failover/history/history.h"

namespace trireme::failover {

enum class Role : uint8_t {
  kProber,      // one message at a time; its gaps are the unavailability
  kPaced,       // so many per second, in batches, with sequences
  kPlain,       // the same without sequences; publishes again what is of unknown outcome
  kBurst,       // flat out for a while, then a pause
  kCalls,       // single Send calls, with sequences
  kRestarting,  // closes now and then, and goes on under its name with the last sequence stored
  kStream,      // acknowledges at once what comes
  kSlow,        // holds what it takes for a while; returns and rejects some
  kReceiver,    // single receives; extends, returns, and lets some leases end
};

struct ActorSpec {
  Role role = Role::kProber;
  // The producer's or consumer's, in the whole run.
  uint32_t number = 0;
  uint32_t queue = 0;
  std::string queue_name;
  // Messages per second, where that is asked for; for kBurst, messages in one.
  uint32_t rate = 0;
  // Of bodies, from and to.
  uint32_t min_bytes = 100, max_bytes = 100;
  // Of a stream's session, or of a receive's lease.
  uint32_t lease_ms = 10'000;
};

// The role's name, as histories and reports have it.
const char* RoleName(Role role);

class Actor {
 public:
  Actor(const ActorSpec& spec, uint32_t worker, uint64_t seed, std::unique_ptr<client::Client> client,
        HistoryWriter& history)
      : spec_(spec), worker_(worker), chance_(seed), client_(std::move(client)), history_(history) {}
  virtual ~Actor() = default;
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  // Returns after Stop(), when everything that was begun is resolved, or has had its time.
  virtual void Run() = 0;
  void Stop();

 protected:
  // False when it was cut short by Stop().
  bool Sleep(std::chrono::microseconds time);
  bool stopping() const { return stopping_; }
  uint64_t Draw(uint64_t from, uint64_t to) { return std::uniform_int_distribution<uint64_t>(from, to)(chance_); }
  bool Chance(double share) { return std::uniform_real_distribution<>()(chance_) < share; }
  // For the reader of the history; of many in a row only some are kept.
  void Remark(const std::string& text);

  const ActorSpec spec_;
  const uint32_t worker_;
  // The actor's own thread only.
  std::mt19937_64 chance_;
  const std::unique_ptr<client::Client> client_;
  HistoryWriter& history_;

 private:
  std::atomic<bool> stopping_{false};
  absl::Mutex mutex_;
  absl::CondVar stop_;
  std::atomic<uint64_t> remarks_{0};
};

std::unique_ptr<Actor> MakeProducer(const ActorSpec& spec, uint32_t worker, uint64_t seed,
                                    std::unique_ptr<client::Client> client, HistoryWriter& history);
std::unique_ptr<Actor> MakeConsumer(const ActorSpec& spec, uint32_t worker, uint64_t seed,
                                    std::unique_ptr<client::Client> client, HistoryWriter& history);
bool IsProducer(Role role);

}  // namespace trireme::failover
