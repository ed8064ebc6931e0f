// The metadata group's state: the nodes, the queues with the replicas that they should have, and how messages are
// routed to them. What is here is what should be; the reconciler makes it so.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "broker/cluster/exchange_state.h"
#include "raft/host/host.h"
#include "raft/host/state_machine.h"
#include "trireme/meta/v1/meta.pb.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {

// The group whose state is the cluster itself. Queues' groups count from 2.
inline constexpr raft::GroupId kMetadataGroup{1};

struct NodeRecord {
  raft::NodeId id;
  std::string address;       // host:port
  std::string directory_id;  // 16 bytes; empty until the node has joined
  raft::ReplicaId metadata_replica;
  raft::NodeId replaces = {};  // the lost node in whose place it came, if it did

  friend bool operator==(const NodeRecord&, const NodeRecord&) = default;
};

// Immutable once published; any thread may hold one.
struct QueueInfo {
  std::string name;
  raft::GroupId group;
  // As created, with the number of replicas filled in.
  trireme::v1::QueueSettings settings;
  // Those that there should be, the preferred leader first.
  std::vector<raft::Member> replicas;
  // Those that should go, and are members as far as the group's leader has said.
  std::vector<raft::Member> leaving = {};
  // Replicas with a higher id came after the group's birth; 0: none did.
  raft::ReplicaId last_born = {};
  // The group's members are not known to be `replicas`.
  bool changing = false;
  int64_t created_at_ms = 0;

  // This node's replica that there should be, or 0.
  raft::ReplicaId ReplicaOn(raft::NodeId node) const;
  // Whether there should be that replica, or it should go and is a member still.
  bool Lists(raft::ReplicaId replica) const;
  // All of those.
  std::vector<raft::Member> Listed() const;
  // How that replica is to be started, if nothing is stored of it.
  raft::GroupSpec SpecOf(raft::ReplicaId replica) const;
};
using QueuePtr = std::shared_ptr<const QueueInfo>;
using QueuesByName = absl::btree_map<std::string, QueuePtr, std::less<>>;

// What became of one command. All that a proposer needs to answer its client.
struct MetadataOutcome {
  enum class Kind : uint8_t {
    kDone,            // done as asked
    kAlreadySo,       // nothing to do: what was to be made exists, the node had joined so, the cluster is born
    kNoSuchQueue,     // no queue of that name, or it is of another group
    kNoSuchExchange,  // the same of exchanges: the one named, its alternate, or the one that a binding leads to
    kNoSuchBinding,
    kNoSuchNode,      // the address is not a member's, or a replica was asked for on an unknown node
    kOtherDirectory,  // the node at that address joined from another directory
    kNotBorn,         // the cluster has no members yet
    kInUse,           // an exchange is another's alternate (`exchange`), or has bindings and was to have none; or an
                      // address is another node's
    kNoSuchReplica,
    kTooMany,  // exchanges or bindings
    kInvalid,  // the command contradicts itself (no replicas, one node twice, a bad name)
  };
  Kind kind = Kind::kDone;
  // The queue or exchange created, found or deleted.
  QueuePtr queue = nullptr;
  ExchangePtr exchange = nullptr;
  // Created, or deleted by what was asked for; those that went with a queue or an exchange among them.
  std::vector<BindingPtr> bindings = {};
  // Of a replacement: the node, or replica, that comes; and all queues whose replicas changed.
  raft::NodeId node = {};
  raft::ReplicaId replica = {};
  std::vector<QueuePtr> queues = {};
};

// The state as a pure value: no clock, no randomness, no hash-map order (Safety rule 3). Commands are conditional on
// the state that they meet (Safety rule 2).
class MetadataState {
 public:
  MetadataOutcome Apply(const trireme::meta::v1::Command& command);

  // The same state gives the same bytes, on every machine. Framed and checksummed as commands are.
  std::string Snapshot() const;
  absl::Status Restore(std::string_view snapshot);

  bool born() const { return !cluster_id_.empty(); }
  const std::string& cluster_id() const { return cluster_id_; }
  const std::vector<NodeRecord>& nodes() const { return nodes_; }  // ascending by id
  const NodeRecord* FindNode(raft::NodeId id) const;
  const NodeRecord* FindAddress(std::string_view address) const;
  const QueuesByName& queues() const { return queues_; }
  QueuePtr FindQueue(std::string_view name) const;
  QueuePtr FindGroup(raft::GroupId group) const;
  const ExchangeState& routing() const { return routing_; }
  raft::GroupId next_group() const { return raft::GroupId(next_group_); }
  // Replica ids below it have been given. One that was given and that nothing lists is removed for good (Safety rule
  // 11).
  raft::ReplicaId next_replica() const { return raft::ReplicaId(next_replica_); }
  bool ReplicaRemoved(raft::ReplicaId replica) const;
  // What the queues put on a node.
  struct Load {
    uint64_t replicas = 0;
    uint64_t leads = 0;  // of these, those that are to lead
  };
  Load LoadOf(raft::NodeId node) const;

