// What is asked of the metadata group, by this node's clients and by other nodes.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/cluster.h"
#include "broker/cluster/cluster_calls.h"
#include "broker/cluster/names.h"
#include "broker/cluster/placement.h"
#include "broker/ops/error.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;
namespace peer = trireme::peer::v1;
namespace v1 = trireme::v1;
using Kind = MetadataOutcome::Kind;

absl::Status OtherSettings(const std::string& name, const QueueInfo& there, uint32_t replicas) {
  return Error(absl::StatusCode::kAlreadyExists, {.reason = "QUEUE_EXISTS", .name = name},
               absl::StrCat("queue ", name, " exists with other settings: it has ", there.settings.replicas(),
                            " replicas, ", replicas, " were asked for"));
}

bool SameSettings(const QueueInfo& there, const v1::QueueSettings& asked) {
  return asked.replicas() == 0 || asked.replicas() == there.settings.replicas();
}

}  // namespace

// ---------------------------------------------------------------- means

absl::Status Cluster::CheckMember(const std::string& cluster_id) const {
  if (group_ == nullptr) {
    const std::string& address = directory_->identity().address();
    if (directory_->identity().node_id() != 0) {
      return absl::UnavailableError(
          absl::StrCat("the node at ", address, " starts, and has not got to its metadata yet"));
    }
    return Error(absl::StatusCode::kUnavailable, {.reason = kNoCluster},
                 absl::StrCat("the node at ", address,
                              " waits for its cluster; say `trireme cluster init` to one of its nodes"));
  }
  if (!cluster_id.empty() && cluster_id != directory_->identity().cluster_id()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the node at ", directory_->identity().address(), " belongs to cluster ",
                     ToHex(directory_->identity().cluster_id()), ", not to ", ToHex(cluster_id)));
  }
  if (!group_->halted().ok()) {
    return absl::UnavailableError(
        absl::StrCat("the metadata group is halted on node ", self().value(), ": ", group_->halted().message()));
  }
  return absl::OkStatus();
}

absl::Status Cluster::NotLeading() const {
  return absl::UnavailableError(absl::StrCat("node ", self().value(), " does not lead the metadata group"));
}

absl::StatusOr<std::string> Cluster::LeaderAddress() const {
  raft::NodeId node = leader();
  if (node.value() == 0 || node == self()) return absl::UnavailableError("the metadata group has no leader now");
  for (const meta::Node& member : directory_->identity().members()) {
    if (member.id() == node.value()) return member.address();
  }
  return absl::UnavailableError(absl::StrCat("the metadata leader, node ", node.value(), ", is not known here"));
}

void Cluster::Propose(const meta::Command& command, Answer<Proposed> done) {
  if (absl::Status status = CheckMember(""); !status.ok()) return done(status);
  if (!leading_) return done(NotLeading());
  raft::Proposed proposed = group_->Propose({raft::Bytes::Take(EncodeMetadataCommand(command))}, /*urgent=*/false);
  if (proposed.error == raft::ProposeError::kNotLeader || proposed.error == raft::ProposeError::kTransferring)
    return done(NotLeading());
  if (proposed.error.has_value()) {
    return done(absl::UnavailableError("the metadata group has too much under way; try again"));
  }
  proposals_.insert_or_assign(proposed.first, Proposal{proposed.term, std::move(done)});
}

void Cluster::WhenApplied(raft::Index index, absl::AnyInvocable<void()> then) {
  if (applied() >= index) return then();
  applied_waiters_.emplace(index, std::move(then));
}

void Cluster::LeaderBarrier(Answer<raft::Index> done) {
  if (absl::Status status = CheckMember(""); !status.ok()) return done(status);
  if (!leading_) return done(NotLeading());
  group_->ReadBarrier([this, done = std::move(done)](absl::Status status) mutable {
    if (status.ok()) {
      done(applied());
    } else {
      done(absl::UnavailableError(absl::StrCat("reading the metadata: ", status.message())));
    }
  });
}

void Cluster::LinearBarrier(Answer<raft::Index> done) {
  barrier_waiting_.push_back(std::move(done));
  if (barrier_serving_.empty()) StartBarrier();
}

