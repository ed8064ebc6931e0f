// Nodes and replicas that take the place of lost ones, as clients, other nodes and groups' leaders ask for them.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/cluster.h"
#include "broker/cluster/cluster_calls.h"
#include "broker/ops/error.h"
#include "raft/core/quorum.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;
using Kind = MetadataOutcome::Kind;

// A node has one replica of a queue at a time, so the old one leaves first, and until the new one has caught up the
// others are the queue.
absl::Status OthersSuffice(const QueueInfo& queue, raft::ReplicaId replaced,
                           const std::function<bool(raft::NodeId)>& up) {
  size_t others = 0, others_up = 0;
  std::string down;
  for (const raft::Member& member : queue.replicas) {
    if (member.replica == replaced) continue;
    ++others;
    others_up += up(member.node) ? 1 : 0;
    if (!up(member.node)) absl::StrAppend(&down, down.empty() ? "" : ", ", member.node.value());
  }
  if (others == 0) {
    return Error(
        absl::StatusCode::kFailedPrecondition, {.reason = "ONLY_REPLICA", .name = queue.name},
        absl::StrCat("queue ", queue.name, " has this replica only: there is nothing to build another one from"));
  }
  if (others_up >= raft::QuorumSize(others)) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, {.reason = "REPLICAS_DOWN", .name = queue.name},
               absl::StrCat("without this replica queue ", queue.name, " needs ", raft::QuorumSize(others),
                            " of its other ", others, ", and node ", down, " is down; start it first, or replace it"));
}

// The command that the request is for; an error if the state as it is now refuses it.
absl::StatusOr<meta::Command> CommandFor(const peer::MembersChange& change, const MetadataState& state,
                                         const std::function<bool(raft::NodeId)>& up) {
  meta::Command command;
  switch (change.change_case()) {
    case peer::MembersChange::kReplaceNode: {
      const raft::NodeId lost(change.replace_node().node_id());
      if (up(lost) && state.FindNode(lost) != nullptr) {
        return Error(
            absl::StatusCode::kFailedPrecondition, {.reason = "NODE_IS_UP", .name = absl::StrCat(lost.value())},
            absl::StrCat("node ", lost.value(), " is up: only a node that is lost is replaced; stop it first"));
      }
      command.mutable_node_replaced()->set_node_id(lost.value());
      command.mutable_node_replaced()->set_address(change.replace_node().address());
      return command;
    }
    case peer::MembersChange::kReplaceReplica: {
      const v1::ReplaceReplicaRequest& request = change.replace_replica();
      QueuePtr queue = state.FindQueue(request.queue());
      const raft::ReplicaId replica =
          queue == nullptr ? raft::ReplicaId() : queue->ReplicaOn(raft::NodeId(request.node_id()));
      if (replica == raft::ReplicaId()) {
        return Error(absl::StatusCode::kNotFound, {.reason = "NO_SUCH_REPLICA", .name = request.queue()},
                     absl::StrCat("there is no replica of a queue ", request.queue(), " on node ", request.node_id()));
      }
      if (queue->changing) {
        return Error(
            absl::StatusCode::kFailedPrecondition, {.reason = "REPLICAS_CHANGE", .name = request.queue()},
            absl::StrCat("a replica of queue ", request.queue(), " is being replaced; try again when it is done"));
      }
      if (absl::Status possible = OthersSuffice(*queue, replica, up); !possible.ok()) return possible;
      command.mutable_replica_replaced()->set_group_id(queue->group.value());
      command.mutable_replica_replaced()->set_replica_id(replica.value());
      return command;
    }
    case peer::MembersChange::kReport:
      command.mutable_members_changed()->set_group_id(change.report().group_id());
      *command.mutable_members_changed()->mutable_members() = change.report().members();
      return command;
    case peer::MembersChange::CHANGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a change of members of a kind that this program does not know");
}

absl::Status Refusal(const peer::MembersChange& change, Kind kind) {
  switch (kind) {
    case Kind::kNoSuchNode:
      return Error(absl::StatusCode::kNotFound,
                   {.reason = "NO_SUCH_NODE", .name = absl::StrCat(change.replace_node().node_id())},
                   absl::StrCat("the cluster has no node ", change.replace_node().node_id(),
                                "; `trireme cluster status` lists them"));
    case Kind::kInUse:
      return Error(absl::StatusCode::kAlreadyExists,
                   {.reason = "ADDRESS_IN_USE", .name = change.replace_node().address()},
                   absl::StrCat("another node has the address ", change.replace_node().address()));
    case Kind::kNotBorn:
      return absl::UnavailableError("the cluster's birth is not written down yet");
    default:
      return absl::NotFoundError("the queue or its replica was deleted meanwhile");
  }
}

}  // namespace

