#include "tests/simulation/queue/cluster.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/cluster/member_plan.h"
#include "broker/cluster/metadata_codec.h"
#include "raft/core/check.h"
#include "tests/simulation/describe.h"

namespace trireme::queue_simulation {

namespace meta = trireme::meta::v1;
using broker::MetadataOutcome;
using broker::MetadataState;
using broker::QueuePtr;
using broker::Reconciler;
using raft::NodeId;
using raft::ReplicaId;
using raft::testing::SimNode;
using std::chrono::milliseconds;

namespace {

constexpr size_t kIdBytes = 16;
// A report is given up after two of the times between looks, as in production (kLeaderTimeout); what is later would
// have to say on what it was decided.
constexpr int64_t kLooksLate = 2;

std::string IdOf(uint64_t node) {
  return std::string(kIdBytes, static_cast<char>('a' + node));
}

}  // namespace

Cluster::Cluster(QueueWorld* queue, Clients* clients, Suite* suite, Chance* chance, Trace* trace, Plant plant)
    : queue_(queue),
      clients_(clients),
      suite_(suite),
      chance_(chance),
      trace_(trace),
      plant_(plant),
      look_every_(chance->Between(50, 1'000)) {
  queue_->world.adopt = [this](SimNode& node, std::vector<raft::StoredGroup> stored) {
    // What it had heard of last may not be known to be committed yet, or not have been written down.
    const size_t heard = chance_->Below(local_[node.id.value()].heard + 1);
    local_.erase(node.id.value());
    Local& local = local_[node.id.value()];
    local.reconciler.emplace(node.id, std::move(stored));
    Hear(node.id.value(), heard);
  };
}

void Cluster::Say(uint64_t node, const std::string& what) const {
  trace_->Print(queue_->Elapsed(), "node " + std::to_string(node) + " " + what);
}

void Cluster::Begin(uint64_t nodes, uint64_t replicas) {
  history_.emplace_back();
  meta::Command born, created;
  born.mutable_cluster_born()->set_cluster_id(std::string(kIdBytes, 'c'));
  created.mutable_queue_created()->set_name("q");
  for (uint64_t n = 1; n <= nodes; ++n) {
    meta::Node* node = born.mutable_cluster_born()->add_nodes();
    node->set_id(n);
    node->set_address("n" + std::to_string(n) + ":1");
    node->set_directory_id(IdOf(n));
    node->set_metadata_replica_id(n);
    if (n <= replicas) created.mutable_queue_created()->add_node_ids(n);
    nodes_.push_back(n);
  }
  TRIREME_CHECK(Apply(born).kind == MetadataOutcome::Kind::kDone) << "a cluster is not born";
  const MetadataOutcome made = Apply(created);
  TRIREME_CHECK(made.kind == MetadataOutcome::Kind::kDone && made.queue->group == queue_->group)
      << "a queue is not made";
  for (uint64_t n : nodes_) {
    Start(n);
    Hear(n, history_.size() - 1);
  }
}

MetadataOutcome Cluster::Apply(const meta::Command& command) {
  MetadataState next = state();
  MetadataOutcome outcome = next.Apply(command);
  if (outcome.kind == MetadataOutcome::Kind::kDone) history_.push_back(std::move(next));
  return outcome;
}

// ---- what nodes do

void Cluster::Start(uint64_t node) {
  Say(node, "starts");
  queue_->world.Start(node);
}

void Cluster::Kill(uint64_t node) {
  queue_->Kill(node);
  clients_->Died(node);
}

void Cluster::Step(bool faults) {
  for (uint64_t n : std::vector<uint64_t>(nodes_)) {
    SimNode& node = queue_->world.node(n);
    if (!node.up()) continue;
    if (!node.forgot.empty()) {
      Say(n, "ends, because it forgot");
      Kill(n);
      Lose(n);
      continue;
    }
    if (node.shard->paused() || (faults && !chance_->PerMille(300))) continue;
    Local& local = local_.at(n);
    const size_t last = history_.size() - 1;
    Hear(n, faults ? local.heard + chance_->Below(last - local.heard + 1) : last);
    const raft::MonotonicTime now = queue_->world.clock().now();
    // Who starts knows less than it did, until it has heard all.
    if (local.births && now - local.looked >= look_every_) {
      local.looked = now;
      broker::KeepMembers(
          local.view, [&node](raft::GroupId group) { return node.host->Find(group); },
          [this, faults](raft::GroupId group, const auto& members) { Report(group, members, faults); });
    }
  }
}

bool Cluster::AllHeard() const {
  return std::all_of(nodes_.begin(), nodes_.end(),
                     [this](uint64_t node) { return down(node) || local_.at(node).heard + 1 == history_.size(); });
}

void Cluster::Hear(uint64_t node, size_t upto) {
  Local& local = local_.at(node);
  const bool first = local.view.queues() == 0;
  // Who has heard all that there is may bear replicas from then on.
  const bool births = local.births || upto + 1 == history_.size();
  if (!first && upto == local.heard && births == local.births) return;
  local.heard = upto;
  local.births = births;
  const MetadataState& state = history_[upto];
  broker::MetadataChange change;
  change.whole = true;
  change.index = raft::Index(upto);
  change.cluster_id = state.cluster_id();
  change.nodes = std::make_shared<const std::vector<broker::NodeRecord>>(state.nodes());
  change.items = broker::ItemsOf(state);
  local.view.Take(change);
  for (Reconciler::Action& action : local.reconciler->Reconcile(state, births)) Take(node, std::move(action));
}

void Cluster::Take(uint64_t node, Reconciler::Action action) {
  SimNode& here = queue_->world.node(node);
  if (auto* remove = std::get_if<Reconciler::Delete>(&action)) {
    ReplicaId replica;
    if (raft::Group* group = here.host->Find(remove->group)) {
      replica = group->spec().self;
    } else if (const auto* stored = here.store->FindDurable(remove->group)) {
      replica = stored->replica;
    }
    Say(node, "deletes replica " + std::to_string(replica.value()));
    ++deleted_;
    trace_->Add(8, node, replica.value());
    suite_->Tell([&](Checker& c) { c.Deleting(node, replica); });
    queue_->Remove(node);
    clients_->Died(node);
    return;
  }
  if (auto* inform = std::get_if<Reconciler::Inform>(&action)) {
    return here.host->Inform(inform->queue->group, inform->queue->Listed());
  }
  auto& start = std::get<Reconciler::Start>(action);
  Say(node, "hosts replica " + std::to_string(start.replica.value()) + (start.stored ? "" : ", which is new"));
  trace_->Add(9, node, start.replica.value());
  auto added = queue_->world.AddReplica(here, start.Spec(), std::move(start.stored));
  if (!added.ok()) suite_->Violated("a replica is not started: " + added.status().ToString());
}

// Through whoever leads the metadata group, at once or late, or not.
void Cluster::Report(raft::GroupId group, const std::vector<raft::Member>& members, bool faults) {
  if (faults && chance_->PerMille(100)) return;
  meta::Command command;
  command.mutable_members_changed()->set_group_id(group.value());
  for (const raft::Member& member : members) command.mutable_members_changed()->add_members(member.replica.value());
  const int64_t late_ms = faults && chance_->PerMille(200) ? chance_->Between(1, kLooksLate * look_every_.count())
                                                           : chance_->Between(1, 30);
  queue_->world.clock().In(milliseconds(late_ms), [this, command] {
    if (Apply(command).kind == MetadataOutcome::Kind::kDone) Began();
  });
}

// ---- what operators do

void Cluster::Began() {
  const QueuePtr queue = info();
  std::string text = "the replicas should be";
  for (const raft::Member& member : queue->replicas) {
    trace_->Add(10, member.replica.value(), member.node.value());
    text += " " + std::to_string(member.replica.value()) + "@" + std::to_string(member.node.value());
  }
  for (const raft::Member& member : queue->leaving) text += ", leaving " + std::to_string(member.replica.value());
  trace_->Print(queue_->Elapsed(), text + (queue->changing ? "" : ", and are"));
}

void Cluster::Lose(uint64_t node) {
  Say(node, "is lost");
  if (!down(node)) Kill(node);
  if (plant_ == Plant::kVotesAfterLoss) {
    SimNode& there = queue_->world.node(node);
    there.store->Restore({.all = {}, .last_synced = there.store->last_synced()});
    return Start(node);
  }
  lost_ = node;
  std::erase(nodes_, node);
}

void Cluster::RollBack(uint64_t node, const raft::testing::SimStore::Image& image, uint64_t starts) {
  if (!down(node)) Kill(node);
  Say(node, "has an older copy of its disk");
  SimNode& there = queue_->world.node(node);
  there.store->Restore(image);
  there.starts = starts;
  lost_ = node;
}

void Cluster::ReplaceLost() {
  if (std::find(nodes_.begin(), nodes_.end(), lost_) != nodes_.end()) Lose(lost_);
  meta::Command command;
  command.mutable_node_replaced()->set_node_id(std::exchange(lost_, 0));
  const MetadataOutcome outcome = Apply(command);
  TRIREME_CHECK(outcome.kind == MetadataOutcome::Kind::kDone) << "a lost node is not replaced";
  const uint64_t comes = outcome.node.value();
  nodes_.push_back(comes);
  local_[comes].heard = history_.size() - 1;
  Began();
  ReportWhatShouldBe();
  Start(comes);
}

void Cluster::ReplaceReplica(ReplicaId replica) {
  meta::Command command;
  command.mutable_replica_replaced()->set_group_id(queue_->group.value());
  command.mutable_replica_replaced()->set_replica_id(replica.value());
  TRIREME_CHECK(Apply(command).kind == MetadataOutcome::Kind::kDone) << "a replica is not replaced";
  Began();
  ReportWhatShouldBe();
}

void Cluster::Place(std::vector<raft::Member> members) {
  meta::Snapshot snapshot;
  MetadataState next;
  TRIREME_CHECK(broker::DecodeFramed(state().Snapshot(), "metadata snapshot", &snapshot).ok()) << "not whole";
  meta::Queue* queue = snapshot.mutable_queues(0);
  const auto before = queue->replicas();
  if (queue->last_born_replica_id() == 0) queue->set_last_born_replica_id(state().next_replica().value() - 1);
  queue->clear_replicas();
  for (raft::Member& member : members) {
    if (member.replica == ReplicaId()) {
      member.replica = ReplicaId(snapshot.next_replica_id());
      snapshot.set_next_replica_id(snapshot.next_replica_id() + 1);
    }
    meta::Replica* replica = queue->add_replicas();
    replica->set_node_id(member.node.value());
    replica->set_replica_id(member.replica.value());
  }
  for (const meta::Replica& replica : before) {
    auto is_it = [&](const raft::Member& member) { return member.replica.value() == replica.replica_id(); };
    if (std::none_of(members.begin(), members.end(), is_it)) *queue->add_leaving() = replica;
  }
  queue->set_changing(true);
  const absl::Status restored = next.Restore(broker::EncodeFramed(snapshot, broker::kVersionOfReplacements));
  TRIREME_CHECK(restored.ok()) << restored.ToString();
  history_.push_back(std::move(next));
  Began();
  ReportWhatShouldBe();
}

void Cluster::ReportWhatShouldBe() {
  if (plant_ != Plant::kDeletesEarly) return;
  meta::Command command;
  command.mutable_members_changed()->set_group_id(queue_->group.value());
  for (const raft::Member& member : info()->replicas) {
    command.mutable_members_changed()->add_members(member.replica.value());
  }
  (void)Apply(command);
}

void Cluster::PrintReplicas() const {
  if (!trace_->printing()) return;
  for (const auto& [node, replica] : queue_->replicas) {
    const raft::Group& group = *replica->group();
    std::string text =
        "replica " + std::to_string(group.spec().self.value()) + ": term " + std::to_string(group.term().value()) +
        ", applied " + std::to_string(group.applied_index().value()) + ", leader on node " +
        std::to_string(group.leader_node().value()) + ", members " + simulation::Describe(group.membership());
    if (!group.membership_committed()) text += " (not committed)";
    const raft::Host::Figures figures = queue_->world.node(node).host->figures();
    text += ", " + std::to_string(figures.active) + " active, " + std::to_string(figures.elections) + " elections";
    if (!group.halted().ok()) text += ", halted: " + std::string(group.halted().message());
    Say(node, text);
  }
}

std::string Cluster::WhyNotSettled() const {
  const QueuePtr queue = info();
  if (queue->changing) {
    const broker::QueueReplica* leader = queue_->Serving();
    return leader == nullptr ? "nobody leads"
                             : "the members are still " + simulation::Describe(leader->group()->membership());
  }
  if (lost_ != 0) return "a lost node is not replaced";
  for (uint64_t n : nodes_) {
    SimNode& node = queue_->world.node(n);
    const std::string name = "node " + std::to_string(n);
    const ReplicaId wanted = queue->ReplicaOn(NodeId(n));
    raft::Group* group = node.up() ? node.host->Find(queue_->group) : nullptr;
    if (wanted == ReplicaId()) {
      if (group != nullptr || node.store->FindDurable(queue_->group) != nullptr) return name + " still has a replica";
    } else if (group == nullptr || group->spec().self != wanted) {
      return name + " does not have replica " + std::to_string(wanted.value());
    } else if (!group->halted().ok()) {
      return name + " has halted: " + std::string(group->halted().message());
    } else if (group->membership().members != queue->replicas) {
      return name + " knows of other members: " + simulation::Describe(group->membership());
    }
  }
  return "";
}

}  // namespace trireme::queue_simulation
