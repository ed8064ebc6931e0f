#include "broker/queue/dispatcher.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

namespace trireme::queue {
namespace {

// Entries that nobody asked for, and that are read on the way from one that is wanted to the next.
constexpr uint64_t kMaxGap = 16;
// Facts of a kind in one entry, so that none grows without bound.
constexpr size_t kMaxTokens = 4'096;

uint64_t Count(const fact::CheckedOut& f) {
  uint64_t count = 0;
  for (const Slots& s : f.waiting) count += s.count;
  for (const Slots& s : f.returned) count += s.count;
  return count;
}

}  // namespace

Dispatcher::Dispatcher(const Machine* machine, SubscriptionId subscription_id, uint64_t last_index, MonotonicMs now,
                       Limits limits)
    : machine_(machine),
      id_(subscription_id),
      limits_(limits),
      ahead_(machine, subscription_id, last_index, {limits.read_ahead, limits.read_ahead_bytes}),
      queue_time_ms_(machine->time_ms()) {
  for (const auto& [id, session] : subscription().sessions) {
    Consumer& consumer = consumers_[id];
    consumer.number = session.number;
    consumer.epoch = session.epoch;
    consumer.outstanding = subscription().HeldBy(session.number);
    consumer.gone_at = now + session.timeout_ms;
    by_number_[session.number] = id;
  }
  // It may have been active for long: it has its time to come back.
  if (auto active = by_number_.find(subscription().active_session()); active != by_number_.end())
    consumers_.at(active->second).active = true;
  for (const auto& [first, run] : subscription().in_flight) {
    if (run.holder == 0) deadlines_.emplace(run.deadline_ms, first);
  }
  Rebuild();
}

void Dispatcher::Rebuild() {
  ahead_.Restart();
  decided_next_ = ahead_.next();
  passed_since_.reset();
  DropReturned();
  for (const auto& [first, run] : subscription().returned) {
    // What was found out of those that a new subscription was given is dropped: they are looked at again.
    if (run.deliveries == 0 && !subscription().settings.filter.empty()) known_.erase(first.index());
    PutBack(first, run);
  }
  rebuild_ = false;
}

void Dispatcher::PutBack(Position first, const Returned& run) {
  const uint32_t limit = subscription().settings.delivery_limit;
  if (limit != 0 && run.deliveries >= limit) {
    dead_.push_back({first, run.count});
    return;
  }
  if (machine_->expires()) {
    if (!known_.contains(first.index())) {
      unknown_sizes_.insert(first.index());
    } else {
      expiries_.emplace(queue_time_ms_, first.index());  // it is found out with the next decision
    }
  }
  if (run.due_ms > queue_time_ms_) {
    later_.emplace(run.due_ms, first.index());
    return;
  }
  returned_.emplace(first, Waiting{run.count});
  returned_messages_ += run.count;
  if (!known_.contains(first.index())) unknown_sizes_.insert(first.index());
}

// What has come due. None of it was given out in this term, for until now nothing knew of it.
void Dispatcher::ReleaseDue(int64_t queue_time_ms) {
  queue_time_ms_ = std::max(queue_time_ms_, queue_time_ms);
  while (!later_.empty() && later_.begin()->first <= queue_time_ms_) {
    const auto [due, index] = *later_.begin();
    later_.erase(later_.begin());
    VisitWithin(subscription().returned, {Position(index, 0), kMaxBatchMessages},
                [&, due = due](Position from, const Returned& run) {
                  if (run.due_ms == due) PutBack(from, run);
                });
  }
}

// Safety rule 2: conditional on the count.
void Dispatcher::BuryDead(Plan& plan) {
  const uint32_t limit = subscription().settings.delivery_limit;
  // They were judged by settings that may be others now: Rebuild judges anew.
  if (dead_.empty() || rebuild_) return;
  fact::DeadLettered fact{id_, DeadReason::kDeliveryLimit, limit, std::exchange(dead_, {}),
                          subscription().settings.dead_letter.group};
  if (fact.returned.size() > kMaxTokens) {
    dead_.assign(fact.returned.begin() + kMaxTokens, fact.returned.end());
    fact.returned.resize(kMaxTokens);
  }
  plan.facts.emplace_back(std::move(fact));
}

void Dispatcher::DropReturned() {
  returned_.clear();
  later_.clear();
  dead_.clear();
  expiries_.clear();
  overdue_.clear();
  passed_returned_.clear();
  returned_messages_ = 0;
  unknown_sizes_.clear();
}

// Sizes of entries that have nothing out of line any more, once many have gathered.
void Dispatcher::ForgetSizes() {
  const Subscription& s = subscription();
  if (known_.size() < 2 * (s.exceptions() + decided_runs_) + 1024) return;
  absl::erase_if(known_,
                 [&](const auto& entry) { return entry.first < s.next.index() && !s.HasOutOfLine(entry.first); });
}

// Deadlines of leases that ended otherwise, likewise.
void Dispatcher::ForgetDeadlines() {
  const Subscription& s = subscription();
  if (deadlines_.size() < 2 * s.in_flight.size() + 1024) return;
  deadlines_.clear();
  for (const auto& [first, run] : s.in_flight) {
    if (run.holder == 0) deadlines_.emplace(run.deadline_ms, first);
  }
}

// ---------------------------------------------------------------- what the log holds

void Dispatcher::Appended(uint64_t index, const EntryShape& shape) {
  const bool judged = shape.messages == 0 || subscription().settings.filter.empty();
  ahead_.Appended(index, judged ? &shape : nullptr);
}

std::optional<Dispatcher::Range> Dispatcher::Wanted() {
  ahead_.SkipSettled();
  // They go out first, so they are looked up first.
  if (!unknown_sizes_.empty()) {
    Range range{*unknown_sizes_.begin(), *unknown_sizes_.begin()};
    for (uint64_t index : unknown_sizes_) {
      if (index > range.last + kMaxGap || index > range.first + limits_.read_ahead) break;
      range.last = index;
    }
    return range;
  }
  if (KnowsEnough()) return std::nullopt;
  return ahead_.Wanted();
}

bool Dispatcher::KnowsEnough() {
  if (ahead_.full()) return true;
  if (LacksHead()) return false;
  // Streams will want what comes next; a single receive is not read ahead for.
  for (const auto& [id, consumer] : consumers_) {
    if (consumer.connected) return false;
  }
  uint64_t wanted = 0;
  for (const Receiver& receiver : receivers_) wanted += receiver.max_messages;
  return ahead_.messages() >= wanted;
}

void Dispatcher::Shapes(uint64_t first, const std::vector<EntryShape>& shapes) {
  for (size_t i = 0; i < shapes.size(); ++i) {
    const uint64_t index = first + i;
    if (unknown_sizes_.erase(index) == 0) continue;
    Known& known = known_[index] = {BytesEach(shapes[i]), shapes[i]};
    known.shape.picked = nullptr;
    WatchExpiry(index);
    if (shapes[i].picked != nullptr) JudgeReturned(index, shapes[i]);
  }
  ahead_.Shapes(first, shapes);
}

// A new subscription was given what others hold, whatever its filter.
void Dispatcher::JudgeReturned(uint64_t index, const EntryShape& shape) {
  auto pass = [&](Position first, Position end) {
    if (first >= end) return;
    const Slots slots{first, static_cast<uint32_t>(end.packed() - first.packed())};
    VisitWithin(subscription().returned, slots, [&](Position from, const Returned& run) {
      if (run.deliveries > 0) return;
      CutOut(returned_, {from, run.count}, [&](Position part, const Waiting& cut) {
        returned_messages_ -= cut.count;
        passed_returned_.push_back({part, cut.count});
        return true;
      });
    });
  };
  Position from(index, 0);
  for (const EntryShape::Picked& run : *shape.picked) {
    pass(from, Position(index, run.first));
    from = Position(index, run.first + run.count);
  }
  pass(from, Position(index, shape.messages));
}

// ---------------------------------------------------------------- consumers

void Dispatcher::Connect(const SessionId& session, Credit credit) {
  auto state = subscription().sessions.find(session);
  if (state == subscription().sessions.end()) return;
  Consumer& consumer = consumers_[session];
  consumer.number = state->second.number;
  consumer.epoch = state->second.epoch;
  consumer.credit = credit;
  consumer.connected = true;
  by_number_[consumer.number] = session;
}

void Dispatcher::SetCredit(const SessionId& session, Credit credit) {
  auto it = consumers_.find(session);
  if (it == consumers_.end()) return;
  if (credit.messages != 0) it->second.credit.messages = credit.messages;
  if (credit.bytes != 0) it->second.credit.bytes = credit.bytes;
}

void Dispatcher::Disconnect(const SessionId& session, MonotonicMs now) {
  auto it = consumers_.find(session);
  auto state = subscription().sessions.find(session);
  if (it == consumers_.end() || state == subscription().sessions.end()) return;
  it->second.connected = false;
  it->second.gone_at = now + state->second.timeout_ms;
}

void Dispatcher::End(const SessionId& session) {
  auto it = consumers_.find(session);
  if (it == consumers_.end()) return;
  it->second.connected = false;
  it->second.gone_at = 0;
}

void Dispatcher::Receive(ReceiverId receiver, uint32_t max_messages, MonotonicMs until, int64_t lease_ms) {
  receivers_.push_back({receiver, max_messages, until, lease_ms});
}

void Dispatcher::Free(uint64_t holder, uint32_t count) {
  auto name = by_number_.find(holder);
  if (name == by_number_.end()) return;
  auto it = consumers_.find(name->second);
  if (it == consumers_.end()) return;
  Consumer& c = it->second;
  const uint64_t freed = std::min<uint64_t>(count, c.outstanding);
  // Bytes are not told by the settlement: each message counts as the average of what is out.
  if (c.outstanding > 0) c.outstanding_bytes -= c.outstanding_bytes * freed / c.outstanding;
  c.outstanding -= freed;
}

// ---------------------------------------------------------------- decisions

bool Dispatcher::capped() const {
  return subscription().exceptions() >= limits_.max_exceptions;
}

// What comes first waits for its size to be known, and what is behind it with it.
bool Dispatcher::MayTakeReturned() const {
  return !rebuild_ && runs_left_ > 0 && !returned_.empty() && known_.contains(returned_.begin()->first.index());
}

bool Dispatcher::MayTakeWaiting() {
  return !rebuild_ && runs_left_ > 0 && returned_.empty() &&
         subscription().exceptions() + decided_runs_ < limits_.max_exceptions && ahead_.Next().has_value() &&
         !HeadExpired();
}

uint64_t Dispatcher::MayBeInFlight() const {
  const uint64_t most = subscription().settings.max_in_flight;
  const uint64_t are = subscription().in_flight_messages + decided_messages_;
  return most == 0 ? std::numeric_limits<uint64_t>::max() : most - std::min(most, are);
}

bool Dispatcher::MayTake() {
  return MayBeInFlight() > 0 && (MayTakeReturned() || MayTakeWaiting());
}

Credit Dispatcher::Take(Share share, fact::CheckedOut& out) {
  Credit took;
  share.messages = std::min(share.messages, MayBeInFlight());
  // How many of `count` messages of `each` bytes fit.
  auto fit = [&](uint32_t count, uint64_t each) {
    uint64_t n = std::min<uint64_t>(count, share.messages - took.messages);
    if (n > 1) n = std::min(n, std::max<uint64_t>(1, (share.turn_bytes - took.bytes) / each));
    n = std::min(n, (share.bytes - std::min(share.bytes, took.bytes)) / each);
    return n == 0 && took.messages == 0 && share.one_fits ? 1u : static_cast<uint32_t>(n);
  };
  auto full = [&] { return took.messages >= share.messages || took.bytes >= share.turn_bytes; };
  auto put = [&](std::vector<Slots>& runs, Position first, uint32_t n, uint64_t each) {
    runs.push_back({first, n});
    took.messages += n;
    took.bytes += n * each;
    ++decided_runs_;
    --runs_left_;
  };
  while (!full() && MayTakeReturned()) {
    const auto [first, waiting] = *returned_.begin();
    const uint32_t count = waiting.count;
    const uint64_t each = known_.at(first.index()).bytes_each;
    const uint32_t n = fit(count, each);
    if (n == 0) return took;
    put(out.returned, first, n, each);
    returned_messages_ -= n;
    returned_.erase(returned_.begin());
    if (n < count) returned_.emplace(first + n, Waiting{count - n});
  }
  while (!full() && MayTakeWaiting()) {
    const Lookahead::Run run = *ahead_.Next();
    const uint32_t n = fit(run.slots.count, run.bytes_each);
    if (n == 0) return took;
    put(out.waiting, run.slots.first, n, run.bytes_each);
    out.sizes.push_back(run.size);
    Known& known = known_[run.slots.first.index()] = {run.bytes_each, *run.shape};
    known.shape.picked = nullptr;
    ahead_.Take(n);
  }
  return took;
}

void Dispatcher::ExpireSessions(MonotonicMs now, Plan& plan) {
  for (auto& [id, consumer] : consumers_) {
    if (consumer.connected || consumer.ending || now < consumer.gone_at) continue;
    consumer.ending = true;
    plan.facts.emplace_back(fact::Detached{id_, id, consumer.epoch});
  }
}

// The next in line may be gone, and not yet for its timeout. Nobody waits for that while another one is here: holding
// nothing, it loses nothing but its place in the line.
void Dispatcher::ChooseActive(Plan& plan) {
  if (!subscription().settings.single_active) return;
  auto name = by_number_.find(subscription().active_session());
  if (name == by_number_.end()) return;
  Consumer& next = consumers_.at(name->second);
  next.active |= next.connected;
  if (next.active || next.ending || next.outstanding > 0) return;
  const bool other =
      std::any_of(consumers_.begin(), consumers_.end(), [](const auto& c) { return c.second.connected; });
  if (!other) return;
  next.ending = true;
  plan.facts.emplace_back(fact::Detached{id_, name->second, next.epoch});
}

void Dispatcher::ExpireLeases(int64_t queue_time_ms, Plan& plan) {
  fact::Expired expired{id_, queue_time_ms, {}};
  while (!deadlines_.empty() && deadlines_.begin()->first <= queue_time_ms && expired.tokens.size() < kMaxTokens) {
    auto due = *deadlines_.begin();
    deadlines_.erase(deadlines_.begin());
    auto run = subscription().in_flight.find(due.second);
    // Settled, extended, or cut since: what is left of it has a deadline of its own in the set.
    if (run == subscription().in_flight.end() || run->second.holder != 0 || run->second.deadline_ms != due.first)
      continue;
    expired.tokens.push_back({{due.second, run->second.count}, run->second.checkout_index});
  }
  if (!expired.tokens.empty()) plan.facts.emplace_back(std::move(expired));
}

void Dispatcher::ServeReceivers(MonotonicMs now, int64_t queue_time_ms, Plan& plan) {
  for (auto it = receivers_.begin(); it != receivers_.end();) {
    if (subscription().MayHold(0) && MayTake()) {
      fact::CheckedOut out{.subscription = id_,
                           .session = {},
                           .session_epoch = 0,
                           .deadline_ms = queue_time_ms + it->lease_ms,
                           .from_next = decided_next_,
                           .to_next = {},
                           .waiting = {},
                           .returned = {},
                           .skipped = 0,
                           .counted_at = 0};
      Take({it->max_messages, limits_.receive_bytes, /*one_fits=*/true, limits_.receive_bytes}, out);
      Conclude(std::move(out), {{}, it->id}, plan);
      it = receivers_.erase(it);
    } else if (now >= it->until && unknown_sizes_.empty() && !HeadExpired() && (capped() || !Wanted().has_value())) {
      // With entries that are not known yet it cannot be said that there is nothing.
      plan.empty_handed.push_back(it->id);
      it = receivers_.erase(it);
    } else {
      ++it;
    }
  }
}

void Dispatcher::ServeConsumers(Plan& plan) {
  // Round robin, until nobody wants any or nothing is left. What is there is shared evenly, so that a few messages do
  // not all wait for one consumer while others idle.
  size_t wanting = 0;
  for (const auto& [id, consumer] : consumers_) wanting += MayServe(consumer) ? 1 : 0;
  if (wanting == 0 || rebuild_) return;
  const uint64_t available = returned_messages_ + ahead_.messages();
  const uint64_t share = std::clamp<uint64_t>((available + wanting - 1) / wanting, 1, limits_.turn_messages);
  for (size_t idle = 0; idle < consumers_.size();) {
    if (!MayTake()) return;
    auto it = consumers_.upper_bound(turn_);
    if (it == consumers_.end()) it = consumers_.begin();
    turn_ = it->first;
    Consumer& consumer = it->second;
    if (!MayServe(consumer)) {
      ++idle;
      continue;
    }
    fact::CheckedOut out{.subscription = id_,
                         .session = it->first,
                         .session_epoch = consumer.epoch,
                         .deadline_ms = 0,
                         .from_next = decided_next_,
                         .to_next = {},
                         .waiting = {},
                         .returned = {},
                         .skipped = 0,
                         .counted_at = 0};
    const uint64_t bytes_left =
        consumer.credit.bytes > consumer.outstanding_bytes ? consumer.credit.bytes - consumer.outstanding_bytes : 0;
    const uint64_t messages_left = consumer.credit.messages - consumer.outstanding;
    const Credit took =
        Take({std::min(share, messages_left), bytes_left, consumer.outstanding == 0, limits_.turn_bytes}, out);
    if (took.messages == 0) {
      ++idle;  // what comes next does not fit its bytes
      continue;
    }
    idle = 0;
    consumer.outstanding += took.messages;
    consumer.outstanding_bytes += took.bytes;
    Conclude(std::move(out), {it->first, 0}, plan);
  }
}

void Dispatcher::Conclude(fact::CheckedOut out, Decided decided, Plan& plan) {
  out.to_next = decided_next_ = ahead_.next();
  out.skipped = ahead_.TakePassed();
  out.skipped_bytes = ahead_.TakePassedBytes();
  out.sized = machine_->sized_from() != 0;
  if (!out.sized) out.sizes.clear();
  decided_messages_ += Count(out);
  if (out.skipped > 0) out.counted_at = ahead_.counted_at();
  if (passed_returned_.empty()) passed_since_.reset();
  plan.facts.emplace_back(std::move(out));
  decided_.push_back(std::move(decided));
}

void Dispatcher::TellSkipped(MonotonicMs now, Plan& plan) {
  if (ahead_.passed() == 0 && passed_returned_.empty()) return;
  if (!passed_since_) passed_since_ = now;
  // Not one by one: each is an entry of the log, and nobody waits for it.
  const bool many = ahead_.passed() >= limits_.skipped_messages || passed_returned_.size() >= limits_.skipped_messages;
  if (!many && now - *passed_since_ < limits_.skip_delay_ms) return;
  fact::Skipped fact{.subscription = id_,
                     .from_next = decided_next_,
                     .to_next = ahead_.next(),
                     .count = ahead_.TakePassed(),
                     .counted_at = ahead_.counted_at(),
                     .returned = std::exchange(passed_returned_, {}),
                     .sized = machine_->sized_from() != 0,
                     .bytes = ahead_.TakePassedBytes()};
  if (fact.returned.size() > kMaxTokens) {
    passed_returned_.assign(fact.returned.begin() + kMaxTokens, fact.returned.end());
    fact.returned.resize(kMaxTokens);
  }
  decided_next_ = fact.to_next;
  passed_since_.reset();
  plan.facts.emplace_back(std::move(fact));
  ++skips_under_way_;
}

void Dispatcher::Decide(MonotonicMs now, int64_t queue_time_ms, size_t& runs, Plan& plan) {
  if (rebuild_ && decided_.empty() && skips_under_way_ == 0) {
    Rebuild();
    plan.rebuilt = true;
  }
  runs_left_ = runs;
  ForgetSizes();
  ForgetDeadlines();
  ExpireSessions(now, plan);
  ChooseActive(plan);
  ExpireLeases(queue_time_ms, plan);
  ReleaseDue(queue_time_ms);
  BuryDead(plan);
  BuryExpiredReturned(plan);
  do {
    ServeReceivers(now, queue_time_ms, plan);
    ServeConsumers(plan);
  } while (BuryExpiredWaiting(plan));
  head_expires_ms_.reset();
  if (machine_->expires() && ahead_.Next()) head_expires_ms_ = ahead_.Next()->expires_at_ms;
  if (!rebuild_) TellSkipped(now, plan);
  runs = runs_left_;
}

void Dispatcher::Purged(uint64_t index) {
  // What waited before this entry is gone, as decided here before it is applied.
  DropReturned();
  ahead_.Purge(index);
  passed_since_.reset();
  decided_next_ = ahead_.next();
}

// ---------------------------------------------------------------- what came of it

void Dispatcher::Applied(uint64_t index, const Fact& fact, const Effect& effect, std::vector<Delivery>& deliveries) {
  if (const auto* checked = std::get_if<effect::CheckedOut>(&effect)) {
    CheckedOut(index, std::get<fact::CheckedOut>(fact), *checked, deliveries);
  } else if (const auto* settled = std::get_if<effect::Settled>(&effect)) {
    for (const auto& freed : settled->freed) Free(freed.holder, freed.count);
    const std::vector<Token>* tokens = nullptr;
    if (const auto* extended = std::get_if<fact::LeaseExtended>(&fact)) tokens = &extended->tokens;
    if (const auto* s = std::get_if<fact::Settled>(&fact)) tokens = &s->tokens;
    if (tokens != nullptr) NoteDeadlines(*tokens);
  } else if (std::holds_alternative<effect::Purged>(effect)) {
    DropReturned();
  } else if (const auto* dead = std::get_if<effect::DeadUnseen>(&effect)) {
    if (skips_under_way_ > 0) --skips_under_way_;
    if (!dead->accepted) rebuild_ = true;
    if (std::get<fact::DeadUnseen>(fact).reason == DeadReason::kOverflow && leaving_ > 0) --leaving_;
  } else if (const auto* buried = std::get_if<fact::DeadLettered>(&fact)) {
    if (buried->reason == DeadReason::kOverflow && leaving_ > 0) --leaving_;
  } else if (const auto* skipped = std::get_if<effect::Skipped>(&effect)) {
    if (skips_under_way_ > 0) --skips_under_way_;
    if (!skipped->accepted) rebuild_ = true;
  } else if (const auto* detached = std::get_if<effect::Detached>(&effect)) {
    auto it = consumers_.find(std::get<fact::Detached>(fact).session);
    if (it == consumers_.end()) return;
    if (detached->accepted) {
      by_number_.erase(detached->number);
      consumers_.erase(it);
    } else {
      it->second.ending = false;  // it attached again in between
    }
  } else if (const auto* attached = std::get_if<effect::Attached>(&effect)) {
    if (!attached->accepted) return;
    const SessionId& session = std::get<fact::Attached>(fact).session;
    Consumer& consumer = consumers_[session];
    consumer.number = attached->number;
    consumer.epoch = attached->epoch;
    consumer.ending = false;
    by_number_[attached->number] = session;
  }
}

void Dispatcher::CheckedOut(uint64_t index, const fact::CheckedOut& decision, const effect::CheckedOut& effect,
                            std::vector<Delivery>& deliveries) {
  if (decided_.empty()) return;  // of an earlier leader
  Decided decided = std::move(decided_.front());
  decided_.pop_front();
  decided_runs_ -= std::min(decided_runs_, decision.waiting.size() + decision.returned.size());
  decided_messages_ -= std::min(decided_messages_, Count(decision));
  if (!effect.accepted) {
    rebuild_ = true;
    Free(NumberOf(decided.session), static_cast<uint32_t>(Count(decision)));
    if (decided.session.empty()) receivers_.push_front({decided.receiver, 1, 0, 1000});
    return;
  }
  uint64_t given = 0;
  for (const auto& run : effect.runs) given += run.slots.count;
  // Returned ones that were purged in between are not given.
  Free(NumberOf(decided.session), static_cast<uint32_t>(Count(decision) - given));
  if (decision.session.empty()) {
    for (const auto& run : effect.runs) deadlines_.emplace(decision.deadline_ms, run.slots.first);
  }
  deliveries.push_back({id_, decided.session, decided.receiver, index, effect.runs});
}

// What came back may be gone again: the entry that gave it back may have dropped it, too.
void Dispatcher::CameBack(const Slots& slots) {
  VisitWithin(subscription().returned, slots, [&](Position first, const Returned& run) { PutBack(first, run); });
}

// A partly settled or extended run has left parts in the state, which begin elsewhere or end at another time.
void Dispatcher::NoteDeadlines(const std::vector<Token>& tokens) {
  for (const Token& token : tokens) {
    auto it = subscription().in_flight.lower_bound(Position(token.slots.first.index(), 0));
    for (; it != subscription().in_flight.end() && it->first.index() == token.slots.first.index(); ++it) {
      if (it->second.holder == 0) deadlines_.emplace(it->second.deadline_ms, it->first);
    }
  }
}

uint64_t Dispatcher::NumberOf(const SessionId& session) const {
  auto it = consumers_.find(session);
  return it == consumers_.end() ? 0 : it->second.number;
}

bool Dispatcher::Waits(ReceiverId receiver) const {
  return std::any_of(receivers_.begin(), receivers_.end(), [&](const Receiver& r) { return r.id == receiver; });
}

std::optional<MonotonicMs> Dispatcher::NextWake(MonotonicMs now, int64_t queue_time_ms) const {
  std::optional<MonotonicMs> wake;
  auto at = [&](MonotonicMs when) { wake = wake ? std::min(*wake, when) : when; };
  for (const auto& [id, consumer] : consumers_) {
    if (!consumer.connected && !consumer.ending) at(consumer.gone_at);
  }
  for (const Receiver& receiver : receivers_) at(receiver.until);
  if (!deadlines_.empty()) at(now + std::max<int64_t>(0, deadlines_.begin()->first - queue_time_ms));
  if (!later_.empty()) at(now + std::max<int64_t>(0, later_.begin()->first - queue_time_ms));
  if (passed_since_) at(*passed_since_ + limits_.skip_delay_ms);
  auto expires = [&](int64_t at_ms) {
    if (at_ms != kNever) at(now + std::max<int64_t>(0, at_ms - queue_time_ms));
  };
  if (!expiries_.empty()) expires(expiries_.begin()->first);
  // What has expired and could not leave waits for something else to happen.
  if (head_expires_ms_ && *head_expires_ms_ > queue_time_ms_) expires(*head_expires_ms_);
  return wake;
}

}  // namespace trireme::queue
