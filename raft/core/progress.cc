#include "raft/core/progress.h"

#include <algorithm>

namespace trireme::raft {

bool Progress::Acknowledge(Index index) {
  bool news = index > match;
  if (news) match = index;
  next = std::max(next, match + 1);
  inflight.FreeUpTo(match);
  return news;
}

bool Progress::Refuse(Index rejected, Index hint) {
  if (rejected <= match) return false;  // it has been acknowledged since, so the refusal was overtaken
  if (state == State::kSnapshot) return false;
  if (state == State::kReplicate) {
    // One of the Appends was lost: what lies behind `match` goes out again.
    BecomeProbe();
    // Where the follower says that it ends is a better guess, as long as it is one of ours.
    next = std::max(match + 1, std::min(rejected, hint + 1));
    return true;
  }
  if (rejected != next - 1) return false;  // the answer to another probe
  next = std::max(match + 1, std::min(rejected, hint + 1));
  paused = false;
  return true;
}

}  // namespace trireme::raft
