// One simulated node: the production Replica, and a host around it that is as unhelpful as a host may be.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "raft/core/replica.h"
#include "raft/host/state_machine.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/network.h"
#include "tests/simulation/plant.h"
#include "tests/simulation/stored_log.h"
#include "tests/simulation/suite.h"
#include "tests/simulation/trace.h"
#include "tests/simulation/upkeep.h"

namespace trireme::simulation {

// A message, and the bytes that travel beside it if it is the header of a snapshot; or a node's heartbeat instead.
struct Packet {
  raft::Message message{};
  raft::Bytes snapshot{};
  uint64_t incarnation = 0;  // the sender's
  std::optional<raft::NodeHeartbeat> heartbeat{};
};
using MessageNetwork = Network<raft::ReplicaId, Packet>;
using LogDisk = Disk<StoredLog, StoredRecord>;

// What a node lives in. All outlive it.
struct Surroundings {
  Clock* clock;
  Chance* chance;
  MessageNetwork* network;
  Suite* suite;
  Trace* trace;
  Plant plant = Plant::kNone;
};

struct NodeOptions {
  raft::Config config{};
  Micros tick = 10'000;
  int64_t clock_fast_ppm = 0;      // how much faster than true time this node's clocks go
  bool keeps_for_laggards = true;  // else entries go once a snapshot has them, even if a follower lacks them
  Micros turn_delay = 100;         // at most, between an input and the turn that takes it in
  uint64_t snapshot_entries = 50;
  bool supports = false;  // liveness is between nodes, so that groups go quiet
  bool queues = false;    // with it: Upkeep::Options
  // Makes the state machine, and tells its state's digest.
  std::function<std::unique_ptr<raft::StateMachine>()> make_machine{};
  std::function<uint64_t(const raft::StateMachine&)> digest{};
};

class Node {
 public:
  Node(NodeOptions options, const Surroundings& around);

  void Start();
  // Power off: what is in memory is gone, and what the disk had not synced, or part of it.
  void Crash();
  // Neither takes in nor sends anything until it is resumed; what arrives waits.
  void Pause();
  void Resume();

  // Called when a failed write has ended the process.
  std::function<void()> on_failure;

  void Receive(raft::ReplicaId from, Packet packet);
  // The connection to that node closed, or opened.
  void ConnectionChanged(raft::ReplicaId peer, bool open);
  // Runs in the node's next turn, unless it crashes first.
  void Post(std::function<void(raft::Replica&)> input);
  // A read that is served by the leader's lease, if it holds.
  void LeaseRead(uint64_t context);

  raft::ReplicaId id() const { return options_.config.id; }
  bool up() const { return replica_ != nullptr; }
  bool paused() const { return paused_; }
  // Null when it is down.
  raft::Replica* replica() { return replica_.get(); }
  // Null without `supports`, and when it is down.
  const Upkeep* upkeep() const { return upkeep_.get(); }
  uint64_t sleeps() const { return sleeps_ + (upkeep_ ? upkeep_->sleeps() : 0); }
  const raft::StateMachine* machine() const { return machine_.get(); }
  LogDisk& disk() { return disk_; }
  uint64_t installed() const { return installed_; }
  uint64_t lease_reads() const { return lease_reads_; }
  uint64_t digest() const { return options_.digest(*machine_); }

 private:
  using Input = std::function<void(raft::Replica&)>;
  void Enqueue(Input input);
  void StartUpkeep(raft::Config* config);
  void SendHeartbeats();
  void ScheduleTick();
  void ScheduleTurn();
  void Turn();
  void Handle(raft::Output output);
  void Write(raft::Output& output);
  void Send(std::vector<raft::Message>& messages);
  void Read(const raft::EntryRead& read);
  void SendSnapshot(const raft::SnapshotNeeded& needed);
  void Install(const raft::SnapshotMeta& snapshot, const raft::HardState& hard_state);
  void Installed(const StoredSnapshot& snapshot);
  // What this node's monotonic clock says now.
  raft::Monotonic Monotonic() const;
  void ApplySome();
  void MaybeSnapshot();

  const NodeOptions options_;
  const Surroundings around_;
  LogDisk disk_;
  uint64_t life_ = 0;  // counts starts and crashes: what belongs to an earlier one is void
  bool paused_ = false;
  bool turn_scheduled_ = false;
  std::unique_ptr<Upkeep> upkeep_;
  std::map<raft::NodeId, raft::NodeMemory> announced_;
  std::unique_ptr<raft::Replica> replica_;
  std::unique_ptr<raft::StateMachine> machine_;
  std::vector<Input> inbox_;
  std::deque<raft::Entry> to_apply_;
  raft::Index snapshot_asked_;
  bool snapshot_under_way_ = false;
  bool installing_ = false;
  raft::Monotonic last_tick_{};
  std::map<raft::Index, raft::Bytes> staged_;  // snapshots that have arrived
  // One that is durable, which the replica has not been told of yet.
  std::optional<StoredSnapshot> on_disk_;
  uint64_t installed_ = 0, lease_reads_ = 0, sleeps_ = 0;
};

}  // namespace trireme::simulation
