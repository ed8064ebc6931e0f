#include "raft/core/membership_log.h"

#include <algorithm>
#include <utility>

#include "raft/core/check.h"

namespace trireme::raft {

MembershipLog::MembershipLog(std::vector<MembershipAt> history) : history_(std::move(history)) {
  TRIREME_CHECK(!history_.empty());
}

const Membership& MembershipLog::At(Index index) const {
  auto at = history_.rbegin();
  while (at->index > index && std::next(at) != history_.rend()) ++at;
  return at->membership;
}

void MembershipLog::Append(Index index, Membership membership) {
  TRIREME_CHECK(index > this->index()) << index << " after " << this->index();
  history_.push_back({index, std::move(membership)});
}

bool MembershipLog::TruncateFrom(Index first) {
  const size_t before = history_.size();
  while (history_.size() > 1 && history_.back().index >= first) history_.pop_back();
  return history_.size() < before;
}

void MembershipLog::ForgetBelow(Index index) {
  auto keep = history_.begin();
  while (std::next(keep) != history_.end() && std::next(keep)->index <= index) ++keep;
  history_.erase(history_.begin(), keep);
}

void MembershipLog::Reset(Index index, Membership membership) {
  history_.clear();
  history_.push_back({index, std::move(membership)});
}

}  // namespace trireme::raft
