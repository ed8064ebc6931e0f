// The cluster as one node sees it: becoming a member, the metadata group's replica here, and what others ask of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "broker/cluster/formation.h"
#include "broker/cluster/identity.h"
#include "broker/cluster/metadata.h"
#include "broker/cluster/metadata_view.h"
#include "broker/cluster/peer_caller.h"
#include "broker/cluster/reconciler.h"
#include "raft/host/host.h"
#include "raft/host/shard.h"

namespace trireme::broker {

// The shard, of `shards`, that owns a group; the same on every node of a cluster, so `shards` must be, too.
inline raft::ShardId ShardOf(raft::GroupId group, size_t shards) {
  return static_cast<raft::ShardId>(group.value() % shards);
}

// What the cluster needs of its node. Called on the home shard (the metadata group's).
class ReplicaHosting {
 public:
  virtual ~ReplicaHosting() = default;

  // This node has an id now: makes what needs it on every shard (transports, hosts), then calls `done` on the home
  // shard. Called once.
  virtual void BecomeMember(const trireme::meta::v1::Identity& identity, absl::AnyInvocable<void()> done) = 0;
  // Starts the metadata group's replica, on the home shard.
  virtual absl::StatusOr<raft::Group*> StartMetadata(const raft::GroupSpec& spec,
                                                     std::unique_ptr<raft::StateMachine> machine,
                                                     std::optional<raft::StoredGroup> stored) = 0;
  // Starts a queue's replica on its shard. What goes wrong there stays with that group (logged, shown in its status).
  virtual void StartReplica(QueuePtr queue, const raft::GroupSpec& spec, std::optional<raft::StoredGroup> stored) = 0;
  // There are others than when it was started (raft::Host::Inform).
  virtual void InformReplica(const QueueInfo& queue) = 0;
  // Deletes one that metadata lists as removed (Safety rule 11).
  virtual void DeleteReplica(raft::GroupId group, bool running) = 0;
  // The nodes as known from the metadata, from now on; for the transport's checks.
  virtual void NodesChanged(const std::string& cluster_id, const std::vector<NodeRecord>& nodes) = 0;
  // Whether a connection with the node is up.
  virtual bool Up(raft::NodeId node) const = 0;
  // How many groups each node leads, as far as the replicas here know; `done` on the home shard.
  virtual void CountLeaders(absl::AnyInvocable<void(std::map<raft::NodeId, uint32_t>)> done) = 0;
  // This node can never be a member: stop, and exit with this status.
  virtual void Fatal(absl::Status status) = 0;
};

// Where and when an answer is wanted.
struct Asked {
  raft::Shard* reply;  // the answer is called there
  raft::MonotonicTime deadline;
};

struct CreatedQueue {
  QueuePtr queue;
  bool created = false;  // else it was there, with the same settings
  raft::Index index;     // of the metadata group, at which it exists
};

class Cluster : public MetadataMachine::Observer {
 public:
  struct Options {
    FormationOptions formation;
  };

  // All outlive this object, but the shards' loops have ended when it is destroyed. shards[i]->id() == i. `stored` is
  // all that the store holds.
  Cluster(Options options, DataDirectory* directory, std::vector<raft::Shard*> shards, PeerCaller* peers,
          ReplicaHosting* hosting, std::vector<raft::StoredGroup> stored);
  ~Cluster() override;

  // ---- any thread

  void Start();
  // Before Start: `follower` is told of each change on that shard, right after its view has taken it in.
  void Follow(raft::ShardId shard, std::function<void(const MetadataChange&)> follower) {
    views_[shard]->Follow(std::move(follower));
  }

  // The queue of that name, from this node's metadata. Where that does not know it, only after a read of the metadata
  // group that is linearizable: NOT_FOUND is final (Safety rule 21). UNAVAILABLE or DEADLINE_EXCEEDED: no
  // metadata leader until the deadline, or this node waits for its cluster.
  void Lookup(std::string name, Asked asked, Answer<QueuePtr> done);

  // Answers once the asking shard's view is at least as new as the metadata group was when this was called, with the
  // index. For answers that list or describe. Errors as Lookup's.
  void Refresh(Asked asked, Answer<raft::Index> done);

  // From any node; waits out elections until the deadline. Errors as trireme.v1.Admin names them, and UNAVAILABLE or
  // DEADLINE_EXCEEDED for "outcome unknown" (repeat it).
  void CreateQueue(trireme::v1::CreateQueueRequest request, Asked asked, Answer<CreatedQueue> done);
  // The metadata index from which on it is gone.
  void DeleteQueue(std::string name, Asked asked, Answer<raft::Index> done);

