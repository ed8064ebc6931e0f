// The host's inside. turn.cc is the work of a turn, upkeep.cc what is done now and then, host.cc the rest.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "raft/host/host.h"
#include "raft/host/hosted_group.h"
#include "raft/host/quorum_clock.h"
#include "raft/host/rate_limit.h"

namespace trireme::raft {

// On its shard's thread only.
//
// Whatever happens to a group marks it dirty. At the end of the turn every dirty group's output is taken, until there
// is none: one write for all of them, one frame for each node, applies, reads. So a turn's proposals, and those that
// applying brings about, share one append.
class HostCore {
 public:
  HostCore(HostOptions options, Shard* shard, LogStore* store, Transport* transport);
  ~HostCore();

  using GroupPtr = std::shared_ptr<HostedGroup>;

  // ---- host.cc
  absl::StatusOr<Group*> Add(const GroupSpec& spec, std::unique_ptr<StateMachine> machine,
                             std::optional<StoredGroup> stored);
  void Remove(GroupId group);
  HostedGroup* Find(GroupId group);
  std::optional<int64_t> WallOffsetMs(const std::vector<NodeId>& nodes) const;
  Host::Figures figures() const;

  void MarkDirty(HostedGroup* group);
  void CountProposal() { ++proposals_; }
  void ReadEntries(HostedGroup* group, Index first, Index last, size_t max_bytes, LogStore::ReadDone done);

 private:
  // One submission to the store and what waits for it.
  struct Batch {
    struct Handed {
      GroupPtr group;
      // Of the entries of one Output; once per Output that had anything to persist.
      Index last;
      Term term;
    };
    struct After {
      GroupPtr group;
      Message message;
    };
    uint64_t number = 0;
    std::vector<LogWrite> writes;
    std::vector<Handed> handed;
    std::vector<After> after;
    bool durable = false;
  };

  // ---- host.cc
  void Receive(NodeId from, Frame frame);
  void PeerChanged(NodeId node, bool up);
  void Born(HostedGroup* group);
  GroupPtr Shared(HostedGroup* group);
  // What the store may call back with, on a thread of its own: runs `then` on the shard, with the group and what the
  // store said, unless the group is gone by then. Does not keep the group.
  template <typename F>
  auto OnShard(const GroupPtr& group, F then) {
    return [shard = shard_, weak = std::weak_ptr<HostedGroup>(group), then = std::move(then)](auto... said) mutable {
      shard->Post([weak = std::move(weak), then = std::move(then), ... said = std::move(said)]() mutable {
        GroupPtr kept = weak.lock();
        if (kept != nullptr && !kept->gone) then(kept.get(), std::move(said)...);
      });
    };
  }

  // ---- turn.cc
  void WantTurn();
  void Turn();
  void Process(const GroupPtr& group);
  void TakeRole(HostedGroup* group, const RoleChange& change);
  void AddWrite(const GroupPtr& group, Output* output);
  void SendAfterPersist(const GroupPtr& group, Message message);
  void Queue(const HostedGroup& group, Message message);
  void Apply(HostedGroup* group, const std::vector<Entry>& entries);
  void StartRead(const GroupPtr& group, const EntryRead& read);
  void ReadDone(HostedGroup* group, const EntryRead& read, absl::StatusOr<std::vector<Entry>> entries);
  void AnswerReads(HostedGroup* group, const std::vector<ReadReady>& ready);
  void FireBarriers(HostedGroup* group);
  void Submit();
  void BatchDurable(uint64_t number);
  void SendFrames();
  void Halt(HostedGroup* group, absl::Status why);
  void FailBarriers(HostedGroup* group, const absl::Status& why);

  // ---- upkeep.cc
  void Tick();
  void CheckClocks();
  // Whether this node's clock allows it to lead this group (Safety rule 7).
  bool ClockAllows(HostedGroup* group);
  void MaybeSnapshot(const GroupPtr& group);
  void Compact(HostedGroup* group);
  void CountTail(HostedGroup* group);
  void TrimTails();

  const HostOptions options_;
  Shard* const shard_;
  LogStore* const store_;
  Transport* const transport_;
  // What comes back after this object's end finds it expired.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  // Ordered, so that a simulated run is the same each time.
  absl::btree_map<GroupId, GroupPtr> groups_;
  std::vector<GroupPtr> dirty_;
  std::vector<GroupPtr> touched_;
  std::vector<GroupPtr> applied_;
  std::vector<GroupPtr> graveyard_;  // removed, perhaps from within a call of their own; destroyed at the turn's end
  bool in_turn_ = false;
  bool turn_wanted_ = false;

  std::optional<Batch> gathering_;
  std::deque<Batch> under_way_;  // numbers are consecutive
  uint64_t last_batch_ = 0;
  std::map<NodeId, Frame> outgoing_;

  QuorumClock clock_;
  uint64_t ticks_ = 0;
  size_t tail_bytes_ = 0;
  size_t trim_above_;
  uint64_t proposals_ = 0, elections_ = 0, frames_in_ = 0, frames_out_ = 0, dropped_ = 0;
  RateLimit stranger_log_, check_log_, clock_log_, read_log_;
};

struct Host::Impl {
  HostCore core;
};

}  // namespace trireme::raft
