#include "broker/queue/dispatchers.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace trireme::queue {
namespace {

// How often idle producers are looked for, in queue time.
constexpr int64_t kProducerCheckMs = 60'000;
constexpr int64_t kProducerCheckAgainMs = 1'000;
// In one entry, so that it does not grow without bound.
constexpr size_t kMaxForgotten = 1'000;
constexpr Position kNowhere(kMaxLogIndex, 0);

// The subscription that a fact is about; nothing for one that is about the queue.
std::optional<SubscriptionId> SubscriptionOf(const Fact& fact) {
  return std::visit(
      [](const auto& f) -> std::optional<SubscriptionId> {
        if constexpr (requires { f.subscription; }) return f.subscription;
        return std::nullopt;
      },
      fact);
}

}  // namespace

Dispatchers::Dispatchers(const Machine* machine, uint64_t last_index, MonotonicMs now, Dispatcher::Limits limits)
    : machine_(machine), limits_(limits), last_index_(last_index) {
  for (const auto& [id, subscription] : machine_->subscriptions()) Add(id, now);
}

void Dispatchers::Add(SubscriptionId id, MonotonicMs now) {
  Dispatcher::Limits limits = limits_;
  const size_t share = machine_->subscriptions().size();
  limits.read_ahead = std::max(std::min(limits.read_ahead, limits.min_read_ahead), limits.read_ahead / share);
  all_[id] = std::make_unique<Dispatcher>(machine_, id, last_index_, now, limits);
}

Dispatcher* Dispatchers::Find(SubscriptionId id) const {
  auto it = all_.find(id);
  return it == all_.end() ? nullptr : it->second.get();
}

void Dispatchers::Appended(uint64_t index, const EntryShape& shape) {
  last_index_ = index;
  for (const auto& [id, dispatcher] : all_) dispatcher->Appended(index, shape);
}

void Dispatchers::Purged(uint64_t index) {
  for (const auto& [id, dispatcher] : all_) dispatcher->Purged(index);
}

// What several subscriptions have is counted more than once, and what one of them holds counts though it will not be
// free: so what leaves may be too little, and the rest leaves the next time. That too much does cannot be.
Dispatchers::Made Dispatchers::MakeRoom(Amount wanted, Dispatcher::Plan& plan) {
  for (const auto& [id, dispatcher] : all_) {
    if (dispatcher->leaving()) return Made::kSome;
  }
  // What is returned comes first, wherever it is; all of it that may be needed, by position.
  Position end;
  std::map<SubscriptionId, absl::btree_map<Position, Returned>::const_iterator> next;
  for (const auto& [id, s] : machine_->subscriptions()) next[id] = s.returned.begin();
  Position waiting = kNowhere;  // what waits, and was not decided or passed over, begins here
  Dispatcher* slowest = nullptr;
  bool lacks = false;
  for (const auto& [id, dispatcher] : all_) {
    const Subscription& s = machine_->subscription(id);
    lacks |= dispatcher->rebuilding();
    if (s.waiting == 0) continue;
    lacks |= dispatcher->LacksHead();
    const Position at = std::max(dispatcher->next(), Position(s.waiting_from, 0));
    if (at >= waiting) continue;
    waiting = at;
    slowest = dispatcher.get();
  }
  while (wanted != Amount()) {
    auto first = next.end();
    for (auto it = next.begin(); it != next.end(); ++it) {
      if (it->second == machine_->subscription(it->first).returned.end() || it->second->first >= waiting) continue;
      if (first == next.end() || it->second->first < first->second->first) first = it;
    }
    if (first == next.end()) break;
    const auto& [position, run] = *first->second;
    end = std::max(end, position + wanted.Take(run.count, run.size));
    ++first->second;
  }
  if (wanted != Amount() && slowest != nullptr && !lacks) end = std::max(end, slowest->EndOf(wanted));
  bool some = false;
  for (const auto& [id, dispatcher] : all_) some |= dispatcher->LeaveBelow(end, plan);
  return some ? Made::kSome : lacks ? Made::kLater : Made::kNone;
}

