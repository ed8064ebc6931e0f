// What can be done to a cluster: the kinds of faults, and what each needs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "tests/failover/cluster/cluster.h"
#include "tests/failover/network/switch.h"
#include "tests/failover/workload/workload.h"

namespace trireme::failover {

// Whom a fault is aimed at. Found through the public API, at the moment.
enum class Aim : uint8_t {
  kBusyLeader,      // the node that leads the busiest queue
  kMetadataLeader,  // the node that leads the metadata group
  kFollower,        // one that leads neither
  kAnyone,
  kMinority,  // as many as may fail
  kMajority,
  kAll,
};
const char* AimName(Aim aim);

// What a fault works on.
struct World {
  Cluster& cluster;
  Workload& workload;
  // Null on loopback. Nodes' hosts come first, by number, then the harness's own, then the clients'.
  Switch* network;
  std::mt19937_64& chance;

  size_t HostOf(int node) const { return static_cast<size_t>(node - 1); }
  size_t HostOfClient(int client) const { return static_cast<size_t>(cluster.size() + 1 + client); }
  uint64_t Draw(uint64_t from, uint64_t to) { return std::uniform_int_distribution<uint64_t>(from, to)(chance); }
  double DrawShare(double from, double to) { return std::uniform_real_distribution<>(from, to)(chance); }
};

// One fault while it lasts. Begin, then Tick every few milliseconds, then End, which undoes all of it, also when Begin
// did not get to its end.
class Fault {
 public:
  virtual ~Fault() = default;
  virtual absl::Status Begin(World& world) = 0;
  virtual absl::Status Tick(World&) { return absl::OkStatus(); }
  virtual absl::Status End(World& world) = 0;
  // For people; what Begin has drawn is in it.
  virtual std::string Describe() const = 0;
};

// What a machine or a cluster has to have for a fault.
struct Needs {
  bool network = false;
  // Each node's data on a file system of its own, of limited size.
  bool small_disks = false;
  bool other_broker = false;
  // The nodes' clocks and disks in our hands.
  bool machines = false;
};

struct FaultKind {
  std::string_view name;
  std::string_view what;
  Needs needs;
  // Nodes: one for most kinds, several where the aim says so; all of them where the kind is not aimed.
  std::unique_ptr<Fault> (*make)(const std::vector<int>& nodes);
};
const std::vector<FaultKind>& FaultKinds();
// Null: no such kind.
const FaultKind* FindFaultKind(std::string_view name);

std::unique_ptr<Fault> MakeKill(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeStop(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakePause(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeStorm(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeUpgrade(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeConsumersPause(const std::vector<int>& nodes);

std::unique_ptr<Fault> MakeIsolate(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeCutPeers(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeDeaf(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeMute(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeSplit(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeRing(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeFlapping(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeClientsCut(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeClientsAway(const std::vector<int>& nodes);

std::unique_ptr<Fault> MakeDelay(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeLoss(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeDoubling(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeReordering(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeNarrow(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeWithhold(const std::vector<int>& nodes);

std::unique_ptr<Fault> MakeDiskLow(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeDiskFull(const std::vector<int>& nodes);

std::unique_ptr<Fault> MakeDiskSlow(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeDiskStall(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeSyncFails(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeWriteFails(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakePowerLoss(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeBitFlip(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeWipe(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeRollback(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeClockStep(const std::vector<int>& nodes);
std::unique_ptr<Fault> MakeClockDrift(const std::vector<int>& nodes);

}  // namespace trireme::failover
