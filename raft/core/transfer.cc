// Leadership transfer: dissertation 3.10.
#include <algorithm>

#include "raft/core/replica_impl.h"

namespace trireme::raft {

std::optional<TransferError> Replica::Impl::TransferLeadership(ReplicaId target) {
  Leading* leader = leading();
  if (leader == nullptr) return TransferError::kNotLeader;
  if (target == config_.id || (leader->transfer && leader->transfer->target == target)) return std::nullopt;
  if (!membership().Votes(target)) return TransferError::kNotVoter;
  if (leader->transfer || !MembershipCommitted() || membership().joint()) return TransferError::kUnderWay;
  if (!IsCaughtUp(*FindFollower(target))) return TransferError::kNotCaughtUp;
  leader->transfer = {.target = target};
  quiet_ = false;
  return std::nullopt;
}

void Replica::Impl::TransferTick() {
  Leading& leader = *leading();
  if (leader.transfer && ++leader.transfer->ticks >= config_.election_ticks) leader.transfer.reset();
}

void Replica::Impl::LeaveToFasterDisk() {
  if (stalled_ticks_ < config_.election_ticks || leading()->transfer) return;
  if (ReplicaId successor = BestSuccessor(); successor != ReplicaId()) TransferLeadership(successor);
}

void Replica::Impl::AbandonTransfer(ReplicaId target) {
  Leading& leader = *leading();
  if (leader.transfer && leader.transfer->target == target) leader.transfer.reset();
}

bool Replica::Impl::MustTellTarget() const {
  const Leading& leader = *leading();
  if (!leader.transfer || leader.transfer->told) return false;
  const Progress* target = FindFollower(leader.transfer->target);
  return target != nullptr && target->match == log_.last_index() && commit_ == log_.last_index();
}

void Replica::Impl::TellTarget() {
  Transfer& transfer = *leading()->transfer;
  transfer.told = true;
  SendTimeoutNow(transfer.target);
}

void Replica::Impl::SendTimeoutNow(ReplicaId target) {
  leading()->lease_given_up = true;
  Send({.type = MessageType::kTimeoutNow, .to = target});
}

ReplicaId Replica::Impl::BestSuccessor() const {
  const Progress* best = nullptr;
  for (const Progress& follower : leading()->followers) {
    const bool may_lead = CountsIn(follower.standing, Half::kNew) && IsCaughtUp(follower);
    if (may_lead && (best == nullptr || follower.match > best->match)) best = &follower;
  }
  return best == nullptr ? ReplicaId() : best->id;
}

bool Replica::Impl::MayHaveSuccessor() const {
  const std::vector<Progress>& followers = leading()->followers;
  return std::any_of(followers.begin(), followers.end(), [this](const Progress& f) {
    return CountsIn(f.standing, Half::kNew) && !f.down && f.silent_ticks < config_.election_ticks;
  });
}

void Replica::Impl::StepTimeoutNow() {
  if (CanCampaign()) StartVote(true);
}

}  // namespace trireme::raft