void Dispatchers::Decide(MonotonicMs now, int64_t queue_time_ms, Dispatcher::Plan& plan) {
  ForgetProducers(queue_time_ms, plan);
  size_t runs = limits_.decision_runs;
  auto first = all_.lower_bound(turn_);
  for (auto it = first; it != all_.end(); ++it) it->second->Decide(now, queue_time_ms, runs, plan);
  for (auto it = all_.begin(); it != first; ++it) it->second->Decide(now, queue_time_ms, runs, plan);
  // Another one is first the next time.
  if (runs == 0 && first != all_.end()) turn_ = first->first + 1;
  if (first == all_.end()) turn_ = 0;
}

void Dispatchers::ForgetProducers(int64_t queue_time_ms, Dispatcher::Plan& plan) {
  if (queue_time_ms - producers_checked_ms_ < kProducerCheckMs) return;
  producers_checked_ms_ = queue_time_ms;
  const auto& producers = machine_->producers();
  const size_t excess = producers.size() - std::min(producers.size(), limits_.max_producers);
  // (when it was last active, name), the longest idle first.
  std::vector<std::pair<int64_t, std::string_view>> idle;
  for (const auto& [name, producer] : producers) {
    const int64_t idle_ms = queue_time_ms - producer.active_ms;
    if (limits_.keeps_producer != nullptr && limits_.keeps_producer(name)) continue;
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

void Dispatchers::Applied(uint64_t index, const std::vector<Fact>& facts, const Effects& effects,
                          std::vector<Dispatcher::Delivery>& deliveries) {
  // First of all: of one that is gone the state has nothing, and nobody waits for what came before.
  for (const Fact& fact : facts) {
    if (const auto* deleted = std::get_if<fact::SubscriptionDeleted>(&fact)) all_.erase(deleted->subscription);
  }
  for (size_t i = 0; i < facts.size(); ++i) {
    const Effect& effect = effects.facts[i];
    if (const auto* made = std::get_if<effect::SubscriptionCreated>(&effect)) {
      // It may have been deleted behind that, in the same entry.
      if (made->outcome == effect::SubscriptionCreated::Outcome::kCreated &&
          machine_->FindSubscription(made->id) != nullptr) {
        Add(made->id, /*now=*/0);
      }
      continue;
    }
    if (std::optional<SubscriptionId> of = SubscriptionOf(facts[i])) {
      if (Dispatcher* dispatcher = Find(*of)) {
        if (std::holds_alternative<fact::SubscriptionChanged>(facts[i])) dispatcher->SettingsChanged();
        dispatcher->Applied(index, facts[i], effect, deliveries);
      }
    } else if (std::holds_alternative<fact::VersionRaised>(facts[i])) {
      // What was passed over was perhaps not counted as it is from here on.
      for (const auto& [id, dispatcher] : all_) dispatcher->VersionRaised();
    } else if (std::holds_alternative<fact::QueueChanged>(facts[i])) {
      for (const auto& [id, dispatcher] : all_) dispatcher->SettingsChanged();
    } else if (std::holds_alternative<fact::Purged>(facts[i])) {
      for (const auto& [id, dispatcher] : all_) dispatcher->Applied(index, facts[i], effect, deliveries);
    }
  }
  for (const auto& back : effects.returned) {
    if (Dispatcher* dispatcher = Find(back.subscription)) dispatcher->CameBack(back.slots);
  }
  for (const auto& [id, dispatcher] : all_) dispatcher->AppliedEntry();
}

std::optional<MonotonicMs> Dispatchers::NextWake(MonotonicMs now, int64_t queue_time_ms) const {
  std::optional<MonotonicMs> wake;
  auto at = [&](MonotonicMs when) { wake = wake ? std::min(*wake, when) : when; };
  for (const auto& [id, dispatcher] : all_) {
    if (auto when = dispatcher->NextWake(now, queue_time_ms)) at(*when);
  }
  if (!machine_->producers().empty())
    at(now + std::max<int64_t>(0, producers_checked_ms_ + kProducerCheckMs - queue_time_ms));
  return wake;
}

}  // namespace trireme::queue