  // Exchanges and bindings; on any node, errors as trireme.v1.Admin names them.
  void CreateExchange(trireme::v1::CreateExchangeRequest request, Asked asked,
                      Answer<trireme::v1::CreateExchangeResponse> done);
  void DeleteExchange(trireme::v1::DeleteExchangeRequest request, Asked asked,
                      Answer<trireme::v1::DeleteExchangeResponse> done);
  void DescribeExchange(trireme::v1::DescribeExchangeRequest request, Asked asked,
                        Answer<trireme::v1::DescribeExchangeResponse> done);
  void ListExchanges(trireme::v1::ListExchangesRequest request, Asked asked,
                     Answer<trireme::v1::ListExchangesResponse> done);
  void CreateBinding(trireme::v1::CreateBindingRequest request, Asked asked,
                     Answer<trireme::v1::CreateBindingResponse> done);
  void DeleteBinding(trireme::v1::DeleteBindingRequest request, Asked asked,
                     Answer<trireme::v1::DeleteBindingResponse> done);
  void ListBindings(trireme::v1::ListBindingsRequest request, Asked asked,
                    Answer<trireme::v1::ListBindingsResponse> done);

  // Errors as trireme.v1.Cluster names them.
  void ReplaceNode(trireme::v1::ReplaceNodeRequest request, Asked asked, Answer<trireme::v1::ReplaceNodeResponse> done);
  void ReplaceReplica(trireme::v1::ReplaceReplicaRequest request, Asked asked,
                      Answer<trireme::v1::ReplaceReplicaResponse> done);
  // From the queue's leader, whose members these are, committed. Not tried again: who says it says it again.
  void ReportMembers(raft::GroupId group, std::vector<raft::Member> members);

  void Status(trireme::v1::StatusRequest request, Asked asked, Answer<trireme::v1::StatusResponse> done);
  void Init(trireme::v1::InitRequest request, Asked asked, Answer<trireme::v1::InitResponse> done);

  // Peer's calls.
  void Pledge(trireme::peer::v1::PledgeRequest request, Asked asked, Answer<trireme::peer::v1::PledgeResponse> done);
  void Join(trireme::peer::v1::JoinRequest request, Asked asked, Answer<trireme::peer::v1::JoinResponse> done);
  void Barrier(trireme::peer::v1::BarrierRequest request, Asked asked, Answer<trireme::peer::v1::BarrierResponse> done);
  void CreateHere(trireme::peer::v1::CreateQueueRequest request, Asked asked,
                  Answer<trireme::v1::CreateQueueResponse> done);
  void DeleteHere(trireme::peer::v1::DeleteQueueRequest request, Asked asked,
                  Answer<trireme::v1::DeleteQueueResponse> done);
  void ChangeMembersHere(trireme::peer::v1::MembersChange change, Asked asked,
                         Answer<trireme::peer::v1::MembersChangeDone> done);
  void ChangeRoutingHere(trireme::peer::v1::RoutingChange change, Asked asked,
                         Answer<trireme::peer::v1::RoutingChanged> done);

  // ---- on the shard that is asked for

  // Valid as long as this object.
  const MetadataView& view(raft::ShardId shard) const { return *views_[shard]; }

  // ---- on the home shard

  raft::Shard* home() const { return home_; }
  // Of the metadata group; 0 = unknown.
  raft::NodeId leader() const;
  // This node, or 0 before it is a member.
  raft::NodeId self() const;

 private:
  using Proposed = std::pair<MetadataOutcome, raft::Index>;
  struct Proposal {
    raft::Term term;
    Answer<Proposed> done;
  };

  // MetadataMachine::Observer
  void Applied(const raft::Entry& entry, const trireme::meta::v1::Command& command,
               const MetadataOutcome& outcome) override;
  void BatchApplied() override;
  void Restored() override;
  void RoleChanged(const raft::RoleChange& change, bool leading) override;

  void OnMember();
  void StartMetadata();
  void Publish(MetadataChange change);
  // To those who wait for what is applied by now, and to those whose proposals are.
  void AnswerApplied();
  void PublishWhole();
  void NodesChanged();
  void Reconcile();
  void Act(Reconciler::Action action);
  // Retries until the metadata is known to be as new as it ever was here; then replicas may be born (Safety rule 11).
  void AllowBirths();
  // On the metadata leader: its group gets the members that the nodes are.
  void KeepMetadataMembers();

