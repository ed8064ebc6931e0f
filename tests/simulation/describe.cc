#include "tests/simulation/describe.h"

#include <sstream>

namespace trireme::simulation {

using raft::MessageType;

const char* Name(MessageType type) {
  switch (type) {
    case MessageType::kPreVote:
      return "PreVote";
    case MessageType::kPreVoteResponse:
      return "PreVoteResponse";
    case MessageType::kVote:
      return "Vote";
    case MessageType::kVoteResponse:
      return "VoteResponse";
    case MessageType::kAppend:
      return "Append";
    case MessageType::kAppendResponse:
      return "AppendResponse";
    case MessageType::kHeartbeat:
      return "Heartbeat";
    case MessageType::kHeartbeatResponse:
      return "HeartbeatResponse";
    case MessageType::kTimeoutNow:
      return "TimeoutNow";
    case MessageType::kSnapshot:
      return "Snapshot";
    case MessageType::kResign:
      return "Resign";
  }
  return "unknown message";
}

const char* Name(raft::Role role) {
  switch (role) {
    case raft::Role::kFollower:
      return "follower";
    case raft::Role::kPreCandidate:
      return "pre-candidate";
    case raft::Role::kCandidate:
      return "candidate";
    case raft::Role::kLeader:
      return "leader";
  }
  return "unknown role";
}

std::string Describe(const raft::Membership& membership) {
  static constexpr const char* kStandings[] = {"", "", "=learner", "=joining", "=demoted", "=leaving"};
  std::ostringstream text;
  for (const raft::Member& member : membership.members) {
    if (&member != &membership.members.front()) text << ' ';
    text << member.replica << kStandings[static_cast<size_t>(member.standing)];
  }
  return text.str();
}

std::string Describe(const raft::Entry& entry) {
  std::ostringstream text;
  text << entry.index << ':' << entry.term << ' ';
  bool printable = entry.data.size() <= 24;
  for (char c : entry.data.view()) printable = printable && c > ' ' && c < 127;
  if (entry.type == raft::EntryType::kNoop) {
    text << "noop";
  } else if (entry.type == raft::EntryType::kConfig) {
    std::optional<raft::Membership> membership = raft::DecodeMembership(entry.data.view());
    text << "members " << (membership ? Describe(*membership) : "that cannot be read");
  } else if (printable) {
    text << entry.data.view();
  } else {
    text << '<' << entry.data.size() << " bytes>";
  }
  return text.str();
}

// Milliseconds, as long as they are whole.
static std::string InMs(raft::Monotonic time) {
  std::ostringstream text;
  text << static_cast<double>(time.count()) / 1e6;
  return text.str();
}

std::string Describe(const raft::Message& m) {
  std::ostringstream text;
  text << m.from << "->" << m.to << ' ' << Name(m.type) << " term=" << m.term;
  switch (m.type) {
    case MessageType::kPreVote:
    case MessageType::kVote:
      text << " last=" << m.log_index << ':' << m.log_term;
      if (m.leader_lost) text << " leader-lost";
      if (m.leader_asked) text << " leader-asked";
      break;
    case MessageType::kPreVoteResponse:
    case MessageType::kVoteResponse:
      text << (m.reject ? " refused" : " granted");
      break;
    case MessageType::kAppend:
      text << " after=" << m.log_index << ':' << m.log_term << " commit=" << m.commit;
      if (m.all_match != raft::Index()) text << " all-match=" << m.all_match;
      for (const raft::Entry& entry : m.entries) text << " [" << Describe(entry) << ']';
      break;
    case MessageType::kAppendResponse:
      if (m.reject) {
        text << " refused=" << m.log_index << " hint=" << m.hint_index << ':' << m.hint_term;
      } else {
        text << " match=" << m.log_index;
      }
      break;
    case MessageType::kHeartbeat:
      text << " commit=" << m.commit;
      if (m.all_match != raft::Index()) text << " all-match=" << m.all_match;
      [[fallthrough]];
    case MessageType::kHeartbeatResponse:
      if (m.read_context != 0) text << " read=" << m.read_context;
      if (m.quiet) text << " quiet=" << m.log_index;
      if (m.lease_ms != 0) text << " lease=" << m.lease_ms << "ms";
      if (m.lease_sent != raft::Monotonic()) text << " sent=" << InMs(m.lease_sent) << "ms";
      break;
    case MessageType::kResign:
    case MessageType::kTimeoutNow:
      break;
    case MessageType::kSnapshot:
      text << ' '
           << Describe(raft::SnapshotMeta{m.log_index, m.log_term, m.membership ? *m.membership : raft::Membership()});
      break;
  }
  return text.str();
}

std::string Describe(const raft::SnapshotMeta& snapshot) {
  std::ostringstream text;
  text << snapshot.index << ':' << snapshot.term << " members " << Describe(snapshot.membership);
  return text.str();
}

std::string Describe(const raft::EntryRead& read) {
  std::ostringstream text;
  text << "read " << read.first << ".." << read.last;
  if (read.purpose == raft::EntryRead::For::kApply) {
    text << " to apply";
  } else {
    text << " for " << read.follower;
  }
  return text.str();
}

}  // namespace trireme::simulation
