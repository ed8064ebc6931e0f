#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "raft/core/check.h"
#include "raft/core/replica_impl.h"

namespace trireme::raft {
namespace {

// What a probe carries at most: it may be sent again at every heartbeat.
constexpr size_t kProbeBytes = size_t{64} << 10;

using VoterValues = absl::InlinedVector<uint64_t, 8>;

}  // namespace

Progress* Replica::Impl::FindFollower(ReplicaId replica) {
  if (Leading* leader = leading()) {
    for (Progress& follower : leader->followers) {
      if (follower.id == replica) return &follower;
    }
  }
  return nullptr;
}

void Replica::Impl::LeaderTick() {
  Leading& leader = *leading();
  size_t heard = 1;
  for (Progress& follower : leader.followers) {
    follower.read_failed = false;
    if (++follower.silent_ticks < config_.election_ticks) {
      ++heard;
    } else if (follower.state == Progress::State::kReplicate) {
      follower.BecomeProbe();  // so that what waits to be sent to it need not stay in memory
    }
    if (follower.inflight.count() == 0) follower.inflight.Shrink();
  }
  // Dissertation 6.2: a leader that hears from no quorum within an election timeout leaves its clients to another.
  if (heard < QuorumSize(voters_.size())) return BecomeFollower(term_, ReplicaId());
  if (++leader.heartbeat_elapsed >= config_.heartbeat_ticks) {
    leader.heartbeat_elapsed = 0;
    leader.heartbeat_due = !leader.followers.empty();
  }
}

Proposed Replica::Impl::Propose(std::vector<Bytes> commands, bool urgent) {
  Leading* leader = leading();
  if (leader == nullptr) return {.error = ProposeError::kNotLeader, .first = {}, .term = {}};
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
    leader->reads.Add(context);
  } else {
    output_.read_ready.push_back({context, std::nullopt});
  }
}

void Replica::Impl::StepAppendResponse(const Message& m) {
  Progress* follower = FindFollower(m.from);
  if (follower == nullptr) return;
  follower->silent_ticks = 0;
  follower->down = false;
  if (m.reject) {
    follower->Refuse(m.log_index, log_.LastAtMost(m.hint_index, m.hint_term));
    return;
  }
  if (m.log_index < follower->match) return;
  bool news = follower->Acknowledge(m.log_index);
  if (follower->state == Progress::State::kProbe) follower->BecomeReplicate();
  if (!news) return;
  MaybeCommit();
  UpdateUncommitted();
  UpdateAllMatch();
}

void Replica::Impl::StepHeartbeatResponse(const Message& m) {
  Progress* follower = FindFollower(m.from);
  if (follower == nullptr) return;
  follower->silent_ticks = 0;
  follower->down = false;
  follower->paused = false;
  if (follower->state == Progress::State::kReplicate) {
    // Appends are under way and nothing was acknowledged for a heartbeat: the last of them may have been lost.
    follower->ask = follower->match == follower->match_at_heartbeat && follower->next > follower->match + 1;
  }
  follower->match_at_heartbeat = follower->match;
  if (m.read_context > follower->read_acknowledged) {
    follower->read_acknowledged = m.read_context;
    ConfirmReads();
  }
}

void Replica::Impl::MaybeCommit() {
  const Leading& leader = *leading();
  VoterValues matches{persisted_.value()};  // the leader's own disk is one of the quorum, and not a special one
  for (const Progress& follower : leader.followers) matches.push_back(follower.match.value());
  Index index(QuorumValue(matches));
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
  VoterValues rounds{std::numeric_limits<uint64_t>::max()};
  for (const Progress& follower : leader.followers) rounds.push_back(follower.read_acknowledged);
  leader.reads.Confirm(QuorumValue(rounds), output_.read_ready);
}

bool Replica::Impl::WindowOpen(const Progress& follower) const {
  return follower.state == Progress::State::kProbe ||
         (follower.inflight.count() < static_cast<size_t>(config_.max_inflight_appends) &&
          follower.inflight.bytes() < config_.max_inflight_bytes);
}

bool Replica::Impl::CanSend(const Progress& follower) const {
  if (follower.down || follower.reading || follower.read_failed) return false;
  if (follower.state == Progress::State::kProbe) return !follower.paused && follower.match < log_.last_index();
  if (follower.ask) return true;
  return follower.next <= log_.last_index() && WindowOpen(follower);
}

bool Replica::Impl::LeaderHasOutput() const {
  const Leading* leader = leading();
  if (leader == nullptr) return false;
  return leader->heartbeat_due || CanStartReads() ||
         std::any_of(leader->followers.begin(), leader->followers.end(),
                     [this](const Progress& follower) { return CanSend(follower); });
}