  // All below on the home shard.
  const MetadataState& state() const { return machine_->state(); }
  raft::Index applied() const { return machine_->applied_index(); }
  absl::Status CheckMember(const std::string& cluster_id) const;
  absl::Status NotLeading() const;
  // Address of the metadata leader; an error to be tried again while none is known. Not this node.
  absl::StatusOr<std::string> LeaderAddress() const;
  // Proposes, on the leader, and answers what applying it gave. UNAVAILABLE: not now, or outcome unknown.
  void Propose(const trireme::meta::v1::Command& command, Answer<Proposed> done);
  // Calls `done` once this node has applied a read index of the metadata group taken after this call.
  void LinearBarrier(Answer<raft::Index> done);
  void StartBarrier();
  void BarrierDone(absl::StatusOr<raft::Index> index);
  void LeaderBarrier(Answer<raft::Index> done);
  void WhenApplied(raft::Index index, absl::AnyInvocable<void()> then);
  // Runs `attempt` until it gives something else than UNAVAILABLE or DEADLINE_EXCEEDED, or the deadline comes.
  template <typename T>
  void Retry(Asked asked, std::function<void(Answer<T>)> attempt, Answer<T> done);

  void LookupHere(const std::string& name, Answer<QueuePtr> done);
  void CreateOnce(const trireme::v1::CreateQueueRequest& request, Answer<CreatedQueue> done);
  void CreateLeading(const trireme::v1::CreateQueueRequest& request, Answer<CreatedQueue> done);
  void DeleteOnce(QueuePtr queue, std::shared_ptr<bool> unknown, Answer<raft::Index> done);
  void DeleteLeading(const std::string& name, raft::GroupId group, Answer<raft::Index> done);
  void ChangeRouting(trireme::peer::v1::RoutingChange change, Asked asked,
                     Answer<trireme::peer::v1::RoutingChanged> done);
  void ChangeRoutingOnce(const trireme::peer::v1::RoutingChange& change, std::shared_ptr<bool> unknown,
                         Answer<trireme::peer::v1::RoutingChanged> done);
  void ChangeRoutingLeading(const trireme::peer::v1::RoutingChange& change,
                            Answer<trireme::peer::v1::RoutingChanged> done);
  void ChangeMembers(trireme::peer::v1::MembersChange change, Asked asked,
                     Answer<trireme::peer::v1::MembersChangeDone> done);
  void ChangeMembersOnce(const trireme::peer::v1::MembersChange& change,
                         Answer<trireme::peer::v1::MembersChangeDone> done);
  void ChangeMembersLeading(const trireme::peer::v1::MembersChange& change,
                            Answer<trireme::peer::v1::MembersChangeDone> done);
  void FindToDelete(const trireme::peer::v1::RoutingChange& change, Answer<uint64_t> done);
  // Calls `read` on the home shard after a linearizable read, and answers what it gives, with the index.
  template <typename Response>
  void ReadRouting(Asked asked, std::function<absl::StatusOr<Response>(const ExchangeState&)> read,
                   Answer<Response> done);
  void JoinMetadata(const trireme::peer::v1::JoinRequest& request, Answer<trireme::peer::v1::JoinResponse> done);
  void StatusHere(Answer<trireme::v1::StatusResponse> done);

  const Options options_;
  DataDirectory* const directory_;
  const std::vector<raft::Shard*> shards_;
  raft::Shard* const home_;
  PeerCaller* const peers_;
  ReplicaHosting* const hosting_;
  const std::vector<std::unique_ptr<MetadataView>> views_;

  // The rest is the home shard's.
  std::vector<raft::StoredGroup> stored_;  // until the node is a member
  std::unique_ptr<Formation> formation_;
  std::optional<Reconciler> reconciler_;
  bool births_ = false;
  MetadataMachine* machine_ = nullptr;  // the host's
  raft::Group* group_ = nullptr;
  bool leading_ = false;

  // Gathered while a batch is applied, handed out at its end: first the views, then the replicas, then the answers, so
  // that who is told of a queue finds it.
  MetadataChange change_;
  bool nodes_changed_ = false;
  bool restored_ = false;
  std::vector<absl::AnyInvocable<void()>> answers_;

  std::map<raft::Index, Proposal> proposals_;
  std::multimap<raft::Index, absl::AnyInvocable<void()>> applied_waiters_;
  // Read barriers: those that the one under way serves, and those that came after it had begun.
  std::vector<Answer<raft::Index>> barrier_serving_;
  std::vector<Answer<raft::Index>> barrier_waiting_;
};

// As the API shows it; the leader is left open. `address_of` is empty for a node that is not known.
trireme::v1::QueueInfo PublicInfo(const QueueInfo& queue, absl::FunctionRef<std::string_view(raft::NodeId)> address_of);

}  // namespace trireme::broker
