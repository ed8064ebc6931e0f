#include "broker/cluster/cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/member_plan.h"
#include "broker/ops/log.h"
#include "raft/core/check.h"

namespace trireme::broker {
namespace {

namespace meta = trireme::meta::v1;

constexpr std::chrono::milliseconds kBirthRetry{100};
// Between looks at whether the metadata group has the members that it should have.
constexpr std::chrono::milliseconds kLookAtMembers{1000};

std::vector<std::unique_ptr<MetadataView>> MakeViews(size_t n) {
  std::vector<std::unique_ptr<MetadataView>> views;
  for (size_t i = 0; i < n; ++i) views.push_back(std::make_unique<MetadataView>());
  return views;
}

}  // namespace

Cluster::Cluster(Options options, DataDirectory* directory, std::vector<raft::Shard*> shards, PeerCaller* peers,
                 ReplicaHosting* hosting, std::vector<raft::StoredGroup> stored)
    : options_(std::move(options)),
      directory_(directory),
      shards_(std::move(shards)),
      home_(shards_[ShardOf(kMetadataGroup, shards_.size())]),
      peers_(peers),
      hosting_(hosting),
      views_(MakeViews(shards_.size())),
      stored_(std::move(stored)) {
  formation_ = std::make_unique<Formation>(
      options_.formation, directory_, home_, peers_,
      Formation::Events{[this] { OnMember(); }, [this](absl::Status status) { hosting_->Fatal(std::move(status)); }});
}

Cluster::~Cluster() = default;

void Cluster::Start() {
  home_->Post([this] { formation_->Start(); });
}

raft::NodeId Cluster::leader() const {
  return group_ == nullptr ? raft::NodeId() : group_->leader_node();
}

raft::NodeId Cluster::self() const {
  return raft::NodeId(directory_->identity().node_id());
}

// ---------------------------------------------------------------- the replica of the metadata group

void Cluster::OnMember() {
  const meta::Identity& identity = directory_->identity();
  std::vector<NodeRecord> nodes;
  for (const meta::Node& node : identity.members()) nodes.push_back(FromProto(node));
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  hosting_->NodesChanged(identity.cluster_id(), nodes);
  hosting_->BecomeMember(identity, [this] { StartMetadata(); });
}

void Cluster::StartMetadata() {
  const meta::Identity& identity = directory_->identity();
  raft::GroupSpec spec;
  spec.group = kMetadataGroup;
  spec.prompt = true;
  for (const meta::Node& node : identity.members()) {
    spec.members.push_back({raft::ReplicaId(node.metadata_replica_id()), raft::NodeId(node.id())});
    if (node.id() == identity.node_id()) spec.self = raft::ReplicaId(node.metadata_replica_id());
    // Once a node has been replaced the group lives, with other members than it was born with.
    spec.joins |= node.replaces() != 0;
  }
  std::optional<raft::StoredGroup> stored;
  std::vector<raft::StoredGroup> queues;
  for (raft::StoredGroup& group : std::exchange(stored_, {})) {
    if (group.group == kMetadataGroup) {
      stored = std::move(group);
    } else {
      queues.push_back(std::move(group));
    }
  }
  if (stored.has_value() && stored->replica != spec.self) {
    return hosting_->Fatal(absl::FailedPreconditionError(
        absl::StrCat("the store holds replica ", stored->replica.value(), " of the metadata group, but this is node ",
                     identity.node_id(), ", whose replica is ", spec.self.value())));
  }
  reconciler_.emplace(self(), std::move(queues));
  auto machine = std::make_unique<MetadataMachine>(this);
  machine_ = machine.get();
  absl::StatusOr<raft::Group*> group = hosting_->StartMetadata(spec, std::move(machine), std::move(stored));
  if (!group.ok()) {
    return hosting_->Fatal(
        absl::Status(group.status().code(), absl::StrCat("the metadata group: ", group.status().message())));
  }
  group_ = *group;
  PublishWhole();
  Reconcile();
  AllowBirths();
  KeepMetadataMembers();
}

void Cluster::KeepMetadataMembers() {
  home_->After(kLookAtMembers, [this] { KeepMetadataMembers(); });
  if (!leading_ || !state().born()) return;
  std::vector<raft::Member> wanted;
  for (const meta::Node& node : directory_->identity().members()) {
    const NodeRecord* record = state().FindNode(raft::NodeId(node.id()));
    if (record != nullptr) wanted.push_back({record->metadata_replica, record->id});
  }
  const auto target = PlanMembers(group_->membership(), group_->membership_committed(), wanted);
  if (target.has_value()) group_->ProposeMembers(*target);
}

void Cluster::Applied(const raft::Entry& entry, const meta::Command& command, const MetadataOutcome& outcome) {
  if (outcome.kind == MetadataOutcome::Kind::kDone) {
    AddItems(command, outcome, &change_.items);
    switch (command.kind_case()) {
      case meta::Command::kClusterBorn:
        change_.cluster_id = state().cluster_id();
        nodes_changed_ = true;
        break;
      case meta::Command::kNodeJoined:
        nodes_changed_ = true;
        Log(LogLevel::kInfo, "node joined", "address", command.node_joined().address(), "directory",
            ToHex(command.node_joined().directory_id()));
        break;
      case meta::Command::kNodeReplaced:
        nodes_changed_ = true;
        Log(LogLevel::kWarn, "a node is replaced", "lost", command.node_replaced().node_id(), "comes",
            outcome.node.value());
        break;
      default:
        break;
    }
  }
  // Whoever proposed at or below this index has an answer: this entry, or, when its term is another, none of theirs was
  // committed here.
  while (!proposals_.empty() && proposals_.begin()->first <= entry.index) {
    auto node = proposals_.extract(proposals_.begin());
    bool ours = node.key() == entry.index && node.mapped().term == entry.term;
    answers_.push_back([done = std::move(node.mapped().done), ours, outcome, index = entry.index]() mutable {
      if (ours) {
        done(Proposed(outcome, index));
      } else {
        done(absl::UnavailableError("the metadata leader changed and dropped the request; try again"));
      }
    });
  }
}

void Cluster::BatchApplied() {
  if (std::exchange(restored_, false)) {
    change_ = {};
    nodes_changed_ = false;
    PublishWhole();
    Reconcile();
    return AnswerApplied();
  }
  MetadataChange change = std::exchange(change_, {});
  std::vector<raft::GroupId> changed;
  for (const MetadataItem& item : change.items) {
    if (const auto* queue = std::get_if<QueuePtr>(&item.what)) changed.push_back((*queue)->group);
  }
  if (std::exchange(nodes_changed_, false)) {
    change.nodes = std::make_shared<const std::vector<NodeRecord>>(state().nodes());
    NodesChanged();
  }
  // During a start there is no handle yet, and the whole state is given out behind it.
  if (group_ != nullptr) {
    Publish(std::move(change));
    for (raft::GroupId group : changed) {
      // A replica that is deleted may make room for another one.
      while (auto action = reconciler_->ReconcileQueue(state(), group, births_)) Act(*std::move(action));
    }
  }
  AnswerApplied();
}

// During a start the whole state is given out anyway.
void Cluster::Restored() {
  restored_ = group_ != nullptr;
}

void Cluster::AnswerApplied() {
  while (!applied_waiters_.empty() && applied_waiters_.begin()->first <= applied()) {
    answers_.push_back(std::move(applied_waiters_.begin()->second));
    applied_waiters_.erase(applied_waiters_.begin());
  }
  for (auto& answer : std::exchange(answers_, {})) answer();
}

void Cluster::RoleChanged(const raft::RoleChange& change, bool leading) {
  bool was = std::exchange(leading_, leading);
  if (was != leading) {
    Log(LogLevel::kInfo, leading ? "leads the metadata group" : "no longer leads the metadata group", "term",
        change.term);
  }
  if (!leading) {
    // They may still be committed by another leader: the outcome is unknown, and those who asked look again.
    for (auto& [index, proposal] : std::exchange(proposals_, {})) {
      home_->Post([done = std::move(proposal.done)]() mutable {
        done(absl::UnavailableError("the metadata leader changed; the outcome is unknown"));
      });
    }
    return;
  }
  if (!state().born()) {
    // The first leader writes down what was decided at init. Conditional: only the first such command counts.
    meta::Command command;
    meta::ClusterBorn* born = command.mutable_cluster_born();
    born->set_cluster_id(directory_->identity().cluster_id());
    *born->mutable_nodes() = directory_->identity().members();
    home_->Post([this, command] {
      Propose(command, [](absl::StatusOr<Proposed> proposed) {
        if (!proposed.ok()) Log(LogLevel::kInfo, "birth not written", "why", proposed.status());
      });
    });
  }
}

// ---------------------------------------------------------------- views and replicas

void Cluster::PublishWhole() {
  MetadataChange change;
  change.whole = true;
  change.cluster_id = state().cluster_id();
  change.nodes = std::make_shared<const std::vector<NodeRecord>>(state().nodes());
  change.items = ItemsOf(state());
  if (state().born()) NodesChanged();
  Publish(std::move(change));
}

void Cluster::NodesChanged() {
  // Kept in the identity, too: after a restart what was applied here may be known to be committed only once there is a
  // leader, and a node whose directory is not known yet could not help to elect one.
  meta::Identity identity = directory_->identity();
  if (applied().value() < identity.members_as_of()) return;  // it knows more than what is applied again so far
  google::protobuf::RepeatedPtrField<meta::Node> members;
  // In the order of birth, the preferred leader first; who came later is behind.
  for (const meta::Node& node : identity.members()) {
    const NodeRecord* record = state().FindNode(raft::NodeId(node.id()));
    if (record == nullptr) continue;
    *members.Add() = ToProto(*record);
    // What a majority has pledged with at init may not be in the log yet.
    if (record->directory_id.empty()) members.rbegin()->set_directory_id(node.directory_id());
  }
  for (const NodeRecord& record : state().nodes()) {
    auto listed = [&](const meta::Node& node) { return node.id() == record.id.value(); };
    if (std::none_of(members.begin(), members.end(), listed)) *members.Add() = ToProto(record);
  }
  auto same = [](const meta::Node& a, const meta::Node& b) { return FromProto(a) == FromProto(b); };
  if (!std::equal(members.begin(), members.end(), identity.members().begin(), identity.members().end(), same)) {
    *identity.mutable_members() = std::move(members);
    identity.set_members_as_of(applied().value());
    if (absl::Status saved = directory_->Save(identity); !saved.ok()) {
      return hosting_->Fatal(absl::InternalError(absl::StrCat("the identity cannot be written: ", saved.message())));
    }
  }
  hosting_->NodesChanged(state().cluster_id(), state().nodes());
}

void Cluster::Publish(MetadataChange change) {
  change.index = applied();
  auto shared = std::make_shared<const MetadataChange>(std::move(change));
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (shards_[i] == home_) {
      views_[i]->Take(*shared);
    } else {
      shards_[i]->Post([view = views_[i].get(), shared] { view->Take(*shared); });
    }
  }
}

