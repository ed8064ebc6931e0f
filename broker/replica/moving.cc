#include "broker/replica/moving.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "broker/message/dead_letter.h"
#include "broker/ops/log.h"
#include "broker/queue/batch.h"
#include "broker/queue/entry.h"
#include "raft/core/coding.h"

namespace trireme::broker {
namespace {

// Of one load: so that its sequences are well within what a queue remembers of a producer.
constexpr uint32_t kMaxMessages = 256;
constexpr size_t kMaxBytes = size_t{192} << 10;
constexpr size_t kReadAhead = size_t{256} << 10;
constexpr int64_t kFirstPauseMs = 100, kLastPauseMs = 5'000;

const char* NameOf(queue::DeadReason reason) {
  switch (reason) {
    case queue::DeadReason::kDeliveryLimit:
      return "delivery-limit";
    case queue::DeadReason::kRejected:
      return "rejected";
    case queue::DeadReason::kRedriven:
      return "redriven";
    case queue::DeadReason::kOverflow:
      return "overflow";
    case queue::DeadReason::kExpired:
      return "expired";
  }
  return "";
}

}  // namespace

std::string MoverName(raft::GroupId group, queue::SubscriptionId subscription) {
  return absl::StrCat(kMover, group.value(), "/", subscription);
}

uint64_t MoverGroup(std::string_view producer) {
  uint64_t group = 0;
  absl::string_view name(producer.data(), producer.size());
  if (!absl::ConsumePrefix(&name, kMover)) return 0;
  return absl::SimpleAtoi(name.substr(0, name.find('/')), &group) ? group : 0;
}

Moving::Moving(const LeaderPort* leader, const ReplicaLimits* limits, std::string queue_name)
    : leader_(leader), limits_(limits), queue_name_(std::move(queue_name)) {}

queue::MonotonicMs Moving::NowMs() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(leader_->shard->Now().time_since_epoch()).count();
}

const queue::Subscription* Moving::StateOf(const Load& load) const {
  return leader_->machine->FindSubscription(load.subscription);
}

std::string Moving::TroubleOf(queue::SubscriptionId subscription) const {
  auto way = ways_.find(subscription);
  return way == ways_.end() ? "" : way->second.trouble;
}

void Moving::Go() {
  if (limits_->make_carrier == nullptr) return;
  const std::weak_ptr<bool> alive = alive_;
  for (const auto& [id, s] : leader_->machine->subscriptions()) {
    if (s.departures.runs().empty()) continue;
    Way& way = ways_[id];
    if (!way.busy && NowMs() >= way.not_before) Start(id, way);
    if (alive.expired()) return;
  }
}

void Moving::Start(queue::SubscriptionId subscription, Way& way) {
  if (carrier_ == nullptr) {
    carrier_ = limits_->make_carrier();
    reader_ = std::make_unique<EntryReader>(leader_->group, kReadAhead);
  }
  const auto& [ordinal, run] = *leader_->machine->subscription(subscription).departures.runs().begin();
  way.busy = true;
  ReadOn(std::make_shared<Load>(
      Load{.subscription = subscription, .first = ordinal, .target = run.target, .count = 0, .batch = {}}));
}

void Moving::ReadOn(const std::shared_ptr<Load>& load) {
  const queue::Subscription* s = StateOf(*load);
  if (s == nullptr) return;
  // Only this leader's Arrived facts take any off, and of one subscription one load is under way.
  const auto& runs = s->departures.runs();
  const uint64_t next = load->first + load->count;
  auto it = runs.upper_bound(next);
  if (it != runs.begin()) --it;
  const bool more = it != runs.end() && it->first <= next && next < it->first + it->second.count &&
                    it->second.target == load->target && load->count < kMaxMessages;
  if (!more) return Send(load);
  const auto skip = static_cast<uint32_t>(next - it->first);
  reader_->Fetch(it->second.first.index(), leader_->machine->applied(),
                 [this, load, run = it->second, skip](absl::StatusOr<raft::Bytes> entry) {
                   if (StateOf(*load) == nullptr) return;
                   bool full = false;
                   absl::Status put = entry.ok() ? Put(*load, run, skip, *entry, full) : entry.status();
                   if (!put.ok()) {
                     ways_[load->subscription].busy = false;
                     return leader_->damaged(put);
                   }
                   if (full) return Send(load);
                   // Not from within a read: there may be many.
                   leader_->shard->AtTurnEnd([this, alive = std::weak_ptr<bool>(alive_), load] {
                     if (!alive.expired()) ReadOn(load);
                   });
                 });
}

