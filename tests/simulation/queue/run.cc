#include "tests/simulation/queue/run.h"

#include <spdlog/spdlog.h>

#include <iterator>
#include <memory>
#include <string>

#include "broker/ops/log.h"
#include "tests/simulation/queue/clients.h"
#include "tests/simulation/queue/cluster.h"
#include "tests/simulation/queue/faults.h"
#include "tests/simulation/queue/operator.h"
#include "tests/simulation/queue/watched_machine.h"

namespace trireme::queue_simulation {
namespace {

using simulation::RunResult;
using std::chrono::milliseconds;

constexpr int kFaultSteps = 150;
constexpr int kHealedSteps = 3'000;
constexpr uint64_t kReplacementsMax = 2;
// The first that metadata gives.
constexpr uint64_t kGroup = broker::kMetadataGroup.value() + 1;

class Run {
 public:
  explicit Run(const RunOptions& options)
      : chance_(options.seed * 77 + 1),
        trace_(options.print),
        shape_(DrawShape()),
        queue_(options.seed, kGroup, static_cast<int>(shape_.nodes + kReplacementsMax)),
        clients_(&queue_, &chance_, &suite_, &trace_, options.plant),
        cluster_(&queue_, &clients_, &suite_, &chance_, &trace_, options.plant),
        faults_(&queue_, &cluster_, &chance_, &trace_, shape_.nodes),
        operator_(&queue_, &cluster_, &chance_, kReplacementsMax) {
    raft::HostOptions& host = queue_.world.options;
    host.snapshot_entries = 20 + chance_.Below(200);
    if (chance_.PerMille(500)) {
      // Who falls behind gets a snapshot of its leader, slowly perhaps.
      host.snapshot_entries = 20;
      host.lag_entries = 20 + chance_.Below(60);
      host.snapshot_bytes_per_second = 20'000 + chance_.Below(2'000'000);
    }
    // Safety rule 25: they never differ, whatever way each came to its state.
    host.digest_entries = 1 + chance_.Below(16);
    host.quiet_ticks = 1 + static_cast<int>(chance_.Below(5));
    if (chance_.PerMille(500)) host.read_lease = milliseconds(chance_.Between(20, 500));
    if (options.plant == Plant::kInstallsHalf) {
      for (uint64_t n = 1; n <= queue_.world.nodes(); ++n) {
        queue_.world.node(n).store->spoil_install = [](std::map<raft::Index, raft::Entry>* entries) {
          if (!entries->empty()) entries->erase(std::prev(entries->end()));
        };
      }
    }
    queue_.limits.low_disk = [this] { return faults_.low_disk(); };
    // What the host drives is the replica with the checkers around it.
    queue_.world.make_machine = [this, make = queue_.world.make_machine, options](auto& node, uint64_t group) {
      return std::make_unique<WatchedMachine>(make(node, group), node.id.value(), &suite_, &trace_, options.plant);
    };
  }

