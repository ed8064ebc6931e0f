// The temporary queues of one shard: made, limited, and gone with whoever used them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/cluster/metadata.h"
#include "broker/replica/queue_replica.h"
#include "broker/temporary/memory_group.h"
#include "broker/temporary/name.h"
#include "raft/host/shard.h"

namespace trireme::broker {

// Each is a queue's production replica over a group of one in memory. On the shard's thread only.
//
// A queue ends when it has had a consumer and has none left (a session that was closed goes at once, one whose stream
// broke after its timeout), when nothing was done with it for its idle timeout, when it is deleted, and with this
// process (Safety rule 24).
class TemporaryQueues {
 public:
  // Of one shard.
  struct Limits {
    size_t queues = 50'000;
    size_t queues_per_client = 20'000;
    // Of all queues together, beside their own max_bytes.
    size_t bytes = size_t{256} << 20;
    size_t max_message_bytes = 3'670'016;
  };
  // Where and when this process is.
  struct Place {
    raft::NodeId node;
    uint64_t incarnation = 0;
    size_t shards = 1;
  };
  // Told of each replica, for whoever finds replicas by their group.
  struct Hooks {
    std::function<void(raft::GroupId, QueueReplica*)> added;
    std::function<void(raft::GroupId)> removed;
  };
  struct Wish {
    // Zeros are filled in, except for what Defaults leaves.
    trireme::v1::TemporarySettings settings = {};
    // Whose share it is counted in; a connection, in general.
    std::string client = {};
    // Its only consumer, if that is known; unless it is shared.
    queue::SessionId session = {};
    // Whoever wanted it is gone. Asked from time to time; null = never.
    std::function<bool()> abandoned = {};
  };
  // `bytes`: their entries'.
  struct Figures {
    uint64_t queues = 0, created = 0, bytes = 0;
  };

  static constexpr std::chrono::milliseconds kMinIdle{1'000}, kMaxIdle{3'600'000}, kDefaultIdle{300'000};
  static constexpr uint32_t kMaxMessages = 100'000, kDefaultMessages = 10'000;
  static constexpr uint64_t kMinBytes = uint64_t{64} << 10, kMaxBytes = uint64_t{64} << 20,
                            kDefaultBytes = uint64_t{16} << 20;

  TemporaryQueues(raft::Shard* shard, Limits limits, Hooks hooks);
  ~TemporaryQueues();

  // INVALID_ARGUMENT: a setting. RESOURCE_EXHAUSTED: this client, or this node, has as many as it may.
  absl::StatusOr<QueuePtr> Create(const Place& place, Wish wish);
  // A queue whose name says that it is at this node. NOT_FOUND: it is gone, or was another process's.
  absl::StatusOr<QueuePtr> Find(const Place& here, const TemporaryName& name) const;

  // Before messages are given to `session`, or (empty) to a Receive. OK for what is no temporary queue.
  // FAILED_PRECONDITION: the queue is another session's alone.
  absl::Status Admit(raft::GroupId group, const queue::SessionId& session);
  // Somebody waits at it for so long: it is not idle meanwhile.
  void Use(raft::GroupId group, std::chrono::milliseconds time);

  // At the end of this turn, so from within its own calls, too. Who uses it is told that the queue was deleted.
  void RemoveSoon(raft::GroupId group);
  // All, now; not from within a queue's call.
  void Clear();
  Figures figures() const { return {queues_.size(), created_, bytes_}; }

 private:
  struct Queue;
  using QueueAt = absl::flat_hash_map<raft::GroupId, std::unique_ptr<Queue>>;

  absl::Status Room(Queue& queue, const raft::Bytes& batch);
  void Applied(Queue& queue);
  void Remove(raft::GroupId group);
  void SweepLater();
  void Sweep();

  raft::Shard* const shard_;
  const Limits limits_;
  const Hooks hooks_;
  QueueAt queues_;
  absl::flat_hash_map<std::string, size_t> by_client_;
  uint64_t last_number_ = 0;
  uint64_t created_ = 0;
  size_t bytes_ = 0;
  bool sweep_due_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
