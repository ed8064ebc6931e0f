#include "tests/failover/run.h"

#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/failover/checkers/checker.h"
#include "tests/failover/cluster/cluster.h"
#include "tests/failover/cluster/sandbox.h"
#include "tests/failover/faults/nemesis.h"
#include "tests/failover/live.h"
#include "tests/failover/report/report.h"
#include "tests/failover/verdict_text.h"

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kCannot = 2;
// What a drained queue may wait for: the longest lease, the longest session, and some backlog.
constexpr seconds kDrainTime{90};
constexpr seconds kCatchUpTime{20};
// A queue's time counts whole milliseconds, and each leader of it begins with those of its own clocks.
constexpr milliseconds kRounding{3};

std::atomic<int> interrupted{0};

void OnInterrupt(int number) {
  interrupted = number;
}

std::string Machine() {
  utsname about;
  ::uname(&about);
  return absl::StrCat("Linux ", about.release, ", ", std::thread::hardware_concurrency(), " processors");
}

std::string Date() {
  const std::time_t now = std::time(nullptr);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return text;
}

class Session {
 public:
  Session(const RunOptions& options, Sandbox& sandbox, HistoryWriter history)
      : options_(options),
        sandbox_(sandbox),
        history_(std::move(history)),
        path_(options.report + "/history"),
        live_(path_),
        chance_(options.seed) {}

  // Until the history is complete.
  absl::Status Run();

 private:
  absl::Status Start();
  absl::Status Drain();
  // Writes down what the replicas say of themselves, once all of a queue's have come to one index, or have had time to.
  absl::Status CompareReplicas();
  absl::Status Tick();
  void Progress();
  void Say(const std::string& text);

  const RunOptions& options_;
  Sandbox& sandbox_;
  HistoryWriter history_;
  const std::string path_;
  Live live_;
  std::mt19937_64 chance_;
  std::unique_ptr<Switch> network_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Workload> workload_;
  std::chrono::steady_clock::time_point next_progress_;
  uint64_t last_progress_us_ = 0, last_confirmed_ = 0, last_delivered_ = 0;
};

void Session::Say(const std::string& text) {
  std::printf("%7.1f s  %s\n", static_cast<double>(history_.NowUs()) / 1e6, text.c_str());
  std::fflush(stdout);
}

void Session::Progress() {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_progress_) return;
  next_progress_ = now + (::isatty(STDOUT_FILENO) ? seconds(1) : seconds(10));
  const uint64_t now_us = history_.NowUs();
  const double passed = static_cast<double>(now_us - last_progress_us_) / 1e6;
  const std::string line =
      absl::StrFormat("%7.1f s  %u confirmed (%.0f/s), %u delivered (%.0f/s)", static_cast<double>(now_us) / 1e6,
                      live_.confirmed(), static_cast<double>(live_.confirmed() - last_confirmed_) / passed,
                      live_.delivered(), static_cast<double>(live_.delivered() - last_delivered_) / passed);
  std::printf(::isatty(STDOUT_FILENO) ? "%s \r" : "%s\n", line.c_str());
  std::fflush(stdout);
  last_progress_us_ = now_us;
  last_confirmed_ = live_.confirmed();
  last_delivered_ = live_.delivered();
}

absl::Status Session::Tick() {
  if (interrupted != 0) return absl::CancelledError(absl::StrCat("interrupted by signal ", interrupted.load()));
  cluster_->Watch();
  live_.Poll();
  Progress();
  return workload_ == nullptr ? absl::OkStatus() : workload_->Tick();
}

