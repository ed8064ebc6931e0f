#include "tests/failover/faults/nemesis.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTick{10};
// A little more than the checkers allow, so that it is they who say that it took too long.
constexpr milliseconds kRecovery{12'000};

}  // namespace

Nemesis::Nemesis(const Scenario& scenario, World world, HistoryWriter& history, Live& live,
                 std::function<absl::Status()> tick, std::function<void(const std::string&)> say)
    : scenario_(scenario),
      world_(world),
      history_(history),
      live_(live),
      tick_(std::move(tick)),
      say_(std::move(say)) {}

absl::Status Nemesis::Wait(milliseconds time) {
  const auto until = std::chrono::steady_clock::now() + time;
  do {
    if (absl::Status ticked = tick_(); !ticked.ok()) return ticked;
    std::this_thread::sleep_for(kTick);
  } while (std::chrono::steady_clock::now() < until);
  return absl::OkStatus();
}

absl::StatusOr<bool> Nemesis::WaitForProgress(milliseconds most) {
  const uint64_t since_us = history_.NowUs();
  const auto until = std::chrono::steady_clock::now() + most;
  while (std::chrono::steady_clock::now() < until) {
    if (absl::Status waited = Wait(kTick); !waited.ok()) return waited;
    if (live_.ProgressSince(since_us)) return true;
  }
  return false;
}

std::vector<FaultUse> Nemesis::Possible() const {
  std::vector<FaultUse> uses;
  for (const FaultUse& use : scenario_.faults) {
    if (!FindFaultKind(use.kind)->needs.network || world_.network != nullptr) uses.push_back(use);
  }
  return uses;
}

// 0 = nobody that the cluster knows of.
int Nemesis::Leader(Aim aim) {
  const absl::StatusOr<int> leader = aim == Aim::kMetadataLeader ? world_.cluster.MetadataLeader()
                                                                 : world_.cluster.LeaderOf(Workload::Queues().front());
  return leader.ok() ? *leader : 0;
}

std::vector<int> Nemesis::Choose(const FaultUse& use) {
  std::vector<int> nodes;
  for (int node = 1; node <= world_.cluster.size(); ++node) nodes.push_back(node);
  std::shuffle(nodes.begin(), nodes.end(), world_.chance);
  const size_t majority = nodes.size() / 2 + 1;
  switch (use.aim) {
    case Aim::kBusyLeader:
    case Aim::kMetadataLeader:
      if (const int leader = Leader(use.aim); leader != 0) return {leader};
      break;
    case Aim::kFollower: {
      const int busy = Leader(Aim::kBusyLeader), metadata = Leader(Aim::kMetadataLeader);
      std::stable_partition(nodes.begin(), nodes.end(), [&](int node) { return node != busy && node != metadata; });
      // Where they are one and the other, it is one that does not lead the queue.
      if (nodes.front() == busy && nodes.size() > 1) std::swap(nodes[0], nodes[1]);
      break;
    }
    case Aim::kAnyone:
      // In turn, so that a rolling restart reaches each.
      if (scenario_.in_turn) {
        nodes.front() = next_anyone_;
        next_anyone_ = next_anyone_ % world_.cluster.size() + 1;
      }
      break;
    case Aim::kMinority:
      nodes.resize(std::max<size_t>(1, nodes.size() - majority));
      return nodes;
    case Aim::kMajority:
      nodes.resize(majority);
      return nodes;
    case Aim::kAll:
      return nodes;
  }
  nodes.resize(1);
  return nodes;
}

void Nemesis::NoteLeaders() {
  const std::vector<std::string>& queues = Workload::Queues();
  for (size_t i = 0; i < queues.size(); ++i) {
    const absl::StatusOr<int> leader = world_.cluster.LeaderOf(queues[i]);
    history_.Append(Leads{static_cast<uint32_t>(i + 1), leader.ok() ? static_cast<uint32_t>(*leader) : 0});
  }
}

absl::Status Nemesis::Begin(const FaultUse& use, std::vector<Active>& active) {
  const std::vector<int> nodes = Choose(use);
  Active one{next_fault_++, FindFaultKind(use.kind)->make(nodes)};
  const auto target = static_cast<uint32_t>(nodes.size() == 1 ? nodes[0] : 0);
  // Its beginning is written down before it has one: what goes wrong from here on may be its doing. What it has drawn
  // is known afterwards.
  history_.Append(
      FaultBegan{one.number, std::string(use.kind), target,
                 absl::StrCat(std::string(use.kind), ", ", AimName(use.aim), " (", absl::StrJoin(nodes, ", "), ")")});
  const absl::Status begun = one.fault->Begin(world_);
  const std::string text = one.fault->Describe();
  history_.Append(Note{absl::StrCat("fault ", one.number, ": ", text)});
  say_(text);
  active.push_back(std::move(one));
  return begun;
}

absl::Status Nemesis::Round(const std::vector<FaultUse>& uses) {
  NoteLeaders();
  std::vector<Active> active;
  absl::Status all = absl::OkStatus();
  milliseconds time{0};
  for (const FaultUse& use : uses) {
    time = std::max(time, milliseconds(world_.Draw(static_cast<uint64_t>(use.least.count()),
                                                   static_cast<uint64_t>(use.most.count()))));
    all.Update(Begin(use, active));
    // Composed faults begin one after the other.
    if (uses.size() > 1 && all.ok()) all.Update(Wait(milliseconds(world_.Draw(0, 1'500))));
    if (!all.ok()) break;
  }
  const auto until = std::chrono::steady_clock::now() + time;
  while (all.ok() && std::chrono::steady_clock::now() < until) {
    for (Active& one : active) all.Update(one.fault->Tick(world_));
    all.Update(Wait(kTick));
  }
  // Healed whatever happened.
  for (Active& one : active) {
    all.Update(one.fault->End(world_));
    history_.Append(FaultEnded{one.number});
  }
  history_.Append(Healed{});
  return all;
}

absl::Status Nemesis::Run(milliseconds time) {
  const std::vector<FaultUse> possible = Possible();
  if (possible.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("no fault of ", std::string(scenario_.name), " can be had here"));
  }
  const auto until = std::chrono::steady_clock::now() + time;
  absl::StatusOr<bool> progress = WaitForProgress(milliseconds(60'000));
  if (!progress.ok()) return progress.status();
  if (!*progress) return absl::DeadlineExceededError("not every queue confirmed and delivered within a minute");
  for (size_t round = 0; std::chrono::steady_clock::now() < until; ++round) {
    if (absl::Status calm = Wait(scenario_.calm); !calm.ok()) return calm;
    std::vector<FaultUse> uses;
    const auto count = world_.Draw(1, static_cast<uint64_t>(scenario_.at_once));
    for (uint64_t i = 0; i < count; ++i) {
      const FaultUse& use =
          scenario_.in_turn ? possible[round % possible.size()] : possible[world_.Draw(0, possible.size() - 1)];
      const bool twice =
          std::any_of(uses.begin(), uses.end(), [&](const FaultUse& other) { return other.kind == use.kind; });
      if (!twice) uses.push_back(use);
    }
    if (absl::Status done = Round(uses); !done.ok()) return done;
    progress = WaitForProgress(kRecovery);
    if (!progress.ok()) return progress.status();
    if (!*progress) say_("no progress on every queue 12 s after all was healed");
  }
  return Wait(scenario_.calm);
}

}  // namespace trireme::failover
