#include "client/bench/bench.h"

#include <sys/prctl.h>

#include <algorithm>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/bench/worker.h"

namespace trireme::client {
namespace {

constexpr std::chrono::milliseconds kPoll{5};
constexpr std::chrono::milliseconds kProgressEvery{1'000};
constexpr size_t kAtOnce = 64;

absl::Status CheckRange(const char* what, int64_t value, int64_t from, int64_t to) {
  if (value >= from && value <= to) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", value, "; it must be ", from, " to ", to));
}

absl::Status Check(const BenchOptions& options) {
  absl::Status status;
  status.Update(CheckRange("--queues", options.queues, 1, 100'000));
  status.Update(CheckRange("--producers", options.producers, 0, 10'000));
  status.Update(CheckRange("--consumers", options.consumers, 0, 10'000));
  status.Update(CheckRange("--size", options.size, kBenchHeaderBytes, 64 << 20));
  status.Update(CheckRange("--in-flight", options.in_flight, 1, 65'536));
  status.Update(CheckRange("--batch", options.batch, 1, 65'535));
  status.Update(CheckRange("--rate", static_cast<int64_t>(options.rate), 0, 100'000'000));
  status.Update(CheckRange("--outstanding", options.outstanding, 1, 100'000));
  status.Update(CheckRange("--clients", options.clients, 1, 64));
  if (options.queues > 1 && !options.queue.empty() && options.queue.find("%d") == std::string::npos) {
    status.Update(absl::InvalidArgumentError(absl::StrCat(
        "--queues is ", options.queues, ", so --queue needs a %d for the number: ", options.queue, "-%d")));
  }
  if (options.producers + options.consumers == 0) {
    status.Update(absl::InvalidArgumentError("--producers and --consumers are both 0; one of them must work"));
  }
  if (options.messages == 0 && options.duration.count() <= 0) {
    status.Update(absl::InvalidArgumentError("neither --messages nor --duration is above 0"));
  }
  return status;
}

// The queues of a run: made if they are not there, and deleted again if they were made.
class Queues {
 public:
  Queues(const BenchOptions& options, uint32_t run) : options_(options) {
    std::string pattern = options.queue;
    if (pattern.empty()) {
      pattern = absl::StrCat("bench-", absl::Hex(run, absl::kZeroPad8), options.queues > 1 ? "-%d" : "");
    }
    for (uint32_t i = 1; i <= options.queues; ++i) {
      names_.push_back(absl::StrReplaceAll(pattern, {{"%d", absl::StrCat(i)}}));
    }
  }

  absl::Status Create(Client& client) {
    made_.assign(names_.size(), false);
    absl::Status status = ForAll(client, [&](size_t i, auto done) {
      v1::CreateQueueRequest request;
      request.set_name(names_[i]);
      request.mutable_settings()->set_replicas(options_.replicas);
      client.CreateQueue(request, [this, i, done](absl::StatusOr<v1::CreateQueueResponse> response) mutable {
        if (response.ok()) made_[i] = response->created();
        done(response.status());
      });
    });
    if (!status.ok() || options_.producers == 0) return status;
    for (size_t i = 0; i < names_.size(); ++i) {
      if (made_[i]) continue;
      absl::StatusOr<v1::DescribeQueueResponse> queue = client.DescribeQueue(names_[i]);
      if (!queue.ok()) return queue.status();
      for (const v1::SubscriptionFigures& figures : queue->figures().subscriptions()) {
        if (figures.waiting() + figures.in_flight() == 0) continue;
        return absl::FailedPreconditionError(
            absl::StrCat("queue ", names_[i], " holds ", figures.waiting() + figures.in_flight(),
                         " messages already; name another one, or empty it: trireme queue purge ", names_[i]));
      }
    }
    return absl::OkStatus();
  }

  // Errors are told in the result: the run itself is over.
  void Delete(Client& client, std::vector<std::string>& errors) {
    if (options_.keep) return;
    absl::Status status = ForAll(client, [&](size_t i, auto done) {
      if (!made_[i]) return done(absl::OkStatus());
      v1::DeleteQueueRequest request;
      request.set_name(names_[i]);
      client.DeleteQueue(request,
                         [done](absl::StatusOr<v1::DeleteQueueResponse> response) mutable { done(response.status()); });
    });
    if (!status.ok()) errors.push_back(absl::StrCat("deleting queues: ", status.ToString()));
  }

  const std::vector<std::string>& names() const { return names_; }

 private:
  // Calls `act(index, done)` for each queue, a few at a time, and gives the first error.
  template <typename Act>
  absl::Status ForAll(Client&, Act act) {
    struct State {
      Mutex mutex;
      CondVar changed;
      size_t running = 0;
      absl::Status status;
    };
    auto state = std::make_shared<State>();
    for (size_t i = 0; i < names_.size(); ++i) {
      {
        MutexLock lock(&state->mutex);
        while (state->running >= kAtOnce) state->changed.Wait(&state->mutex);
        if (!state->status.ok()) break;
        ++state->running;
      }
      act(i, [state](const absl::Status& status) {
        MutexLock lock(&state->mutex);
        state->status.Update(status);
        --state->running;
        state->changed.SignalAll();
      });
    }
    MutexLock lock(&state->mutex);
    while (state->running > 0) state->changed.Wait(&state->mutex);
    return state->status;
  }

  const BenchOptions& options_;
  std::vector<std::string> names_;
  std::vector<char> made_;
};

class Bench {
 public:
  Bench(const BenchOptions& options, const std::function<void(const BenchProgress&)>& progress,
        const std::atomic<bool>& stop)
      : options_(options), progress_(progress), stop_(stop), run_(std::random_device()()), queues_(options, run_) {}

  absl::StatusOr<BenchResult> Run() {
    if (absl::Status status = Prepare(); !status.ok()) {
      workers_.clear();
      if (admin_ != nullptr) queues_.Delete(*admin_, result_.errors);
      return status;
    }
    start_ns_ = MonotonicNs();
    next_progress_ = Clock::now() + kProgressEvery;
    Send();
    Drain();
    Finish();
    return std::move(result_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  absl::Status Prepare() {
    for (pid_t pid : options_.pids) {
      absl::StatusOr<ProcessUsage> usage = ReadProcessUsage(pid);
      if (!usage.ok()) return usage.status();
      usage_before_.push_back(*usage);
    }
    ClientOptions client_options;
    client_options.servers = options_.servers;
    client_options.call_timeout = options_.timeout;
    absl::StatusOr<std::unique_ptr<Client>> admin = Client::Create(client_options);
    if (!admin.ok()) return admin.status();
    admin_ = *std::move(admin);
    if (absl::Status status = queues_.Create(*admin_); !status.ok()) return status;
    const uint32_t clients = std::min<uint32_t>(options_.clients, options_.queues);
    for (uint32_t i = 0; i < clients; ++i) {
      absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(client_options);
      if (!client.ok()) return client.status();
      workers_.push_back(std::make_unique<BenchWorker>(options_, run_, *std::move(client)));
    }
    const uint64_t senders = uint64_t{options_.queues} * options_.producers;
    uint32_t number = 0;
    for (size_t q = 0; q < queues_.names().size(); ++q) {
      BenchWorker& worker = *workers_[q % workers_.size()];
      for (uint32_t i = 0; i < options_.consumers; ++i) {
        if (absl::Status status = worker.AddConsumer(queues_.names()[q]); !status.ok()) return status;
      }
      for (uint32_t i = 0; i < options_.producers; ++i, ++number) {
        const uint64_t share = options_.messages / senders + (number < options_.messages % senders ? 1 : 0);
        const uint64_t limit = options_.messages == 0 ? UINT64_MAX : share;
        if (absl::Status status = worker.AddProducer(queues_.names()[q], number, limit); !status.ok()) return status;
      }
    }
    for (auto& worker : workers_) {
      if (absl::Status status = worker->WaitOpen(options_.timeout); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // Until the messages are sent or the time is over.
  void Send() {
    const Clock::time_point end = options_.messages > 0 ? Clock::time_point::max() : Clock::now() + options_.duration;
    if (options_.producers == 0) return Consume();
    if (options_.rate > 0) {
      SendAtRate(end);
    } else {
      for (auto& worker : workers_) worker->Begin();
      while (Clock::now() < end && !stop_ && !SendingDone()) Wait(kPoll);
    }
    for (auto& worker : workers_) worker->StopSending();
  }

  // At the times that the rate gives, whatever happened before: a message that had to wait is late, and measured so.
  void SendAtRate(Clock::time_point end) {
    std::vector<std::pair<BenchWorker*, size_t>> turns;
    for (auto& worker : workers_) {
      for (size_t i = 0; i < worker->producers(); ++i) turns.emplace_back(worker.get(), i);
    }
    // Wake on time: the kernel's default of 50 us would show in the latencies.
    prctl(PR_SET_TIMERSLACK, 1'000);
    const double interval_ns = 1e9 / options_.rate;
    for (uint64_t n = 0; (options_.messages == 0 || n < options_.messages) && Clock::now() < end && !stop_;) {
      const uint64_t due = start_ns_ + static_cast<uint64_t>(static_cast<double>(n) * interval_ns);
      const uint64_t now = MonotonicNs();
      if (due > now) {
        Wait(std::min<Clock::duration>(std::chrono::nanoseconds(due - now), kPoll));
        continue;
      }
      auto& [worker, producer] = turns[n % turns.size()];
      if (worker->SendDue(producer, due)) {
        ++n;
      } else {
        if (SendingDone() && worker->errors() > 0) break;
        Wait(std::chrono::microseconds(100));
      }
    }
  }

  // What is there, until nothing came for a second.
  void Consume() {
    uint64_t settled = 0;
    const Clock::time_point end = options_.messages > 0 ? Clock::time_point::max() : Clock::now() + options_.duration;
    Clock::time_point last = Clock::now();
    while (Clock::now() < end && !stop_ && Clock::now() - last < std::chrono::seconds(1)) {
      Wait(kPoll);
      const uint64_t now = Sum(&BenchWorker::settled);
      if (now != settled) last = Clock::now();
      settled = now;
      if (options_.messages > 0 && settled >= options_.messages) break;
    }
  }

  void Drain() {
    const Clock::time_point end = Clock::now() + options_.drain;
    while (Clock::now() < end && !SendingDone()) Wait(kPoll);
    while (Clock::now() < end && !AllDrained()) Wait(kPoll);
    for (auto& worker : workers_) worker->FlushSettles(std::chrono::seconds(10));
  }

  void Finish() {
    const double before = static_cast<double>(start_ns_);
    uint64_t last_confirm = 0, last_settle = 0;
    for (auto& worker : workers_) {
      last_confirm = std::max(last_confirm, worker->last_confirm_ns());
      last_settle = std::max(last_settle, worker->last_settle_ns());
    }
    for (size_t i = 0; i < options_.pids.size(); ++i) {
      absl::StatusOr<ProcessUsage> usage = ReadProcessUsage(options_.pids[i]);
      // It may have been killed on purpose.
      if (!usage.ok()) continue;
      result_.brokers.push_back(
          {*usage, usage->cpu_seconds - usage_before_[i].cpu_seconds,
           usage->written_bytes - std::min(usage->written_bytes, usage_before_[i].written_bytes)});
    }
    for (auto& worker : workers_) worker->Finish(result_);
    workers_.clear();
    result_.queues = queues_.names();
    if (last_confirm > 0) result_.publish_seconds = (static_cast<double>(last_confirm) - before) / 1e9;
    if (last_settle > 0) result_.consume_seconds = (static_cast<double>(last_settle) - before) / 1e9;
    if (result_.publish_seconds > 0) {
      result_.confirmed_per_second = static_cast<double>(result_.confirmed) / result_.publish_seconds;
    }
    if (result_.consume_seconds > 0) {
      result_.settled_per_second = static_cast<double>(result_.settled) / result_.consume_seconds;
    }
    if (result_.foreign > 0) {
      result_.errors.push_back(
          absl::StrCat(result_.foreign, " messages were not of this run and were left in the queue"));
    }
    queues_.Delete(*admin_, result_.errors);
  }

  uint64_t Sum(uint64_t (BenchWorker::*count)() const) const {
    uint64_t sum = 0;
    for (const auto& worker : workers_) sum += (worker.get()->*count)();
    return sum;
  }
  bool SendingDone() const {
    return std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->SendingDone(); });
  }
  bool AllDrained() const {
    return options_.producers == 0 ||
           std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->Drained(); });
  }

  void Wait(Clock::duration time) {
    std::this_thread::sleep_for(time);
    if (Clock::now() < next_progress_) return;
    next_progress_ += kProgressEvery;
    progress_({static_cast<double>(MonotonicNs() - start_ns_) / 1e9, Sum(&BenchWorker::published),
               Sum(&BenchWorker::confirmed), Sum(&BenchWorker::settled), Sum(&BenchWorker::errors)});
  }

  const BenchOptions& options_;
  const std::function<void(const BenchProgress&)>& progress_;
  const std::atomic<bool>& stop_;
  const uint32_t run_;
  Queues queues_;
  std::vector<ProcessUsage> usage_before_;
  std::unique_ptr<Client> admin_;
  std::vector<std::unique_ptr<BenchWorker>> workers_;
  uint64_t start_ns_ = 0;
  Clock::time_point next_progress_;
  BenchResult result_;
};

}  // namespace

absl::StatusOr<BenchResult> RunBench(const BenchOptions& options,
                                     const std::function<void(const BenchProgress&)>& progress,
                                     const std::atomic<bool>& stop) {
  if (absl::Status status = Check(options); !status.ok()) return status;
  return Bench(options, progress, stop).Run();
}

}  // namespace trireme::client