// Safety rule 17: checked before it goes on.
absl::Status Moving::Put(Load& load, const queue::Departing& run, uint32_t skip, const raft::Bytes& entry,
                         bool& full) const {
  absl::StatusOr<queue::PublishedView> view = queue::DecodePublished(entry);
  if (!view.ok()) return view.status();
  const uint32_t count = std::min(run.count - skip, kMaxMessages - load.count);
  absl::StatusOr<raft::Bytes> batch = queue::CheckedMessages(*view, run.first.slot() + skip, count);
  if (!batch.ok()) return batch.status();
  const queue::Subscription& s = *StateOf(load);
  queue::Position position = run.first + skip;
  for (queue::BatchWalker walker(batch->view()); walker.Next(); position = position + 1) {
    raft::Writer record;
    record.Byte(1 << 3 | 2);
    if (run.reason == queue::DeadReason::kRedriven) {
      record.Counted(message::Redriven(walker.message()));
    } else {
      record.Counted(message::WithDeadLetter(walker.message(), {.queue = queue_name_,
                                                                .subscription = s.name,
                                                                .position = position.packed(),
                                                                .reason = NameOf(run.reason),
                                                                .deliveries = run.deliveries,
                                                                .time_ms = run.time_ms,
                                                                .routing_key = s.settings.dead_letter.routing_key}));
    }
    full = load.count > 0 && load.batch.size() + record.size() > kMaxBytes;
    if (full) break;
    load.batch += record.bytes();
    ++load.count;
  }
  return absl::OkStatus();
}

void Moving::Send(const std::shared_ptr<Load>& load) {
  carrier_->Carry({.target = raft::GroupId(load->target),
                   .producer = MoverName(leader_->group->id(), load->subscription),
                   .first_sequence = load->first,
                   .count = load->count,
                   .batch = raft::Bytes::Take(std::move(load->batch))},
                  [this, alive = std::weak_ptr<bool>(alive_), load](Carrier::Outcome outcome, std::string reason) {
                    if (!alive.expired()) Arrived(*load, outcome, reason);
                  });
}

void Moving::Arrived(const Load& load, Carrier::Outcome outcome, const std::string& reason) {
  const queue::Subscription* s = StateOf(load);
  if (s == nullptr) {
    ways_.erase(load.subscription);
    return;
  }
  Way& way = ways_[load.subscription];
  const uint64_t other = s->settings.dead_letter.group;
  switch (outcome) {
    case Carrier::Outcome::kStored:
      way = {.busy = true};  // until that is applied
      return leader_->add(queue::fact::Arrived{load.subscription, load.first, load.count}, {});
    case Carrier::Outcome::kGone:
      if (other != 0 && other != load.target)
        return leader_->add(queue::fact::Redirected{load.subscription, load.target, other}, {});
      return TryLater(way, "the queue that its dead letters are to go to was deleted; set another one");
    case Carrier::Outcome::kUnknown:
      return TryLater(way, reason);
  }
}

void Moving::TryLater(Way& way, std::string trouble) {
  if (way.trouble.empty()) {
    Log(LogLevel::kWarn, "dead letters do not arrive; it is tried again", "queue", queue_name_, "reason", trouble);
  }
  way.busy = false;
  way.pause_ms = std::clamp(2 * way.pause_ms, kFirstPauseMs, kLastPauseMs);
  way.not_before = NowMs() + way.pause_ms;
  way.trouble = std::move(trouble);
  leader_->shard->After(std::chrono::milliseconds{way.pause_ms}, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) leader_->flush_soon();
  });
}

void Moving::Applied(const queue::Fact& fact) {
  const auto* arrived = std::get_if<queue::fact::Arrived>(&fact);
  const auto* redirected = std::get_if<queue::fact::Redirected>(&fact);
  if (arrived != nullptr) ways_.erase(arrived->subscription);
  if (redirected != nullptr) ways_.erase(redirected->subscription);
  if (const auto* deleted = std::get_if<queue::fact::SubscriptionDeleted>(&fact)) ways_.erase(deleted->subscription);
  if (const auto* changed = std::get_if<queue::fact::SubscriptionChanged>(&fact)) {
    auto way = ways_.find(changed->subscription);
    if (way != ways_.end()) way->second.not_before = 0;
  }
  // Those that were rejected, or buried, go at the end of the turn.
}

}  // namespace trireme::broker
