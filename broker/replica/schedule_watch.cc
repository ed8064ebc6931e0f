#include "broker/replica/schedule_watch.h"

#include <algorithm>
#include <bit>

namespace trireme::broker {
namespace {

// So long before something is due there should be a leader; and how often it is asked for one behind that.
constexpr int64_t kAheadMs = 2'000, kMinWaitMs = 500, kMaxWaitMs = 60'000;

}  // namespace

void ScheduleWatch::Look(raft::Group* group) {
  group_ = group;
  if (group_ != nullptr && machine_->schedule().messages() > 0) Wait();
}

void ScheduleWatch::Wait() {
  const int64_t now_ms = shard_->WallMs();
  const int64_t away_ms = machine_->schedule().next_ms() - kAheadMs - now_ms;
  // A timer cannot be taken back: so there are only a few at a time, each half way to what is due.
  const int64_t wait_ms = away_ms <= 0 ? std::clamp(-away_ms, kMinWaitMs, kMaxWaitMs)
                                       : static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(away_ms)));
  if (at_ms_ && *at_ms_ <= now_ms + wait_ms && *at_ms_ > now_ms) return;
  at_ms_ = now_ms + wait_ms;
  if (alive_ == nullptr) alive_ = std::make_shared<bool>(true);
  shard_->After(std::chrono::milliseconds{wait_ms}, [this, alive = std::weak_ptr<bool>(alive_), at = *at_ms_] {
    if (alive.expired()) return;
    if (at_ms_ == at) at_ms_.reset();
    if (group_ == nullptr || machine_->schedule().messages() == 0) return;
    if (machine_->schedule().next_ms() - kAheadMs <= shard_->WallMs()) group_->WantLeader();
    Wait();
  });
}

}  // namespace trireme::broker
