// Who leads a queue now.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/cluster/metadata_view.h"
#include "raft/host/host.h"
#include "raft/host/shard.h"
#include "trireme/v1/broker.pb.h"

namespace trireme::broker {

// Of an UNAVAILABLE of Leaders::Find: this node has missed a majority of the queue's for a while, so that it is no use
// to ask it again; the asker may reach others.
bool SaysCutOff(const absl::Status& status);

// Asks one node who leads a queue: Broker.Resolve there, answered on the shard that asks.
class LeaderAsker {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<trireme::v1::Leader>)>;
  virtual ~LeaderAsker() = default;
  virtual void Resolve(const std::string& address, const std::string& queue, std::chrono::milliseconds timeout,
                       Done done) = 0;
};

// One per shard, for the groups of that shard and on its thread only. Where this node has a replica, that replica says;
// elsewhere the nodes that have one are asked, and the answer is kept until it proves wrong.
class Leaders {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<trireme::v1::Leader>)>;

  // `find` gives this node's replica of a group, or null. All outlive this object.
  Leaders(raft::NodeId self, raft::Shard* shard, const MetadataView* view,
          std::function<raft::Group*(raft::GroupId)> find, LeaderAsker* asker);
  ~Leaders();

  // What is known without asking: node_id 0 while no leader is.
  trireme::v1::Leader Known(const QueueInfo& queue) const;
  // Waits out an election: UNAVAILABLE only when no leader was found until the deadline, or when this node is cut off
  // (SaysCutOff).
  void Find(QueuePtr queue, raft::MonotonicTime deadline, Done done);
  // The node answered that it does not lead, or could not be reached: forgets what was kept, if it names that node.
  void Wrong(raft::GroupId group, raft::NodeId node);
  // The queue is gone.
  void Forget(raft::GroupId group);

 private:
  // One per group, however many wait for its leader.
  struct Search {
    QueuePtr queue;
    std::vector<std::pair<raft::MonotonicTime, Done>> waiting;
    size_t next = 0;  // of the queue's replicas, to be asked
    std::string last = "no replica has answered";
  };

  void Look(raft::GroupId group);
  void Ask(raft::GroupId group, Search& search);
  void End(raft::GroupId group, const absl::StatusOr<trireme::v1::Leader>& result);
  void LookLater(raft::GroupId group, std::chrono::milliseconds delay);

  const raft::NodeId self_;
  raft::Shard* const shard_;
  const MetadataView* const view_;
  const std::function<raft::Group*(raft::GroupId)> find_;
  LeaderAsker* const asker_;
  absl::flat_hash_map<raft::GroupId, trireme::v1::Leader> kept_;
  absl::flat_hash_map<raft::GroupId, std::unique_ptr<Search>> searches_;
  // Answers and timers that come after this object's end find it gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
