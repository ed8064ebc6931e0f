// Snapshots that arrive for replicas on this shard, until they are installed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "raft/host/hosted_group.h"
#include "raft/host/rate_limit.h"
#include "raft/host/snapshot_message.h"
#include "raft/host/snapshot_staging.h"

namespace trireme::raft {

// Entries and index rows are staged in the store as they come; the state, which is small (Safety rule 1), is gathered
// here. When all of it is there the replica is told, and says when it is to be installed.
//
// On its host's shard only.
class SnapshotReceipts {
 public:
  struct Options {
    size_t state_bytes_max = size_t{1} << 30;
    size_t at_once = 32;        // of all groups; others have to wait
    int patience_ticks = 1400;  // without a chunk, longer than its sender waits: what was staged is given up
  };
  using Send = std::function<void(NodeId, SnapshotAnswer)>;
  using Changed = std::function<void(HostedGroup*)>;

  // `staging` and `shard` outlive it.
  SnapshotReceipts(Options options, Shard* shard, SnapshotStaging* staging, Send send, Changed changed)
      : options_(options), shard_(shard), staging_(staging), send_(std::move(send)), changed_(std::move(changed)) {}

  // From a node that its sender may speak for, for this group's replica.
  void Arrived(const std::shared_ptr<HostedGroup>& group, NodeId from, SnapshotChunk chunk);

  // The state of the snapshot that is wholly here and is to be installed; null if it is not. Nothing else is taken in
  // for the group until Installed.
  const Bytes* BeginInstall(GroupId group, const SnapshotMeta& snapshot);
  void Installed(GroupId group);

  void Tick();
  // The group is gone from here. The store forgets by itself what it staged for one that is deleted.
  void Forget(GroupId group) { receipts_.erase(group); }
  size_t under_way() const { return receipts_.size(); }

 private:
  struct Receipt {
    uint64_t serial = 0;
    Message header;
    NodeId from;
    SnapshotPosition at;
    uint64_t number = 0;  // of the last chunk
    std::string gathered;
    Bytes state;  // once it is whole
    bool staging = false;
    bool whole = false;
    bool installing = false;
    int idle_ticks = 0;
  };

  // The chunk's receipt, begun if it is the first one; null if there can be none now.
  Receipt* ReceiptOf(const SnapshotChunk& chunk);
  // The chunk's entries, or its rows; the answer follows.
  void Stage(SnapshotChunk& chunk, std::vector<IndexRow> rows, Receipt& receipt);
  // For the store to say when more may come: what was staged ends at `then`.
  SnapshotStaging::Done Staged(GroupId group, Receipt& receipt, SnapshotPosition then);
  void TakeState(HostedGroup* group, Receipt& receipt, const SnapshotChunk& chunk);
  // It is all here: the replica decides what becomes of it.
  void Tell(HostedGroup* group, const Receipt& receipt);
  void Answer(GroupId group, const Receipt& receipt, SnapshotAnswer::Result result);
  // Whether they are ascending, in their place and undamaged (Safety rule 17).
  absl::Status Check(const HostedGroup& group, const SnapshotChunk& chunk) const;

  const Options options_;
  Shard* const shard_;
  SnapshotStaging* const staging_;
  const Send send_;
  const Changed changed_;
  std::map<GroupId, Receipt> receipts_;
  uint64_t serial_ = 0;
  RateLimit log_;
  // What comes back from the store after this object's end finds it expired.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::raft
