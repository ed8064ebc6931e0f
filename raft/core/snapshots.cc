// Snapshots: a leader whose log no longer has what a follower needs, and a follower that is given one. Dissertation 5;
// their bytes do not pass through here.
#include <algorithm>
#include <utility>

#include "raft/core/check.h"
#include "raft/core/replica_impl.h"

namespace trireme::raft {

// ---- of the own state

void Replica::Impl::SnapshotSaved(Index index) {
  TRIREME_CHECK(index <= applied_ && index <= persisted_)
      << "a snapshot at " << index << " with " << applied_ << " applied and " << persisted_ << " durable";
  if (index <= snapshot_index_) return;
  snapshot_index_ = index;
  snapshot_term_ = log_.TermAt(index).value_or(Term());
  // Terms that a lagging follower may have to be compared with are worth their few bytes.
  log_.ForgetTermsBelow(std::min(index, all_match_));
  memberships_.ForgetBelow(index);
}

void Replica::Impl::Compacted(Index upto) {
  TRIREME_CHECK(upto <= snapshot_index_) << upto << " is above the snapshot at " << snapshot_index_;
  compacted_ = std::max(compacted_, upto);
}

// ---- for a follower

bool Replica::Impl::NeedsSnapshot(const Progress& follower) const {
  // The term of the entry before the first that is left may still be known.
  return follower.next <= compacted_ ||
         (follower.next == compacted_ + 1 && compacted_ > Index() && !PreviousTerm(follower));
}

void Replica::Impl::AskForSnapshot(Progress& follower) {
  follower.BecomeSnapshot();
  output_.snapshots.push_back({follower.id, {snapshot_index_, snapshot_term_, memberships_.At(snapshot_index_)}});
}

void Replica::Impl::SnapshotSent(ReplicaId to, Index index, bool arrived) {
  Progress* follower = FindFollower(to);
  if (follower == nullptr || follower->state != Progress::State::kSnapshot) return;
  // Either way it is asked, once it answers a heartbeat, where its log ends now; what has arrived may still be on its
  // way to its disk.
  follower->LeaveSnapshot(arrived ? index : Index());
}

// ---- from a leader

void Replica::Impl::StepSnapshot(const Message& m) {
  HeardFromLeader(m.from);
  if (install_) return;  // one at a time; the leader asks again
  const Index index = m.log_index;
  if (index <= commit_ || log_.TermAt(index) == m.log_term) {
    // The log has what the snapshot ends with, and so all before it (Log Matching).
    AdvanceCommit(index);
    Acknowledge(m.from, commit_);
    return;
  }
  install_ = Install{.snapshot = {index, m.log_term, *m.membership}};
  // What was to be said once the writes before are durable waits for the install as well.
  held_ = std::exchange(output_.send_after_persist, {});
  acknowledgement_.reset();
}

void Replica::Impl::TakeInstall() {
  install_->handed = true;
  handed_hard_state_ = {term_, voted_for_, install_->snapshot.index};
  output_.hard_state = handed_hard_state_;
  output_.install = install_->snapshot;
}

void Replica::Impl::SnapshotInstalled(Index index) {
  TRIREME_CHECK(install_ && install_->handed && install_->snapshot.index == index)
      << "no snapshot at " << index << " is being installed";
  const SnapshotMeta snapshot = std::move(install_->snapshot);
  TRIREME_CHECK(commit_ < index) << "installed a snapshot at " << index << " below the commit index " << commit_;
  log_.Reset(index, snapshot.term);
  memberships_.Reset(index, snapshot.membership);
  MembershipChanged();
  snapshot_index_ = compacted_ = persisted_ = handed_ = commit_ = applied_ = index;
  snapshot_term_ = snapshot.term;
  next_apply_ = index + 1;
  apply_reading_ = false;
  output_.committed.clear();
  durable_term_ = handed_hard_state_.term;
  durable_vote_ = handed_hard_state_.voted_for;
  EndInstall();
  // Safety rule 13: only now does this replica count as having it.
  if (leader_ != ReplicaId()) Acknowledge(leader_, index);
}

void Replica::Impl::SnapshotRefused(Index index) {
  if (!install_ || install_->snapshot.index != index) return;
  // Not known to be durable: it goes out again.
  handed_hard_state_ = {durable_term_, durable_vote_, std::min(commit_, persisted_)};
  EndInstall();
}

void Replica::Impl::EndInstall() {
  install_.reset();
  for (Message& message : held_) output_.send_after_persist.push_back(std::move(message));
  held_.clear();
  held_.shrink_to_fit();
}

}  // namespace trireme::raft