absl::Status Session::Start() {
  const Scenario& scenario = *options_.scenario;
  auto set = [&](const char* name, const std::string& value) { history_.Append(Setting{name, value}); };
  set("scenario", std::string(scenario.name));
  set("about", std::string(scenario.what));
  set("seed", absl::StrCat(options_.seed));
  set("nodes", absl::StrCat(options_.nodes));
  set("minutes", absl::StrCat(options_.minutes));
  set("command", options_.command);
  set("date", Date());
  set("machine", Machine());
  set("network", sandbox_.has_network() ? "each node on a host of its own" : "loopback, without faults of the network");
  set("lease-slack-ms", absl::StrCat(std::max(scenario.lease_slack, kRounding).count()));
  if (sandbox_.has_network()) network_ = std::make_unique<Switch>(sandbox_.hosts(), options_.seed);

  ClusterOptions cluster;
  cluster.broker = options_.broker;
  cluster.other_broker = options_.other_broker;
  cluster.nodes = options_.nodes;
  cluster.data = sandbox_.folder();
  cluster.logs = options_.report + "/logs";
  cluster.arguments = scenario.arguments;
  cluster.disk_mb = scenario.disk_mb;
  cluster.remember_writes = scenario.remember_writes;
  if (NeedsOf(scenario).machines) cluster.preload = options_.preload;
  if (sandbox_.has_network()) cluster.hosts = &sandbox_.hosts();
  absl::StatusOr<std::unique_ptr<Cluster>> started = Cluster::Start(std::move(cluster), history_);
  if (!started.ok()) return started.status();
  cluster_ = *std::move(started);
  set("broker-version", cluster_->Version().value_or("unknown"));

  const std::vector<std::string>& queues = Workload::Queues();
  for (size_t i = 0; i < queues.size(); ++i) {
    history_.Append(QueueMade{static_cast<uint32_t>(i + 1), queues[i]});
    if (absl::Status made = cluster_->CreateQueue(queues[i]); !made.ok()) return made;
  }
  WorkloadOptions workload;
  workload.self = options_.self;
  workload.servers = cluster_->servers();
  workload.history = path_;
  workload.logs = options_.report + "/logs";
  workload.seed = options_.seed;
  workload.scale = options_.scale;
  for (int client = 0; sandbox_.has_network() && client < Workload::kClientHosts; ++client) {
    workload.hosts.push_back(&sandbox_.hosts()[static_cast<size_t>(options_.nodes + 1 + client)]);
  }
  workload_ = std::make_unique<Workload>(std::move(workload), history_);
  return workload_->Start();
}

absl::Status Session::Drain() {
  Say("producers stop; waiting for empty queues");
  history_.Append(PublishingStopped{});
  if (absl::Status stopped = workload_->StopProducers(); !stopped.ok()) return stopped;
  const std::vector<std::string>& queues = Workload::Queues();
  std::vector<Figures> figures;
  const auto until = std::chrono::steady_clock::now() + kDrainTime;
  bool drained = false;
  // Twice, since what is returned is neither waiting nor in flight for a moment of the client's own.
  for (int empty = 0; !drained && std::chrono::steady_clock::now() < until;) {
    if (absl::Status ticked = Tick(); !ticked.ok()) return ticked;
    figures.clear();
    bool rest = false;
    for (size_t i = 0; i < queues.size(); ++i) {
      const absl::StatusOr<v1::DescribeQueueResponse> about = cluster_->Describe(queues[i]);
      if (!about.ok()) {
        rest = true;
        continue;
      }
      Figures one{static_cast<uint32_t>(i + 1), about->figures().published(), 0, 0, 0};
      for (const v1::SubscriptionFigures& subscription : about->figures().subscriptions()) {
        one.waiting += subscription.waiting();
        one.in_flight += subscription.in_flight();
        one.acknowledged += subscription.acknowledged();
      }
      rest |= one.waiting + one.in_flight > 0;
      figures.push_back(one);
    }
    empty = rest ? 0 : empty + 1;
    drained = empty == 2;
    std::this_thread::sleep_for(milliseconds(100));
  }
  for (const Figures& one : figures) history_.Append(one);
  absl::Status stopped = workload_->StopConsumers();
  live_.Poll();
  stopped.Update(CompareReplicas());
  history_.Append(Ended{drained});
  if (!drained) Say("the queues did not run empty");
  return stopped;
}

