#include "broker/routing/exchanges.h"

#include <algorithm>
#include <utility>

namespace trireme::broker {

bool Exchanges::Current() {
  const raft::MonotonicTime now = shard_->Now();
  const bool ever = renewed_ > 0;
  if (!in_background_ && (!ever || now - renewed_at_ >= kRenewAfter)) {
    in_background_ = true;
    Renew([this](const absl::Status&) { in_background_ = false; });
  }
  return ever && now - renewed_at_ < kTooOld;
}

void Exchanges::Renew(Done done) {
  const raft::MonotonicTime began = shard_->Now();
  read_(began + kPatience, [this, alive = std::weak_ptr<bool>(alive_), number = ++begun_, began,
                            done = std::move(done)](absl::Status status) mutable {
    if (alive.expired()) return;
    if (status.ok()) {
      renewed_ = std::max(renewed_, number);
      renewed_at_ = std::max(renewed_at_, began);
    }
    done(std::move(status));
  });
}

}  // namespace trireme::broker