void Cluster::ChangeMembersLeading(const peer::MembersChange& change, Answer<peer::MembersChangeDone> done) {
  if (!leading_) return done(NotLeading());
  absl::StatusOr<meta::Command> command =
      CommandFor(change, state(), [this](raft::NodeId node) { return node == self() || hosting_->Up(node); });
  if (!command.ok()) return done(command.status());
  Propose(*command, [this, change, done = std::move(done)](absl::StatusOr<Proposed> proposed) mutable {
    if (!proposed.ok()) return done(proposed.status());
    const auto& [outcome, index] = *proposed;
    if (outcome.kind != Kind::kDone && outcome.kind != Kind::kAlreadySo) return done(Refusal(change, outcome.kind));
    peer::MembersChangeDone answer;
    answer.set_metadata_index(index.value());
    answer.set_new_node_id(outcome.node.value());
    answer.set_new_replica_id(outcome.replica.value());
    const NodeRecord* node = state().FindNode(outcome.node);
    if (node != nullptr) answer.set_address(node->address);
    done(std::move(answer));
  });
}

void Cluster::ChangeMembersOnce(const peer::MembersChange& change, Answer<peer::MembersChangeDone> done) {
  if (absl::Status status = CheckMember(""); !status.ok()) return done(status);
  if (leading_) return ChangeMembersLeading(change, std::move(done));
  absl::StatusOr<std::string> address = LeaderAddress();
  if (!address.ok()) return done(address.status());
  peers_->ChangeMembers(*address, change, kLeaderTimeout, std::move(done));
}

void Cluster::ChangeMembers(peer::MembersChange change, Asked asked, Answer<peer::MembersChangeDone> done) {
  home_->Post([this, change = std::move(change), asked, done = std::move(done)]() mutable {
    change.set_cluster_id(directory_->identity().cluster_id());
    Retry<peer::MembersChangeDone>(
        asked, [this, change](Answer<peer::MembersChangeDone> answer) { ChangeMembersOnce(change, std::move(answer)); },
        std::move(done));
  });
}

void Cluster::ChangeMembersHere(peer::MembersChange change, Asked asked, Answer<peer::MembersChangeDone> done) {
  home_->Post([this, change = std::move(change),
               done = OnShard<peer::MembersChangeDone>(asked.reply, std::move(done))]() mutable {
    if (absl::Status status = CheckMember(change.cluster_id()); !status.ok()) return done(status);
    ChangeMembersLeading(change, std::move(done));
  });
}

void Cluster::ReplaceNode(v1::ReplaceNodeRequest request, Asked asked, Answer<v1::ReplaceNodeResponse> done) {
  peer::MembersChange change;
  *change.mutable_replace_node() = std::move(request);
  ChangeMembers(std::move(change), asked,
                [done = std::move(done)](absl::StatusOr<peer::MembersChangeDone> made) mutable {
                  if (!made.ok()) return done(made.status());
                  v1::ReplaceNodeResponse response;
                  response.set_node_id(made->new_node_id());
                  response.set_address(made->address());
                  response.set_metadata_index(made->metadata_index());
                  done(std::move(response));
                });
}

void Cluster::ReplaceReplica(v1::ReplaceReplicaRequest request, Asked asked, Answer<v1::ReplaceReplicaResponse> done) {
  peer::MembersChange change;
  *change.mutable_replace_replica() = std::move(request);
  ChangeMembers(std::move(change), asked,
                [done = std::move(done)](absl::StatusOr<peer::MembersChangeDone> made) mutable {
                  if (!made.ok()) return done(made.status());
                  v1::ReplaceReplicaResponse response;
                  response.set_replica_id(made->new_replica_id());
                  response.set_metadata_index(made->metadata_index());
                  done(std::move(response));
                });
}

void Cluster::ReportMembers(raft::GroupId group, std::vector<raft::Member> members) {
  home_->Post([this, group, members = std::move(members)] {
    if (group_ == nullptr) return;
    peer::MembersChange change;
    change.set_cluster_id(directory_->identity().cluster_id());
    change.mutable_report()->set_group_id(group.value());
    for (const raft::Member& member : members) change.mutable_report()->add_members(member.replica.value());
    ChangeMembersOnce(change, [](absl::StatusOr<peer::MembersChangeDone>) {});
  });
}

}  // namespace trireme::broker
