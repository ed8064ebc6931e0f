#include "broker/cluster/metadata.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "broker/cluster/identity.h"
#include "broker/cluster/metadata_codec.h"
#include "broker/cluster/names.h"
#include "raft/core/checksum.h"

namespace trireme::broker {
namespace meta = trireme::meta::v1;
using Kind = MetadataOutcome::Kind;

raft::ReplicaId QueueInfo::ReplicaOn(raft::NodeId node) const {
  for (const raft::Member& member : replicas) {
    if (member.node == node) return member.replica;
  }
  return raft::ReplicaId();
}

std::vector<raft::Member> QueueInfo::Listed() const {
  std::vector<raft::Member> all = replicas;
  all.insert(all.end(), leaving.begin(), leaving.end());
  return all;
}

bool QueueInfo::Lists(raft::ReplicaId replica) const {
  const std::vector<raft::Member> all = Listed();
  return std::any_of(all.begin(), all.end(), [&](const raft::Member& member) { return member.replica == replica; });
}

// While the members at the group's birth are all listed they are given again. They are not once the group's leader has
// said what it committed; then the group lives, and its log tells.
raft::GroupSpec QueueInfo::SpecOf(raft::ReplicaId replica) const {
  raft::GroupSpec spec{group, replica, {}};
  std::vector<raft::Member> later;
  for (const auto* listed : {&replicas, &leaving}) {
    for (const raft::Member& member : *listed) {
      const bool born = last_born == raft::ReplicaId() || member.replica <= last_born;
      (born ? spec.members : later).push_back(member);
    }
  }
  const bool is_born = last_born == raft::ReplicaId() || replica <= last_born;
  spec.joins = !is_born || spec.members.size() != settings.replicas();
  if (spec.joins) spec.members.insert(spec.members.end(), later.begin(), later.end());
  return spec;
}

meta::Node ToProto(const NodeRecord& node) {
  meta::Node out;
  out.set_id(node.id.value());
  out.set_address(node.address);
  out.set_directory_id(node.directory_id);
  out.set_metadata_replica_id(node.metadata_replica.value());
  out.set_replaces(node.replaces.value());
  return out;
}

NodeRecord FromProto(const meta::Node& node) {
  return NodeRecord{raft::NodeId(node.id()), node.address(), node.directory_id(),
                    raft::ReplicaId(node.metadata_replica_id()), raft::NodeId(node.replaces())};
}

std::string EncodeMetadataCommand(const meta::Command& command) {
  switch (command.kind_case()) {
    case meta::Command::kExchangeCreated:
    case meta::Command::kExchangeDeleted:
    case meta::Command::kBindingCreated:
    case meta::Command::kBindingDeleted:
      return EncodeFramed(command, kVersionOfExchanges);
    case meta::Command::kNodeReplaced:
    case meta::Command::kReplicaReplaced:
    case meta::Command::kMembersChanged:
      return EncodeFramed(command, kVersionOfReplacements);
    default:
      return EncodeFramed(command, 1);
  }
}

absl::StatusOr<meta::Command> DecodeMetadataCommand(std::string_view data) {
  meta::Command command;
  absl::Status status = DecodeFramed(data, "metadata command", &command);
  if (!status.ok()) return status;
  if (command.kind_case() == meta::Command::KIND_NOT_SET) {
    return absl::UnimplementedError(
        absl::StrCat("metadata command of a kind that this program does not know (it knows version ",
                     int{kMetadataVersion}, "): a newer one is needed"));
  }
  return command;
}

// ---------------------------------------------------------------- state

namespace {

Kind ToKind(ExchangeState::Outcome outcome) {
  switch (outcome) {
    case ExchangeState::Outcome::kDone:
      return Kind::kDone;
    case ExchangeState::Outcome::kAlreadySo:
      return Kind::kAlreadySo;
    case ExchangeState::Outcome::kNoSuchExchange:
      return Kind::kNoSuchExchange;
    case ExchangeState::Outcome::kNoSuchQueue:
      return Kind::kNoSuchQueue;
    case ExchangeState::Outcome::kNoSuchBinding:
      return Kind::kNoSuchBinding;
    case ExchangeState::Outcome::kInUse:
      return Kind::kInUse;
    case ExchangeState::Outcome::kTooMany:
      return Kind::kTooMany;
    case ExchangeState::Outcome::kInvalid:
      break;
  }
  return Kind::kInvalid;
}

}  // namespace

MetadataOutcome MetadataState::Apply(const meta::Command& command) {
  switch (command.kind_case()) {
    case meta::Command::kClusterBorn:
      return ApplyBorn(command.cluster_born());
    case meta::Command::kNodeJoined:
      return ApplyJoined(command.node_joined());
    case meta::Command::kQueueCreated:
      return ApplyCreated(command.queue_created());
    case meta::Command::kQueueDeleted:
      return ApplyDeleted(command.queue_deleted());
    case meta::Command::kExchangeCreated:
      return ApplyRouting(command.exchange_created());
    case meta::Command::kExchangeDeleted:
      return ApplyRouting(command.exchange_deleted());
    case meta::Command::kBindingCreated:
      return ApplyRouting(command.binding_created(), [this](std::string_view queue) { return GroupOf(queue); });
    case meta::Command::kBindingDeleted:
      return ApplyRouting(command.binding_deleted());
    case meta::Command::kNodeReplaced:
      return ApplyNodeReplaced(command.node_replaced());
    case meta::Command::kReplicaReplaced:
      return ApplyReplicaReplaced(command.replica_replaced());
    case meta::Command::kMembersChanged:
      return ApplyMembersChanged(command.members_changed());
    case meta::Command::KIND_NOT_SET:
      break;
  }
  return {Kind::kInvalid};
}

template <typename RoutingCommand, typename... Lookup>
MetadataOutcome MetadataState::ApplyRouting(const RoutingCommand& command, Lookup... lookup) {
  if (!born()) return {Kind::kNotBorn};
  ExchangeState::Change change = routing_.Apply(command, lookup...);
  return {ToKind(change.outcome), nullptr, std::move(change.exchange), std::move(change.bindings)};
}

MetadataOutcome MetadataState::ApplyBorn(const meta::ClusterBorn& born) {
  if (this->born()) return {Kind::kAlreadySo};
  if (born.cluster_id().size() != kIdBytes || born.nodes().empty()) return {Kind::kInvalid};
  std::vector<NodeRecord> nodes;
  uint64_t highest_replica = 0;
  for (const meta::Node& node : born.nodes()) {
    nodes.push_back(FromProto(node));
    highest_replica = std::max(highest_replica, node.metadata_replica_id());
  }
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (size_t i = 0; i < nodes.size(); ++i) {
    const NodeRecord& node = nodes[i];
    if (node.id.value() == 0 || node.metadata_replica.value() == 0 || node.address.empty()) {
      return {Kind::kInvalid};
    }
    for (size_t j = 0; j < i; ++j) {
      if (nodes[j].id == node.id || nodes[j].address == node.address ||
          nodes[j].metadata_replica == node.metadata_replica) {
        return {Kind::kInvalid};
      }
    }
  }
  cluster_id_ = born.cluster_id();
  nodes_ = std::move(nodes);
  next_replica_ = highest_replica + 1;
  return {Kind::kDone};
}

MetadataOutcome MetadataState::ApplyJoined(const meta::NodeJoined& joined) {
  if (!born()) return {Kind::kNotBorn};
  if (joined.directory_id().size() != kIdBytes) return {Kind::kInvalid};
  for (NodeRecord& node : nodes_) {
    if (node.address != joined.address()) continue;
    // Safety rule 12: a directory is written down once. A node that comes back with another one has forgotten its
    // votes.
    if (node.directory_id == joined.directory_id()) return {Kind::kAlreadySo};
    if (!node.directory_id.empty()) return {Kind::kOtherDirectory};
    node.directory_id = joined.directory_id();
    return {Kind::kDone};
  }
  return {Kind::kNoSuchNode};
}

MetadataOutcome MetadataState::ApplyCreated(const meta::QueueCreated& created) {
  if (!born()) return {Kind::kNotBorn};
  if (!ValidateQueueName(created.name()).ok() || created.node_ids().empty()) return {Kind::kInvalid};
  // Safety rule 2: decided on a state that may have been passed by.
  if (QueuePtr there = FindQueue(created.name())) return {Kind::kAlreadySo, std::move(there)};
  for (int i = 0; i < created.node_ids_size(); ++i) {
    if (FindNode(raft::NodeId(created.node_ids(i))) == nullptr) return {Kind::kNoSuchNode};
    for (int j = 0; j < i; ++j) {
      if (created.node_ids(i) == created.node_ids(j)) return {Kind::kInvalid};
    }
  }
  auto queue = std::make_shared<QueueInfo>();
  queue->name = created.name();
  queue->group = raft::GroupId(next_group_++);
  queue->settings = created.settings();
  queue->settings.set_replicas(static_cast<uint32_t>(created.node_ids_size()));
  queue->created_at_ms = created.created_at_ms();
  for (uint64_t node : created.node_ids()) {
    queue->replicas.push_back({raft::ReplicaId(next_replica_++), raft::NodeId(node)});
  }
  Insert(queue);
  return {Kind::kDone, std::move(queue)};
}

MetadataOutcome MetadataState::ApplyDeleted(const meta::QueueDeleted& deleted) {
  if (!born()) return {Kind::kNotBorn};
  auto found = queues_.find(deleted.name());
  if (found == queues_.end() || found->second->group.value() != deleted.group_id()) {
    return {Kind::kNoSuchQueue};
  }
  QueuePtr queue = found->second;
  queues_.erase(found);
  Unlist(*queue);
  std::vector<BindingPtr> bindings = routing_.DropQueue(deleted.name());
  return {Kind::kDone, std::move(queue), nullptr, std::move(bindings)};
}

// ---- replacements

QueuePtr MetadataState::WithReplaced(const QueueInfo& queue, raft::ReplicaId replica, raft::NodeId node) {
  auto changed = std::make_shared<QueueInfo>(queue);
  changed->changing = true;
  if (changed->last_born == raft::ReplicaId()) {
    for (const raft::Member& member : queue.replicas) {
      changed->last_born = std::max(changed->last_born, member.replica);
    }
  }
  for (raft::Member& member : changed->replicas) {
    if (member.replica != replica) continue;
    changed->leaving.push_back(member);
    member = {raft::ReplicaId(next_replica_++), node};
  }
  return changed;
}

MetadataOutcome MetadataState::ApplyNodeReplaced(const meta::NodeReplaced& replaced) {
  if (!born()) return {Kind::kNotBorn};
  const raft::NodeId lost(replaced.node_id());
  for (const NodeRecord& node : nodes_) {
    if (node.replaces != lost || lost == raft::NodeId()) continue;
    MetadataOutcome outcome{Kind::kAlreadySo};
    outcome.node = node.id;
    return outcome;
  }
  auto found = std::find_if(nodes_.begin(), nodes_.end(), [&](const NodeRecord& n) { return n.id == lost; });
  if (found == nodes_.end()) return {Kind::kNoSuchNode};
  NodeRecord comes{raft::NodeId(std::max(next_node_, nodes_.back().id.value() + 1)),
                   replaced.address().empty() ? found->address : replaced.address(), "", raft::ReplicaId(next_replica_),
                   lost};
  const NodeRecord* there = FindAddress(comes.address);
  if (there != nullptr && there->id != lost) return {Kind::kInUse};
  ++next_replica_;
  next_node_ = comes.id.value() + 1;
  nodes_.erase(found);
  nodes_.push_back(comes);
  MetadataOutcome outcome;
  outcome.node = comes.id;
  for (const auto& [name, queue] : queues_) {
    const raft::ReplicaId replica = queue->ReplicaOn(lost);
    if (replica != raft::ReplicaId()) outcome.queues.push_back(WithReplaced(*queue, replica, comes.id));
  }
  for (const QueuePtr& queue : outcome.queues) Exchange(queue);
  return outcome;
}

MetadataOutcome MetadataState::ApplyReplicaReplaced(const meta::ReplicaReplaced& replaced) {
  if (!born()) return {Kind::kNotBorn};
  QueuePtr queue = FindGroup(raft::GroupId(replaced.group_id()));
  if (queue == nullptr) return {Kind::kNoSuchQueue};
  auto is_it = [&](const raft::Member& member) { return member.replica.value() == replaced.replica_id(); };
  auto found = std::find_if(queue->replicas.begin(), queue->replicas.end(), is_it);
  if (found == queue->replicas.end()) {
    const bool leaves = std::any_of(queue->leaving.begin(), queue->leaving.end(), is_it);
    return {leaves ? Kind::kAlreadySo : Kind::kNoSuchReplica, queue};
  }
  MetadataOutcome outcome;
  outcome.replica = raft::ReplicaId(next_replica_);
  outcome.queue = WithReplaced(*queue, found->replica, found->node);
  outcome.queues = {outcome.queue};
  Exchange(outcome.queue);
  return outcome;
}

MetadataOutcome MetadataState::ApplyMembersChanged(const meta::MembersChanged& changed) {
  if (!born()) return {Kind::kNotBorn};
  QueuePtr queue = FindGroup(raft::GroupId(changed.group_id()));
  if (queue == nullptr) return {Kind::kNoSuchQueue};
  auto now = std::make_shared<QueueInfo>(*queue);
  auto is_member = [&](const raft::Member& member) {
    return std::find(changed.members().begin(), changed.members().end(), member.replica.value()) !=
           changed.members().end();
  };
  std::erase_if(now->leaving, [&](const raft::Member& member) { return !is_member(member); });
  // Safety rule 2: said of these replicas, and not of those that there should have been before.
  const bool settled = static_cast<size_t>(changed.members_size()) == now->replicas.size() &&
                       std::all_of(now->replicas.begin(), now->replicas.end(), is_member);
  if (settled && now->leaving.empty()) now->changing = false;
  if (now->changing == queue->changing && now->leaving.size() == queue->leaving.size())
    return {Kind::kAlreadySo, queue};
  MetadataOutcome outcome{Kind::kDone, now};
  outcome.queues = {outcome.queue};
  Exchange(now);
  return outcome;
}

void MetadataState::Exchange(QueuePtr queue) {
  Unlist(*FindGroup(queue->group));
  Insert(std::move(queue));
}

void MetadataState::Unlist(const QueueInfo& queue) {
  by_group_.erase(queue.group);
  for (const raft::Member& member : queue.leaving) replica_groups_.erase(member.replica);
  for (const raft::Member& member : queue.replicas) {
    replica_groups_.erase(member.replica);
    --loads_[member.node].replicas;
  }
  --loads_[queue.replicas.front().node].leads;
}

void MetadataState::Insert(QueuePtr queue) {
  by_group_[queue->group] = queue;
  for (const raft::Member& member : queue->leaving) replica_groups_[member.replica] = queue->group;
  for (const raft::Member& member : queue->replicas) {
    replica_groups_[member.replica] = queue->group;
    ++loads_[member.node].replicas;
  }
  ++loads_[queue->replicas.front().node].leads;
  std::string name = queue->name;
  queues_[std::move(name)] = std::move(queue);
}

MetadataState::Load MetadataState::LoadOf(raft::NodeId node) const {
  auto found = loads_.find(node);
  return found == loads_.end() ? Load() : found->second;
}

const NodeRecord* MetadataState::FindNode(raft::NodeId id) const {
  for (const NodeRecord& node : nodes_) {
    if (node.id == id) return &node;
  }
  return nullptr;
}

const NodeRecord* MetadataState::FindAddress(std::string_view address) const {
  for (const NodeRecord& node : nodes_) {
    if (node.address == address) return &node;
  }
  return nullptr;
}

QueuePtr MetadataState::FindQueue(std::string_view name) const {
  auto found = queues_.find(name);
  return found == queues_.end() ? nullptr : found->second;
}

uint64_t MetadataState::GroupOf(std::string_view queue) const {
  auto found = queues_.find(queue);
  return found == queues_.end() ? 0 : found->second->group.value();
}

QueuePtr MetadataState::FindGroup(raft::GroupId group) const {
  auto found = by_group_.find(group);
  return found == by_group_.end() ? nullptr : found->second;
}

bool MetadataState::ReplicaRemoved(raft::ReplicaId replica) const {
  if (replica.value() == 0 || replica.value() >= next_replica_) return false;
  if (replica_groups_.contains(replica)) return false;
  return std::none_of(nodes_.begin(), nodes_.end(), [&](const NodeRecord& n) { return n.metadata_replica == replica; });
}

std::string MetadataState::Snapshot() const {
  meta::Snapshot out;
  bool replacements = next_node_ != 0;
  out.set_cluster_id(cluster_id_);
  for (const NodeRecord& node : nodes_) *out.add_nodes() = ToProto(node);
  for (const auto& [name, queue] : queues_) {
    meta::Queue* q = out.add_queues();
    q->set_name(name);
    q->set_group_id(queue->group.value());
    *q->mutable_settings() = queue->settings;
    q->set_created_at_ms(queue->created_at_ms);
    for (const raft::Member& member : queue->replicas) {
      meta::Replica* replica = q->add_replicas();
      replica->set_node_id(member.node.value());
      replica->set_replica_id(member.replica.value());
    }
    for (const raft::Member& member : queue->leaving) {
      meta::Replica* replica = q->add_leaving();
      replica->set_node_id(member.node.value());
      replica->set_replica_id(member.replica.value());
    }
    q->set_last_born_replica_id(queue->last_born.value());
    q->set_changing(queue->changing);
    replacements |= queue->last_born != raft::ReplicaId();
  }
  out.set_next_group_id(next_group_);
  out.set_next_replica_id(next_replica_);
  out.set_next_node_id(next_node_);
  routing_.AddTo(&out);
  return EncodeFramed(out, replacements ? kVersionOfReplacements : routing_.used() ? kVersionOfExchanges : uint8_t{1});
}

absl::Status MetadataState::Restore(std::string_view snapshot) {
  meta::Snapshot in;
  absl::Status status = DecodeFramed(snapshot, "metadata snapshot", &in);
  if (!status.ok()) return status;
  MetadataState state;
  state.cluster_id_ = in.cluster_id();
  for (const meta::Node& node : in.nodes()) state.nodes_.push_back(FromProto(node));
  state.next_group_ = in.next_group_id();
  state.next_replica_ = in.next_replica_id();
  state.next_node_ = in.next_node_id();
  for (const meta::Queue& q : in.queues()) {
    auto queue = std::make_shared<QueueInfo>();
    queue->name = q.name();
    queue->group = raft::GroupId(q.group_id());
    queue->settings = q.settings();
    queue->created_at_ms = q.created_at_ms();
    queue->last_born = raft::ReplicaId(q.last_born_replica_id());
    queue->changing = q.changing();
    for (const meta::Replica& replica : q.leaving()) {
      queue->leaving.push_back({raft::ReplicaId(replica.replica_id()), raft::NodeId(replica.node_id())});
    }
    if (q.replicas().empty()) {
      return absl::DataLossError(
          absl::StrCat("metadata snapshot contradicts itself: queue ", q.name(), " has no replica"));
    }
    for (const meta::Replica& replica : q.replicas()) {
      queue->replicas.push_back({raft::ReplicaId(replica.replica_id()), raft::NodeId(replica.node_id())});
      if (replica.replica_id() >= state.next_replica_) {
        return absl::DataLossError(absl::StrCat("metadata snapshot contradicts itself: replica ", replica.replica_id(),
                                                " of queue ", q.name(), " is not below ", state.next_replica_));
      }
    }
    if (q.group_id() >= state.next_group_) {
      return absl::DataLossError(absl::StrCat("metadata snapshot contradicts itself: group ", q.group_id(),
                                              " of queue ", q.name(), " is not below ", state.next_group_));
    }
    state.Insert(std::move(queue));
  }
  absl::Status routing = state.routing_.Restore(in, [&state](std::string_view queue) { return state.GroupOf(queue); });
  if (!routing.ok()) return routing;
  *this = std::move(state);
  return absl::OkStatus();
}

// ---------------------------------------------------------------- machine

absl::Status MetadataMachine::Check(const raft::Entry& entry) const {
  switch (entry.type) {
    case raft::EntryType::kNoop:
      return absl::OkStatus();
    case raft::EntryType::kCommand: {
      // A command of a later version is whole, too: it may be stored here, though not applied.
      meta::Command command;
      absl::Status status = DecodeFramed(entry.data.view(), "metadata command", &command);
      return absl::IsUnimplemented(status) ? absl::OkStatus() : status;
    }
    case raft::EntryType::kConfig:
      return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat("metadata entry of type ", static_cast<int>(entry.type)));
}

absl::Status MetadataMachine::Apply(const raft::Entry& entry) {
  meta::Command command;
  MetadataOutcome outcome;
  if (entry.type == raft::EntryType::kCommand) {
    absl::StatusOr<meta::Command> decoded = DecodeMetadataCommand(entry.data.view());
    if (!decoded.ok()) {
      return absl::Status(decoded.status().code(),
                          absl::StrCat(decoded.status().message(), " (metadata index ", entry.index.value(), ")"));
    }
    command = *std::move(decoded);
    outcome = state_.Apply(command);
  }
  applied_ = entry.index;
  if (observer_ != nullptr) observer_->Applied(entry, command, outcome);
  return absl::OkStatus();
}

void MetadataMachine::AppliedBatch() {
  if (observer_ != nullptr) observer_->BatchApplied();
}

void MetadataMachine::RoleChanged(const raft::RoleChange& change, bool leading) {
  if (observer_ != nullptr) observer_->RoleChanged(change, leading);
}

raft::Bytes MetadataMachine::Snapshot() const {
  return raft::Bytes::Take(state_.Snapshot());
}

absl::Status MetadataMachine::CheckSnapshot(const raft::Bytes& snapshot, raft::Index) const {
  return MetadataState().Restore(snapshot.view());
}

absl::Status MetadataMachine::Restore(const raft::Bytes& snapshot, raft::Index index) {
  absl::Status status = state_.Restore(snapshot.view());
  if (!status.ok()) return status;
  applied_ = index;
  if (observer_ != nullptr) observer_->Restored();
  return absl::OkStatus();
}

uint64_t MetadataMachine::Digest() const {
  // Of the message alone: its frame has the version that the content needs, and a checksum.
  const std::string snapshot = state_.Snapshot();
  return uint64_t{kMetadataVersion} << 32 | raft::Crc32c(std::string_view(snapshot).substr(kFrameHeaderBytes));
}

raft::StateMachine::Liveness MetadataMachine::Live() const {
  return {applied_, {}};
}

}  // namespace trireme::broker
