#include "tests/simulation/churn.h"

#include <algorithm>
#include <utility>

namespace trireme::simulation {

using raft::Member;
using raft::Replica;
using raft::Role;
using raft::Standing;

ChurnMix ChurnMix::Draw(Chance& chance, size_t voters) {
  ChurnMix mix;
  if (chance.PerMille(600)) mix.change_every = chance.Between(50'000, 800'000);
  if (chance.PerMille(400)) mix.transfer_every = chance.Between(50'000, 1'000'000);
  mix.replicas_max = voters + chance.Below(5);
  return mix;
}

Churn::Churn(const ChurnMix& mix, const Surroundings& around, std::vector<std::unique_ptr<Node>>* nodes, Join join)
    : mix_(mix), around_(around), nodes_(nodes), join_(std::move(join)) {}

void Churn::Begin() {
  Every(mix_.change_every, &Churn::Change);
  Every(mix_.transfer_every, &Churn::Transfer);
}

void Churn::Every(Micros interval, void (Churn::*act)()) {
  if (interval == 0) return;
  around_.clock->After(around_.chance->Between(interval / 2, interval * 2), [this, interval, act] {
    if (over_) return;
    (this->*act)();
    Every(interval, act);
  });
}

Node* Churn::Leader() {
  for (auto& node : *nodes_) {
    if (node->up() && node->replica()->role() == Role::kLeader) return node.get();
  }
  return nullptr;
}

void Churn::Alter(std::vector<Member>* members) {
  Chance& chance = *around_.chance;
  Member& one = (*members)[chance.Below(members->size())];
  switch (chance.Below(5)) {
    case 0:
      if (nodes_->size() < mix_.replicas_max) members->push_back({.replica = join_(), .standing = Standing::kLearner});
      break;
    case 1:  // a learner comes to vote
    case 2:
      for (Member& member : *members) {
        if (member.standing == Standing::kLearner) member.standing = Standing::kVoter;
      }
      break;
    case 3:  // a voter does not any more, or one leaves for good
      if (chance.PerMille(400)) {
        one.standing = Standing::kLearner;
      } else if (members->size() > 1) {
        std::swap(one, members->back());
        members->pop_back();
      }
      break;
    default:  // another is preferred
      std::rotate(members->begin(), members->begin() + 1, members->end());
  }
}

void Churn::Change() {
  Node* leader = Leader();
  if (leader == nullptr) return;
  std::vector<Member> target = leader->replica()->membership().members;
  if (target.empty() || leader->replica()->membership().joint()) return;
  // Now and then several at once.
  for (uint64_t steps = 1 + around_.chance->Below(3); steps > 0; --steps) Alter(&target);
  leader->Post([this, target = std::move(target)](Replica& replica) {
    raft::MembershipProposed proposed = replica.ProposeMembership(target);
    if (!proposed.error) ++changes_;
    around_.trace->Add(6, replica.id().value(), proposed.index.value());
  });
}

void Churn::Transfer() {
  Node* leader = Leader();
  if (leader == nullptr) return;
  const raft::ReplicaId target = (*nodes_)[around_.chance->Below(nodes_->size())]->id();
  leader->Post([this, target](Replica& replica) {
    if (!replica.TransferLeadership(target)) ++transfers_;
  });
}

}  // namespace trireme::simulation
