#include "tests/bench/compare/load.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "CLI/CLI.hpp"
#include "client/bench/histogram.h"
#include "client/bench/process_usage.h"
#include "client/bench/sequence_set.h"

namespace trireme::compare {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

// Handed to the kernel at once, at most.
constexpr size_t kSendBytes = size_t{64} << 10;
constexpr seconds kPatience{60};

// What a body begins with.
struct Head {
  uint64_t sequence = 0;
  int64_t due_ns = 0;
};

int64_t NowNs() {
  return std::chrono::duration_cast<nanoseconds>(Clock::now().time_since_epoch()).count();
}

struct Queue {
  std::atomic<uint64_t> confirmed{0};
  std::atomic<uint64_t> delivered{0};  // each once
  uint64_t sent = 0;
  uint64_t duplicates = 0;
  client::Histogram latency;
  client::SequenceSet seen;
};

class Run {
 public:
  Run(const Options& options, Peer& peer) : options_(options), peer_(peer), queues_(options.queues) {}

  void Go() {
    for (uint32_t i = 0; i < options_.queues; ++i) peer_.MakeQueue(i);
    std::vector<std::thread> consumers, producers;
    for (uint32_t i = 0; i < options_.queues; ++i) consumers.emplace_back([this, i] { Consume(i); });
    for (uint32_t i = 0; i < options_.queues; ++i) producers.emplace_back([this, i] { Produce(i); });
    Await("the connections", [this] { return ready_ == 2 * options_.queues; });
    std::this_thread::sleep_for(milliseconds(500));  // the broker's own work of setting up
    const double cpu_before = BrokerCpu();
    const Clock::time_point begin = Clock::now();
    begin_ns_ = NowNs();
    begin_ns_.notify_all();
    std::this_thread::sleep_for(duration<double>(options_.duration_s));
    stop_sending_ = true;
    for (std::thread& thread : producers) thread.join();
    publish_s_ = duration<double>(Clock::now() - begin).count();
    Await("the last deliveries", [this] { return Sum(&Queue::delivered) >= Sum(&Queue::confirmed); });
    consume_s_ = duration<double>(Clock::now() - begin).count();
    cpu_s_ = BrokerCpu() - cpu_before;
    stop_taking_ = true;
    for (std::thread& thread : consumers) thread.join();
  }

  void Print() const {
    client::Histogram latency;
    uint64_t duplicates = 0;
    for (const Queue& queue : queues_) {
      latency.Merge(queue.latency);
      duplicates += queue.duplicates;
    }
    const auto confirmed = Sum(&Queue::confirmed), delivered = Sum(&Queue::delivered);
    const auto ms = [&](double quantile) { return static_cast<double>(latency.Quantile(quantile)) / 1e6; };
    std::printf(
        "{\"confirmed\": %llu, \"settled\": %llu, \"lost\": %llu, \"duplicates\": %llu, \"confirmed_per_s\": %.1f, "
        "\"settled_per_s\": %.1f, \"latency_ms\": {\"p50\": %.4f, \"p99\": %.4f, \"p999\": %.4f}, "
        "\"broker_cpu_s_per_million\": %.4f}\n",
        static_cast<unsigned long long>(confirmed), static_cast<unsigned long long>(delivered),
        static_cast<unsigned long long>(confirmed - std::min(confirmed, delivered)),
        static_cast<unsigned long long>(duplicates), static_cast<double>(confirmed) / publish_s_,
        static_cast<double>(delivered) / consume_s_, ms(0.5), ms(0.99), ms(0.999),
        delivered == 0 ? 0 : cpu_s_ / (static_cast<double>(delivered) / 1e6));
  }

