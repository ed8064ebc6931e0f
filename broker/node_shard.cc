#include "broker/node_shard.h"

#include <utility>

#include "raft/core/check.h"

namespace trireme::broker {

void NodeShard::BecomeMember(const raft::TransportOptions& transport, const raft::HostOptions& host,
                             raft::LogStore* store, raft::SnapshotStaging* staging, raft::IndexRows* rows,
                             const raft::PeerDirectory* directory, const MetadataView* view) {
  TRIREME_CHECK(host_ == nullptr) << "shard " << loop_.id() << " became a member twice";
  transport_ = std::make_unique<raft::GrpcTransport>(transport, &loop_, directory);
  host_ = std::make_unique<raft::Host>(host, &loop_, store, staging, rows, transport_.get());
  leaders_ = std::make_unique<Leaders>(
      host.node, &loop_, view, [this](raft::GroupId group) { return host_->Find(group); }, &client_);
}

absl::StatusOr<raft::Group*> NodeShard::Start(const raft::GroupSpec& spec, std::unique_ptr<raft::StateMachine> machine,
                                              std::optional<raft::StoredGroup> stored) {
  absl::StatusOr<raft::Group*> group = host_->Add(spec, std::move(machine), std::move(stored));
  if (group.ok()) groups_[spec.group] = *group;
  return group;
}

void NodeShard::Remove(raft::GroupId group) {
  groups_.erase(group);
  leaders_->Forget(group);
  host_->Remove(group);
}

void NodeShard::ForEach(absl::FunctionRef<void(raft::Group*)> visit) const {
  for (const auto& [id, group] : groups_) visit(group);
}

void NodeShard::Measure(NodeMetrics& metrics) const {
  if (host_ == nullptr) return;
  metrics.Take(loop_.id(), host_->figures(), transport_->figures());
}

void NodeShard::KeepMembers(const MetadataView& view, const ReportMembers& report) const {
  if (host_ == nullptr) return;
  broker::KeepMembers(
      view, [this](raft::GroupId group) { return host_->Find(group); }, report);
}

void NodeShard::Close() {
  groups_.clear();
  leaders_.reset();
  host_.reset();
}

}  // namespace trireme::broker
