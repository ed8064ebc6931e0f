#include "tests/simulation/queue/operator.h"

#include <algorithm>
#include <utility>

namespace trireme::queue_simulation {

using raft::Member;
using raft::NodeId;
using raft::testing::SimNode;

namespace {

// Of a queue.
constexpr size_t kReplicasMax = 5;
// With fewer voters the one that is left could not outvote a lost one.
constexpr size_t kVotersToLoseOne = 3;

bool HasNode(const std::vector<Member>& members, uint64_t node) {
  return std::any_of(members.begin(), members.end(), [&](const Member& m) { return m.node == NodeId(node); });
}

bool SameReplicas(const std::vector<Member>& a, const std::vector<Member>& b) {
  return std::is_permutation(a.begin(), a.end(), b.begin(), b.end(),
                             [](const Member& x, const Member& y) { return x.replica == y.replica; });
}

}  // namespace

Operator::Operator(QueueWorld* queue, Cluster* cluster, Chance* chance, uint64_t replacements)
    : queue_(queue), cluster_(cluster), chance_(chance), replacements_(replacements) {
  if (chance_->PerMille(600)) change_per_mille_ = chance_->Between(10, 200);
  if (chance_->PerMille(400)) loss_per_mille_ = chance_->Between(5, 50);
}

void Operator::Step() {
  if (copy_ == std::nullopt && loss_per_mille_ > 0 && chance_->PerMille(50)) Remember();
  if (cluster_->lost() != 0) {
    if (chance_->PerMille(100)) Mend();
    return;
  }
  // One thing at a time: a vote that is gone for good leaves a majority to the others of what they know to be in force.
  if (cluster_->info()->changing || !cluster_->AllHeard()) return;
  if (chance_->PerMille(change_per_mille_)) return Change();
  if (chance_->PerMille(loss_per_mille_)) LoseOne();
}

void Operator::Mend() {
  // A node that is up is refused: it may not know yet that it forgot.
  if (cluster_->lost() == 0 || !cluster_->down(cluster_->lost()) || !cluster_->AllHeard()) return;
  ++changes_;
  cluster_->ReplaceLost();
}

void Operator::Change() {
  std::vector<Member> members = cluster_->info()->replicas;
  if (members.size() > 1 && chance_->PerMille(300)) {
    ++changes_;
    return cluster_->ReplaceReplica(LeaderOrAny(&members)->replica);
  }
  for (uint64_t steps = 1 + chance_->Below(3); steps > 0; --steps) Alter(&members);
  // The order alone is not known to the metadata to be a change: a report of before would end it.
  if (SameReplicas(members, cluster_->info()->replicas)) return;
  ++changes_;
  cluster_->Place(std::move(members));
}

void Operator::Alter(std::vector<Member>* members) {
  const std::vector<uint64_t>& nodes = cluster_->nodes();
  const uint64_t node = nodes[chance_->Below(nodes.size())];
  const bool free = !HasNode(*members, node) && !HasNode(cluster_->info()->replicas, node);
  switch (chance_->Below(4)) {
    case 0:
      if (free && members->size() < kReplicasMax) members->push_back({.replica = {}, .node = NodeId(node)});
      break;
    case 1:  // moves
      if (free) *LeaderOrAny(members) = {.replica = {}, .node = NodeId(node)};
      break;
    case 2:
      if (members->size() == 1) break;
      std::swap(*LeaderOrAny(members), members->back());
      members->pop_back();
      break;
    default:  // another is preferred
      std::rotate(members->begin(), members->begin() + 1, members->end());
  }
}

Member* Operator::LeaderOrAny(std::vector<Member>* members) {
  const uint64_t leader = queue_->Leader();
  if (chance_->PerMille(400)) {
    for (Member& member : *members) {
      if (member.node == NodeId(leader)) return &member;
    }
  }
  return &(*members)[chance_->Below(members->size())];
}

void Operator::Remember() {
  const std::vector<uint64_t>& nodes = cluster_->nodes();
  const uint64_t node = nodes[chance_->Below(nodes.size())];
  const SimNode& there = queue_->world.node(node);
  copy_ = {node, there.starts, there.store->TakeImage()};
}

void Operator::LoseOne() {
  std::vector<Member> members = cluster_->info()->replicas;
  if (members.size() < kVotersToLoseOne || replacements_ == 0) return;
  const uint64_t node = LeaderOrAny(&members)->node.value();
  --replacements_;
  ++losses_;
  if (copy_.has_value() && copy_->node == node &&
      queue_->world.node(node).store->last_synced() > copy_->image.last_synced) {
    cluster_->RollBack(node, copy_->image, copy_->starts);
  } else {
    cluster_->Lose(node);
  }
  copy_.reset();
}

}  // namespace trireme::queue_simulation
