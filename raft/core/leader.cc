#include <algorithm>
#include <limits>
#include <utility>

#include "raft/core/replica_impl.h"

namespace trireme::raft {

const Progress* Replica::Impl::FindFollower(ReplicaId replica) const {
  if (const Leading* leader = leading()) {
    for (const Progress& follower : leader->followers) {
      if (follower.id == replica) return &follower;
    }
  }
  return nullptr;
}

void Replica::Impl::LeaderTick() {
  Leading& leader = *leading();
  for (Progress& follower : leader.followers) {
    follower.read_failed = false;
    CountSilence(follower);
    if (follower.silent_ticks >= config_.election_ticks && follower.state == Progress::State::kReplicate) {
      follower.BecomeProbe();  // so that what waits to be sent to it need not stay in memory
    }
    if (follower.inflight.count() == 0) follower.inflight.Shrink();
  }
  // Dissertation 6.2: a leader that hears from no quorum within an election timeout leaves its clients to another.
  const uint64_t quorum_heard =
      QuorumReached(1, [this](const Progress& f) { return f.silent_ticks < config_.election_ticks ? 1 : 0; });
  if (quorum_heard == 0) return BecomeFollower(term_, ReplicaId());
  TransferTick();
  LeaveToFasterDisk();
  leader.commit_at_tick = std::max(leader.commit_at_tick, commit_);
  if (++leader.heartbeat_elapsed >= config_.heartbeat_ticks) {
    leader.heartbeat_elapsed = 0;
    leader.heartbeat_due = config_.support == nullptr && !leader.followers.empty();
  }
  QuietTick();
}

void Replica::Impl::AppendOwn(EntryType type, Bytes data) {
  Entry entry{.term = term_, .index = log_.last_index() + 1, .type = type, .data = std::move(data)};
  leading()->uncommitted_bytes += EntryBytes(entry);
  AppendEntry(std::move(entry));
}

Proposed Replica::Impl::Propose(std::vector<Bytes> commands, bool urgent) {
  Leading* leader = leading();
  if (leader == nullptr) return {.error = ProposeError::kNotLeader, .first = {}, .term = {}};
  if (leader->transfer) return {.error = ProposeError::kTransferring, .first = {}, .term = {}};
  quiet_ = false;
  size_t bytes = 0;
  for (const Bytes& command : commands) bytes += command.size() + kEntryOverheadBytes;
  // Safety rule 19: settling has room where publishing has none. What is larger than the cap passes alone.
  size_t cap = config_.max_uncommitted_bytes + (urgent ? config_.max_uncommitted_bytes / 4 : 0);
  if (leader->uncommitted_bytes > 0 && leader->uncommitted_bytes + bytes > cap) {
    return {.error = ProposeError::kTooMuchUncommitted, .first = {}, .term = {}};
  }
  const Index first = log_.last_index() + 1;
  for (Bytes& command : commands) {
    log_.Append({.term = term_, .index = log_.last_index() + 1, .data = std::move(command)});
  }
  leader->uncommitted_bytes += bytes;
  return {.error = std::nullopt, .first = first, .term = term_};
}

void Replica::Impl::ReadIndex(uint64_t context) {
  if (Leading* leader = leading()) {
    quiet_ = false;
    leader->reads.Add(context);
  } else {
    output_.read_ready.push_back({context, std::nullopt});
  }
}

void Replica::Impl::StepAppendResponse(const Message& m) {
  Progress* follower = FindFollower(m.from);
  if (follower == nullptr) return;
  follower->silent_ticks = 0;
  follower->following = true;
  follower->quiet_at = Index();
  follower->down = false;
  if (m.reject) {
    follower->Refuse(m.log_index, log_.LastAtMost(m.hint_index, m.hint_term));
    return;
  }
  if (m.log_index < follower->match) return;
  bool news = follower->Acknowledge(m.log_index);
  // One that was given a snapshot goes on from it.
  if (follower->state == Progress::State::kProbe ||
      (follower->state == Progress::State::kSnapshot && !NeedsSnapshot(*follower))) {
    follower->BecomeReplicate();
  }
  if (!news) return;
  MaybeCommit();
  UpdateUncommitted();
  UpdateAllMatch();
}

void Replica::Impl::StepHeartbeatResponse(const Message& m) {
  if (m.term == led_) return ResignTo(m.from);
  Progress* follower = FindFollower(m.from);
  if (follower == nullptr) return;
  follower->silent_ticks = 0;
  follower->following = true;
  follower->down = false;
  follower->paused = false;
  follower->quiet_at = m.quiet ? m.log_index : Index();
  if (follower->state == Progress::State::kReplicate) {
    // Appends are under way and nothing was acknowledged for a heartbeat: the last of them may have been lost.
    follower->ask = follower->match == follower->match_at_heartbeat && follower->next > follower->match + 1;
  }
  follower->match_at_heartbeat = follower->match;
  follower->promised_at = std::max(follower->promised_at, m.lease_sent);
  if (m.read_context > follower->read_acknowledged) {
    follower->read_acknowledged = m.read_context;
    ConfirmReads();
  }
}

void Replica::Impl::MaybeCommit() {
  const Leading& leader = *leading();
  // The leader's own disk is one of the quorum, and not a special one.
  Index index(QuorumReached(persisted_.value(), [](const Progress& f) { return f.match.value(); }));
  // Only entries of the own term are committed by counting (Raft section 5.4.2).
  if (index > commit_ && index >= leader.first_own) AdvanceCommit(index);
}

void Replica::Impl::UpdateUncommitted() {
  Leading& leader = *leading();
  for (const Index upto = std::min(commit_, persisted_); leader.charged_above < upto;) {
    if (const Entry* entry = log_.Find(++leader.charged_above)) leader.uncommitted_bytes -= EntryBytes(*entry);
  }
}

void Replica::Impl::UpdateAllMatch() {
  Index least = std::min(persisted_, commit_);
  for (const Progress& follower : leading()->followers) least = std::min(least, follower.match);
  // One less: an entry that may be deleted cannot tell its term any more, and the last one that a follower has is
  // the one that the next is joined to.
  if (least > Index()) all_match_ = std::max(all_match_, least - 1);
}

bool Replica::Impl::CanStartReads() const {
  return leading()->reads.waiting() && commit_ >= leading()->first_own;
}

void Replica::Impl::ConfirmReads() {
  Leading& leader = *leading();
  if (!leader.reads.open()) return;
  const uint64_t round =
      QuorumReached(std::numeric_limits<uint64_t>::max(), [](const Progress& f) { return f.read_acknowledged; });
  leader.reads.Confirm(round, output_.read_ready);
}

// A quorum voted for nobody else since the time that it answers for, and will not for a while; so what is committed
// here is all that is. Their clocks may be fast, ours slow.
bool Replica::Impl::LeaseHolds(Monotonic now) const {
  const Leading* leader = leading();
  if (leader == nullptr || leader->transfer || leader->lease_given_up || commit_ < leader->first_own) return false;
  const int drift = config_.lease_drift_percent;
  const Monotonic length = Monotonic(config_.lease) * (100 - drift) / (100 + drift);
  const uint64_t quorum_since = QuorumReached(static_cast<uint64_t>(now.count()), [](const Progress& f) {
    return static_cast<uint64_t>(f.promised_at.count());
  });
  return quorum_since > 0 && now - Monotonic(quorum_since) < length;
}

bool Replica::Impl::LeaderHasOutput() const {
  const Leading* leader = leading();
  if (leader == nullptr) return false;
  return leader->heartbeat_due || CanStartReads() || MustLeaveJoint() || MustLeaveOffice() || MustTellTarget() ||
         std::any_of(leader->followers.begin(), leader->followers.end(),
                     [this](const Progress& follower) { return follower.heartbeat_due || CanSend(follower); });
}

void Replica::Impl::LeaderOutput() {
  Leading* leader = leading();
  if (leader == nullptr) return;
  if (MustLeaveJoint()) LeaveJoint();
  if (CanStartReads()) {
    leader->reads.Start(commit_);
    leader->heartbeat_due = !leader->followers.empty();
    ConfirmReads();  // a single voter is its own quorum
  }
  TellCommit();
  SendHeartbeats();
  for (Progress& follower : leader->followers) SendAppends(follower);
  if (MustTellTarget()) TellTarget();
  if (MustLeaveOffice()) LeaveOffice();
}

void Replica::Impl::SendHeartbeats() {
  Leading& leader = *leading();
  const bool to_all = std::exchange(leader.heartbeat_due, false);
  for (Progress& follower : leader.followers) {
    if (!std::exchange(follower.heartbeat_due, false) && !to_all) continue;
    const bool quiet = AsksToBeQuiet() && follower.match == log_.last_index();
    follower.told_commit = std::min(commit_, follower.match);
    Send({.type = MessageType::kHeartbeat,
          .to = follower.id,
          .log_index = quiet ? log_.last_index() : Index(),
          .log_term = quiet ? log_.last_term() : Term(),
          .commit = follower.told_commit,
          .read_context = leader.reads.last(),
          .lease_ms = static_cast<uint32_t>(config_.lease.count()),
          .lease_sent = config_.lease.count() > 0 ? clock_ : Monotonic(),
          .all_match = std::min(all_match_, follower.match),
          .quiet = quiet});
  }
}

}  // namespace trireme::raft