void Cluster::Reconcile() {
  for (Reconciler::Action& action : reconciler_->Reconcile(state(), births_)) Act(std::move(action));
}

void Cluster::Act(Reconciler::Action action) {
  if (auto* remove = std::get_if<Reconciler::Delete>(&action)) {
    return hosting_->DeleteReplica(remove->group, remove->running);
  }
  if (auto* inform = std::get_if<Reconciler::Inform>(&action)) return hosting_->InformReplica(*inform->queue);
  auto& start = std::get<Reconciler::Start>(action);
  raft::GroupSpec spec = start.Spec();
  hosting_->StartReplica(std::move(start.queue), spec, std::move(start.stored));
}

void Cluster::AllowBirths() {
  LinearBarrier([this](absl::StatusOr<raft::Index> index) {
    if (!index.ok()) {
      home_->After(kBirthRetry, [this] { AllowBirths(); });
      return;
    }
    births_ = true;
    Reconcile();
    if (size_t n = reconciler_->unclaimed(); n != 0) {
      Log(LogLevel::kWarn, "stored groups that the metadata does not name", "groups", n);
    }
  });
}

trireme::v1::QueueInfo PublicInfo(const QueueInfo& queue,
                                  absl::FunctionRef<std::string_view(raft::NodeId)> address_of) {
  trireme::v1::QueueInfo out;
  out.set_name(queue.name);
  out.set_group_id(queue.group.value());
  *out.mutable_settings() = queue.settings;
  out.set_created_at_ms(queue.created_at_ms);
  for (const raft::Member& member : queue.replicas) {
    auto* place = out.add_replicas();
    place->set_node_id(member.node.value());
    place->set_replica_id(member.replica.value());
    place->set_address(std::string(address_of(member.node)));
  }
  return out;
}

}  // namespace trireme::broker
