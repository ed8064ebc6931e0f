// Snapshots on their way from leaders on this shard to followers whose log ends before what is left of the leader's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "raft/host/hosted_group.h"
#include "raft/host/rate_limit.h"
#include "raft/host/snapshot_message.h"

namespace trireme::raft {

// One chunk is under way per snapshot. The follower's answer says where to go on, so a lost chunk, a broken connection
// or a follower that starts again cost the chunk, or what the follower has lost, and nothing else.
//
// A snapshot is taken of the machine as it is when the sending starts; the entries that are alive at or below it are
// read as it proceeds. One that dies meanwhile need not arrive: the log behind the snapshot says that it is dead, and
// whoever reads bodies has applied that. So it is with the index rows: what has changed of them meanwhile the log
// behind the snapshot changes once more, and comes to the same.
//
// On its host's shard only.
class SnapshotSends {
 public:
  struct Options {
    size_t chunk_bytes = size_t{1} << 20;
    size_t bytes_per_tick = size_t{4} << 20;  // of all of them together
    size_t at_once = 16;                      // the others wait
    int resend_ticks = 10;                    // without an answer; doubled each time, up to 16 times that
    int patience_ticks = 400;                 // that a chunk is under way: given up
    // That the follower's node is not there: given up. Once a part has arrived the rest is worth waiting for, as the
    // next one would be another, from its beginning.
    int away_ticks = 100;
    int away_ticks_begun = 1200;
    // After one that failed, before the next to the same replica; doubled each time, up to 64 times that.
    int pause_ticks = 20;
  };
  using Send = std::function<void(NodeId, SnapshotChunk)>;
  // Its replica has something to put out.
  using Changed = std::function<void(HostedGroup*)>;
  // Whether a node is there at all.
  using Alive = std::function<bool(NodeId)>;
  // What it should send of the group is damaged here.
  using Damaged = std::function<void(HostedGroup*)>;

  SnapshotSends(Options options, Send send, Changed changed, Alive alive, Damaged damaged)
      : options_(options),
        send_(std::move(send)),
        changed_(std::move(changed)),
        alive_(std::move(alive)),
        damaged_(std::move(damaged)) {}

  // The core asked for one. It is told what became of it, but for Drop.
  void Start(const std::shared_ptr<HostedGroup>& group, ReplicaId follower);
  void Answered(const SnapshotAnswer& answer);
  void Tick(MonotonicTime now);
  // The group is gone from here, or does not lead any more.
  void Drop(GroupId group);

  // Entries above it are needed behind a snapshot that is under way, or was, until the replica has caught up with the
  // leader's last one. Nothing if there is none.
  std::optional<Index> NeededAbove(GroupId group) const;
  size_t under_way() const { return sends_.size(); }
  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  using Key = std::pair<GroupId, ReplicaId>;
  struct Snapshot {
    uint64_t serial = 0;  // tells it from an earlier one of the same key
    std::weak_ptr<HostedGroup> group;
    bool begun = false;
    Message header;
    Bytes state;
    uint32_t checksum = 0;
    // What was alive when it was last looked at; dead ones among it are found when they are read.
    std::vector<IndexRange> live;
    SnapshotPosition at;
    SnapshotChunk chunk;                           // being gathered, or under way
    std::pair<std::string, uint64_t> behind_rows;  // how the answer should say that its rows were taken in
    uint64_t first_number = 0;                     // of its first sending
    size_t gathered = 0;                           // bytes of it
    bool full = false;                             // though there is room left: the next entry is too large for it
    bool rows_read = false;                        // for this chunk
    bool reading = false;
    bool asking = false;  // within ReadEntries or ScanRows
    bool flying = false;
    int silent_ticks = 0;  // since the chunk left last; how long it is under way in all
    int stuck_ticks = 0;
    int resend_ticks = 0;
    int away_ticks = 0;  // that its node is not there
    int failed_reads = 0;
  };
  // A replica that has a snapshot, and perhaps not the log behind it yet.
  struct CatchingUp {
    std::weak_ptr<HostedGroup> group;
    Index has;
    int stuck_ticks = 0;
  };
  struct Pause {
    uint64_t until_tick = 0;
    int ticks = 0;
  };

  void Begin(const Key& key, Snapshot& snapshot);
  // Gathers the next chunk, and sends it when it is full.
  void GoOn(const Key& key, uint64_t serial);
  // Asks for the next live entries; false when the chunk is full, or there are none.
  bool Gather(const Key& key, Snapshot& snapshot);
  void EntriesRead(const Key& key, uint64_t serial, absl::StatusOr<std::vector<Entry>> entries);
  // Asks for the next index rows, once there are no more entries; false when that was done for this chunk.
  bool GatherRows(const Key& key, Snapshot& snapshot);
  void RowsRead(const Key& key, uint64_t serial, absl::StatusOr<RowPage> page);
  // What it needs cannot be read: whether it goes on trying.
  bool ReadFailed(const Key& key, Snapshot& snapshot, HostedGroup* group, const absl::Status& status);
  void SendChunk(const Key& key, Snapshot& snapshot);
  void Finish(Key key, bool arrived);
  // How the chunk's answer should say that it was taken in.
  static SnapshotPosition Behind(const Snapshot& snapshot);
  bool Reachable(const Key& key, const HostedGroup& group) const;
  void KeepLogs();
  static void LookAtLive(const HostedGroup& group, Snapshot& snapshot);

  const Options options_;
  const Send send_;
  const Changed changed_;
  const Alive alive_;
  const Damaged damaged_;
  std::map<Key, Snapshot> sends_;
  std::map<Key, CatchingUp> catching_up_;
  std::map<Key, Pause> pauses_;
  Key served_;  // the last that this tick's budget was spent on: the next tick begins behind it
  uint64_t ticks_ = 0;
  size_t begun_ = 0;
  uint64_t serial_ = 0;
  uint64_t number_ = 0;
  int64_t budget_ = 0;  // may be overdrawn by a chunk
  uint64_t bytes_sent_ = 0;
  MonotonicTime now_;
  RateLimit log_;
};

}  // namespace trireme::raft
