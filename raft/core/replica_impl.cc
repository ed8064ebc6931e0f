#include "raft/core/replica_impl.h"

#include <algorithm>
#include <utility>

#include "raft/core/check.h"

namespace trireme::raft {

bool Output::empty() const {
  return !hard_state && entries.empty() && send_now.empty() && send_after_persist.empty() && committed.empty() &&
         reads.empty() && read_ready.empty() && snapshots.empty() && !install && !role && !membership;
}

namespace {

std::vector<MembershipAt> RestoreMemberships(const Config& config, const Restored& restored) {
  std::vector<MembershipAt> history = restored.memberships;
  // Until the first that the log has, the one of the group's birth was in force.
  if (history.empty() || history.front().index > restored.snapshot_index) {
    history.insert(history.begin(), {Index(), config.birth});
  }
  for (size_t i = 1; i < history.size(); ++i) TRIREME_CHECK(history[i - 1].index < history[i].index);
  TRIREME_CHECK(history.back().index <= restored.last_index)
      << "a membership at " << history.back().index << " in a log that ends at " << restored.last_index;
  return history;
}

}  // namespace

Replica::Impl::Impl(const Config& config, const Restored& restored)
    : config_(config),
      random_(config.seed * 0x9e3779b97f4a7c15 + config.id.value()),
      log_(restored),
      memberships_(RestoreMemberships(config, restored)),
      term_(restored.hard_state.term),
      voted_for_(restored.hard_state.voted_for),
      commit_(std::min(std::max(restored.hard_state.commit, restored.snapshot_index), restored.last_index)),
      durable_term_(term_),
      durable_vote_(voted_for_),
      handed_hard_state_(restored.hard_state),
      persisted_(restored.last_index),
      handed_(restored.last_index),
      applied_(restored.snapshot_index),
      next_apply_(restored.snapshot_index + 1),
      snapshot_index_(restored.snapshot_index),
      snapshot_term_(restored.snapshot_term),
      compacted_(restored.compacted) {
  TRIREME_CHECK(log_.last_term() <= term_)
      << "the log's last term " << log_.last_term() << " is above the term " << term_;
  TRIREME_CHECK(compacted_ <= snapshot_index_)
      << "entries up to " << compacted_ << " are gone, and the snapshot is at " << snapshot_index_;
  TRIREME_CHECK(config_.election_ticks > config_.heartbeat_ticks && config_.heartbeat_ticks > 0);
  // What was promised before a restart is not known any more.
  if (term_ > Term()) promise_.Make(ReplicaId(), config_.lease, Monotonic());
  reported_role_ = CurrentRole();
  ResetElectionTimer();
}

RoleChange Replica::Impl::CurrentRole() const {
  return {role_, term_, leader_};
}

void Replica::Impl::Tick() {
  apply_read_failed_ = false;
  stalled_ticks_ = writes_.empty() ? 0 : stalled_ticks_ + 1;
  if (leading()) return LeaderTick();
  if (config_.support != nullptr && SupportsLeader() && !leader_lost_) return SupportingTick();
  if (leader_lost_) ++lost_ticks_;
  // No further, for one that may not campaign.
  election_elapsed_ = std::min(election_elapsed_ + 1, election_timeout_ + config_.election_ticks);
  if (election_elapsed_ < election_timeout_) return;
  if (!CanCampaign()) {
    leader_ = ReplicaId();
  } else if (!MustLetOthersGoFirst() && !PromiseForbids(config_.id)) {
    StartPreVote();
  }
}

void Replica::Impl::Step(Message message) {
  if (!Plausible(message)) {
    ++dropped_;
    return;
  }
  if (message.term > term_) {
    switch (message.type) {
      case MessageType::kPreVote:
        break;  // asks about a term that nobody is in yet
      case MessageType::kPreVoteResponse:
        if (message.reject) BecomeFollower(message.term, ReplicaId());
        break;
      case MessageType::kVote:
        if (!message.leader_asked && PromiseForbids(message.from)) return;
        // Dissertation 4.2.3: who hears from a leader is not drawn into an election.
        if (SupportsAgainst(message)) return;
        BecomeFollower(message.term, ReplicaId());
        break;
      case MessageType::kAppend:
      case MessageType::kHeartbeat:
      case MessageType::kTimeoutNow:
      case MessageType::kSnapshot:
        BecomeFollower(message.term, message.from);
        break;
      default:
        BecomeFollower(message.term, ReplicaId());
        break;
    }
  } else if (message.term < term_) {
    // Tell one that was deposed, or that campaigns in the past; answers to what we asked in an earlier term are void.
    if (SaidByLeader(message.type) && message.type != MessageType::kTimeoutNow) {
      Send({.type = MessageType::kHeartbeatResponse, .to = message.from});
      return;
    }
    if (message.type == MessageType::kHeartbeatResponse && message.term == led_) return ResignTo(message.from);
    if (message.type != MessageType::kPreVote && message.type != MessageType::kVote) return;
  }
  if (Wakes(message)) quiet_ = false;
  switch (message.type) {
    case MessageType::kPreVote:
    case MessageType::kVote:
      return StepVoteRequest(message);
    case MessageType::kPreVoteResponse:
    case MessageType::kVoteResponse:
      return StepVoteResponse(message);
    case MessageType::kAppend:
      return StepAppend(message);
    case MessageType::kAppendResponse:
      return StepAppendResponse(message);
    case MessageType::kHeartbeat:
      return StepHeartbeat(message);
    case MessageType::kHeartbeatResponse:
      return StepHeartbeatResponse(message);
    case MessageType::kTimeoutNow:
      return StepTimeoutNow();
    case MessageType::kSnapshot:
      return StepSnapshot(message);
    case MessageType::kResign:
      return StepResign(message);
  }
}

void Replica::Impl::Persisted(Index last, Term term) {
  TRIREME_CHECK(!writes_.empty()) << "no write is under way";
  const PendingWrite write = writes_.front();
  writes_.pop_front();
  stalled_ticks_ = 0;
  if (write.handed_last != Index()) {
    TRIREME_CHECK(last == write.handed_last && term == write.handed_term)
        << "writes complete in order: " << write.handed_last << " of term " << write.handed_term << " is next, not "
        << last << " of term " << term;
  }
  persisted_ = std::max(persisted_, write.last);
  durable_term_ = write.term;
  durable_vote_ = write.voted_for;
  if (role_ == Role::kCandidate && durable_term_ == term_ && durable_vote_ == config_.id) {
    RecordVote(config_.id, true);
  } else if (leading()) {
    MaybeCommit();
    UpdateUncommitted();
    UpdateAllMatch();
  }
}

void Replica::Impl::SetClock(Monotonic now) {
  clock_ = std::max(clock_, now);
  promise_.Advance(clock_);
}

void Replica::Impl::Applied(Index index) {
  TRIREME_CHECK(index < next_apply_) << index << " was not handed out, " << next_apply_ << " is next";
  applied_ = std::max(applied_, index);
}

bool Replica::Impl::FitsLog(Index first, const std::vector<Entry>& entries) const {
  for (const Entry& entry : entries) {
    if (entry.index != first || first > log_.last_index()) return false;
    std::optional<Term> term = log_.TermAt(first);
    if (term && *term != entry.term) return false;
    ++first;
  }
  return true;
}

void Replica::Impl::EntriesRead(const EntryRead& read, std::vector<Entry> entries) {
  // The log may have changed under a read that took its time.
  if (!FitsLog(read.first, entries)) entries.clear();
  if (read.purpose == EntryRead::For::kFollower) return FollowerEntriesRead(read, std::move(entries));
  if (!apply_reading_ || read.first != next_apply_) return;
  apply_reading_ = false;
  apply_read_failed_ = entries.empty();
  for (Entry& entry : entries) {
    if (entry.index > commit_) break;
    ++next_apply_;
    output_.committed.push_back(std::move(entry));
  }
}

Index Replica::Impl::TrimTail(Index index, bool even_unsent) {
  index = std::min({index, persisted_, applied_});
  if (const Leading* leader = leading(); leader != nullptr && !even_unsent) {
    for (const Progress& follower : leader->followers) {
      // One that is further behind is sent what is read from disk, and needs nothing that is held.
      if (follower.state == Progress::State::kReplicate && follower.next >= log_.first_held()) {
        index = std::min(index, follower.next - 1);
      }
    }
  }
  log_.Trim(index);
  if (log_.first_held() > log_.last_index()) log_.Shrink();
  return log_.first_held();
}

void Replica::Impl::Send(Message message) {
  message.from = config_.id;
  if (message.term == Term()) message.term = term_;
  // Nothing speaks for a term or vote that a crash could take back.
  auto& later = install_ ? held_ : output_.send_after_persist;
  (TermAndVoteDurable() ? output_.send_now : later).push_back(std::move(message));
}

void Replica::Impl::AppendEntry(Entry entry) {
  if (entry.type == EntryType::kConfig) {
    std::optional<Membership> membership = DecodeMembership(entry.data.view());
    TRIREME_CHECK(membership.has_value()) << "no membership in the entry at " << entry.index;
    memberships_.Append(entry.index, *std::move(membership));
    MembershipChanged();
  }
  log_.Append(std::move(entry));
}

void Replica::Impl::TruncateFrom(Index first) {
  log_.TruncateFrom(first);
  if (memberships_.TruncateFrom(first)) MembershipChanged();
  persisted_ = std::min(persisted_, first - 1);
  handed_ = std::min(handed_, first - 1);
  for (size_t i = 0; i < writes_.size(); ++i) writes_[i].last = std::min(writes_[i].last, first - 1);
  if (acknowledgement_) acknowledgement_->log_index = std::min(acknowledgement_->log_index, first - 1);
}

void Replica::Impl::AdvanceCommit(Index index) {
  // What a snapshot covers is committed with it.
  if (install_) index = std::min(index, install_->snapshot.index - 1);
  if (index <= commit_) return;
  TRIREME_CHECK(index <= log_.last_index()) << index << " is above the last index " << log_.last_index();
  commit_ = index;
}

bool Replica::Impl::CommittedAtHand() const {
  return next_apply_ <= commit_ && next_apply_ >= log_.first_held();
}

bool Replica::Impl::NeedsApplyRead() const {
  // One at a time, and not before the last one was applied, which bounds the memory that catching up takes.
  return next_apply_ <= commit_ && next_apply_ < log_.first_held() && !apply_reading_ && !apply_read_failed_ &&
         applied_ + 1 == next_apply_;
}

void Replica::Impl::TakeCommitted() {
  if (CommittedAtHand()) {
    output_.committed.reserve(output_.committed.size() + (commit_ + 1 - next_apply_));
    for (; next_apply_ <= commit_; ++next_apply_) output_.committed.push_back(*log_.Find(next_apply_));
  } else if (NeedsApplyRead()) {
    apply_reading_ = true;
    output_.reads.push_back({.purpose = EntryRead::For::kApply,
                             .follower = ReplicaId(),
                             .first = next_apply_,
                             .last = std::min(commit_, log_.first_held() - 1),
                             .max_bytes = config_.max_append_bytes});
  }
}

bool Replica::Impl::WantsHardState(bool with_entries) const {
  if (handed_hard_state_.term != term_ || handed_hard_state_.voted_for != voted_for_) return true;
  return with_entries && handed_hard_state_.commit < std::min(commit_, persisted_);
}

bool Replica::Impl::WantsWrite() const {
  // A snapshot is installed when all writes before it are durable, and none goes out meanwhile.
  if (install_) return !install_->handed && writes_.empty();
  return handed_ < log_.last_index() || WantsHardState(false);
}

bool Replica::Impl::HasOutput() const {
  return !output_.empty() || membership_news_ || WantsWrite() || acknowledgement_ || CommittedAtHand() ||
         NeedsApplyRead() || reported_role_ != CurrentRole() || LeaderHasOutput();
}

Output Replica::Impl::TakeOutput() {
  LeaderOutput();
  TakeCommitted();
  if (acknowledgement_) {
    bool durable = TermAndVoteDurable() && acknowledgement_->log_index <= persisted_;
    (durable ? output_.send_now : output_.send_after_persist).push_back(std::move(*acknowledgement_));
    acknowledgement_.reset();
  }
  if (reported_role_ != CurrentRole()) {
    reported_role_ = CurrentRole();
    output_.role = reported_role_;
  }
  if (std::exchange(membership_news_, false)) {
    output_.membership = MembershipAt{memberships_.index(), membership()};
  }
  if (install_) {
    if (WantsWrite()) TakeInstall();
    return std::exchange(output_, Output());
  }
  const bool has_entries = handed_ < log_.last_index();
  if (WantsHardState(has_entries)) {
    handed_hard_state_ = {term_, voted_for_, std::max(handed_hard_state_.commit, std::min(commit_, persisted_))};
    output_.hard_state = handed_hard_state_;
  }
  if (has_entries) {
    output_.entries.reserve(log_.last_index() - handed_);
    while (handed_ < log_.last_index()) output_.entries.push_back(*log_.Find(++handed_));
  }
  if (has_entries || output_.hard_state) {
    writes_.push_back({.handed_last = has_entries ? handed_ : Index(),
                       .handed_term = has_entries ? log_.last_term() : Term(),
                       .last = has_entries ? handed_ : Index(),
                       .term = term_,
                       .voted_for = voted_for_});
  }
  return std::exchange(output_, Output());
}

}  // namespace trireme::raft
