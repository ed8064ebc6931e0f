#include "tests/failover/faults/scenario.h"

#include <algorithm>

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kNone{0}, kShort{1'000}, kMedium{4'000}, kLong{9'000};

std::vector<Scenario> Make() {
  const FaultUse kill_leader{"kill", Aim::kBusyLeader, kShort, kMedium};
  const FaultUse kill_follower{"kill", Aim::kFollower, kShort, kMedium};
  const FaultUse kill_metadata{"kill", Aim::kMetadataLeader, kShort, kMedium};
  const FaultUse stop_leader{"stop", Aim::kBusyLeader, kNone, kShort};
  const FaultUse pause_leader{"pause", Aim::kBusyLeader, milliseconds(2'500), kLong};
  const FaultUse power{"power", Aim::kAll, kNone, kShort};
  const FaultUse isolate_leader{"isolate", Aim::kBusyLeader, milliseconds(2'500), kLong};
  const FaultUse isolate_follower{"isolate", Aim::kFollower, milliseconds(2'500), kLong};
  const FaultUse cut_peers{"cut-peers", Aim::kBusyLeader, milliseconds(2'500), kLong};
  const FaultUse consumers_pause{"consumers-pause", Aim::kAnyone, kShort, milliseconds(14'000)};

  const std::vector<FaultUse> network = {
      isolate_leader,
      isolate_follower,
      cut_peers,
      {"deaf", Aim::kBusyLeader, kShort, kLong},
      {"mute", Aim::kBusyLeader, kShort, kLong},
      {"split", Aim::kAll, kShort, kLong},
      {"ring", Aim::kAll, kShort, kLong},
      {"flapping", Aim::kBusyLeader, kMedium, kLong},
      {"clients-cut", Aim::kBusyLeader, kShort, kLong},
      {"clients-away", Aim::kAnyone, kShort, milliseconds(20'000)},
  };
  const std::vector<FaultUse> bad_wires = {
      {"delay", Aim::kAll, kMedium, kLong},
      {"delay", Aim::kBusyLeader, kMedium, kLong},
      {"loss", Aim::kAll, kMedium, kLong},
      {"loss", Aim::kBusyLeader, kMedium, kLong},
      {"doubling", Aim::kAll, kMedium, kLong},
      {"reordering", Aim::kAll, kMedium, kLong},
      {"narrow", Aim::kBusyLeader, kMedium, kLong},
      {"narrow", Aim::kFollower, kMedium, kLong},
      {"withhold", Aim::kBusyLeader, kShort, kMedium},
      {"withhold", Aim::kFollower, kShort, kMedium},
  };
  const std::vector<FaultUse> processes = {
      kill_leader,
      kill_follower,
      kill_metadata,
      stop_leader,
      pause_leader,
      {"pause", Aim::kFollower, kShort, kLong},
      power,
      consumers_pause,
      {"kill", Aim::kMajority, kShort, kMedium},
      {"pause", Aim::kMajority, kShort, kLong},
      {"storm", Aim::kAll, kMedium, kLong},
  };
  // Clocks are left to a scenario of their own, so that leases can be judged to the millisecond.
  const std::vector<FaultUse> machines = {
      {"disk-slow", Aim::kBusyLeader, kMedium, kLong}, {"disk-stall", Aim::kBusyLeader, kShort, kLong},
      {"disk-stall", Aim::kFollower, kShort, kLong},   {"sync-fails", Aim::kBusyLeader, kShort, kMedium},
      {"power-loss", Aim::kAll, kNone, kShort},        {"power-loss", Aim::kBusyLeader, kNone, kMedium},
  };
  std::vector<FaultUse> everything = processes;
  everything.insert(everything.end(), network.begin(), network.end());
  everything.insert(everything.end(), bad_wires.begin(), bad_wires.end());
  everything.insert(everything.end(), machines.begin(), machines.end());

  // A node that refuses to publish for want of room does so well before its log cannot grow.
  const std::vector<std::string> small = {"--young-log-mb", "128", "--low-disk-mb", "64"};

  return {
      {"quick",
       "the usual accidents, one after the other; two minutes are enough",
       {kill_leader, stop_leader, isolate_leader, pause_leader, kill_follower, power},
       true,
       1,
       milliseconds(3'000)},
      {"kill-leader", "the leader of the busiest queue is killed", {kill_leader}},
      {"kill-metadata-leader", "the leader of the metadata group is killed", {kill_metadata}},
      {"kill-follower", "a follower is killed", {kill_follower}},
      {"kill-majority", "a majority is killed at once", {{"kill", Aim::kMajority, kShort, kMedium}}},
      {"power-cut", "all nodes are killed at once", {power}},
      {"stop-leader", "the leader of the busiest queue is stopped cleanly", {stop_leader}},
      {"rolling-restart",
       "each node in turn is stopped cleanly and started",
       {{"stop", Aim::kAnyone, kNone, kNone}},
       true},
      {"rolling-upgrade",
       "each node in turn is changed to the other version, and back",
       {{"upgrade", Aim::kAnyone, kNone, kNone}},
       true},
      {"restart-storm",
       "nodes are killed and started without a pause",
       {{"storm", Aim::kAll, kMedium, milliseconds(15'000)}}},
      {"pause-leader", "the leader's process stands still for a while", {pause_leader}},
      {"pause-follower", "a follower's process stands still for a while", {{"pause", Aim::kFollower, kShort, kLong}}},
      {"consumers-pause", "consumers stand still, for less and for more than their leases last", {consumers_pause}},
      {"isolate-leader", "the leader's host is cut off, silently", {isolate_leader}},
      {"isolate-follower", "a follower's host is cut off, silently", {isolate_follower}},
      {"stale-leader", "the leader is cut off from its followers, not from its clients", {cut_peers}},
      {"partitions", "every shape of partition", network},
      {"bad-wires", "delay, loss, doubling, reordering, little bandwidth, packets withheld", bad_wires},
      {"processes", "everything that happens to processes, up to two at once", processes, false, 2},
      {"disk-low",
       "a node has too little room to take more",
       {{"disk-low", Aim::kBusyLeader, kMedium, kLong}, {"disk-low", Aim::kFollower, kMedium, kLong}},
       false,
       1,
       milliseconds(4'000),
       small,
       640},
      {"disk-full",
       "a node has no room at all",
       {{"disk-full", Aim::kBusyLeader, kMedium, kLong}, {"disk-full", Aim::kFollower, kMedium, kLong}},
       false,
       1,
       milliseconds(4'000),
       small,
       640},
      {"slow-disks",
       "disks that are slow, or answer nothing for a while",
       {{"disk-slow", Aim::kBusyLeader, kMedium, kLong},
        {"disk-slow", Aim::kFollower, kMedium, kLong},
        {"disk-stall", Aim::kBusyLeader, milliseconds(2'500), kLong},
        {"disk-stall", Aim::kFollower, milliseconds(2'500), kLong}}},
      {"failing-disks",
       "disks that return errors: the node ends, and the others go on",
       {{"sync-fails", Aim::kBusyLeader, kShort, kMedium},
        {"sync-fails", Aim::kFollower, kShort, kMedium},
        {"write-fails", Aim::kBusyLeader, kShort, kMedium},
        {"write-fails", Aim::kFollower, kShort, kMedium}}},
      {"power-loss",
       "all nodes lose power, or one: what was not synced is gone",
       {{"power-loss", Aim::kAll, kNone, kShort},
        {"power-loss", Aim::kAll, kNone, kShort},
        {"power-loss", Aim::kMajority, kNone, kShort},
        {"power-loss", Aim::kBusyLeader, kNone, kMedium},
        {"power-loss", Aim::kFollower, kNone, kMedium}},
       false,
       1,
       milliseconds(4'000),
       {},
       0,
       true},
      {"bit-flips", "bits turn in the files of a node that is down", {{"bit-flip", Aim::kFollower, kNone, kShort}}},
      {"clocks",
       "wall clocks step and drift",
       {{"clock-step", Aim::kBusyLeader, kMedium, kLong},
        {"clock-step", Aim::kFollower, kMedium, kLong},
        {"clock-drift", Aim::kBusyLeader, kMedium, kLong},
        {"clock-drift", Aim::kFollower, kMedium, kLong}},
       false,
       1,
       milliseconds(4'000),
       {},
       0,
       false,
       milliseconds(6'000)},
      {"mixed",
       "everything but full disks and wrong clocks, up to three at once",
       everything,
       false,
       3,
       milliseconds(4'000),
       {},
       0,
       true},
  };
}

}  // namespace

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> kScenarios = Make();
  return kScenarios;
}

const Scenario* FindScenario(std::string_view name) {
  const auto& scenarios = Scenarios();
  const auto found =
      std::find_if(scenarios.begin(), scenarios.end(), [&](const Scenario& one) { return one.name == name; });
  return found == scenarios.end() ? nullptr : &*found;
}

Needs NeedsOf(const Scenario& scenario) {
  Needs all;
  for (const FaultUse& use : scenario.faults) {
    const Needs& needs = FindFaultKind(use.kind)->needs;
    all.network |= needs.network;
    all.small_disks |= needs.small_disks;
    all.other_broker |= needs.other_broker;
    all.machines |= needs.machines;
  }
  return all;
}

}  // namespace trireme::failover
