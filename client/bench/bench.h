// A load of messages through queues, measured and checked: each message says who sent it, as which one, and when.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bench/histogram.h"
#include "client/bench/process_usage.h"

namespace trireme::client {

struct BenchOptions {
  std::vector<std::string> servers;
  // With several queues: a pattern with %d, which becomes 1, 2, ... Empty: a name is made.
  std::string queue;
  uint32_t queues = 1;
  uint32_t replicas = 0;  // 0: as the broker chooses
  // For each queue. Without producers what is in the queue is consumed, without consumers it stays there.
  uint32_t producers = 1;
  uint32_t consumers = 1;
  // Of all producers together; 0: until `duration` is over.
  uint64_t messages = 0;
  std::chrono::milliseconds duration{10'000};
  // Of the body, in bytes; at least kBenchHeaderBytes.
  uint32_t size = 1'024;
  // Unconfirmed messages per producer, 1 to 65,536.
  uint32_t in_flight = 4'096;
  // Messages per frame, 1 to 65,535; 1 = each in a frame of its own.
  uint32_t batch = 4'096;
  // Messages per second of all producers together, sent on time whatever the confirms do; 0: as fast as in_flight
  // allows.
  double rate = 0;
  // Delivered and not settled, per consumer.
  uint32_t outstanding = 8'192;
  // Connections and threads, among which the queues are spread.
  uint32_t clients = 1;
  bool deduplicate = true;
  bool keep = false;
  // For one administrative call, and for a queue to be opened.
  std::chrono::milliseconds timeout{30'000};
  // How long to wait for what is under way when sending is over.
  std::chrono::milliseconds drain{30'000};
  // Brokers on this machine, to report what they used.
  std::vector<pid_t> pids;
};

// What a message's body begins with: run, producer, sequence, time.
inline constexpr uint32_t kBenchHeaderBytes = 24;

struct BrokerUsage {
  ProcessUsage end;
  double cpu_seconds = 0;  // during the run
  uint64_t written_bytes = 0;
};

struct BenchResult {
  uint64_t published = 0;
  uint64_t confirmed = 0;
  uint64_t unknown = 0;
  uint64_t refused = 0;
  uint64_t delivered = 0;
  uint64_t settled = 0;
  // Confirmed, and not delivered before the end. Only where this run both produced and consumed.
  uint64_t lost = 0;
  // Delivered before, and now once more as if for the first time.
  uint64_t duplicates = 0;
  // Delivered before, and now again as a redelivery (its lease was lost).
  uint64_t redelivered = 0;
  // Not of this run: left where they are.
  uint64_t foreign = 0;
  uint64_t leases_lost = 0;
  uint64_t reconnects = 0;
  // From the first publish to the last confirm, and to the last settle.
  double publish_seconds = 0;
  double consume_seconds = 0;
  double confirmed_per_second = 0;
  double settled_per_second = 0;
  // Nanoseconds: from the call of publish (with a rate: from the time it was due) to the confirm, and to the delivery.
  Histogram confirm_latency;
  Histogram end_to_end_latency;
  // Nanoseconds between two confirms of one producer, while it waited for one.
  uint64_t longest_confirm_gap = 0;
  // What went wrong, in words, at most a few.
  std::vector<std::string> errors;
  std::vector<BrokerUsage> brokers;
  std::vector<std::string> queues;
};

struct BenchProgress {
  double seconds = 0;
  uint64_t published = 0;
  uint64_t confirmed = 0;
  uint64_t settled = 0;
  uint64_t errors = 0;
};

// Runs it. `progress` is called about once a second; `stop` ends the sending early when it becomes true.
// INVALID_ARGUMENT: an option out of its range; otherwise an error when the run could not begin (what goes wrong later
// is in the result).
absl::StatusOr<BenchResult> RunBench(const BenchOptions& options,
                                     const std::function<void(const BenchProgress&)>& progress,
                                     const std::atomic<bool>& stop);

}  // namespace trireme::client
