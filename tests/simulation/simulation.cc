#include "tests/simulation/simulation.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

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
                 [this](ReplicaId, ReplicaId to, raft::Message m) { NodeOf(to).Receive(std::move(m)); }),
        around_{.clock = &clock_,
                .chance = &chance_,
                .network = &network_,
                .suite = &suite_,
                .trace = &trace_,
                .plant = options.plant} {
    NodeOptions node = DrawNode();
    for (ReplicaId id : voters_) {
      node.config.id = id;
      // Clocks run at different speeds.
      node.tick = chance_.Between(9'000, 11'500);
      nodes_.push_back(std::make_unique<Node>(node, around_));
    }
    propose_every_ = chance_.Between(500, 20'000);
    read_every_ = chance_.Between(2'000, 50'000);
    nemesis_ = std::make_unique<Nemesis>(FaultMix::Draw(chance_), around_, &nodes_);
  }

  RunResult Run() {
    for (auto& node : nodes_) node->Start();
    nemesis_->Begin();
    ProposeNow();
    ReadNow();
    if (!RunUntil(kFaultPhase, [] { return false; })) {
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
    node.config.birth = raft::VotersOnly(voters_);
    node.config.heartbeat_ticks = static_cast<int>(chance_.Between(1, 3));
    node.config.max_inflight_appends = static_cast<int>(chance_.Between(1, 20));
    node.config.max_inflight_bytes = chance_.PerMille(500) ? 2'000 : 1 << 20;
    node.config.max_append_bytes = static_cast<size_t>(chance_.Between(100, 5'000));
    node.config.max_uncommitted_bytes = static_cast<size_t>(chance_.Between(2'000, 50'000));
    node.turn_delay = chance_.Between(1, 2'000);
    node.snapshot_entries = static_cast<uint64_t>(chance_.Between(10, 200));
    node.make_machine = [] { return std::make_unique<Ledger>(); };
    node.digest = [](const raft::StateMachine& machine) { return static_cast<const Ledger&>(machine).digest(); };
    return node;
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
      } else {
        node.Post([context](Replica& r) { r.ReadIndex(context); });
      }
    }
    clock_.After(chance_.Latency(read_every_), [this] { ReadNow(); });
  }

  // One leads, all follow it with the same log, all of it committed and applied, and it goes on.
  bool Converged() { return WhyNotConverged().empty(); }

  std::string WhyNotConverged() {
    const Node* leader = nullptr;
    for (auto& node : nodes_) {
      if (node->replica()->leading()) {
        if (leader != nullptr) return "two replicas lead";
        leader = node.get();
      }
    }
    if (leader == nullptr) return "nobody leads";
    if (mark_ == 0) mark_ = suite_.world().committed.size() + 20;
    const auto& committed = suite_.world().committed;
    if (committed.size() < mark_) return "only " + std::to_string(committed.size()) + " entries were committed";
    for (auto& node : nodes_) {
      Replica& replica = *node->replica();
      if (replica.term() != const_cast<Node*>(leader)->replica()->term()) return "not all are in one term";
      if (replica.applied_index().value() < mark_) {
        return "replica " + std::to_string(node->id().value()) + " has applied no more than " +
               std::to_string(replica.applied_index().value()) + " of " + std::to_string(committed.size());
      }
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
  std::unique_ptr<Nemesis> nemesis_;
  Micros propose_every_ = 0;
  Micros read_every_ = 0;
  uint64_t proposed_ = 0;
  uint64_t reads_asked_ = 0;
  uint64_t mark_ = 0;
};

}  // namespace

RunResult RunSeed(const RunOptions& options) {
  return Simulation(options).Run();
}

}  // namespace trireme::simulation