 private:
  MetadataOutcome ApplyBorn(const trireme::meta::v1::ClusterBorn& born);
  MetadataOutcome ApplyJoined(const trireme::meta::v1::NodeJoined& joined);
  MetadataOutcome ApplyCreated(const trireme::meta::v1::QueueCreated& created);
  MetadataOutcome ApplyDeleted(const trireme::meta::v1::QueueDeleted& deleted);
  MetadataOutcome ApplyNodeReplaced(const trireme::meta::v1::NodeReplaced& replaced);
  MetadataOutcome ApplyReplicaReplaced(const trireme::meta::v1::ReplicaReplaced& replaced);
  MetadataOutcome ApplyMembersChanged(const trireme::meta::v1::MembersChanged& changed);
  // The queue with another replica, on that node, in the place of that one.
  QueuePtr WithReplaced(const QueueInfo& queue, raft::ReplicaId replica, raft::NodeId node);
  template <typename RoutingCommand, typename... Lookup>
  MetadataOutcome ApplyRouting(const RoutingCommand& command, Lookup... lookup);
  void Insert(QueuePtr queue);
  // In the place of the one of that group.
  void Exchange(QueuePtr queue);
  void Unlist(const QueueInfo& queue);
  // 0: no such queue.
  uint64_t GroupOf(std::string_view queue) const;

  std::string cluster_id_;
  std::vector<NodeRecord> nodes_;
  QueuesByName queues_;
  ExchangeState routing_;
  // Counters only grow: an id is never given twice, whatever is deleted.
  uint64_t next_group_ = kMetadataGroup.value() + 1;
  uint64_t next_replica_ = 1;
  uint64_t next_node_ = 0;  // 0 until a node was replaced: behind the highest that there is

  // Derived from the above, for lookups only; their order reaches nothing.
  absl::flat_hash_map<raft::GroupId, QueuePtr> by_group_;
  absl::flat_hash_map<raft::ReplicaId, raft::GroupId> replica_groups_;
  absl::flat_hash_map<raft::NodeId, Load> loads_;
};

// A command as it lies in the log: framed with version and CRC-32C (metadata_codec.h; Safety rules 3 and 17).
std::string EncodeMetadataCommand(const trireme::meta::v1::Command& command);
// DATA_LOSS: the checksum or the encoding is wrong. UNIMPLEMENTED: a version or a kind that this program does not know;
// the message names the version that is needed.
absl::StatusOr<trireme::meta::v1::Command> DecodeMetadataCommand(std::string_view data);

trireme::meta::v1::Node ToProto(const NodeRecord& node);
NodeRecord FromProto(const trireme::meta::v1::Node& node);

// The state as Raft drives it. On the metadata group's shard only.
class MetadataMachine : public raft::StateMachine {
 public:
  // Told of what happened, after the state has changed.
  class Observer {
   public:
    virtual ~Observer() = default;
    // Each entry, no-ops included (whose outcome is kDone, with an empty command).
    virtual void Applied(const raft::Entry& entry, const trireme::meta::v1::Command& command,
                         const MetadataOutcome& outcome) = 0;
    virtual void BatchApplied() = 0;
    // The state is another one, at start or because the log was too far ahead to catch up with. BatchApplied follows,
    // but not at start.
    virtual void Restored() = 0;
    virtual void RoleChanged(const raft::RoleChange& change, bool leading) = 0;
  };

  // `observer` outlives the machine; may be null.
  explicit MetadataMachine(Observer* observer) : observer_(observer) {}

  const MetadataState& state() const { return state_; }
  raft::Index applied_index() const { return applied_; }

  absl::Status Check(const raft::Entry& entry) const override;
  absl::Status Apply(const raft::Entry& entry) override;
  void AppliedBatch() override;
  void RoleChanged(const raft::RoleChange& change, bool leading) override;
  raft::Bytes Snapshot() const override;
  absl::Status CheckSnapshot(const raft::Bytes& snapshot, raft::Index index) const override;
  absl::Status Restore(const raft::Bytes& snapshot, raft::Index index) override;
  uint64_t Digest() const override;
  // Nothing but the state is of value: every entry that a snapshot covers is dead.
  Liveness Live() const override;

 private:
  MetadataState state_;
  raft::Index applied_;
  Observer* const observer_;
};

}  // namespace trireme::broker
