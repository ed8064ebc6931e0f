#include "tests/simulation/queue/faults.h"

#include <chrono>
#include <set>
#include <vector>

namespace trireme::queue_simulation {

using raft::NodeId;
using std::chrono::microseconds;

namespace {

// Within what leases allow for.
constexpr int64_t kFastPpmMax = 40'000;

}  // namespace

Faults::Faults(QueueWorld* queue, Cluster* cluster, Chance* chance, const Trace* trace, uint64_t nodes)
    : queue_(queue), cluster_(cluster), chance_(chance), trace_(trace), percent_(chance->Between(2, 20)) {
  queue_->world.net_latency_max = microseconds(chance_->Between(200, 4'000));
  queue_->world.loss_percent = static_cast<int>(chance_->Below(4));
  queue_->world.duplicate_percent = static_cast<int>(chance_->PerMille(400) ? chance_->Between(1, 10) : 0);
  const bool drift = chance_->PerMille(500);
  const int survives = static_cast<int>(chance_->PerMille(500) ? chance_->Between(10, 100) : 0);
  if (chance_->PerMille(200)) bad_disk_ = 1 + chance_->Below(nodes);
  for (uint64_t n = 1; n <= queue_->world.nodes(); ++n) {
    raft::testing::SimNode& node = queue_->world.node(n);
    if (drift) node.clock_error.fast_ppm = chance_->Between(-kFastPpmMax, kFastPpmMax);
    node.store->survives_percent = survives;
    node.store->failed = [this, n] {
      ++write_failures_;
      Say(n, "cannot write and ends");
      Kill(n);
    };
  }
}

void Faults::Say(uint64_t node, const std::string& what) const {
  trace_->Print(queue_->Elapsed(), "node " + std::to_string(node) + " " + what);
}

bool Faults::MayKill() const {
  const std::vector<raft::Member> members = cluster_->info()->replicas;
  size_t down = 0;
  for (const raft::Member& member : members) down += cluster_->down(member.node.value()) ? 1 : 0;
  // Mostly there is a majority.
  return down < (members.size() + 1) / 2 - (members.size() > 1 ? 1 : 0) || chance_->PerMille(100);
}

void Faults::Step() {
  if (flaps_left_ > 0) {
    // The links come and go, a step each.
    --flaps_left_;
    if (queue_->world.cut.empty() && queue_->world.cut_one_way.empty()) return Partition();
    return Heal();
  }
  if (!chance_->PerMille(percent_ * 10)) return;
  switch (chance_->Below(15)) {
    case 0:
    case 1:
      if (MayKill()) Kill(LeaderOrAnyone());
      break;
    case 2:  // the power fails everywhere
      if (!chance_->PerMille(300)) break;
      for (uint64_t n : cluster_->nodes()) Kill(n);
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
    case 11:
      if (MayKill()) FailWrites(LeaderOrAnyone());
      break;
    case 12:
      Damage();
      break;
    default:
      PassOn();
  }
}

void Faults::PassOn() {
  QueueReplica* leader = queue_->Serving();
  if (leader == nullptr) return;
  if (chance_->PerMille(700)) {
    leader->group()->HandOver();
  } else {
    leader->group()->StepDown();
  }
}

void Faults::End() {
  flaps_left_ = 0;
  low_disk_ = false;
  Heal();
  queue_->world.loss_percent = queue_->world.duplicate_percent = 0;
  trace_->Print(queue_->Elapsed(), "all faults end");
  for (uint64_t n = 1; n <= queue_->world.nodes(); ++n) {
    raft::testing::SimNode& node = queue_->world.node(n);
    node.store->stalled = node.store->full = node.store->fail_next = false;
    node.store->latency_max = microseconds(500);
    node.clock_error.wall_skew_ms = 0;
    if (n != bad_disk_) continue;
    // A replica that met the damage has stopped.
    node.store->damaged.clear();
    Kill(n);
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
  Say(node, "is killed");
  cluster_->Kill(node);
}

void Faults::StartAll() {
  for (uint64_t n : cluster_->nodes()) {
    raft::testing::SimNode& node = queue_->world.node(n);
    // Safety rule 15: it comes back when its disk was made good.
    if (node.up() || node.store->DamagedAhead()) continue;
    node.store->full = false;
    cluster_->Start(n);
  }
}

void Faults::Partition() {
  ++partitions_;
  const uint64_t one = LeaderOrAnyone();
  const bool one_way = chance_->PerMille(300), hears = chance_->PerMille(500);
  if (chance_->PerMille(300)) {
    // Two sides; or, with a bridge, one that sees both.
    const bool bridge = chance_->PerMille(300);
    Say(one, bridge ? "sees both sides of a partition" : "is on a side of a partition");
    std::set<uint64_t> side;
    for (uint64_t n : cluster_->nodes()) {
      if (chance_->PerMille(500)) side.insert(n);
    }
    for (uint64_t a : side) {
      for (uint64_t b : cluster_->nodes()) {
        if (!side.contains(b) && !(bridge && (a == one || b == one))) Cut(a, b, one_way);
      }
    }
    return;
  }
  Say(one, one_way ? "is cut off, one way" : "is cut off from some");
  for (uint64_t other : cluster_->nodes()) {
    if (other == one || !chance_->PerMille(700)) continue;
    if (hears) {
      Cut(one, other, one_way);
    } else {
      Cut(other, one, one_way);
    }
  }
}

void Faults::Cut(uint64_t from, uint64_t to, bool one_way) {
  (one_way ? queue_->world.cut_one_way : queue_->world.cut).insert({NodeId(from), NodeId(to)});
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

void Faults::FailWrites(uint64_t node) {
  raft::testing::SimStore& store = *queue_->world.node(node).store;
  (chance_->PerMille(600) ? store.fail_next : store.full) = true;
}

void Faults::Damage() {
  if (bad_disk_ == 0) return;
  ++damaged_;
  Say(bad_disk_, "has damage on its disk");
  // Mostly among the last ones, which are read most.
  queue_->world.node(bad_disk_).store->Damage(queue_->group, chance_->PerMille(700) ? 50 : 10'000);
}

// Within what a leader may be off by, or far beyond it (Safety rule 7).
void Faults::StepWallClock(uint64_t node) {
  queue_->world.node(node).clock_error.wall_skew_ms =
      chance_->PerMille(500) ? chance_->Between(-4'000, 4'000) : chance_->Between(-86'400'000, 86'400'000);
}

}  // namespace trireme::queue_simulation
