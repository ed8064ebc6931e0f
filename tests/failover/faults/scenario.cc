#include "tests/failover/faults/scenario.h"

#include <algorithm>

namespace trireme::failover {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kNone{0}, kShort{1'000}, kMedium{4'000}, kLong{9'000};
// Longer than an election takes when nobody has said goodbye.
constexpr milliseconds kSilent{2'500};
// Longer than some leases and sessions last.
constexpr milliseconds kLease{14'000};

// One kind of fault at each of some aims.
std::vector<FaultUse> At(std::string_view kind, std::vector<Aim> aims, milliseconds least, milliseconds most) {
  std::vector<FaultUse> uses;
  for (Aim aim : aims) uses.push_back({kind, aim, least, most});
  return uses;
}

std::vector<FaultUse> Together(std::vector<std::vector<FaultUse>> parts) {
  std::vector<FaultUse> all;
  for (std::vector<FaultUse>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

using enum Aim;

// ---------------------------------------------------------------- what scenarios draw from

std::vector<FaultUse> Processes() {
  return Together({At("kill", {kBusyLeader, kFollower, kMetadataLeader, kMajority}, kShort, kMedium),
                   At("stop", {kBusyLeader}, kNone, kShort), At("pause", {kBusyLeader}, kSilent, kLong),
                   At("pause", {kFollower, kMajority}, kShort, kLong), At("power", {kAll}, kNone, kShort),
                   At("consumers-pause", {kAnyone}, kShort, kLease), At("storm", {kAll}, kMedium, kLong)});
}

std::vector<FaultUse> Partitions() {
  return Together({At("isolate", {kBusyLeader, kFollower}, kSilent, kLong),
                   At("cut-peers", {kBusyLeader}, kSilent, kLong), At("deaf", {kBusyLeader}, kShort, kLong),
                   At("mute", {kBusyLeader}, kShort, kLong), At("split", {kAll}, kShort, kLong),
                   At("ring", {kAll}, kShort, kLong), At("flapping", {kBusyLeader}, kMedium, kLong),
                   At("clients-cut", {kBusyLeader}, kShort, kLong), At("clients-away", {kAnyone}, kShort, kLease)});
}

std::vector<FaultUse> BadWires() {
  return Together({At("delay", {kAll, kBusyLeader}, kMedium, kLong), At("loss", {kAll, kBusyLeader}, kMedium, kLong),
                   At("doubling", {kAll}, kMedium, kLong), At("reordering", {kAll}, kMedium, kLong),
                   At("narrow", {kBusyLeader, kFollower}, kMedium, kLong),
                   At("withhold", {kBusyLeader, kFollower}, kShort, kMedium)});
}

std::vector<FaultUse> Disks() {
  return Together({At("disk-slow", {kBusyLeader}, kMedium, kLong),
                   At("disk-stall", {kBusyLeader, kFollower}, kShort, kLong),
                   At("sync-fails", {kBusyLeader}, kShort, kMedium), At("power-loss", {kAll}, kNone, kShort),
                   At("power-loss", {kBusyLeader}, kNone, kMedium)});
}

// ---------------------------------------------------------------- the scenarios

using List = std::vector<Scenario>;

void AddProcesses(List& out) {
  out.push_back({.name = "kill-leader",
                 .what = "the leader of the busiest queue is killed",
                 .faults = At("kill", {kBusyLeader}, kShort, kMedium)});
  out.push_back({.name = "kill-metadata-leader",
                 .what = "the leader of the metadata group is killed",
                 .faults = At("kill", {kMetadataLeader}, kShort, kMedium)});
  out.push_back(
      {.name = "kill-follower", .what = "a follower is killed", .faults = At("kill", {kFollower}, kShort, kMedium)});
  out.push_back({.name = "kill-minority",
                 .what = "as many nodes as may fail are killed at once",
                 .faults = At("kill", {kMinority}, kShort, kMedium)});
  out.push_back({.name = "kill-majority",
                 .what = "a majority is killed at once",
                 .faults = At("kill", {kMajority}, kShort, kMedium)});
  out.push_back(
      {.name = "power-cut", .what = "all nodes are killed at once", .faults = At("power", {kAll}, kNone, kShort)});
  out.push_back({.name = "stop-leader",
                 .what = "the leader of the busiest queue is stopped cleanly",
                 .faults = At("stop", {kBusyLeader}, kNone, kShort)});
  out.push_back({.name = "stop",
                 .what = "nodes of every role are stopped cleanly, one, several or all",
                 .faults = At("stop", {kMetadataLeader, kFollower, kMinority, kMajority, kAll}, kNone, kMedium),
                 .in_turn = true});
  out.push_back({.name = "rolling-restart",
                 .what = "each node in turn is stopped cleanly and started",
                 .faults = At("stop", {kAnyone}, kNone, kNone),
                 .in_turn = true});
  out.push_back({.name = "rolling-upgrade",
                 .what = "each node in turn is changed to the other version, and back",
                 .faults = At("upgrade", {kAnyone}, kNone, kNone),
                 .in_turn = true});
  out.push_back({.name = "restart-storm",
                 .what = "nodes are killed and started without a pause",
                 .faults = At("storm", {kAll}, kMedium, milliseconds(15'000))});
  out.push_back({.name = "pause-leader",
                 .what = "the leader's process stands still for a while",
                 .faults = At("pause", {kBusyLeader}, kSilent, kLong)});
  out.push_back({.name = "pause",
                 .what = "processes of every role stand still, one, several or all",
                 .faults = At("pause", {kMetadataLeader, kFollower, kMinority, kMajority, kAll}, kShort, kLong),
                 .in_turn = true});
  out.push_back({.name = "consumers-pause",
                 .what = "consumers stand still, for less and for more than their leases last",
                 .faults = At("consumers-pause", {kAnyone}, kShort, kLease)});
  out.push_back({.name = "processes",
                 .what = "everything that happens to processes, up to two at once",
                 .faults = Processes(),
                 .at_once = 2});
}

void AddPartitions(List& out) {
  out.push_back({.name = "isolate-leader",
                 .what = "the leader's host is cut off, silently",
                 .faults = At("isolate", {kBusyLeader}, kSilent, kLong)});
  out.push_back({.name = "isolate-metadata-leader",
                 .what = "the host of the metadata group's leader is cut off, silently",
                 .faults = At("isolate", {kMetadataLeader}, kSilent, kLong)});
  out.push_back({.name = "isolate-follower",
                 .what = "a follower's host is cut off, silently",
                 .faults = At("isolate", {kFollower}, kSilent, kLong)});
  out.push_back({.name = "stale-leader",
                 .what = "the leader is cut off from its followers, not from its clients",
                 .faults = At("cut-peers", {kBusyLeader}, kSilent, kLong)});
  out.push_back({.name = "one-way",
                 .what = "a node is not heard, or hears nothing: the leader, a follower",
                 .faults = Together({At("deaf", {kBusyLeader, kFollower}, kSilent, kLong),
                                     At("mute", {kBusyLeader, kFollower}, kSilent, kLong)}),
                 .in_turn = true});
  out.push_back({.name = "halves",
                 .what = "the nodes fall into two parts; clients reach both",
                 .faults = At("split", {kAll}, kSilent, kLong)});
  out.push_back({.name = "ring",
                 .what = "each node hears its neighbours only (of three: one link is cut)",
                 .faults = At("ring", {kAll}, kSilent, kLong)});
  out.push_back({.name = "flapping",
                 .what = "a node is cut off and joined again, several times a second",
                 .faults = At("flapping", {kBusyLeader, kFollower}, kMedium, kLong),
                 .in_turn = true});
  out.push_back({.name = "clients-cut",
                 .what = "clients are cut off from the leader, or from all nodes",
                 .faults = Together(
                     {At("clients-cut", {kBusyLeader}, kSilent, kLong), At("clients-away", {kAnyone}, kShort, kLease)}),
                 .in_turn = true});
  out.push_back({.name = "partitions", .what = "every shape of partition, drawn", .faults = Partitions()});
}

void AddWires(List& out) {
  auto add = [&](std::string_view name, std::string_view what, std::string_view kind, std::vector<Aim> aims) {
    out.push_back({.name = name, .what = what, .faults = At(kind, std::move(aims), kMedium, kLong), .in_turn = true});
  };
  add("delay", "packets are late by up to 150 ms, between all or around the leader", "delay", {kAll, kBusyLeader});
  add("loss", "up to a fifth of the packets is lost, between all or around the leader", "loss", {kAll, kBusyLeader});
  add("duplication", "packets arrive twice", "doubling", {kAll, kBusyLeader});
  add("reordering", "packets overtake each other", "reordering", {kAll, kBusyLeader});
  add("bandwidth", "wires of 100 to 1,000 kB/s, to the leader, a follower, or between all", "narrow",
      {kBusyLeader, kFollower, kAll});
  add("withheld", "packets to and from the leader or a follower are kept back, and arrive all at once", "withhold",
      {kBusyLeader, kFollower});
  out.push_back(
      {.name = "bad-wires", .what = "all of these, drawn, up to two at once", .faults = BadWires(), .at_once = 2});
}

void AddDisks(List& out) {
  // A node that refuses to publish for want of room does so well before its log cannot grow.
  const std::vector<std::string> small = {"--young-log-mb", "128", "--low-disk-mb", "64"};
  out.push_back({.name = "disk-low",
                 .what = "a node has too little room to take more",
                 .faults = At("disk-low", {kBusyLeader, kFollower}, kMedium, kLong),
                 .in_turn = true,
                 .arguments = small,
                 .disk_mb = 640});
  out.push_back({.name = "disk-full",
                 .what = "a node has no room at all",
                 .faults = At("disk-full", {kBusyLeader, kFollower}, kMedium, kLong),
                 .in_turn = true,
                 .arguments = small,
                 .disk_mb = 640});
  out.push_back({.name = "slow-disks",
                 .what = "disks that are slow, or answer nothing for a while",
                 .faults = Together({At("disk-slow", {kBusyLeader, kFollower}, kMedium, kLong),
                                     At("disk-stall", {kBusyLeader, kFollower}, kSilent, kLong)}),
                 .in_turn = true});
  out.push_back({.name = "failing-disks",
                 .what = "disks that return errors: the node ends, and the others go on",
                 .faults = Together({At("sync-fails", {kBusyLeader, kFollower}, kShort, kMedium),
                                     At("write-fails", {kBusyLeader, kFollower}, kShort, kMedium)}),
                 .in_turn = true});
  out.push_back({.name = "power-loss",
                 .what = "all nodes lose power, or some: what was not synced is gone, wholly or in sectors",
                 .faults = At("power-loss", {kAll, kBusyLeader, kMajority, kAll, kFollower}, kNone, kShort),
                 .in_turn = true,
                 .remember_writes = true});
  out.push_back({.name = "bit-flips",
                 .what = "bits turn in the files of a node that is down",
                 .faults = At("bit-flip", {kFollower, kBusyLeader}, kShort, kMedium),
                 .in_turn = true});
  out.push_back({.name = "wiped",
                 .what = "a node comes back without its data: it must not take part as if it had forgotten nothing",
                 .faults = At("wipe", {kFollower, kBusyLeader}, milliseconds(7'000), kLong),
                 .in_turn = true});
  out.push_back({.name = "rolled-back",
                 .what = "a node comes back with an older copy of its data: the same",
                 .faults = At("rollback", {kFollower, kBusyLeader}, milliseconds(12'000), milliseconds(13'000)),
                 .in_turn = true});
}

std::vector<Scenario> Make() {
  List out;
  out.push_back(
      {.name = "quick",
       .what = "the usual accidents, one after the other; two minutes are enough",
       .faults = Together({At("kill", {kBusyLeader}, kShort, kMedium), At("stop", {kBusyLeader}, kNone, kShort),
                           At("isolate", {kBusyLeader}, kSilent, kLong), At("pause", {kBusyLeader}, kSilent, kLong),
                           At("kill", {kFollower}, kShort, kMedium), At("power", {kAll}, kNone, kShort)}),
       .in_turn = true,
       .calm = milliseconds(3'000)});
  AddProcesses(out);
  AddPartitions(out);
  AddWires(out);
  AddDisks(out);
  out.push_back({.name = "clocks",
                 .what = "wall clocks step and drift",
                 .faults = Together({At("clock-step", {kBusyLeader, kFollower}, kMedium, kLong),
                                     At("clock-drift", {kBusyLeader, kFollower}, kMedium, kLong)}),
                 .in_turn = true,
                 .lease_slack = milliseconds(6'000)});
  // Clocks are left to a scenario of their own, so that leases can be judged to the millisecond.
  out.push_back({.name = "mixed",
                 .what = "everything but full disks and wrong clocks, up to three at once",
                 .faults = Together({Processes(), Partitions(), BadWires(), Disks()}),
                 .at_once = 3,
                 .remember_writes = true});
  return out;
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

bool CanRun(const Scenario& scenario, bool network, bool mounts, bool other_broker) {
  const Needs all = NeedsOf(scenario);
  if ((all.small_disks && !mounts) || (all.other_broker && !other_broker)) return false;
  return std::any_of(scenario.faults.begin(), scenario.faults.end(),
                     [&](const FaultUse& use) { return network || !FindFaultKind(use.kind)->needs.network; });
}

const std::vector<MissingScenario>& MissingScenarios() {
  static const std::vector<MissingScenario> kMissing = {
      {"drain", "a node hands over all that it leads, and is stopped", "a command to drain a node"},
      {"leaders-moved", "queues' leaders are moved on request, under load", "a command to move a leader"},
      {"node-added", "a node joins, and gets replicas", "a command to add a node"},
      {"node-removed", "a node leaves for good, and its replicas are made elsewhere", "a command to remove a node"},
      {"node-replaced", "a wiped node comes back as a new one", "a command to replace a node"},
      {"upgrade", "the cluster is raised to what its new version can do, after rolling-upgrade",
       "a command to raise it"},
  };
  return kMissing;
}

}  // namespace trireme::failover
