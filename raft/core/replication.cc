#include <algorithm>
#include <utility>

#include "raft/core/replica_impl.h"

namespace trireme::raft {
namespace {

// What a probe carries at most: it may be sent again at every heartbeat.
constexpr size_t kProbeBytes = size_t{64} << 10;

}  // namespace

bool Replica::Impl::WindowOpen(const Progress& follower) const {
  return follower.state == Progress::State::kProbe ||
         (follower.inflight.count() < static_cast<size_t>(config_.max_inflight_appends) &&
          follower.inflight.bytes() < config_.max_inflight_bytes);
}

bool Replica::Impl::CanSend(const Progress& follower) const {
  if (follower.down || follower.reading || follower.read_failed) return false;
  if (follower.state == Progress::State::kSnapshot) return false;
  // No snapshot is sent to one that is not heard of.
  if (follower.silent_ticks >= config_.election_ticks && NeedsSnapshot(follower)) return false;
  if (follower.state == Progress::State::kProbe) return !follower.paused && follower.match < log_.last_index();
  if (follower.ask) return true;
  return follower.next <= log_.last_index() && WindowOpen(follower);
}

std::optional<Term> Replica::Impl::PreviousTerm(const Progress& follower) const {
  const Index previous = follower.next - 1;
  if (std::optional<Term> term = log_.TermAt(previous)) return term;
  if (previous == follower.sent_last) return follower.sent_term;
  return std::nullopt;
}

void Replica::Impl::SendAppends(Progress& follower) {
  while (CanSend(follower)) {
    if (NeedsSnapshot(follower)) return AskForSnapshot(follower);
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
  follower.told_commit = commit_;
  follower.appended_since_tick = true;
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
