#include "tests/failover/workload/actor.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace trireme::failover {
namespace {

constexpr uint64_t kRemarks = 50;

}  // namespace

const char* RoleName(Role role) {
  constexpr const char* kNames[] = {"prober",     "paced",  "plain", "burst",   "calls",
                                    "restarting", "stream", "slow",  "receiver"};
  return kNames[static_cast<size_t>(role)];
}

bool IsProducer(Role role) {
  return role < Role::kStream;
}

void Actor::Stop() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
  stop_.SignalAll();
}

bool Actor::Sleep(std::chrono::microseconds time) {
  const absl::Time until = absl::Now() + absl::FromChrono(time);
  absl::MutexLock lock(&mutex_);
  while (!stopping_ && !stop_.WaitWithDeadline(&mutex_, until)) {
  }
  return !stopping_;
}

void Actor::Remark(const std::string& text) {
  const uint64_t number = ++remarks_;
  if (number > kRemarks) return;
  history_.Append(Note{absl::StrCat(RoleName(spec_.role), " ", spec_.number, ": ", text,
                                    number == kRemarks ? " (no more of its remarks are kept)" : "")});
}

}  // namespace trireme::failover