void Cluster::StartBarrier() {
  // Whoever asks from here on is served by the next one: a read index is good only for what was asked before it.
  barrier_serving_ = std::exchange(barrier_waiting_, {});
  if (leading_) return LeaderBarrier([this](absl::StatusOr<raft::Index> index) { BarrierDone(std::move(index)); });
  absl::Status member = CheckMember("");
  absl::StatusOr<std::string> address = LeaderAddress();
  if (!member.ok() || !address.ok()) return BarrierDone(member.ok() ? address.status() : member);
  peer::BarrierRequest request;
  request.set_cluster_id(directory_->identity().cluster_id());
  peers_->Barrier(*address, request, kLeaderTimeout, [this](absl::StatusOr<peer::BarrierResponse> response) {
    if (!response.ok()) return BarrierDone(response.status());
    BarrierDone(raft::Index(response->index()));
  });
}

void Cluster::BarrierDone(absl::StatusOr<raft::Index> index) {
  for (Answer<raft::Index>& done : std::exchange(barrier_serving_, {})) {
    // Never called before LinearBarrier returned, so that a caller may ask again from within.
    home_->Post([this, index, done = std::move(done)]() mutable {
      if (!index.ok()) return done(index.status());
      WhenApplied(*index, [index, done = std::move(done)]() mutable { done(index); });
    });
  }
  if (!barrier_waiting_.empty()) StartBarrier();
}

// ---------------------------------------------------------------- queues

void Cluster::LookupHere(const std::string& name, Answer<QueuePtr> done) {
  if (absl::Status status = CheckMember(""); !status.ok()) return done(status);
  if (QueuePtr queue = state().FindQueue(name)) return done(std::move(queue));
  // Safety rule 21: this node may be behind.
  LinearBarrier([this, name, done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
    if (!index.ok()) return done(index.status());
    if (QueuePtr queue = state().FindQueue(name)) return done(std::move(queue));
    done(NoSuchQueue(name));
  });
}

void Cluster::Lookup(std::string name, Asked asked, Answer<QueuePtr> done) {
  home_->Post([this, name = std::move(name), asked, done = std::move(done)]() mutable {
    Retry<QueuePtr>(
        asked, [this, name](Answer<QueuePtr> answer) { LookupHere(name, std::move(answer)); }, std::move(done));
  });
}

void Cluster::Refresh(Asked asked, Answer<raft::Index> done) {
  home_->Post([this, asked, done = std::move(done)]() mutable {
    Retry<raft::Index>(
        asked, [this](Answer<raft::Index> answer) { LinearBarrier(std::move(answer)); }, std::move(done));
  });
}

void Cluster::CreateLeading(const v1::CreateQueueRequest& request, Answer<CreatedQueue> done) {
  if (absl::Status bad = ValidateQueueName(request.name()); !bad.ok()) return done(bad);
  if (!leading_) return done(NotLeading());
  if (!state().born()) return done(absl::UnavailableError("the cluster's birth is not written down yet"));
  auto there = [request](QueuePtr queue, raft::Index index) -> absl::StatusOr<CreatedQueue> {
    if (!SameSettings(*queue, request.settings())) {
      return OtherSettings(request.name(), *queue, request.settings().replicas());
    }
    return CreatedQueue{std::move(queue), false, index};
  };
  if (state().FindQueue(request.name()) != nullptr) {
    // Said only by a leader that still is one.
    return LeaderBarrier([this, request, there, done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
      if (!index.ok()) return done(index.status());
      QueuePtr queue = state().FindQueue(request.name());
      if (queue == nullptr) return done(absl::UnavailableError("the queue was deleted meanwhile; try again"));
      done(there(std::move(queue), *index));
    });
  }
  absl::StatusOr<std::vector<raft::NodeId>> nodes = PlaceReplicas(
      state(), request.settings().replicas(), [this](raft::NodeId n) { return n == self() || hosting_->Up(n); });
  if (!nodes.ok()) return done(nodes.status());
  meta::Command command;
  meta::QueueCreated* created = command.mutable_queue_created();
  created->set_name(request.name());
  *created->mutable_settings() = request.settings();
  for (raft::NodeId node : *nodes) created->add_node_ids(node.value());
  created->set_created_at_ms(home_->WallMs());
  Propose(command, [request, there, done = std::move(done)](absl::StatusOr<Proposed> proposed) mutable {
    if (!proposed.ok()) return done(proposed.status());
    auto& [outcome, index] = *proposed;
    switch (outcome.kind) {
      case Kind::kDone:
        return done(CreatedQueue{outcome.queue, true, index});
      case Kind::kAlreadySo:
        return done(there(outcome.queue, index));
      default:
        return done(absl::InternalError(
            absl::StrCat("creating queue ", request.name(), ": outcome ", static_cast<int>(outcome.kind))));
    }
  });
}

