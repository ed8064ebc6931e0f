#include "raft/core/replica_impl.h"

namespace trireme::raft {
namespace {

// Elections that a replica may have missed. Far more than there can be, and far fewer than there are terms.
constexpr uint64_t kTermLeapMax = uint64_t{1} << 32;

bool EntriesInOrder(const Message& append) {
  if ((append.log_index == Index()) != (append.log_term == Term())) return false;
  Index index = append.log_index;
  Term term = append.log_term;
  for (const Entry& entry : append.entries) {
    if (entry.index != ++index || entry.term < term || entry.term > append.term || entry.term == Term()) return false;
    if (entry.type > EntryType::kConfig) return false;
    if (entry.type == EntryType::kConfig && !DecodeMembership(entry.data.view())) return false;
    term = entry.term;
  }
  return index <= kIndexMax;
}

}  // namespace

bool Replica::Impl::Plausible(const Message& m) const {
  if (m.to != config_.id || m.from == config_.id || m.from == ReplicaId()) return false;
  // What a leap makes durable can never be taken back, and behind the last term there is none.
  if (m.term.value() > term_.value() + kTermLeapMax) return false;
  if (m.term == Term() || m.term > kTermMax || m.log_term > m.term || m.hint_term > m.term) return false;
  if (m.log_index > kIndexMax || m.commit > kIndexMax || m.hint_index > kIndexMax || m.all_match > kIndexMax) {
    return false;
  }
  if (m.lease_sent < Monotonic()) return false;
  if (m.type != MessageType::kAppend && !m.entries.empty()) return false;
  const bool this_term = m.term == term_;
  // A leader or a candidate may be of a membership that has not come here yet (dissertation 4.1); an answer comes from
  // a member, or from one that was asked before it left.
  const bool member = membership().Find(m.from) != nullptr;
  switch (m.type) {
    case MessageType::kPreVote:
    case MessageType::kVote:
      return !membership().members.empty();  // Safety rule 11: one that knows of no members never votes
    case MessageType::kVoteResponse:
      return member;
    case MessageType::kPreVoteResponse:
      return member && (m.reject || m.term <= term_ + 1);  // we ask about no later term
    case MessageType::kAppend:
    case MessageType::kHeartbeat:
    case MessageType::kTimeoutNow:
    case MessageType::kSnapshot:
      // A term has one leader (Raft section 5.2).
      if (this_term && (leading() || (leader_ != ReplicaId() && leader_ != m.from))) return false;
      if (m.type == MessageType::kAppend) return EntriesInOrder(m);
      if (m.type == MessageType::kTimeoutNow) return true;
      if (m.type == MessageType::kSnapshot) {
        return m.log_index > Index() && m.log_term > Term() && m.membership != nullptr && m.membership->Sound();
      }
      // A leader names what we acknowledged; less than that means that we forgot.
      return m.term < term_ || m.commit <= log_.last_index();
    case MessageType::kAppendResponse:
      if (!member || (m.reject && m.hint_index >= m.log_index)) return false;
      return !(this_term && leading()) || m.log_index <= log_.last_index();
    case MessageType::kHeartbeatResponse:
      return member && (!(this_term && leading()) || (m.read_context <= leading()->reads.last() &&
                                                      m.log_index <= log_.last_index() && m.lease_sent <= clock_));
    case MessageType::kResign:
      return !(this_term && leading());
  }
  return false;  // not a type that we know
}

}  // namespace trireme::raft
