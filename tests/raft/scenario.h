// A small cluster driven by text: each command makes production replicas do something, and all that they do is the
// output. README.md has the commands.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "raft/core/replica.h"
#include "tests/script/scenario_files.h"
#include "tests/script/words.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/stored_log.h"
#include "tests/simulation/suite.h"

namespace trireme::raft {

class Scenario final : public script::Interpreter {
 public:
  std::string Do(const std::string& command) override;
  bool violated() const override { return violated_; }

 private:
  struct PendingWrite {
    simulation::StoredRecord record{};
    bool is_write = false;  // else it only stands for the writes before it
    std::vector<Message> then_send{};
  };
  // What its node knows of the promises between nodes (Safety rule 9).
  struct Promises final : Support {
    bool Gives(ReplicaId leader) const override { return given.contains(leader); }
    bool Gets(ReplicaId follower) const override { return got.contains(follower); }
    std::set<ReplicaId> given{}, got{};
  };
  struct Peer {
    Config config{};
    Promises promises{};
    simulation::StoredLog disk{};
    std::deque<PendingWrite> writes{};
    std::deque<EntryRead> reads{};
    bool disk_held = false, reads_held = false, turns_held = false, installs_held = false, applies_held = false;
    std::deque<Entry> to_apply{};
    std::optional<SnapshotMeta> install{};
    HardState install_hard_state{};
    std::unique_ptr<Replica> replica{};
    std::unique_ptr<simulation::Ledger> machine{};
    // As last seen, to compare with.
    Term term{};
    Index commit{}, all_match{};
    Monotonic clock{};
  };
  using Words = script::Words;

  void Dispatch(const Words& words);
  void New(const Words& words);
  void Log(const Words& words);
  void Join(ReplicaId id);
  void Propose(const Words& words);
  void Members(const Words& words);
  void Promise(const Words& words);
  void Inject(const Words& words);
  void Disk(const Words& words);
  void Deliver(const Words& words);
  void Drop(const Words& words);
  void Settle();
  void Snapshot(Peer& peer, Index index);
  void Install(ReplicaId id, Peer& peer, bool refuse);
  void Status();
  void Start(ReplicaId id);
  void Crash(ReplicaId id);

  void Turn(ReplicaId id);
  void TakeOne(ReplicaId id, Peer& peer);
  void SyncOne(ReplicaId id, Peer& peer);
  void Apply(ReplicaId id, Peer& peer);
  void AnswerRead(Peer& peer, bool fail);
  void Post(const std::vector<Message>& messages, const char* when);
  void CheckInvariants();
  Peer& PeerOf(ReplicaId id);
  ReplicaId IdOf(const std::string& word) const;
  void Violated(const std::string& what);

  std::map<ReplicaId, Peer> peers_;
  // The bytes of snapshots, which travel beside their headers.
  std::map<Index, Bytes> snapshots_;
  std::vector<Message> network_;
  std::vector<std::pair<ReplicaId, ReplicaId>> cuts_;
  std::unique_ptr<simulation::Suite> suite_;
  std::ostringstream out_;
  bool violated_ = false;
};

}  // namespace trireme::raft