void Cluster::CreateOnce(const v1::CreateQueueRequest& request, Answer<CreatedQueue> done) {
  if (absl::Status status = CheckMember(""); !status.ok()) return done(status);
  if (leading_) return CreateLeading(request, std::move(done));
  absl::StatusOr<std::string> address = LeaderAddress();
  if (!address.ok()) return done(address.status());
  peer::CreateQueueRequest forwarded;
  forwarded.set_cluster_id(directory_->identity().cluster_id());
  *forwarded.mutable_request() = request;
  peers_->CreateQueue(*address, forwarded, kLeaderTimeout,
                      [this, done = std::move(done)](absl::StatusOr<v1::CreateQueueResponse> response) mutable {
                        if (!response.ok()) return done(response.status());
                        raft::Index index(response->metadata_index());
                        WhenApplied(
                            index, [this, index, response = *std::move(response), done = std::move(done)]() mutable {
                              QueuePtr queue = state().FindGroup(raft::GroupId(response.queue().group_id()));
                              if (queue == nullptr)
                                return done(absl::UnavailableError("the queue was deleted meanwhile; try again"));
                              done(CreatedQueue{std::move(queue), response.created(), index});
                            });
                      });
}

void Cluster::CreateQueue(v1::CreateQueueRequest request, Asked asked, Answer<CreatedQueue> done) {
  home_->Post([this, request = std::move(request), asked, done = std::move(done)]() mutable {
    if (absl::Status bad = ValidateQueueName(request.name()); !bad.ok()) {
      return OnShard<CreatedQueue>(asked.reply, std::move(done))(bad);
    }
    Retry<CreatedQueue>(
        asked, [this, request](Answer<CreatedQueue> answer) { CreateOnce(request, std::move(answer)); },
        std::move(done));
  });
}

void Cluster::DeleteLeading(const std::string& name, raft::GroupId group, Answer<raft::Index> done) {
  meta::Command command;
  command.mutable_queue_deleted()->set_name(name);
  command.mutable_queue_deleted()->set_group_id(group.value());
  Propose(command, [name, done = std::move(done)](absl::StatusOr<Proposed> proposed) mutable {
    if (!proposed.ok()) return done(proposed.status());
    auto& [outcome, index] = *proposed;
    if (outcome.kind == Kind::kDone) return done(index);
    done(NoSuchQueue(name));
  });
}

void Cluster::DeleteOnce(QueuePtr queue, std::shared_ptr<bool> unknown, Answer<raft::Index> done) {
  // When an earlier attempt may have done it, then that it is gone is what was asked for.
  Answer<raft::Index> judged = [this, unknown, done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
    if (index.ok() || !TryAgain(index.status())) {
      if (absl::IsNotFound(index.status()) && *unknown) index = applied();
    } else {
      *unknown = true;
    }
    done(std::move(index));
  };
  if (absl::Status status = CheckMember(""); !status.ok()) return judged(status);
  if (leading_) return DeleteLeading(queue->name, queue->group, std::move(judged));
  absl::StatusOr<std::string> address = LeaderAddress();
  if (!address.ok()) return judged(address.status());
  peer::DeleteQueueRequest request;
  request.set_cluster_id(directory_->identity().cluster_id());
  request.set_name(queue->name);
  request.set_group_id(queue->group.value());
  peers_->DeleteQueue(*address, request, kLeaderTimeout,
                      [this, judged = std::move(judged)](absl::StatusOr<v1::DeleteQueueResponse> response) mutable {
                        if (!response.ok()) return judged(response.status());
                        raft::Index index(response->metadata_index());
                        WhenApplied(index, [index, judged = std::move(judged)]() mutable { judged(index); });
                      });
}