 private:
  void Produce(uint32_t index) {
    Queue& queue = queues_[index];
    std::unique_ptr<Producer> producer = peer_.Produce(index);
    ++ready_;
    begin_ns_.wait(0);
    // With a rate, messages are due at fixed times, whatever the confirms do; the queues take turns.
    const double step_ns = options_.rate > 0 ? 1e9 * options_.queues / options_.rate : 0;
    const double first_ns = static_cast<double>(begin_ns_) + step_ns * index / options_.queues;
    std::string body(options_.size, '\0');
    std::minstd_rand random(index + 1);
    for (char& c : body) c = static_cast<char>(random());
    uint64_t confirmed = 0;
    Clock::time_point heard = Clock::now();
    while (!stop_sending_ || confirmed < queue.sent) {
      const int64_t now = NowNs();
      uint64_t room =
          stop_sending_ ? 0 : options_.in_flight - std::min<uint64_t>(options_.in_flight, queue.sent - confirmed);
      nanoseconds wait = room > 0 ? nanoseconds(0) : milliseconds(100);
      for (size_t bytes = 0; room > 0 && bytes < kSendBytes; --room, bytes += body.size()) {
        Head head{queue.sent, now};
        if (step_ns > 0) {
          head.due_ns = static_cast<int64_t>(first_ns + step_ns * static_cast<double>(queue.sent));
          wait = std::clamp(nanoseconds(head.due_ns - now), nanoseconds(0), nanoseconds(milliseconds(100)));
          if (head.due_ns > now) break;
        }
        std::memcpy(body.data(), &head, sizeof(head));
        producer->Add(body);
        ++queue.sent;
      }
      producer->Send();
      const uint64_t more =
          producer->Confirmed(queue.sent - confirmed >= options_.in_flight ? milliseconds(100) : wait);
      if (more > 0 || queue.sent == confirmed) heard = Clock::now();
      if (Clock::now() - heard > kPatience) Die("a producer hears nothing of what it has sent");
      confirmed += more;
      queue.confirmed = confirmed;
    }
  }

  void Consume(uint32_t index) {
    Queue& queue = queues_[index];
    std::unique_ptr<Consumer> consumer = peer_.Consume(index);
    ++ready_;
    while (!stop_taking_) {
      consumer->Take(milliseconds(100), [&](std::string_view body) {
        Head head;
        if (body.size() != options_.size) Die("a message of another size was delivered");
        std::memcpy(&head, body.data(), sizeof(head));
        if (!queue.seen.Insert(head.sequence)) {
          ++queue.duplicates;
          return;
        }
        queue.latency.Add(static_cast<uint64_t>(std::max<int64_t>(0, NowNs() - head.due_ns)));
        queue.delivered.store(queue.seen.count(), std::memory_order_relaxed);
      });
    }
  }

  uint64_t Sum(std::atomic<uint64_t> Queue::*of) const {
    uint64_t sum = 0;
    for (const Queue& queue : queues_) sum += queue.*of;
    return sum;
  }

  double BrokerCpu() const {
    double sum = 0;
    for (pid_t pid : options_.pids) {
      const auto usage = client::ReadProcessUsage(pid);
      if (!usage.ok()) Die(usage.status().ToString());
      sum += usage->cpu_seconds;
    }
    return sum;
  }

  static void Await(const char* what, const std::function<bool()>& done) {
    const Clock::time_point end = Clock::now() + kPatience;
    while (!done()) {
      if (Clock::now() > end) {
        std::fprintf(stderr, "gave up waiting for %s\n", what);
        return;
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  const Options& options_;
  Peer& peer_;
  std::vector<Queue> queues_;
  std::atomic<uint32_t> ready_{0};
  std::atomic<int64_t> begin_ns_{0};
  std::atomic<bool> stop_sending_{false}, stop_taking_{false};
  double publish_s_ = 0, consume_s_ = 0, cpu_s_ = 0;
};

}  // namespace

void Die(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::_Exit(1);
}

int Main(int argc, char** argv, const std::function<std::unique_ptr<Peer>(const Options&)>& make) {
  Options options;
  CLI::App app("Loads a broker's replicated queues, one producer and one consumer each, and measures.");
  app.add_option("--ports", options.ports, "Of the nodes on this machine, comma-separated")->delimiter(',')->required();
  app.add_option("--pids", options.pids, "Of the nodes, whose CPU time is reported")->delimiter(',');
  app.add_option("--queues", options.queues)->check(CLI::Range(1, 1'000));
  app.add_option("--size", options.size)->check(CLI::Range(16, 100'000));
  app.add_option("--in-flight", options.in_flight)->check(CLI::Range(1, 65'535));
  app.add_option("--outstanding", options.outstanding)->check(CLI::Range(1, 65'535));
  app.add_option("--duration", options.duration_s)->check(CLI::PositiveNumber);
  app.add_option("--rate", options.rate)->check(CLI::NonNegativeNumber);
  CLI11_PARSE(app, argc, argv);
  std::unique_ptr<Peer> peer = make(options);
  Run run(options, *peer);
  run.Go();
  run.Print();
  return 0;
}

}  // namespace trireme::compare
