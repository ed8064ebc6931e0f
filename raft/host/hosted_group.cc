#include "raft/host/hosted_group.h"

#include <utility>

#include "raft/host/host_core.h"

namespace trireme::raft {
namespace {

Config WithSupport(Config config, const Support* support) {
  config.support = support;
  return config;
}

}  // namespace

HostedGroup::HostedGroup(HostCore* host, GroupSpec spec, std::unique_ptr<StateMachine> its_machine, Config config,
                         const Restored& restored)
    : machine(std::move(its_machine)),
      replica(WithSupport(std::move(config), this), restored),
      host_(host),
      spec_(std::move(spec)) {}

NodeId HostedGroup::NodeOf(ReplicaId which) const {
  if (const Member* member = membership().Find(which)) return member->node;
  for (const Member& member : spec_.members) {
    if (member.replica == which) return member.node;
  }
  return NodeId();
}

ReplicaId HostedGroup::ReplicaOn(NodeId node) const {
  // Of one that joins, whoever it hears from first.
  for (const Member& member : membership().members.empty() ? spec_.members : membership().members) {
    if (member.node == node) return member.replica;
  }
  return ReplicaId();
}

size_t HostedGroup::max_uncommitted_bytes() const {
  return host_->options().max_uncommitted_bytes;
}

bool HostedGroup::disk_low() const {
  return host_->DiskLow(*this);
}

NodeId HostedGroup::leader_node() const {
  if (leading()) return NodeOf(replica.id());
  if (replica.leader() == ReplicaId() && replica.term() == handed_in + 1) return NodeOf(handed_to);
  return Gives(replica.leader()) ? NodeOf(replica.leader()) : NodeId();
}

bool HostedGroup::Gives(ReplicaId leader) const {
  return host_->liveness().Gives(NodeOf(leader), leader_incarnation);
}

bool HostedGroup::Gets(ReplicaId follower) const {
  return host_->liveness().Gets(NodeOf(follower));
}

void HostedGroup::WantLeader() {
  host_->WantLeader(this);
}

bool HostedGroup::cut_off() const {
  return host_->CutOff(*this);
}

Proposed HostedGroup::Propose(std::vector<Bytes> commands, bool urgent) {
  if (!live()) return {.error = ProposeError::kNotLeader};
  host_->CountProposal();
  // One that comes alone passes here, too, for the next one waits for it.
  if (!urgent && host_->Congested() && replica.uncommitted_bytes() > 0) {
    return {.error = ProposeError::kTooMuchUncommitted};
  }
  Proposed proposed = replica.Propose(std::move(commands), urgent);
  if (!proposed.error.has_value()) {
    host_->Wake(this);
    host_->MarkDirty(this);
  }
  return proposed;
}

std::optional<MembershipError> HostedGroup::ProposeMembers(std::vector<Member> target) {
  if (!live()) return MembershipError::kNotLeader;
  const MembershipProposed proposed = replica.ProposeMembership({std::move(target)});
  host_->Wake(this);
  host_->MarkDirty(this);
  return proposed.error;
}

void HostedGroup::ReadBarrier(absl::AnyInvocable<void(absl::Status)> done) {
  if (!live()) {
    done(halted_.ok() ? absl::UnavailableError("the replica is not there") : halted_);
    return;
  }
  new_barriers.push_back(std::move(done));
  if (replica.role() == Role::kLeader) host_->Wake(this);
  host_->MarkDirty(this);
}

void HostedGroup::ReadEntries(Index first, Index last, size_t max_bytes, LogStore::ReadDone done) {
  host_->ReadEntries(this, first, last, max_bytes, std::move(done));
}

void HostedGroup::ScanRows(std::string from, std::string to, size_t max_bytes, IndexRows::ScanDone done) {
  host_->ScanRows(this, std::move(from), std::move(to), max_bytes, std::move(done));
}

void HostedGroup::StepDown() {
  if (!live() || replica.role() != Role::kLeader) return;
  replica.StepDown();
  host_->Wake(this);
  host_->MarkDirty(this);
}

}  // namespace trireme::raft