void Cluster::DeleteQueue(std::string name, Asked asked, Answer<raft::Index> done) {
  home_->Post([this, name = std::move(name), asked, done = std::move(done)]() mutable {
    auto queue = std::make_shared<QueuePtr>();  // found once: a later queue of that name is not meant
    auto unknown = std::make_shared<bool>(false);
    Retry<raft::Index>(
        asked,
        [this, name, queue, unknown](Answer<raft::Index> answer) {
          if (*queue != nullptr) return DeleteOnce(*queue, unknown, std::move(answer));
          LookupHere(name, [this, queue, unknown, answer = std::move(answer)](absl::StatusOr<QueuePtr> found) mutable {
            if (!found.ok()) return answer(found.status());
            *queue = *found;
            DeleteOnce(*queue, unknown, std::move(answer));
          });
        },
        std::move(done));
  });
}

// ---------------------------------------------------------------- from other nodes

void Cluster::Barrier(peer::BarrierRequest request, Asked asked, Answer<peer::BarrierResponse> done) {
  home_->Post([this, request = std::move(request),
               done = OnShard<peer::BarrierResponse>(asked.reply, std::move(done))]() mutable {
    if (absl::Status status = CheckMember(request.cluster_id()); !status.ok()) return done(status);
    LeaderBarrier([done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
      if (!index.ok()) return done(index.status());
      peer::BarrierResponse response;
      response.set_index(index->value());
      done(std::move(response));
    });
  });
}

void Cluster::CreateHere(peer::CreateQueueRequest request, Asked asked, Answer<v1::CreateQueueResponse> done) {
  home_->Post([this, request = std::move(request),
               done = OnShard<v1::CreateQueueResponse>(asked.reply, std::move(done))]() mutable {
    if (absl::Status status = CheckMember(request.cluster_id()); !status.ok()) return done(status);
    CreateLeading(request.request(), [this, done = std::move(done)](absl::StatusOr<CreatedQueue> created) mutable {
      if (!created.ok()) return done(created.status());
      v1::CreateQueueResponse response;
      *response.mutable_queue() = PublicInfo(*created->queue, [this](raft::NodeId id) -> std::string_view {
        const NodeRecord* node = state().FindNode(id);
        return node == nullptr ? std::string_view() : node->address;
      });
      response.set_metadata_index(created->index.value());
      response.set_created(created->created);
      done(std::move(response));
    });
  });
}

void Cluster::DeleteHere(peer::DeleteQueueRequest request, Asked asked, Answer<v1::DeleteQueueResponse> done) {
  home_->Post([this, request = std::move(request),
               done = OnShard<v1::DeleteQueueResponse>(asked.reply, std::move(done))]() mutable {
    if (absl::Status status = CheckMember(request.cluster_id()); !status.ok()) return done(status);
    DeleteLeading(request.name(), raft::GroupId(request.group_id()),
                  [done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
                    if (!index.ok()) return done(index.status());
                    v1::DeleteQueueResponse response;
                    response.set_metadata_index(index->value());
                    done(std::move(response));
                  });
  });
}

void Cluster::Pledge(peer::PledgeRequest request, Asked asked, Answer<peer::PledgeResponse> done) {
  home_->Post([this, request = std::move(request),
               done = OnShard<peer::PledgeResponse>(asked.reply, std::move(done))]() mutable {
    done(formation_->Pledge(request));
  });
}

void Cluster::Init(v1::InitRequest request, Asked asked, Answer<v1::InitResponse> done) {
  home_->Post(
      [this, request = std::move(request), done = OnShard<v1::InitResponse>(asked.reply, std::move(done))]() mutable {
        formation_->Init(request, std::move(done));
      });
}

void Cluster::Join(peer::JoinRequest request, Asked asked, Answer<peer::JoinResponse> done) {
  home_->Post(
      [this, request = std::move(request), done = OnShard<peer::JoinResponse>(asked.reply, std::move(done))]() mutable {
        if (auto answer = formation_->Join(request)) return done(*std::move(answer));
        JoinMetadata(request, std::move(done));
      });
}

