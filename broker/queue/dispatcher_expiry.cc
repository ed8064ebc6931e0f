// The dispatcher's part that has messages leave that nobody took: for newer ones, or when their time is over, whether a
// consumer is there or not (Safety rule 8). What waits is looked at where it is next: the head of the subscription, and
// each message that is to be given. So what lies behind a living message stays until that has gone. Of what is returned
// each is looked at.
#include <algorithm>
#include <utility>

#include "broker/queue/dispatcher.h"

namespace trireme::queue {
namespace {

// In one fact, so that none grows without bound.
constexpr size_t kMaxRuns = 4'096;

}  // namespace

bool Dispatcher::watches() const {
  return machine_->expires() || machine_->settings().overflow != Overflow::kReject;
}

bool Dispatcher::LacksHead() {
  return watches() && !rebuild_ && subscription().waiting > 0 && !ahead_.Next().has_value();
}

bool Dispatcher::Looks() {
  return LacksHead() || (machine_->expires() && !unknown_sizes_.empty());
}

bool Dispatcher::HeadExpired() {
  if (!machine_->expires()) return false;
  const auto run = ahead_.Next();
  return run && run->expires_at_ms <= queue_time_ms_;
}

void Dispatcher::WatchExpiry(uint64_t index) {
  auto known = known_.find(index);
  if (!machine_->expires() || known == known_.end()) return;
  int64_t next = kNever;
  VisitWithin(subscription().returned, {Position(index, 0), kMaxBatchMessages},
              [&](Position from, const Returned& run) {
                const Position end = from + run.count;
                for (Position at = from; at < end;) {
                  const Deadline deadline = DeadlineOf(known->second.shape, at.slot(), machine_->settings());
                  const Position same = std::min(end, Position(index, deadline.end));
                  if (deadline.at_ms > queue_time_ms_) {
                    next = std::min(next, deadline.at_ms);
                  } else {
                    const Slots slots{at, static_cast<uint32_t>(same.packed() - at.packed())};
                    overdue_.push_back(slots);
                    CutOut(returned_, slots, [&](Position, const Waiting& cut) {
                      returned_messages_ -= cut.count;
                      return true;
                    });
                  }
                  at = same;
                }
              });
  if (next != kNever) expiries_.emplace(next, index);
}

void Dispatcher::BuryExpiredReturned(Plan& plan) {
  if (!machine_->expires() || rebuild_) return;
  while (!expiries_.empty() && expiries_.begin()->first <= queue_time_ms_) {
    const uint64_t index = expiries_.begin()->second;
    expiries_.erase(expiries_.begin());
    WatchExpiry(index);
  }
  if (overdue_.empty()) return;
  // Safety rule 2: those that were given out before it in the log are not returned any more, and stay.
  fact::DeadLettered fact{id_, DeadReason::kExpired, 0, std::exchange(overdue_, {}),
                          subscription().settings.dead_letter.group};
  if (fact.returned.size() > kMaxRuns) {
    overdue_.assign(fact.returned.begin() + kMaxRuns, fact.returned.end());
    fact.returned.resize(kMaxRuns);
  }
  plan.facts.emplace_back(std::move(fact));
}

template <typename Goes>
bool Dispatcher::LeaveUnseen(DeadReason reason, uint64_t target, Plan& plan, Goes goes) {
  fact::DeadUnseen fact{.subscription = id_,
                        .reason = reason,
                        .from_next = decided_next_,
                        .to_next = {},
                        .waiting = {},
                        .sizes = {},
                        .skipped = 0,
                        .skipped_bytes = 0,
                        .counted_at = 0,
                        .target = target};
  // On its way to another queue it is an exception (Safety rule 1).
  auto room = [&] {
    return target == 0 || subscription().exceptions() + decided_runs_ + fact.waiting.size() < limits_.max_exceptions;
  };
  while (runs_left_ > 0 && fact.waiting.size() < kMaxRuns && room()) {
    const auto run = ahead_.Next();
    const uint32_t count = run ? std::min(run->slots.count, goes(*run)) : 0;
    if (count == 0) break;
    fact.waiting.push_back({run->slots.first, count});
    fact.sizes.push_back(run->size);
    ahead_.Take(count);
    --runs_left_;
  }
  if (fact.waiting.empty()) return false;
  fact.to_next = decided_next_ = ahead_.next();
  fact.skipped = ahead_.TakePassed();
  fact.skipped_bytes = ahead_.TakePassedBytes();
  if (fact.skipped > 0) fact.counted_at = ahead_.counted_at();
  if (passed_returned_.empty()) passed_since_.reset();
  plan.facts.emplace_back(std::move(fact));
  ++skips_under_way_;
  return true;
}

// Whether any were, so that there may be others behind them to be given.
bool Dispatcher::BuryExpiredWaiting(Plan& plan) {
  if (rebuild_ || !HeadExpired()) return false;
  return LeaveUnseen(
      DeadReason::kExpired, subscription().settings.dead_letter.group, plan,
      [this](const Lookahead::Run& run) { return run.expires_at_ms <= queue_time_ms_ ? run.slots.count : 0; });
}

bool Dispatcher::LeaveBelow(Position end, Plan& plan) {
  if (rebuild_) return false;
  const uint64_t target =
      machine_->settings().overflow == Overflow::kDeadLetter ? subscription().settings.dead_letter.group : 0;
  fact::DeadLettered fact{id_, DeadReason::kOverflow, 0, {}, target};
  for (auto it = subscription().returned.begin(); it != subscription().returned.end() && it->first < end; ++it) {
    if (fact.returned.size() == kMaxRuns) break;
    const Position to = std::min(end, it->first + it->second.count);
    const Slots slots{it->first, static_cast<uint32_t>(to.packed() - it->first.packed())};
    CutOut(returned_, slots, [&](Position, const Waiting& cut) {
      returned_messages_ -= cut.count;
      return true;
    });
    fact.returned.push_back(slots);
  }
  bool any = !fact.returned.empty();
  if (any) {
    ++leaving_;
    plan.facts.emplace_back(std::move(fact));
  }
  runs_left_ = kMaxRuns;
  // A place below the end of the entry of its first run is in that entry.
  const bool unseen = LeaveUnseen(DeadReason::kOverflow, target, plan, [end](const Lookahead::Run& run) {
    if (run.slots.first >= end) return 0u;
    const Position to = std::min(end, run.slots.first + run.slots.count);
    return static_cast<uint32_t>(to.packed() - run.slots.first.packed());
  });
  if (unseen) ++leaving_;
  return any || unseen;
}

}  // namespace trireme::queue