void Replica::Impl::LeaderOutput() {
  Leading* leader = leading();
  if (leader == nullptr) return;
  if (CanStartReads()) {
    leader->reads.Start(commit_);
    leader->heartbeat_due = !leader->followers.empty();
    ConfirmReads();  // a single voter is its own quorum
  }
  if (leader->heartbeat_due) SendHeartbeats();
  for (Progress& follower : leader->followers) SendAppends(follower);
}

void Replica::Impl::SendHeartbeats() {
  Leading& leader = *leading();
  leader.heartbeat_due = false;
  for (const Progress& follower : leader.followers) {
    Send({.type = MessageType::kHeartbeat,
          .to = follower.id,
          .commit = std::min(commit_, follower.match),
          .read_context = leader.reads.last(),
          .all_match = std::min(all_match_, follower.match)});
  }
}

std::optional<Term> Replica::Impl::PreviousTerm(const Progress& follower) const {
  const Index previous = follower.next - 1;
  if (std::optional<Term> term = log_.TermAt(previous)) return term;
  if (previous == follower.sent_last) return follower.sent_term;
  return std::nullopt;
}

void Replica::Impl::SendAppends(Progress& follower) {
  while (CanSend(follower)) {
    const bool probing = follower.state == Progress::State::kProbe;
    const size_t max_bytes = probing ? std::min(kProbeBytes, config_.max_append_bytes) : config_.max_append_bytes;
    const std::optional<Term> previous_term = PreviousTerm(follower);
    const Index last = log_.last_index();
    const bool has_entries = follower.next <= last && WindowOpen(follower);
    if (!previous_term || (has_entries && follower.next < log_.first_held())) {
      // Without the term before it, the entry before is read, too.
      const Index first = previous_term ? follower.next : follower.next - 1;
      follower.reading = true;
      follower.read_first = first;
      output_.reads.push_back({.purpose = EntryRead::For::kFollower,
                               .follower = follower.id,
                               .first = first,
                               .last = std::max(first, std::min(log_.first_held() - 1, last)),
                               .max_bytes = max_bytes});
      return;
    }
    std::vector<Entry> entries;
    size_t bytes = 0;
    if (has_entries) {
      Index end = follower.next;
      for (; end <= last; ++end) {
        size_t more = EntryBytes(*log_.Find(end));
        if (bytes > 0 && bytes + more > max_bytes) break;
        bytes += more;
      }
      entries.reserve(end - follower.next);
      for (Index i = follower.next; i < end; ++i) entries.push_back(*log_.Find(i));
    }
    SendAppend(follower, *previous_term, std::move(entries), bytes);
  }
}

void Replica::Impl::SendAppend(Progress& follower, Term previous_term, std::vector<Entry> entries, size_t bytes) {
  Message append{.type = MessageType::kAppend,
                 .to = follower.id,
                 .log_index = follower.next - 1,
                 .log_term = previous_term,
                 .commit = commit_,
                 .all_match = all_match_,
                 .entries = std::move(entries)};
  if (!append.entries.empty()) {
    const Entry& last = append.entries.back();
    follower.sent_last = last.index;
    follower.sent_term = last.term;
    if (follower.state == Progress::State::kReplicate) {
      follower.next = last.index + 1;
      follower.inflight.Add(last.index, bytes);
    }
  }
  follower.ask = false;
  follower.paused = follower.state == Progress::State::kProbe;
  Send(std::move(append));
}

void Replica::Impl::FollowerEntriesRead(const EntryRead& read, std::vector<Entry> entries) {
  Progress* follower = FindFollower(read.follower);
  if (follower == nullptr || !follower->reading || follower->read_first != read.first) return;
  follower->reading = false;
  if (entries.empty()) {
    follower->read_failed = true;
    return;
  }
  if (read.first + 1 == follower->next) {
    // The entry before the next one: now its term is known.
    follower->sent_last = entries.front().index;
    follower->sent_term = entries.front().term;
    entries.erase(entries.begin());
  } else if (read.first != follower->next) {
    return;  // answers moved `next` meanwhile; what it needs now is asked for anew
  }
  std::optional<Term> previous_term = PreviousTerm(*follower);
  if (entries.empty() || !previous_term || !CanSend(*follower)) return;
  size_t bytes = 0;
  for (const Entry& entry : entries) bytes += EntryBytes(entry);
  SendAppend(*follower, *previous_term, std::move(entries), bytes);
}

}  // namespace trireme::raft
