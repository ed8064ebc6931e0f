// One client of a benchmark, with its producers and consumers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "client/bench/bench.h"
#include "client/bench/sequence_set.h"
#include "client/client.h"
#include "client/sync.h"

namespace trireme::client {

// What a message's body begins with, as it is in memory: both ends are on one machine.
struct BenchHeader {
  uint32_t run;
  uint32_t producer;
  uint64_t sequence;
  uint64_t sent_ns;  // monotonic
};
static_assert(sizeof(BenchHeader) == kBenchHeaderBytes);

uint64_t MonotonicNs();

// Producers refill their windows from the confirms' callbacks, so the load needs no thread of its own; only a load at a
// rate is sent from outside.
class BenchWorker {
 public:
  BenchWorker(const BenchOptions& options, uint32_t run, std::unique_ptr<Client> client);
  ~BenchWorker();

  Client& client() { return *client_; }
  // Before Begin. `number` is the producer's in the whole run; it sends `limit` messages at most.
  absl::Status AddProducer(const std::string& queue, uint32_t number, uint64_t limit);
  absl::Status AddConsumer(const std::string& queue);
  // Waits until all are connected.
  absl::Status WaitOpen(std::chrono::milliseconds timeout);

  // Starts to fill the windows.
  void Begin();
  // One message of the producer with this index, for a load at a rate. False: its window is full, or it may not send.
  bool SendDue(size_t producer, uint64_t due_ns);
  size_t producers() const { return producers_.size(); }
  void StopSending() { stopped_ = true; }

  // Everything that was published is resolved.
  bool SendingDone() const;
  // As many messages were delivered as were confirmed.
  bool Drained() const;
  // Makes the settles durable.
  void FlushSettles(std::chrono::milliseconds timeout);
  // Adds what was counted. After this the worker counts no more.
  void Finish(BenchResult& result);

  uint64_t published() const { return published_; }
  uint64_t confirmed() const { return confirmed_; }
  uint64_t settled() const { return settled_; }
  uint64_t errors() const { return errors_; }
  // When the last confirm and the last settle were.
  uint64_t last_confirm_ns() const { return last_confirm_ns_; }
  uint64_t last_settle_ns() const { return last_settle_ns_; }

 private:
  struct Sender {
    uint32_t number = 0;
    uint64_t limit = 0;
    std::string body;
    std::unique_ptr<Producer> producer;
    Mutex mutex;
    uint64_t sent ABSL_GUARDED_BY(mutex) = 0;
    // When a message was sent, by its ticket modulo the size.
    std::vector<uint64_t> sent_ns ABSL_GUARDED_BY(mutex);
    bool done ABSL_GUARDED_BY(mutex) = false;
    // The client's thread only, until Finish.
    SequenceSet confirmed;
    uint64_t resolved = 0;
    uint64_t last_confirm_ns = 0;
  };

  // Returns false when the window is full or there is nothing more to send.
  bool SendOne(Sender& sender, uint64_t now_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(sender.mutex);
  void Fill(Sender& sender);
  void OnConfirm(Sender& sender, const Confirmation& confirmation);
  void OnDelivery(Consumer& consumer, std::span<const Delivery> deliveries);
  void Note(std::string error);

  const BenchOptions& options_;
  const uint32_t run_;
  std::unique_ptr<Client> client_;
  std::vector<std::unique_ptr<Sender>> producers_;
  std::vector<std::unique_ptr<Consumer>> consumers_;

  std::atomic<bool> stopped_{false};
  std::atomic<uint64_t> published_{0}, resolved_{0}, confirmed_{0}, unknown_{0}, refused_{0};
  std::atomic<uint64_t> delivered_{0}, unique_{0}, settled_{0}, duplicates_{0}, redelivered_{0}, foreign_{0};
  std::atomic<uint64_t> leases_lost_{0}, errors_{0};
  std::atomic<uint64_t> last_confirm_ns_{0}, last_settle_ns_{0};
  std::atomic<uint64_t> longest_gap_ns_{0};

  // By the client's thread, and by whoever asks at the end.
  Mutex mutex_;
  std::vector<SequenceSet> received_ ABSL_GUARDED_BY(mutex_);  // by the producer's number
  Histogram confirm_latency_ ABSL_GUARDED_BY(mutex_);
  Histogram end_to_end_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::client
