#include "tests/failover/workload/workload.h"

#include <signal.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kStopTime{90};

enum Queue : uint32_t { kBusy = 1, kCalm, kCalls, kPlain };

}  // namespace

const std::vector<std::string>& Workload::Queues() {
  static const std::vector<std::string> kQueues = {"busy", "calm", "calls", "plain"};
  return kQueues;
}

Workload::Workload(WorkloadOptions options, HistoryWriter& history)
    : options_(std::move(options)), history_(history), chance_(options_.seed) {
  workers_.resize(kClientHosts);
}

// What each host's process does. Numbers are the worker's times a hundred and on, so none is used twice.
WorkerSpec Workload::Spec(int host) const {
  WorkerSpec spec;
  spec.servers = options_.servers;
  spec.history = options_.history;
  spec.epoch_us = history_.epoch_us();
  auto add = [&](Role role, Queue queue, uint32_t rate, uint32_t max_bytes, uint32_t lease_ms) {
    ActorSpec actor;
    actor.role = role;
    actor.queue = queue;
    actor.queue_name = Queues()[queue - 1];
    actor.rate = std::max<uint32_t>(1, static_cast<uint32_t>(rate * options_.scale));
    actor.max_bytes = max_bytes;
    actor.lease_ms = lease_ms;
    spec.actors.push_back(std::move(actor));
  };
  switch (host) {
    case kSteady:
      for (Queue queue : {kBusy, kCalm, kCalls, kPlain}) add(Role::kProber, queue, 200, 100, 0);
      add(Role::kPaced, kBusy, 400, 1'000, 0);
      add(Role::kBurst, kBusy, 2'000, 1'000, 0);
      add(Role::kPaced, kCalm, 50, 60'000, 0);
      add(Role::kRestarting, kCalm, 100, 500, 0);
      add(Role::kCalls, kCalls, 40, 2'000, 0);
      add(Role::kPlain, kPlain, 200, 500, 0);
      break;
    case kQuick:
      for (Queue queue : {kBusy, kBusy, kCalm, kPlain, kPlain}) add(Role::kStream, queue, 0, 0, 8'000);
      break;
    case kSlow:
      for (Queue queue : {kCalm, kCalm, kPlain}) add(Role::kSlow, queue, 0, 0, 10'000);
      for (int i = 0; i < 3; ++i) add(Role::kReceiver, kCalls, 0, 0, 5'000);
      add(Role::kReceiver, kCalm, 0, 0, 5'000);
      break;
    default:
      for (Queue queue : {kBusy, kPlain}) add(Role::kStream, queue, 0, 0, 4'000);
      add(Role::kReceiver, kCalls, 0, 0, 4'000);
      break;
  }
  return spec;
}

absl::Status Workload::Launch(int host, WorkerSpec spec) {
  spec.worker = next_worker_++;
  spec.seed = options_.seed * 1'009 + spec.worker;
  for (size_t i = 0; i < spec.actors.size(); ++i) {
    spec.actors[i].number = spec.worker * 100 + static_cast<uint32_t>(i) + 1;
  }
  Command command;
  command.arguments = {options_.self, "worker", EncodeWorker(spec)};
  command.log = absl::StrCat(options_.logs, "/worker-", spec.worker, ".log");
  if (!options_.hosts.empty()) command.namespace_fd = options_.hosts[static_cast<size_t>(host)]->namespace_fd();
  absl::StatusOr<std::unique_ptr<Process>> process = Process::Start(command);
  if (!process.ok()) return process.status();
  workers_[static_cast<size_t>(host)] = {std::move(spec), *std::move(process)};
  return absl::OkStatus();
}

absl::Status Workload::Start() {
  for (int host = 0; host < kClientHosts; ++host) {
    if (absl::Status launched = Launch(host, Spec(host)); !launched.ok()) return launched;
  }
  dying_ = true;
  dies_at_ = std::chrono::steady_clock::now() + seconds(5);
  return absl::OkStatus();
}

absl::Status Workload::Tick() {
  for (size_t host = 0; host < workers_.size(); ++host) {
    Worker& worker = workers_[host];
    if (worker.process == nullptr) continue;
    if (auto ended = worker.process->Ended(); ended.has_value()) {
      return absl::InternalError(absl::StrCat("worker ", worker.spec.worker, " ended with ", *ended, "; its log is ",
                                              options_.logs, "/worker-", worker.spec.worker, ".log"));
    }
  }
  if (!dying_ || std::chrono::steady_clock::now() < dies_at_) return absl::OkStatus();
  Worker& worker = workers_[kDying];
  worker.process->Signal(SIGKILL);
  worker.process->WaitEnded(seconds(10));
  history_.Append(WorkerKilled{worker.spec.worker});
  dies_at_ = std::chrono::steady_clock::now() + milliseconds(std::uniform_int_distribution<int>(3'000, 9'000)(chance_));
  return Launch(kDying, Spec(kDying));
}

void Workload::Pause(int host) {
  const Worker& worker = workers_[static_cast<size_t>(host)];
  history_.Append(WorkerPaused{worker.spec.worker});
  worker.process->Signal(SIGSTOP);
}

void Workload::Resume(int host) {
  const Worker& worker = workers_[static_cast<size_t>(host)];
  worker.process->Signal(SIGCONT);
  history_.Append(WorkerResumed{worker.spec.worker});
}

absl::Status Workload::Stop(int host) {
  Worker& worker = workers_[static_cast<size_t>(host)];
  if (worker.process == nullptr) return absl::OkStatus();
  worker.process->CloseInput();
  const std::optional<std::string> ended = worker.process->WaitEnded(kStopTime);
  worker.process.reset();
  if (ended == "exit code 0") return absl::OkStatus();
  return absl::InternalError(absl::StrCat("worker ", worker.spec.worker, " ",
                                          ended.has_value() ? absl::StrCat("ended with ", *ended) : "did not end"));
}

absl::Status Workload::StopProducers() {
  dying_ = false;
  return Stop(kSteady);
}

absl::Status Workload::StopConsumers() {
  absl::Status all = absl::OkStatus();
  for (int host = 0; host < kClientHosts; ++host) all.Update(Stop(host));
  return all;
}

}  // namespace trireme::failover
