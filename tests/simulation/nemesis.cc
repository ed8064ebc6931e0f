#include "tests/simulation/nemesis.h"

#include <algorithm>

namespace trireme::simulation {

using raft::Replica;
using raft::ReplicaId;

FaultMix FaultMix::Draw(Chance& chance) {
  FaultMix mix;
  auto sometimes = [&chance](int64_t per_mille, int64_t low, int64_t high) {
    return chance.PerMille(per_mille) ? chance.Between(low, high) : 0;
  };
  mix.network.delay = chance.Between(100, 4'000);
  mix.network.loss = sometimes(600, 1, 150);
  mix.network.duplication = sometimes(500, 1, 100);
  mix.network.reordering = sometimes(500, 10, 500);
  mix.disk.sync = chance.Between(50, 4'000);
  mix.disk.torn = sometimes(500, 100, 1'000);
  // Now and then a storm of elections: many crashes, soon over, and campaigns that collide.
  const bool storm = chance.PerMille(200);
  mix.crash_every = storm ? chance.Between(20'000, 100'000) : sometimes(700, 150'000, 1'000'000);
  mix.down_max = storm ? 20'000 : 400'000;
  mix.partition_every = sometimes(700, 150'000, 1'000'000);
  mix.pause_every = sometimes(400, 200'000, 1'000'000);
  mix.stall_every = sometimes(300, 200'000, 1'000'000);
  mix.flap_every = sometimes(250, 200'000, 1'000'000);
  mix.write_failure_every = sometimes(300, 300'000, 2'000'000);
  mix.damage_every = sometimes(150, 500'000, 4'000'000);
  mix.disturb_every = storm ? chance.Between(5'000, 50'000) : sometimes(500, 50'000, 500'000);
  return mix;
}

Nemesis::Nemesis(const FaultMix& mix, const Surroundings& around, std::vector<std::unique_ptr<Node>>* nodes)
    : mix_(mix), around_(around), nodes_(nodes) {}

void Nemesis::Begin() {
  around_.network->faults() = mix_.network;
  for (auto& node : *nodes_) {
    Meet(*node);
  }
  Every(mix_.crash_every, &Nemesis::CrashOne);
  Every(mix_.partition_every, &Nemesis::Partition);
  Every(mix_.pause_every, &Nemesis::PauseOne);
  Every(mix_.stall_every, &Nemesis::StallOne);
  Every(mix_.flap_every, &Nemesis::Flap);
  Every(mix_.write_failure_every, &Nemesis::FailWrite);
  Every(mix_.damage_every, &Nemesis::DamageOne);
  Every(mix_.disturb_every, &Nemesis::Disturb);
}

void Nemesis::Meet(Node& node) {
  const bool lies = node.disk().faults().lies;
  node.disk().faults() = mix_.disk;
  node.disk().faults().lies = lies;
  node.on_failure = [this, &node] {
    ++counts_.write_failures;
    StartLater(&node);
  };
}

void Nemesis::End() {
  over_ = true;
  around_.network->Heal();
  around_.network->faults() = NetworkFaults();
  for (auto& node : *nodes_) {
    const bool lies = node->disk().faults().lies;
    node->disk().faults() = DiskFaults();
    node->disk().faults().lies = lies;
    node->disk().ChangeBoth([](StoredLog& log) { log.Repair(); });
    if (!node->up()) node->Start();
    if (node->paused()) node->Resume();
    for (auto& other : *nodes_) {
      if (other != node) node->ConnectionChanged(other->id(), true);
    }
  }
}

void Nemesis::Every(Micros interval, void (Nemesis::*strike)()) {
  if (interval == 0) return;
  around_.clock->After(around_.chance->Between(interval / 2, interval * 2), [this, interval, strike] {
    if (over_) return;
    (this->*strike)();
    Every(interval, strike);
  });
}

void Nemesis::CrashOne() {
  // Now and then everything at once.
  const bool all = around_.chance->PerMille(50);
  Node* one = &Anyone();
  for (auto& node : *nodes_) {
    if ((!all && node.get() != one) || !node->up()) continue;
    ++counts_.crashes;
    around_.trace->Print(around_.clock->now(), std::to_string(node->id().value()) + " crashes");
    const ReplicaId id = node->id();
    node->Crash();
    for (auto& other : *nodes_) {
      // A process that dies closes its connections; one whose power fails does not.
      if (around_.chance->PerMille(500)) other->ConnectionChanged(id, false);
    }
    StartLater(node.get());
  }
}

void Nemesis::StartLater(Node* node) {
  around_.clock->After(around_.chance->Between(1'000, mix_.down_max), [this, node] {
    if (over_ || node->up()) return;
    // Safety rule 15: it comes back when its disk was made good.
    if (node->disk().durable().damaged()) return StartLater(node);
    const ReplicaId id = node->id();
    around_.trace->Print(around_.clock->now(), std::to_string(id.value()) + " starts");
    node->Start();
    for (auto& other : *nodes_) {
      if (other.get() != node) other->ConnectionChanged(id, true);
    }
  });
}

void Nemesis::Partition() {
  ++counts_.partitions;
  around_.network->Heal();
  const uint64_t shape = around_.chance->Below(5);
  const ReplicaId lonely = Anyone().id();
  std::vector<bool> side;
  for (size_t i = 0; i < nodes_->size(); ++i) side.push_back(around_.chance->PerMille(500));
  for (size_t i = 0; i < nodes_->size(); ++i) {
    for (size_t j = 0; j < nodes_->size(); ++j) {
      const ReplicaId a = (*nodes_)[i]->id(), b = (*nodes_)[j]->id();
      if (a == b) continue;
      bool cut = false;
      if (shape == 0) cut = a == lonely || b == lonely;     // one alone
      if (shape == 1) cut = side[i] != side[j];             // two sides
      if (shape == 2) cut = a == lonely;                    // one hears and is not heard
      if (shape == 3) cut = around_.chance->PerMille(400);  // any links, in any direction
      // Two sides, and one that sees both.
      if (shape == 4) cut = side[i] != side[j] && a != lonely && b != lonely;
      if (cut) around_.network->Cut(a, b);
    }
  }
  around_.trace->Print(around_.clock->now(), "partition of shape " + std::to_string(shape));
  around_.clock->After(around_.chance->Between(10'000, 700'000), [this] {
    if (!over_) around_.network->Heal();
  });
}

void Nemesis::PauseOne() {
  Node* node = &Anyone();
  if (!node->up() || node->paused()) return;
  around_.trace->Print(around_.clock->now(), std::to_string(node->id().value()) + " is paused");
  ++counts_.pauses;
  node->Pause();
  around_.clock->After(around_.chance->Between(10'000, 800'000), [node] { node->Resume(); });
}

void Nemesis::StallOne() {
  Node* node = &Anyone();
  ++counts_.stalls;
  node->disk().faults().stall = around_.chance->Between(5'000, 300'000);
  around_.clock->After(around_.chance->Between(50'000, 500'000), [node] { node->disk().faults().stall = 0; });
}

// A link that comes and goes, in both directions or in one.
void Nemesis::Flap() {
  const ReplicaId a = Anyone().id(), b = Anyone().id();
  if (a == b) return;
  ++counts_.flaps;
  FlapAgain(a, b, static_cast<int>(around_.chance->Between(3, 30)));
}

void Nemesis::FlapAgain(ReplicaId a, ReplicaId b, int left) {
  if (over_) return;
  if (left % 2 == 0 || left == 0) {
    around_.network->Mend(a, b);
    around_.network->Mend(b, a);
  } else {
    around_.network->Cut(a, b);
    if (around_.chance->PerMille(500)) around_.network->Cut(b, a);
  }
  if (left == 0) return;
  around_.clock->After(around_.chance->Between(2'000, 60'000), [this, a, b, left] { FlapAgain(a, b, left - 1); });
}

void Nemesis::FailWrite() {
  Node* node = &Anyone();
  if (around_.chance->PerMille(600)) {
    node->disk().faults().fail_next = true;
    return;
  }
  node->disk().faults().full = true;
  around_.clock->After(around_.chance->Between(10'000, 500'000), [node] { node->disk().faults().full = false; });
}

void Nemesis::DamageOne() {
  Node* node = &Anyone();
  const uint64_t last = node->disk().durable().last().value();
  if (last == 0) return;
  ++counts_.flips;
  // Mostly among the last ones, which are read most.
  const uint64_t back = around_.chance->Below(around_.chance->PerMille(700) ? std::min<uint64_t>(last, 50) : last);
  around_.trace->Print(around_.clock->now(),
                       std::to_string(node->id().value()) + " has damage at " + std::to_string(last - back));
  node->disk().ChangeBoth([index = raft::Index(last - back)](StoredLog& log) { log.Damage(index); });
}

void Nemesis::Disturb() {
  const ReplicaId peer = Anyone().id();
  switch (around_.chance->Below(4)) {
    case 0:  // one or two at once
      Anyone().Post([](Replica& replica) { replica.Campaign(); });
      Anyone().Post([](Replica& replica) { replica.Campaign(); });
      break;
    case 1:
      Anyone().Post([](Replica& replica) { replica.StepDown(); });
      break;
    case 2:  // one side of a connection
      CloseOne(&Anyone(), peer);
      break;
    default:  // everyone's connections to it
      for (auto& node : *nodes_) {
        if (node->id() == peer) continue;
        CloseOne(node.get(), peer);
      }
  }
}

void Nemesis::CloseOne(Node* node, ReplicaId peer) {
  if (node->id() == peer) return;
  ++counts_.closed;
  node->ConnectionChanged(peer, false);
  around_.clock->After(around_.chance->Between(1'000, around_.chance->PerMille(700) ? 100'000 : 1'000'000),
                       [node, peer] { node->ConnectionChanged(peer, true); });
}

}  // namespace trireme::simulation