  RunResult All() {
    cluster_.Begin(shape_.nodes, shape_.replicas);
    if (!queue_.world.RunUntil([this] { return queue_.Leader() != 0; })) {
      return Result(RunResult::Outcome::kStuck, "nobody came to lead a queue that was just made");
    }
    for (int step = 0; step < kFaultSteps && !suite_.failure(); ++step) {
      faults_.Step();
      operator_.Step();
      cluster_.Step(true);
      clients_.Step(true);
      LookAtDisks();
      // Now and then a lull.
      queue_.world.Run(milliseconds(chance_.PerMille(50) ? chance_.Below(2'500) : 1 + chance_.Below(60)));
    }
    faults_.End();
    for (int step = 0; step < kHealedSteps && !suite_.failure() && !(clients_.Drained() && cluster_.Settled());
         ++step) {
      operator_.Mend();
      cluster_.Step(false);
      clients_.Step(false);
      LookAtDisks();
      queue_.world.Run(milliseconds(20));
    }
    if (!suite_.failure()) {
      if (!cluster_.Settled()) return Result(RunResult::Outcome::kStuck, cluster_.WhyNotSettled());
      if (!clients_.Drained()) {
        return Result(RunResult::Outcome::kStuck, std::to_string(clients_.settled()) + " messages were settled of " +
                                                      std::to_string(clients_.confirmed()) + " confirmed");
      }
      if (!queue_.world.RunUntil([this] { return AllCaughtUp(); })) {
        return Result(RunResult::Outcome::kStuck, "a healed replica does not catch up");
      }
      suite_.Tell([](Checker& c) { c.Ending(); });
      if (!DigestsAreTheSame()) suite_.Violated("replicas that have applied the same differ");
      if (DigestsDiffered()) suite_.Violated("the hosts found states that differ");
      // Safety rule 10: with nothing left to do nobody is ticked.
      if (!queue_.world.RunUntil([this] { return AllQuiet(); })) {
        return Result(RunResult::Outcome::kStuck, "a queue with nothing to do does not go quiet");
      }
    }
    if (suite_.failure()) return Result(RunResult::Outcome::kUnsafe, *suite_.failure());
    return Result(RunResult::Outcome::kClean, "");
  }

 private:
  struct Shape {
    uint64_t replicas = 0;
    uint64_t nodes = 0;
  };
  Shape DrawShape() {
    static constexpr uint64_t kSizes[] = {1, 3, 3, 3, 3, 3, 5, 5};
    Shape shape;
    shape.replicas = kSizes[chance_.Below(std::size(kSizes))];
    shape.nodes = shape.replicas + chance_.Below(3);
    return shape;
  }

  void LookAtDisks() {
    for (auto& [node, replica] : queue_.replicas) {
      suite_.Tell([&](Checker& c) { c.Living(replica->group()->applied_index(), replica->Live()); });
    }
    for (uint64_t node : cluster_.nodes()) {
      const auto* stored = queue_.world.node(node).store->FindDurable(queue_.group);
      if (stored == nullptr) continue;
      raft::Index last = stored->snapshot_index;
      if (!stored->log.empty()) last = std::max(last, stored->log.rbegin()->first);
      suite_.Tell([&](Checker& c) { c.Holding(node, last, stored->log); });
    }
  }

  // That their states are the same then has been checked with every entry, and is once more.
  bool AllCaughtUp() {
    raft::Index applied;
    for (auto& [node, replica] : queue_.replicas) applied = std::max(applied, replica->group()->applied_index());
    for (auto& [node, replica] : queue_.replicas) {
      if (replica->group()->applied_index() != applied) return false;
    }
    return true;
  }

  bool DigestsAreTheSame() {
    for (auto& [node, replica] : queue_.replicas) {
      if (replica->Digest() != queue_.replicas.begin()->second->Digest()) return false;
    }
    return true;
  }

  bool AllQuiet() {
    uint64_t active = 0;
    for (auto& [node, replica] : queue_.replicas) active += queue_.world.node(node).host->figures().active;
    return active == 0;
  }

  bool DigestsDiffered() {
    uint64_t differed = 0;
    for (auto& [node, replica] : queue_.replicas) differed += queue_.world.node(node).host->figures().digests_differed;
    return differed > 0;
  }

  RunResult Result(RunResult::Outcome outcome, std::string what) {
    if (outcome != RunResult::Outcome::kClean) cluster_.PrintReplicas();
    RunResult result{.outcome = outcome, .what = std::move(what)};
    trace_.Add(chance_.Next());
    result.trace_hash = trace_.hash();
    result.crashes = faults_.kills();
    result.partitions = faults_.partitions();
    result.write_failures = faults_.write_failures();
    result.damaged = faults_.damaged();
    result.lapses = clients_.lapses();
    result.messages = clients_.settled();
    result.ordered_messages = clients_.ordered() ? clients_.settled() : 0;
    result.old_tokens = clients_.old_tokens();
    result.figures = clients_.figures();
    result.queue_changes = operator_.changes();
    result.nodes_lost = operator_.losses();
    result.replicas_deleted = cluster_.deleted();
    for (uint64_t n = 1; n <= queue_.world.nodes(); ++n) {
      if (!queue_.world.node(n).up()) continue;
      // Of the nodes' last lives.
      const raft::Host::Figures figures = queue_.world.node(n).host->figures();
      result.queue_installs += figures.snapshots_installed;
      result.digests_compared += figures.digests_compared;
    }
    result.at = std::chrono::duration_cast<std::chrono::microseconds>(queue_.world.clock().now() - began_).count();
    return result;
  }

  Chance chance_;
  Trace trace_;
  Suite suite_;
  const Shape shape_;
  QueueWorld queue_;
  const raft::MonotonicTime began_ = queue_.world.clock().now();
  Clients clients_;
  Cluster cluster_;
  Faults faults_;
  Operator operator_;
};

}  // namespace

RunResult RunSeed(const RunOptions& options) {
  // What hosts and replicas have to say of what is done to them here is of use to one who looks into a seed.
  (void)broker::SetLogLevel(options.print ? "info" : "error");
  spdlog::set_level(options.print ? spdlog::level::info : spdlog::level::off);
  return Run(options).All();
}

}  // namespace trireme::queue_simulation
