#include "raft/core/replica.h"

#include <algorithm>
#include <utility>

#include "raft/core/check.h"
#include "raft/core/replica_impl.h"

namespace trireme::raft {

Replica::Replica(const Config& config, const Restored& restored) : impl_(std::make_unique<Impl>(config, restored)) {}
Replica::~Replica() = default;

void Replica::SetClock(Monotonic now) {
  impl_->SetClock(now);
}
std::optional<Index> Replica::LeaseRead(Monotonic now) const {
  if (!impl_->LeaseHolds(now)) return std::nullopt;
  return impl_->commit_;
}
void Replica::Tick() {
  impl_->Tick();
}
void Replica::Step(Message message) {
  impl_->Step(std::move(message));
}
Proposed Replica::Propose(std::vector<Bytes> commands, bool urgent) {
  return impl_->Propose(std::move(commands), urgent);
}
MembershipProposed Replica::ProposeMembership(std::vector<Member> target) {
  return impl_->ProposeMembership({std::move(target)});
}
std::optional<TransferError> Replica::TransferLeadership(ReplicaId target) {
  return impl_->TransferLeadership(target);
}
void Replica::ReadIndex(uint64_t context) {
  impl_->ReadIndex(context);
}
void Replica::Campaign() {
  if (!impl_->leading() && impl_->CanCampaign() && !impl_->PromiseForbids(id())) impl_->StartPreVote();
}
void Replica::StepDown() {
  if (!impl_->leading()) return;
  impl_->Resign();
  impl_->BecomeFollower(impl_->term_, ReplicaId());
  // The others go first.
  impl_->election_timeout_ += impl_->config_.election_ticks;
}
void Replica::PeerDown(ReplicaId peer) {
  if (impl_->leading()) {
    if (Progress* follower = impl_->FindFollower(peer)) {
      if (follower->state != Progress::State::kSnapshot) follower->BecomeProbe();
      follower->down = true;
      impl_->AbandonTransfer(peer);
    }
  } else if (peer == impl_->leader_ && peer != ReplicaId()) {
    impl_->LeaderConnectionClosed();
  }
}
void Replica::PeerUp(ReplicaId peer) {
  if (impl_->leading()) {
    if (Progress* follower = impl_->FindFollower(peer)) {
      follower->down = false;
      follower->paused = false;
    }
  } else if (peer == impl_->leader_ && impl_->leader_lost_) {
    impl_->leader_lost_ = false;
    impl_->ResetElectionTimer();
  }
}
void Replica::Persisted(Index last, Term term) {
  impl_->Persisted(last, term);
}
void Replica::Applied(Index index) {
  impl_->Applied(index);
}
void Replica::EntriesRead(const EntryRead& read, std::vector<Entry> entries) {
  impl_->EntriesRead(read, std::move(entries));
}
void Replica::SnapshotSaved(Index index) {
  impl_->SnapshotSaved(index);
}
void Replica::Compacted(Index upto) {
  impl_->Compacted(upto);
}
void Replica::SnapshotSent(ReplicaId follower, Index index, bool arrived) {
  impl_->SnapshotSent(follower, index, arrived);
}
void Replica::SnapshotInstalled(Index index) {
  impl_->SnapshotInstalled(index);
}
void Replica::SnapshotRefused(Index index) {
  impl_->SnapshotRefused(index);
}
Index Replica::TrimTail(Index index, bool even_unsent) {
  return impl_->TrimTail(index, even_unsent);
}

bool Replica::HasOutput() const {
  return impl_->HasOutput();
}
Output Replica::TakeOutput() {
  return impl_->TakeOutput();
}

ReplicaId Replica::id() const {
  return impl_->config_.id;
}
Role Replica::role() const {
  return impl_->role_;
}
Term Replica::term() const {
  return impl_->term_;
}
ReplicaId Replica::leader() const {
  return impl_->leader_;
}
Index Replica::commit_index() const {
  return impl_->commit_;
}
Index Replica::applied_index() const {
  return impl_->applied_;
}
Index Replica::last_index() const {
  return impl_->log_.last_index();
}
Index Replica::persisted_index() const {
  return impl_->persisted_;
}
std::optional<Index> Replica::MatchOf(ReplicaId follower) const {
  const Progress* progress = impl_->leading() == nullptr ? nullptr : impl_->FindFollower(follower);
  return progress == nullptr ? std::nullopt : std::optional(progress->match);
}
Index Replica::all_match() const {
  return impl_->all_match_;
}
Message Replica::SnapshotMessage(ReplicaId to, const SnapshotMeta& snapshot) const {
  return {.type = MessageType::kSnapshot,
          .from = impl_->config_.id,
          .to = to,
          .term = impl_->term_,
          .log_index = snapshot.index,
          .log_term = snapshot.term,
          .membership = std::make_shared<const Membership>(snapshot.membership)};
}
const Membership& Replica::membership() const {
  return impl_->membership();
}
Index Replica::membership_index() const {
  return impl_->memberships_.index();
}
const Membership& Replica::MembershipAsOf(Index index) const {
  return impl_->memberships_.At(index);
}
bool Replica::transferring() const {
  const Impl::Leading* leader = impl_->leading();
  return leader != nullptr && leader->transfer.has_value();
}
ReplicaId Replica::BestSuccessor() const {
  return impl_->leading() == nullptr ? ReplicaId() : impl_->BestSuccessor();
}
bool Replica::MayHaveSuccessor() const {
  return impl_->leading() != nullptr && impl_->MayHaveSuccessor();
}
bool Replica::leading() const {
  const Impl::Leading* leader = impl_->leading();
  return leader != nullptr && impl_->applied_ >= leader->first_own;
}
size_t Replica::uncommitted_bytes() const {
  const Impl::Leading* leader = impl_->leading();
  return leader == nullptr ? 0 : leader->uncommitted_bytes;
}
const Entry* Replica::TailEntry(Index index) const {
  return impl_->log_.Find(index);
}
Term Replica::TermAt(Index index) const {
  return impl_->log_.TermAt(index).value_or(Term());
}
size_t Replica::tail_bytes() const {
  return impl_->log_.bytes();
}
bool Replica::disk_stalled() const {
  return impl_->DiskStalled();
}
uint64_t Replica::dropped() const {
  return impl_->dropped_;
}

}  // namespace trireme::raft
