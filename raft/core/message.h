// What replicas of one group say to each other.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/core/types.h"

namespace trireme::raft {

enum class MessageType : uint8_t {
  kPreVote = 1,
  kPreVoteResponse = 2,
  kVote = 3,
  kVoteResponse = 4,
  kAppend = 5,
  kAppendResponse = 6,
  kHeartbeat = 7,
  kHeartbeatResponse = 8,
  kTimeoutNow = 9,  // from a leader that hands over: campaign at once
  kSnapshot = 10,   // the header of a snapshot whose bytes have arrived beside it
  // The leader of `term` leads it no more; who supports it by its node's promise need not wait for that to end.
  kResign = 20,
};

// Whoever sends one leads its term.
constexpr bool SaidByLeader(MessageType type) {
  return type == MessageType::kAppend || type == MessageType::kHeartbeat || type == MessageType::kSnapshot ||
         type == MessageType::kTimeoutNow;
}

struct Message {
  MessageType type = MessageType::kHeartbeat;
  ReplicaId from{};
  ReplicaId to{};
  // The sender's term; in a PreVote, and in its granting answer, the term that the candidate would campaign in.
  Term term{};

  // Append: the entry before the first one sent. Snapshot: the last entry that it covers. (Pre)Vote: the candidate's
  // last entry. AppendResponse: the last index that the follower has durably and that matches, or, rejecting, the index
  // that it rejects. With `quiet`: the last entry of the leader's log.
  Index log_index{};
  Term log_term{};
  // Append, Heartbeat: the leader's commit index. In a Heartbeat it never exceeds what the addressee is known to hold.
  Index commit{};
  bool reject = false;
  // A rejecting AppendResponse: the highest index at which the follower could agree, and its term there.
  Index hint_index{};
  Term hint_term{};
  // Heartbeat and its answer: identifies the round of ReadIndex; 0 = none.
  uint64_t read_context = 0;
  // Heartbeat: the leader asks for a promise of so many milliseconds, and says what its clock was. The answer repeats
  // the latter if the follower made the promise (Config::lease); 0 = no promise.
  uint32_t lease_ms = 0;
  Monotonic lease_sent{};
  // Append, Heartbeat: every replica of the group durably holds its log up to here. Entries at or below it are not
  // needed for replication any more, by anyone.
  Index all_match{};
  // PreVote, Vote: the candidate saw its leader's connection close, so a voter that saw the same need not wait out its
  // own election timeout.
  bool leader_lost = false;
  // Vote: the leader itself asked for this campaign (TimeoutNow), so that voters need not wait either.
  bool leader_asked = false;
  // Heartbeat: asks to be quiet, if everything up to log_index is durable, committed and applied. Its answer: so it is
  // (Safety rule 10).
  bool quiet = false;

  // Snapshot: the members as of log_index. Null in all others.
  std::shared_ptr<const Membership> membership{};
  // Append: consecutive, the first at log_index + 1.
  std::vector<Entry> entries{};
};

}  // namespace trireme::raft
