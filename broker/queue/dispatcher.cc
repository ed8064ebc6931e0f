#include "broker/queue/dispatcher.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace trireme::queue {
namespace {

constexpr SubscriptionId kSubscription = 0;
// How often idle producers are looked for, in queue time.
constexpr int64_t kProducerCheckMs = 60'000;
constexpr int64_t kProducerCheckAgainMs = 1'000;
// Entries that nobody asked for, and that are read on the way from one that is wanted to the next.
constexpr uint64_t kMaxGap = 16;
// Facts of a kind in one entry, so that none grows without bound.
constexpr size_t kMaxTokens = 4'096;
constexpr size_t kMaxForgotten = 1'000;

// What each message of an entry counts for: their average.
uint64_t BytesEach(const EntryShape& shape) {
  return shape.messages == 0 ? 1 : shape.bytes / shape.messages + 1;
}

uint64_t Count(const fact::CheckedOut& f) {
  uint64_t count = 0;
  for (const Slots& s : f.waiting) count += s.count;
  for (const Slots& s : f.returned) count += s.count;
  return count;
}

}  // namespace

Dispatcher::Dispatcher(const Machine* machine, uint64_t last_index, MonotonicMs now, Limits limits)
    : machine_(machine), limits_(limits), last_index_(last_index) {
  for (const auto& [id, session] : subscription().sessions) {
    Consumer& consumer = consumers_[id];
    consumer.number = session.number;
    consumer.epoch = session.epoch;
    consumer.outstanding = subscription().HeldBy(session.number);
    consumer.gone_at = now + session.timeout_ms;
    by_number_[session.number] = id;
  }
  for (const auto& [first, run] : subscription().in_flight) {
    if (run.holder == 0) deadlines_.emplace(run.deadline_ms, first);
  }
  Rebuild();
}

void Dispatcher::Rebuild() {
  next_ = decided_next_ = subscription().next;
  // Shapes are found out again: where the cursor stands they may have been dropped.
  shapes_.clear();
  known_messages_ = known_bytes_ = 0;
  shapes_first_ = 1;
  SkipSettled();
  DropReturned();
  for (const auto& [first, run] : subscription().returned) PutBack(first, run.count);
  rebuild_ = false;
}

// Entries up to the state's floor hold nothing that waits and may be gone from the log, so they are not asked for.
void Dispatcher::SkipSettled() {
  const uint64_t floor = subscription().Floor(machine_->applied());
  while (!shapes_.empty() && shapes_first_ <= floor) PopShape();
  shapes_first_ = std::max(shapes_first_, floor + 1);
}

void Dispatcher::PushShape(EntryShape shape) {
  // A batch that apply refused has no messages, whatever the log says.
  const uint64_t index = shapes_first_ + shapes_.size();
  if (machine_->IsRefused(index)) shape = {};
  shapes_.push_back(shape);
  known_bytes_ += shape.bytes;
  const uint32_t taken = next_.index() == index ? next_.slot() : 0;
  known_messages_ += shape.messages - std::min(taken, shape.messages);
}

// Leaves the first known entry behind, and what was not taken of it.
void Dispatcher::PopShape() {
  const uint32_t messages = shapes_.front().messages;
  const uint32_t taken = next_.index() < shapes_first_   ? 0
                         : next_.index() > shapes_first_ ? messages
                                                         : std::min(next_.slot(), messages);
  known_messages_ -= messages - taken;
  known_bytes_ -= shapes_.front().bytes;
  shapes_.pop_front();
  ++shapes_first_;
  if (next_.index() < shapes_first_) next_ = Position(shapes_first_, 0);
}

void Dispatcher::PutBack(Position first, uint32_t count) {
  returned_.emplace(first, count);
  returned_messages_ += count;
  if (!bytes_each_.contains(first.index())) unknown_sizes_.insert(first.index());
}

void Dispatcher::DropReturned() {
  returned_.clear();
  returned_messages_ = 0;
  unknown_sizes_.clear();
}