absl::Status Session::CompareReplicas() {
  const std::vector<std::string>& queues = Workload::Queues();
  for (size_t i = 0; i < queues.size(); ++i) {
    const auto until = std::chrono::steady_clock::now() + kCatchUpTime;
    std::vector<Replica> replicas;
    // Consumers' sessions that end one by one are still log entries.
    for (bool same = false; !same && std::chrono::steady_clock::now() < until;) {
      if (absl::Status ticked = Tick(); !ticked.ok()) return ticked;
      if (!replicas.empty()) std::this_thread::sleep_for(milliseconds(100));
      absl::StatusOr<std::vector<Replica>> asked = cluster_->ReplicasOf(static_cast<uint32_t>(i + 1), queues[i]);
      if (!asked.ok()) return asked.status();
      replicas = *std::move(asked);
      same = std::all_of(replicas.begin(), replicas.end(),
                         [&](const Replica& one) { return one.index != 0 && one.index == replicas.front().index; });
    }
    for (const Replica& one : replicas) history_.Append(one);
  }
  return absl::OkStatus();
}

absl::Status Session::Run() {
  if (absl::Status started = Start(); !started.ok()) return started;
  Say(absl::StrCat(options_.nodes, " nodes run, ",
                   sandbox_.has_network() ? "each on a host of its own" : "on loopback"));
  const World world{*cluster_, *workload_, network_.get(), chance_};
  Nemesis nemesis(
      *options_.scenario, world, history_, live_, [this] { return Tick(); },
      [this](const std::string& text) { Say(text); });
  if (absl::Status ran = nemesis.Run(milliseconds(static_cast<int64_t>(options_.minutes * 60'000))); !ran.ok()) {
    return ran;
  }
  return Drain();
}

}  // namespace

int Run(const RunOptions& options) {
  const Scenario& scenario = *options.scenario;
  auto cannot = [](const absl::Status& status) {
    std::fprintf(stderr, "trireme-failover: %s\n", std::string(status.message()).c_str());
    return kCannot;
  };
  const Needs needs = NeedsOf(scenario);
  if (needs.other_broker && options.other_broker.empty()) {
    return cannot(absl::InvalidArgumentError(
        absl::StrCat("the scenario ", std::string(scenario.name),
                     " changes between two versions: name the other one with --other-broker")));
  }
  // Before anything starts a thread.
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      Sandbox::Make(options.nodes, Workload::kClientHosts, !options.loopback, options.data);
  if (!sandbox.ok()) return cannot(sandbox.status());
  if (options.keep_data) (*sandbox)->Keep();
  if (!(*sandbox)->has_network()) {
    std::printf("no hosts of their own (%s): all on loopback, without faults of the network\n",
                (*sandbox)->why_not().c_str());
  }
  if (needs.small_disks && !(*sandbox)->has_mounts()) {
    return cannot(absl::FailedPreconditionError(absl::StrCat(
        "the scenario ", std::string(scenario.name), " needs file systems of its own, which only root may mount")));
  }
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGHUP, &action, nullptr);

  std::error_code error;
  std::filesystem::remove_all(options.report + "/logs", error);
  std::filesystem::create_directories(options.report + "/logs", error);
  if (error) return cannot(absl::UnavailableError(absl::StrCat("cannot make ", options.report, ": ", error.message())));
  const std::string path = options.report + "/history";
  std::filesystem::remove(path, error);
  absl::StatusOr<HistoryWriter> history = HistoryWriter::Open(path, MonotonicUs());
  if (!history.ok()) return cannot(history.status());

  absl::Status ran = absl::OkStatus();
  {
    Session session(options, **sandbox, *std::move(history));
    ran = session.Run();
  }
  RunFigures figures;
  Observer* const others[] = {&figures};
  absl::StatusOr<Judgement> judgement = Judge(path, others);
  if (!judgement.ok()) return cannot(judgement.status());
  figures.Finish();
  if (absl::Status written = WriteReport(options.report, figures, *judgement); !written.ok()) return cannot(written);
  std::fputs(VerdictText(*judgement).c_str(), stdout);
  std::printf("report: %s/report.html\n", options.report.c_str());
  if (!ran.ok()) return cannot(ran);
  return ExitCode(*judgement);
}

}  // namespace trireme::failover
