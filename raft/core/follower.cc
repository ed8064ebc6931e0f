#include <algorithm>
#include <utility>

#include "raft/core/check.h"
#include "raft/core/replica_impl.h"

namespace trireme::raft {

void Replica::Impl::StepAppend(Message& m) {
  HeardFromLeader(m.from);
  if (install_) return;  // what it would be joined to is about to go
  const Index previous = m.log_index;
  if (previous > log_.last_index()) return Refuse(m);
  // What is committed here is in every leader's log, so only what lies above has to be compared.
  if (previous >= commit_ && log_.TermAt(previous) != m.log_term) {
    if (previous > commit_) return Refuse(m);
    ++dropped_;
    return;
  }
  auto fresh = m.entries.begin();
  for (; fresh != m.entries.end() && fresh->index <= log_.last_index(); ++fresh) {
    std::optional<Term> ours = log_.TermAt(fresh->index);
    if (!ours || *ours == fresh->term) continue;
    if (fresh->index <= commit_) {
      ++dropped_;
      return;
    }
    break;
  }
  if (fresh != m.entries.end()) {
    if (const Index first = fresh->index; first <= log_.last_index()) {
      TruncateFrom(first);
    }
    const Index last = previous + m.entries.size();
    for (; fresh != m.entries.end(); ++fresh) AppendEntry(std::move(*fresh));
    TRIREME_CHECK(log_.last_index() == last);
  }
  const Index matched = std::max(previous + m.entries.size(), commit_);
  AdvanceCommit(std::min(m.commit, matched));
  LearnAllMatch(m.all_match);
  Acknowledge(m.from, matched);
}

void Replica::Impl::Acknowledge(ReplicaId to, Index matched) {
  if (!acknowledgement_) {
    acknowledgement_ = Message{.type = MessageType::kAppendResponse, .from = config_.id, .to = to, .term = term_};
  }
  acknowledgement_->log_index = std::max(acknowledgement_->log_index, matched);
}

// Dissertation 5.3 backs up by one entry, or by one term, per refusal; here both sides skip: the follower names the
// last entry before the refused one whose term is not above the leader's, the leader goes to its own last entry at or
// before that whose term is not above the follower's. Neither passes the last entry that they share.
void Replica::Impl::Refuse(const Message& m) {
  Index hint = log_.LastAtMost(std::min(m.log_index - 1, log_.last_index()), m.log_term);
  hint = std::max(hint, commit_);
  Send({.type = MessageType::kAppendResponse,
        .to = m.from,
        .log_index = m.log_index,
        .reject = true,
        .hint_index = hint,
        .hint_term = log_.TermAt(hint).value_or(Term())});
}

void Replica::Impl::StepHeartbeat(const Message& m) {
  HeardFromLeader(m.from);
  AdvanceCommit(m.commit);
  LearnAllMatch(m.all_match);
  quiet_ = ConfirmsQuiet(m);
  const std::chrono::milliseconds lease(m.lease_ms);
  const bool promises = lease > lease.zero() && lease <= config_.lease;
  if (promises) promise_.Make(m.from, lease, clock_);
  Send({.type = MessageType::kHeartbeatResponse,
        .to = m.from,
        .log_index = m.log_index,
        .read_context = m.read_context,
        .lease_sent = promises ? m.lease_sent : Monotonic(),
        .quiet = quiet_});
}

void Replica::Impl::LearnAllMatch(Index all_match) {
  all_match_ = std::max(all_match_, std::min(all_match, persisted_));
}

}  // namespace trireme::raft
