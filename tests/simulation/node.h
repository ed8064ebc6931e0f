// One simulated node: the production Replica, and a host around it that is as unhelpful as a host may be.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "raft/core/replica.h"
#include "raft/host/state_machine.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/network.h"
#include "tests/simulation/stored_log.h"
#include "tests/simulation/suite.h"
#include "tests/simulation/trace.h"

namespace trireme::simulation {

using MessageNetwork = Network<raft::ReplicaId, raft::Message>;
using LogDisk = Disk<StoredLog, StoredRecord>;

// Bugs that a host or a machine could have, planted to see that a checker notices.
enum class Plant : uint8_t {
  kNone,
  kForgetsVotes,        // starts without the term and vote that it had stored
  kSendsBeforeSync,     // does not wait for the disk with what must wait for it
  kLyingDisk,           // the disk says "durable" of what is not
  kVotesForAnyone,      // does not look at the candidate's log
  kRewritesAsLeader,    // writes its last entry again, over itself, while it leads
  kCorruptsEntries,     // an entry's body changes on its way
  kAppliesTwice,        // the machine takes an entry in twice now and then
  kServesReadsAtOnce,   // answers a read with its own commit index, without asking anyone
  kOverstatesAllMatch,  // tells followers that all have what they may lack
};

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
  Micros turn_delay = 100;  // at most, between an input and the turn that takes it in
  uint64_t snapshot_entries = 50;
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

  void Receive(raft::Message message);
  // Runs in the node's next turn, unless it crashes first.
  void Post(std::function<void(raft::Replica&)> input);

  raft::ReplicaId id() const { return options_.config.id; }
  bool up() const { return replica_ != nullptr; }
  bool paused() const { return paused_; }
  // Null when it is down.
  raft::Replica* replica() { return replica_.get(); }
  const raft::StateMachine* machine() const { return machine_.get(); }
  LogDisk& disk() { return disk_; }

 private:
  void ScheduleTick();
  void ScheduleTurn();
  void Turn();
  void Handle(raft::Output output);
  void Write(raft::Output& output);
  void Send(std::vector<raft::Message>& messages);
  void Read(const raft::EntryRead& read);
  void ApplySome();
  void MaybeSnapshot();

  const NodeOptions options_;
  const Surroundings around_;
  LogDisk disk_;
  uint64_t life_ = 0;  // counts starts and crashes: what belongs to an earlier one is void
  bool paused_ = false;
  bool turn_scheduled_ = false;
  std::unique_ptr<raft::Replica> replica_;
  std::unique_ptr<raft::StateMachine> machine_;
  std::vector<std::function<void(raft::Replica&)>> inbox_;
  std::deque<raft::Entry> to_apply_;
  raft::Index snapshot_asked_;
  bool snapshot_under_way_ = false;
};

}  // namespace trireme::simulation
