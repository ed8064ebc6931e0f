#include "tests/simulation/simulation.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/simulation/churn.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/nemesis.h"

namespace trireme::simulation {
namespace {

using raft::Bytes;
using raft::Index;
using raft::Replica;
using raft::ReplicaId;
using raft::Role;

constexpr Micros kFaultPhase = 8'000'000;
constexpr Micros kHealPhase = 10'000'000;

class Simulation {
 public:
  explicit Simulation(const RunOptions& options)
      : options_(options),
        chance_(options.seed * 2 + 1),
        trace_(options.print),
        voters_(DrawVoters()),
        suite_(raft::VotersOnly(voters_)),
        network_(&clock_, &chance_,
                 [this](ReplicaId, ReplicaId to, Packet packet) { NodeOf(to).Receive(std::move(packet)); }),
        around_{.clock = &clock_,
                .chance = &chance_,
                .network = &network_,
                .suite = &suite_,
                .trace = &trace_,
                .plant = options.plant} {
    node_options_ = DrawNode();
    for (size_t i = 0; i < voters_.size(); ++i) MakeNode(raft::VotersOnly(voters_));
    propose_every_ = chance_.Between(500, 20'000);
    read_every_ = chance_.Between(2'000, 50'000);
    nemesis_ = std::make_unique<Nemesis>(FaultMix::Draw(chance_), around_, &nodes_);
    churn_ = std::make_unique<Churn>(ChurnMix::Draw(chance_, voters_.size()), around_, &nodes_, [this] {
      Node& node = MakeNode({});
      nemesis_->Meet(node);
      node.Start();
      return node.id();
    });
  }

  RunResult Run() {
    for (auto& node : nodes_) node->Start();
    nemesis_->Begin();
    churn_->Begin();
    ProposeNow();
    ReadNow();
    if (!RunUntil(kFaultPhase, [] { return false; })) {
      churn_->End();
      nemesis_->End();
      trace_.Print(clock_.now(), "all faults end");
      bool calm = RunUntil(kFaultPhase + kHealPhase, [this] { return Converged(); });
      if (!calm && !suite_.failure()) return Result(RunResult::Outcome::kStuck, WhyNotConverged());
    }
    if (suite_.failure()) return Result(RunResult::Outcome::kUnsafe, *suite_.failure());
    return Result(RunResult::Outcome::kClean, "");
  }

 private:
  std::vector<ReplicaId> DrawVoters() {
    static constexpr size_t kSizes[] = {1, 2, 3, 3, 3, 3, 3, 4, 5, 5};
    std::vector<ReplicaId> voters;
    for (size_t i = 0, n = kSizes[chance_.Below(std::size(kSizes))]; i < n; ++i) voters.push_back(ReplicaId(i + 1));
    return voters;
  }

  NodeOptions DrawNode() {
    NodeOptions node;
    node.config.heartbeat_ticks = static_cast<int>(chance_.Between(1, 3));
    node.config.max_inflight_appends = static_cast<int>(chance_.Between(1, 20));
    node.config.max_inflight_bytes = chance_.PerMille(500) ? 2'000 : 1 << 20;
    node.config.max_append_bytes = static_cast<size_t>(chance_.Between(100, 5'000));
    node.config.max_uncommitted_bytes = static_cast<size_t>(chance_.Between(2'000, 50'000));
    node.turn_delay = chance_.Between(1, 2'000);
    node.config.lease = std::chrono::milliseconds(chance_.PerMille(600) ? chance_.Between(15, 300) : 0);
    node.config.lease_drift_percent = static_cast<int>(chance_.Between(1, 15));
    node.keeps_for_laggards = chance_.PerMille(500);
    node.snapshot_entries = static_cast<uint64_t>(chance_.Between(10, 200));
    node.make_machine = [] { return std::make_unique<Ledger>(); };
    node.digest = [](const raft::StateMachine& machine) { return static_cast<const Ledger&>(machine).digest(); };
    return node;
  }

  // The next one, with clocks of its own speed.
  Node& MakeNode(raft::Membership birth) {
    NodeOptions node = node_options_;
    node.config.id = ReplicaId(nodes_.size() + 1);
    node.config.birth = std::move(birth);
    const int64_t drift = node.config.lease_drift_percent * 10'000;
    node.clock_fast_ppm = chance_.Between(-drift, drift);
    node.tick = chance_.Between(9'000, 11'500);
    return *nodes_.emplace_back(std::make_unique<Node>(node, around_));
  }

  Node& NodeOf(ReplicaId id) { return *nodes_[id.value() - 1]; }

  // Until `done`, a violation (both true) or the time (false).
  template <typename Done>
  bool RunUntil(Micros until, Done done) {
    uint64_t events = 0;
    while (clock_.RunNext(until)) {
      if (suite_.failure()) return true;
      if (++events % 64 == 0 && done()) return true;
    }
    return suite_.failure().has_value();
  }

  // Clients, who ask whoever they please.
  void ProposeNow() {
    if (enough_) return;
    Node& node = *nodes_[chance_.Below(nodes_.size())];
    if (Replica* replica = node.replica(); replica != nullptr && replica->role() == Role::kLeader) {
      std::vector<Bytes> commands;
      for (int64_t i = chance_.Between(1, 4); i > 0; --i) {
        std::string body = std::to_string(++proposed_);
        body.resize(body.size() + chance_.Below(chance_.PerMille(50) ? 3'000 : 60), '.');
        commands.push_back(Bytes::Take(std::move(body)));
      }
      node.Post([commands, urgent = chance_.PerMille(200)](Replica& r) { r.Propose(commands, urgent); });
    }
    clock_.After(chance_.Latency(propose_every_), [this] { ProposeNow(); });
  }

  void ReadNow() {
    Node& node = *nodes_[chance_.Below(nodes_.size())];
    if (Replica* replica = node.replica(); replica != nullptr && replica->role() == Role::kLeader) {
      uint64_t context = ++reads_asked_;
      suite_.ReadAsked(context);
      if (options_.plant == Plant::kServesReadsAtOnce) {
        suite_.ReadServed(context, replica->commit_index());
      } else if (chance_.PerMille(500)) {
        node.LeaseRead(context);
      } else {
        node.Post([context](Replica& r) { r.ReadIndex(context); });
      }
    }
    clock_.After(chance_.Latency(read_every_), [this] { ReadNow(); });
  }

  // One leads and goes on; when nothing more is asked for, every member has the same log and state, all of it committed
  // and applied.
  bool Converged() { return WhyNotConverged().empty(); }

  std::string WhyNotConverged() {
    Node* leader = nullptr;
    for (auto& node : nodes_) {
      if (node->replica()->leading()) {
        if (leader != nullptr) return "two replicas lead";
        leader = node.get();
      }
    }
    if (leader == nullptr) return "nobody leads";
    const auto& committed = suite_.world().committed;
    if (mark_ == 0) mark_ = committed.size() + 20;
    if (committed.size() < mark_) return "only " + std::to_string(committed.size()) + " entries were committed";
    enough_ = true;
    const Replica& leads = *leader->replica();
    if (leads.applied_index() != leads.last_index()) return "the leader has not applied all of its log";
    if (leads.membership() != suite_.world().membership || leads.membership().joint()) return "a change has not ended";
    for (const raft::Member& member : leads.membership().members) {
      Node& node = NodeOf(member.replica);
      const Replica& replica = *node.replica();
      const std::string name = "replica " + std::to_string(member.replica.value());
      if (replica.term() != leads.term()) return name + " is in another term";
      if (replica.applied_index() != leads.applied_index()) {
        return name + " has applied no more than " + std::to_string(replica.applied_index().value()) + " of " +
               std::to_string(committed.size());
      }
      if (node.digest() != leader->digest()) return name + " has another state";
    }
    return "";
  }

  RunResult Result(RunResult::Outcome outcome, std::string what) {
    RunResult result{.outcome = outcome, .what = std::move(what)};
    trace_.Add(static_cast<uint64_t>(clock_.now()), chance_.Next());
    result.trace_hash = trace_.hash();
    result.committed = suite_.world().committed.size();
    for (const auto& [id, replica] : suite_.world().replicas) {
      result.terms = std::max(result.terms, replica.term.value());
    }
    result.crashes = nemesis_->crashes();
    result.partitions = nemesis_->partitions();
    result.reads_served = suite_.reads_served();
    for (auto& node : nodes_) {
      result.lease_reads += node->lease_reads();
      result.installs += node->installed();
    }
    result.changes = churn_->changes();
    result.transfers = churn_->transfers();
    result.write_failures = nemesis_->write_failures();
    result.at = clock_.now();
    return result;
  }

  const RunOptions options_;
  Clock clock_;
  Chance chance_;
  Trace trace_;
  std::vector<ReplicaId> voters_;
  Suite suite_;
  MessageNetwork network_;
  Surroundings around_;
  std::vector<std::unique_ptr<Node>> nodes_;
  NodeOptions node_options_;
  std::unique_ptr<Nemesis> nemesis_;
  std::unique_ptr<Churn> churn_;
  Micros propose_every_ = 0;
  Micros read_every_ = 0;
  uint64_t proposed_ = 0;
  uint64_t reads_asked_ = 0;
  uint64_t mark_ = 0;
  bool enough_ = false;  // what was to be shown of a healed cluster's progress has been
};

}  // namespace

void RunResult::Count(const RunResult& run) {
  committed += run.committed;
  terms += run.terms;
  crashes += run.crashes;
  partitions += run.partitions;
  reads_served += run.reads_served;
  lease_reads += run.lease_reads;
  installs += run.installs;
  changes += run.changes;
  transfers += run.transfers;
  write_failures += run.write_failures;
  messages += run.messages;
  old_tokens += run.old_tokens;
  figures += run.figures;
  queue_installs += run.queue_installs;
  digests_compared += run.digests_compared;
  lapses += run.lapses;
  ordered_messages += run.ordered_messages;
  damaged += run.damaged;
  queue_changes += run.queue_changes;
  nodes_lost += run.nodes_lost;
  replicas_deleted += run.replicas_deleted;
  at += run.at;
}

RunResult RunSeed(const RunOptions& options) {
  return Simulation(options).Run();
}

}  // namespace trireme::simulation