// Sizes of entries that have nothing out of line any more, once many have gathered.
void Dispatcher::ForgetSizes() {
  const Subscription& s = subscription();
  if (bytes_each_.size() < 2 * (s.exceptions() + decided_runs_) + 1024) return;
  absl::erase_if(bytes_each_,
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

void Dispatcher::Appended(uint64_t index, EntryShape shape) {
  last_index_ = index;
  SkipSettled();
  if (index == shapes_first_ + shapes_.size() && shapes_.size() < limits_.read_ahead) PushShape(shape);
}

std::optional<Dispatcher::Range> Dispatcher::Wanted() {
  SkipSettled();
  // They go out first, so they are looked up first.
  if (!unknown_sizes_.empty()) {
    Range range{*unknown_sizes_.begin(), *unknown_sizes_.begin()};
    for (uint64_t index : unknown_sizes_) {
      if (index > range.last + kMaxGap || index > range.first + limits_.read_ahead) break;
      range.last = index;
    }
    return range;
  }
  const uint64_t first = shapes_first_ + shapes_.size();
  if (first > last_index_ || shapes_.size() > limits_.read_ahead / 2 || KnowsEnough()) return std::nullopt;
  return Range{first, std::min(last_index_, shapes_first_ + limits_.read_ahead - 1)};
}

bool Dispatcher::KnowsEnough() const {
  if (known_bytes_ >= limits_.read_ahead_bytes) return true;
  // Streams will want what comes next; a single receive is not read ahead for.
  for (const auto& [id, consumer] : consumers_) {
    if (consumer.connected) return false;
  }
  uint64_t wanted = 0;
  for (const Receiver& receiver : receivers_) wanted += receiver.max_messages;
  return known_messages_ >= wanted;
}

void Dispatcher::Shapes(uint64_t first, const std::vector<EntryShape>& shapes) {
  for (const EntryShape& shape : shapes) {
    const uint64_t index = first++;
    if (unknown_sizes_.erase(index) > 0) bytes_each_[index] = BytesEach(shape);
    if (index == shapes_first_ + shapes_.size() && shapes_.size() < limits_.read_ahead) PushShape(shape);
  }
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

bool Dispatcher::HasMessages() {
  // Leaves entries behind that are used up or publish nothing.
  while (!shapes_.empty()) {
    if (next_.index() < shapes_first_) next_ = Position(shapes_first_, 0);
    if (next_.index() == shapes_first_ && next_.slot() < shapes_.front().messages) return true;
    PopShape();
  }
  return false;
}

// What comes first waits for its size to be known, and what is behind it with it.
bool Dispatcher::MayTakeReturned() const {
  return !rebuild_ && decision_runs_ < limits_.decision_runs && !returned_.empty() &&
         bytes_each_.contains(returned_.begin()->first.index());
}

bool Dispatcher::MayTakeWaiting() {
  return !rebuild_ && decision_runs_ < limits_.decision_runs && returned_.empty() &&
         subscription().exceptions() + decided_runs_ < limits_.max_exceptions && HasMessages();
}

bool Dispatcher::MayTake() {
  return MayTakeReturned() || MayTakeWaiting();
}

Credit Dispatcher::Take(const Share& share, fact::CheckedOut& out) {
  Credit took;
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
    ++decision_runs_;
  };
  while (!full() && MayTakeReturned()) {
    const auto [first, count] = *returned_.begin();
    const uint64_t each = bytes_each_.at(first.index());
    const uint32_t n = fit(count, each);
    if (n == 0) return took;
    put(out.returned, first, n, each);
    returned_messages_ -= n;
    returned_.erase(returned_.begin());
    if (n < count) returned_.emplace(first + n, count - n);
  }
  while (!full() && MayTakeWaiting()) {
    const EntryShape& shape = shapes_.front();
    const uint32_t left = shape.messages - next_.slot();
    const uint64_t each = BytesEach(shape);
    const uint32_t n = fit(left, each);
    if (n == 0) return took;
    put(out.waiting, next_, n, each);
    bytes_each_[next_.index()] = each;
    known_messages_ -= n;
    next_ = next_ + n;
    if (n == left) {
      known_bytes_ -= shape.bytes;
      shapes_.pop_front();
      next_ = Position(++shapes_first_, 0);
    }
  }
  return took;
}

void Dispatcher::ExpireSessions(MonotonicMs now, Plan& plan) {
  for (auto& [id, consumer] : consumers_) {
    if (consumer.connected || consumer.ending || now < consumer.gone_at) continue;
    consumer.ending = true;
    plan.facts.emplace_back(fact::Detached{kSubscription, id, consumer.epoch});
  }
}

void Dispatcher::ExpireLeases(int64_t queue_time_ms, Plan& plan) {
  fact::Expired expired{kSubscription, queue_time_ms, {}};
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

void Dispatcher::ForgetProducers(int64_t queue_time_ms, Plan& plan) {
  if (queue_time_ms - producers_checked_ms_ < kProducerCheckMs) return;
  producers_checked_ms_ = queue_time_ms;
  const auto& producers = machine_->producers();
  const size_t excess = producers.size() - std::min(producers.size(), limits_.max_producers);
  // (when it was last active, name), the longest idle first.
  std::vector<std::pair<int64_t, std::string_view>> idle;
  for (const auto& [name, producer] : producers) {
    const int64_t idle_ms = queue_time_ms - producer.active_ms;
    if (idle_ms >= (excess > 0 ? kProducerCheckMs : limits_.producer_idle_ms))
      idle.emplace_back(producer.active_ms, name);
  }
  std::sort(idle.begin(), idle.end());
  // With more than an entry should hold, those of before are gone by then.
  if (idle.size() > kMaxForgotten) producers_checked_ms_ -= kProducerCheckMs - kProducerCheckAgainMs;
  for (size_t i = 0; i < std::min(idle.size(), kMaxForgotten); ++i) {
    if (i >= excess && queue_time_ms - idle[i].first < limits_.producer_idle_ms) break;
    const Producer& producer = producers.find(idle[i].second)->second;
    plan.facts.emplace_back(
        fact::ProducerForgotten{std::string(idle[i].second), producer.epoch, producer.window.highest()});
  }
}

void Dispatcher::ServeReceivers(MonotonicMs now, int64_t queue_time_ms, Plan& plan) {
  for (auto it = receivers_.begin(); it != receivers_.end();) {
    if (MayTake()) {
      fact::CheckedOut out{.subscription = kSubscription,
                           .session = {},
                           .session_epoch = 0,
                           .deadline_ms = queue_time_ms + it->lease_ms,
                           .from_next = decided_next_,
                           .to_next = {},
                           .waiting = {},
                           .returned = {}};
      Take({it->max_messages, limits_.receive_bytes, /*one_fits=*/true, limits_.receive_bytes}, out);
      out.to_next = decided_next_ = next_;
      plan.facts.emplace_back(std::move(out));
      decided_.push_back({{}, it->id});
      it = receivers_.erase(it);
    } else if (now >= it->until && unknown_sizes_.empty() && (capped() || !Wanted().has_value())) {
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
  for (const auto& [id, consumer] : consumers_) wanting += consumer.Wants() ? 1 : 0;
  if (wanting == 0 || rebuild_) return;
  const uint64_t available = returned_messages_ + known_messages_;
  const uint64_t share = std::clamp<uint64_t>((available + wanting - 1) / wanting, 1, limits_.turn_messages);
  for (size_t idle = 0; idle < consumers_.size();) {
    if (!MayTake()) return;
    auto it = consumers_.upper_bound(turn_);
    if (it == consumers_.end()) it = consumers_.begin();
    turn_ = it->first;
    Consumer& consumer = it->second;
    if (!consumer.Wants()) {
      ++idle;
      continue;
    }
    fact::CheckedOut out{.subscription = kSubscription,
                         .session = it->first,
                         .session_epoch = consumer.epoch,
                         .deadline_ms = 0,
                         .from_next = decided_next_,
                         .to_next = {},
                         .waiting = {},
                         .returned = {}};
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
    out.to_next = decided_next_ = next_;
    plan.facts.emplace_back(std::move(out));
    decided_.push_back({it->first, 0});
  }
}

Dispatcher::Plan Dispatcher::Decide(MonotonicMs now, int64_t queue_time_ms) {
  Plan plan;
  if (rebuild_ && decided_.empty()) Rebuild();
  decision_runs_ = 0;
  ForgetSizes();
  ForgetDeadlines();
  ExpireSessions(now, plan);
  ExpireLeases(queue_time_ms, plan);
  ForgetProducers(queue_time_ms, plan);
  ServeReceivers(now, queue_time_ms, plan);
  ServeConsumers(plan);
  return plan;
}

void Dispatcher::Purged(uint64_t index) {
  // What waited before this entry is gone, as decided here before it is applied.
  DropReturned();
  while (!shapes_.empty() && shapes_first_ < index) PopShape();
  if (shapes_.empty()) shapes_first_ = std::max(shapes_first_, index);
  next_ = decided_next_ = std::max(next_, Position(index, 0));
}

// ---------------------------------------------------------------- what came of it

void Dispatcher::Applied(uint64_t index, const std::vector<Fact>& facts, const Effects& effects,
                         std::vector<Delivery>& deliveries) {
  for (size_t i = 0; i < facts.size(); ++i) {
    if (const auto* checked = std::get_if<effect::CheckedOut>(&effects.facts[i])) {
      const auto& decision = std::get<fact::CheckedOut>(facts[i]);
      if (decided_.empty()) continue;  // of an earlier leader
      Decided decided = std::move(decided_.front());
      decided_.pop_front();
      decided_runs_ -= std::min(decided_runs_, decision.waiting.size() + decision.returned.size());
      if (!checked->accepted) {
        rebuild_ = true;
        Free(NumberOf(decided.session), static_cast<uint32_t>(Count(decision)));
        if (decided.session.empty()) receivers_.push_front({decided.receiver, 1, 0, 1000});
        continue;
      }
      uint64_t given = 0;
      for (const auto& run : checked->runs) given += run.slots.count;
      // Returned ones that were purged in between are not given.
      Free(NumberOf(decided.session), static_cast<uint32_t>(Count(decision) - given));
      if (decision.session.empty()) {
        for (const auto& run : checked->runs) deadlines_.emplace(decision.deadline_ms, run.slots.first);
      }
      deliveries.push_back({decided.session, decided.receiver, index, checked->runs});
    } else if (const auto* settled = std::get_if<effect::Settled>(&effects.facts[i])) {
      for (const auto& freed : settled->freed) Free(freed.holder, freed.count);
      const std::vector<Token>* tokens = nullptr;
      if (const auto* extended = std::get_if<fact::LeaseExtended>(&facts[i])) tokens = &extended->tokens;
      if (const auto* s = std::get_if<fact::Settled>(&facts[i])) tokens = &s->tokens;
      if (tokens != nullptr) NoteDeadlines(*tokens);
    } else if (std::holds_alternative<effect::Purged>(effects.facts[i])) {
      DropReturned();
    } else if (const auto* detached = std::get_if<effect::Detached>(&effects.facts[i])) {
      const auto& decision = std::get<fact::Detached>(facts[i]);
      auto it = consumers_.find(decision.session);
      if (it == consumers_.end()) continue;
      if (detached->accepted) {
        by_number_.erase(detached->number);
        consumers_.erase(it);
      } else {
        it->second.ending = false;  // it attached again in between
      }
    } else if (const auto* attached = std::get_if<effect::Attached>(&effects.facts[i])) {
      if (!attached->accepted) continue;
      Consumer& consumer = consumers_[std::get<fact::Attached>(facts[i]).session];
      consumer.number = attached->number;
      consumer.epoch = attached->epoch;
      consumer.ending = false;
      by_number_[attached->number] = std::get<fact::Attached>(facts[i]).session;
    }
  }
  // What came back may be gone again: the entry that gave it back may have dropped it, too.
  for (const auto& back : effects.returned) {
    VisitWithin(subscription().returned, back.slots,
                [&](Position first, const Returned& run) { PutBack(first, run.count); });
  }
  SkipSettled();
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
  if (!machine_->producers().empty())
    at(now + std::max<int64_t>(0, producers_checked_ms_ + kProducerCheckMs - queue_time_ms));
  return wake;
}

}  // namespace trireme::queue
