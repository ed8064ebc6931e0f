#include "tests/simulation/queue/faults.h"

#include <chrono>

namespace trireme::queue_simulation {

using raft::NodeId;
using std::chrono::microseconds;

Faults::Faults(QueueWorld* queue, Clients* clients, Chance* chance)
    : queue_(queue), clients_(clients), chance_(chance), percent_(chance->Between(2, 20)) {
  queue_->world.net_latency_max = microseconds(chance_->Between(200, 4'000));
  queue_->world.loss_percent = static_cast<int>(chance_->Below(4));
  queue_->world.duplicate_percent = static_cast<int>(chance_->PerMille(400) ? chance_->Between(1, 10) : 0);
}

void Faults::Step() {
  if (flaps_left_ > 0) {
    // The links come and go, a step each.
    --flaps_left_;
    if (queue_->world.cut.empty() && queue_->world.cut_one_way.empty()) return Partition();
    return Heal();
  }
  if (!chance_->PerMille(percent_ * 10)) return;
  switch (chance_->Below(12)) {
    case 0:
    case 1: {
      // Mostly no more than one is down, so that there is a majority most of the time.
      bool all_up = true;
      for (uint64_t n = 1; n <= kNodes; ++n) all_up &= queue_->world.node(n).up();
      if (all_up || chance_->PerMille(100)) Kill(LeaderOrAnyone());
      break;
    }
    case 2:  // the power fails everywhere
      if (!chance_->PerMille(300)) break;
      for (uint64_t n = 1; n <= kNodes; ++n) Kill(n);
      StartAll();
      break;
    case 3:
      StartAll();
      break;
    case 4:
      Partition();
      break;
    case 5:
      Heal();
      break;
    case 6:
      flaps_left_ = static_cast<int>(chance_->Between(4, 20));
      break;
    case 7:
      Disk(LeaderOrAnyone());
      break;
    case 8:
      StepWallClock(LeaderOrAnyone());
      break;
    case 9:
      low_disk_ = !low_disk_;
      break;
    case 10: {  // it stands still, and nobody notices but by its silence
      const uint64_t node = LeaderOrAnyone();
      if (queue_->world.node(node).up()) queue_->world.Pause(node, std::chrono::milliseconds(chance_->Below(2'000)));
      break;
    }
    default:  // leadership is handed over
      if (QueueReplica* leader = queue_->Serving()) {
        if (chance_->PerMille(700)) {
          leader->group()->HandOver();
        } else {
          leader->group()->StepDown();
        }
      }
  }
}

void Faults::End() {
  flaps_left_ = 0;
  low_disk_ = false;
  Heal();
  queue_->world.loss_percent = queue_->world.duplicate_percent = 0;
  for (uint64_t n = 1; n <= kNodes; ++n) {
    queue_->world.node(n).store->stalled = false;
    queue_->world.node(n).store->latency_max = microseconds(500);
    queue_->world.node(n).wall_skew_ms = 0;
  }
  StartAll();
}

uint64_t Faults::LeaderOrAnyone() {
  const uint64_t leader = queue_->Leader();
  return leader != 0 && chance_->PerMille(600) ? leader : Anyone();
}

void Faults::Kill(uint64_t node) {
  if (!queue_->world.node(node).up()) return;
  ++kills_;
  queue_->Kill(node);
  clients_->Died(node);
}

void Faults::StartAll() {
  for (uint64_t n = 1; n <= kNodes; ++n) {
    if (!queue_->world.node(n).up()) queue_->world.Start(n);
  }
}

void Faults::Partition() {
  ++partitions_;
  const uint64_t one = LeaderOrAnyone();
  const bool one_way = chance_->PerMille(300), hears = chance_->PerMille(500);
  for (uint64_t other = 1; other <= kNodes; ++other) {
    if (other == one || !chance_->PerMille(700)) continue;
    if (!one_way) {
      queue_->world.cut.insert({NodeId(one), NodeId(other)});
    } else if (hears) {
      queue_->world.cut_one_way.insert({NodeId(one), NodeId(other)});
    } else {
      queue_->world.cut_one_way.insert({NodeId(other), NodeId(one)});
    }
  }
}

void Faults::Heal() {
  queue_->world.cut.clear();
  queue_->world.cut_one_way.clear();
}

// It stands still, goes slowly, or is well again.
void Faults::Disk(uint64_t node) {
  raft::testing::SimStore& store = *queue_->world.node(node).store;
  store.stalled = chance_->PerMille(300);
  store.latency_max = microseconds(chance_->PerMille(500) ? chance_->Between(1'000, 200'000) : 500);
}

// Within what a leader may be off by, or far beyond it (Safety rule 7).
void Faults::StepWallClock(uint64_t node) {
  queue_->world.node(node).wall_skew_ms =
      chance_->PerMille(500) ? chance_->Between(-4'000, 4'000) : chance_->Between(-86'400'000, 86'400'000);
}

}  // namespace trireme::queue_simulation
