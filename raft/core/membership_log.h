// The memberships that a log has gone through.
#pragma once

#include <vector>

#include "raft/core/membership.h"
#include "raft/core/types.h"

namespace trireme::raft {

// A replica acts on a membership as soon as it is in its log (dissertation 4.1), not when it is applied: what is in
// force then depends on the log alone, which is what votes compare and what a majority holds. Were it the applied one,
// a replica that is slow to apply, or that starts again from an old snapshot, would campaign among members of long ago,
// and nothing but a commit index that is only a hint could stop it. The price: it has to be undone when the log is
// truncated, and the store has to say at start which memberships the log has.
//
// A leader appends one only when the one before it is committed, so at most the last can ever be undone.
class MembershipLog {
 public:
  // Ascending, not empty.
  explicit MembershipLog(std::vector<MembershipAt> history);

  // In force, and the index of the entry that says so.
  const Membership& current() const { return history_.back().membership; }
  Index index() const { return history_.back().index; }
  // As of `index`: what a snapshot taken there has to carry.
  const Membership& At(Index index) const;

  void Append(Index index, Membership membership);
  // Undoes those at `first` and behind. Whether another is in force now.
  bool TruncateFrom(Index first);
  // Forgets those that were no longer in force at `index`.
  void ForgetBelow(Index index);
  // Of a snapshot, which replaces the log.
  void Reset(Index index, Membership membership);

 private:
  std::vector<MembershipAt> history_;  // never empty, ascending by index
};

}  // namespace trireme::raft