void Cluster::JoinMetadata(const peer::JoinRequest& request, Answer<peer::JoinResponse> done) {
  if (absl::Status status = CheckMember(""); !status.ok()) return done(status);
  if (!leading_) {
    absl::StatusOr<std::string> address = LeaderAddress();
    if (!address.ok() || request.forwarded()) return done(address.ok() ? NotLeading() : address.status());
    peer::JoinRequest forwarded = request;
    forwarded.set_forwarded(true);
    return peers_->Join(*address, forwarded, kLeaderTimeout, std::move(done));
  }
  meta::Command command;
  command.mutable_node_joined()->set_address(request.address());
  command.mutable_node_joined()->set_directory_id(request.directory_id());
  Propose(command, [this, request, done = std::move(done)](absl::StatusOr<Proposed> proposed) mutable {
    if (!proposed.ok()) return done(proposed.status());
    const NodeRecord* node = state().FindAddress(request.address());
    switch (proposed->first.kind) {
      case Kind::kDone:
      case Kind::kAlreadySo:
        break;
      case Kind::kOtherDirectory:
        return done(OtherDirectory(ToProto(*node), request.directory_id()));
      case Kind::kNoSuchNode:
        return done(absl::NotFoundError(
            absl::StrCat("cluster ", ToHex(state().cluster_id()), " has no node at ", request.address())));
      default:
        return done(absl::UnavailableError("the cluster's birth is not written down yet"));
    }
    // The heartbeats of a barrier tell a majority that this is committed. Were this node lost right after its answer,
    // the others would have to know the new one's directory to elect a leader with it.
    LeaderBarrier([this, id = node->id, done = std::move(done)](absl::StatusOr<raft::Index> index) mutable {
      if (!index.ok()) return done(index.status());
      peer::JoinResponse response;
      response.set_cluster_id(state().cluster_id());
      response.set_node_id(id.value());
      response.set_metadata_index(applied().value());
      // In the order of birth: the preferred leader first.
      for (const meta::Node& member : directory_->identity().members()) {
        const NodeRecord* record = state().FindNode(raft::NodeId(member.id()));
        peer::Member* out = response.add_members();
        out->set_node_id(member.id());
        out->set_address(member.address());
        out->set_metadata_replica_id(member.metadata_replica_id());
        out->set_replaces(member.replaces());
        out->set_directory_id(record == nullptr ? member.directory_id() : record->directory_id);
      }
      done(std::move(response));
    });
  });
}

// ---------------------------------------------------------------- status

void Cluster::Status(v1::StatusRequest, Asked asked, Answer<v1::StatusResponse> done) {
  home_->Post([this, done = OnShard<v1::StatusResponse>(asked.reply, std::move(done))]() mutable {
    StatusHere(std::move(done));
  });
}

void Cluster::StatusHere(Answer<v1::StatusResponse> done) {
  const meta::Identity& identity = directory_->identity();
  v1::StatusResponse response;
  response.set_cluster_id(identity.cluster_id());
  response.set_node_id(identity.node_id());
  response.set_version(TRIREME_VERSION);
  if (identity.node_id() == 0) response.set_initiator(identity.initiator());
  if (group_ == nullptr) return done(std::move(response));
  response.set_metadata_index(applied().value());
  response.set_queues(static_cast<uint32_t>(state().queues().size()));
  std::map<raft::NodeId, uint32_t> replicas, catching_up;
  for (const auto& [name, queue] : state().queues()) {
    for (const raft::Member& member : queue->replicas) {
      ++replicas[member.node];
      const bool came_later = queue->last_born != raft::ReplicaId() && member.replica > queue->last_born;
      if (queue->changing && came_later) ++catching_up[member.node];
    }
  }
  std::vector<NodeRecord> nodes = state().nodes();
  if (!state().born()) {
    for (const meta::Node& node : identity.members()) nodes.push_back(FromProto(node));
    std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  }
  for (const NodeRecord& node : nodes) {
    v1::NodeInfo* info = response.add_nodes();
    info->set_node_id(node.id.value());
    info->set_address(node.address);
    bool up = node.id == self() || hosting_->Up(node.id);
    info->set_condition(up                          ? v1::NODE_CONDITION_UP
                        : node.directory_id.empty() ? v1::NODE_CONDITION_EXPECTED
                                                    : v1::NODE_CONDITION_DOWN);
    info->set_metadata_leader(node.id == leader());
    info->set_replicas(replicas[node.id] + 1);
    info->set_catching_up(catching_up[node.id] + (group_->membership().Votes(node.metadata_replica) ? 0 : 1));
  }
  hosting_->CountLeaders(
      [response = std::move(response), done = std::move(done)](std::map<raft::NodeId, uint32_t> leaders) mutable {
        for (v1::NodeInfo& info : *response.mutable_nodes()) info.set_leaders(leaders[raft::NodeId(info.node_id())]);
        done(std::move(response));
      });
}

}  // namespace trireme::broker
