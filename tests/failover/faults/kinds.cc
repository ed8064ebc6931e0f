// The table of faults.
#include <algorithm>

#include "tests/failover/faults/fault.h"

namespace trireme::failover {

const char* AimName(Aim aim) {
  constexpr const char* kNames[] = {"leader of the busiest queue",
                                    "leader of the metadata group",
                                    "follower",
                                    "any node",
                                    "minority",
                                    "majority",
                                    "all nodes"};
  return kNames[static_cast<size_t>(aim)];
}

const std::vector<FaultKind>& FaultKinds() {
  constexpr Needs kNothing{}, kNetwork{.network = true}, kDisk{.small_disks = true}, kOther{.other_broker = true},
      kMachine{.machines = true};
  static const std::vector<FaultKind> kKinds = {
      {"kill", "SIGKILL, and a start later on", kNothing, MakeKill},
      {"power", "SIGKILL to all, and a start of all", kNothing, MakeKill},
      {"stop", "SIGTERM, and a start", kNothing, MakeStop},
      {"upgrade", "SIGTERM, and a start as the other version", kOther, MakeUpgrade},
      {"pause", "SIGSTOP, and SIGCONT later on", kNothing, MakePause},
      {"storm", "SIGKILL and start in turn, without waiting", kNothing, MakeStorm},
      {"consumers-pause", "SIGSTOP to a process of consumers", kNothing, MakeConsumersPause},
      {"isolate", "a node cut off from nodes and clients, silently", kNetwork, MakeIsolate},
      {"cut-peers", "a node cut off from the other nodes; clients still reach it", kNetwork, MakeCutPeers},
      {"deaf", "a node that hears nothing and is heard", kNetwork, MakeDeaf},
      {"mute", "a node that hears everything and is not heard", kNetwork, MakeMute},
      {"split", "two parts that do not hear each other", kNetwork, MakeSplit},
      {"ring", "each node hears its neighbours only", kNetwork, MakeRing},
      {"flapping", "a node cut off and joined again, several times a second", kNetwork, MakeFlapping},
      {"clients-cut", "clients cut off from a node", kNetwork, MakeClientsCut},
      {"clients-away", "some clients cut off from all nodes, in one direction or both", kNetwork, MakeClientsAway},
      {"delay", "packets late", kNetwork, MakeDelay},
      {"loss", "packets lost", kNetwork, MakeLoss},
      {"doubling", "packets doubled", kNetwork, MakeDoubling},
      {"reordering", "packets overtaken by others", kNetwork, MakeReordering},
      {"narrow", "slow wires", kNetwork, MakeNarrow},
      {"withhold", "packets kept back, which arrive all at once", kNetwork, MakeWithhold},
      {"disk-low", "a disk below the limit at which a node refuses to publish", kDisk, MakeDiskLow},
      {"disk-full", "a disk without any room", kDisk, MakeDiskFull},
      {"disk-slow", "a disk whose syncs take long", kMachine, MakeDiskSlow},
      {"disk-stall", "a disk that answers nothing for a while", kMachine, MakeDiskStall},
      {"sync-fails", "a disk that returns errors on sync", kMachine, MakeSyncFails},
      {"write-fails", "a disk that returns errors on write", kMachine, MakeWriteFails},
      {"power-loss", "SIGKILL, and what was not synced is lost from the disk, wholly or in sectors", kMachine,
       MakePowerLoss},
      {"bit-flip", "a bit of a node's files turns while it is down", kNothing, MakeBitFlip},
      {"wipe", "a node comes back with an empty data directory, and with its own later on", kNothing, MakeWipe},
      {"rollback", "a node comes back with an older copy of its data, and with its own later on", kNothing,
       MakeRollback},
      {"clock-step", "a node's wall clock steps, and steps back later on", kMachine, MakeClockStep},
      {"clock-drift", "a node's wall clock runs too fast or too slowly", kMachine, MakeClockDrift},
  };
  return kKinds;
}

const FaultKind* FindFaultKind(std::string_view name) {
  const auto& kinds = FaultKinds();
  const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const FaultKind& kind) { return kind.name == name; });
  return found == kinds.end() ? nullptr : &*found;
}

}  // namespace trireme::failover
