#include "broker/replica/subscriptions.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/filter/filter.h"
#include "broker/ops/error.h"
#include "broker/replica/place_finder.h"

namespace trireme::broker {
namespace {

// The facts of subscriptions came with it.
constexpr uint32_t kFactsOfSubscriptions = 2;
constexpr uint32_t kFactsOfDelays = 3;
constexpr uint32_t kFactsOfDeadLetters = 4;
constexpr uint64_t kMaxDelayMs = uint64_t{12} * 3600 * 1000;
constexpr uint64_t kMaxDeliveries = 1'000'000;
constexpr uint64_t kMaxInFlight = 1'000'000;
// Of a queue: so that no sum runs over.
constexpr uint64_t kMostMessages = uint64_t{1} << 50;
constexpr uint64_t kMaxTtlMs = uint64_t{100} * 365 * 24 * 3600 * 1000;
constexpr uint64_t kMostBytes = uint64_t{1} << 60;
// Of what is read ahead, for each of many.
constexpr size_t kMinReadAhead = size_t{64} << 10;
// For the places at which new ones begin, at a time: each reads a part of the log.
constexpr size_t kMaxSearches = 4;

absl::Status CheckNumber(absl::string_view name, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  const std::string limit = absl::StrCat(low, " to ", high);
  return Error(absl::StatusCode::kInvalidArgument, {.reason = "OUT_OF_RANGE", .name = name, .limit = limit},
               absl::StrCat(name, " is ", value, "; it must be ", limit));
}

absl::Status Check(const queue::SubscriptionSettings& settings) {
  if (!settings.filter.empty()) {
    const absl::Status parsed = filter::Filter::Parse(settings.filter).status();
    if (!parsed.ok()) {
      return Error(absl::StatusCode::kInvalidArgument, {.reason = "BAD_FILTER"},
                   absl::StrCat("the filter does not parse: ", parsed.message()));
    }
  }
  absl::Status good = CheckNumber("retry_delay_ms", settings.retry_delay_ms, 0, kMaxDelayMs);
  good.Update(CheckNumber("retry_percent", settings.retry_percent, 100, 1'000));
  good.Update(CheckNumber("max_retry_delay_ms", settings.max_retry_delay_ms, settings.retry_delay_ms, kMaxDelayMs));
  good.Update(CheckNumber("delivery_limit", settings.delivery_limit, 0, kMaxDeliveries));
  good.Update(CheckNumber("max_in_flight", settings.max_in_flight, 0, kMaxInFlight));
  return good;
}

absl::Status NoLeader() {
  return Error(absl::StatusCode::kUnavailable, {.reason = kNotLeader},
               "this node does not lead the queue any more; nothing was done");
}

}  // namespace

Subscriptions::Subscriptions(const LeaderPort* leader, const ReplicaLimits* limits, std::string queue_name)
    : leader_(leader), limits_(limits), queue_name_(std::move(queue_name)), raised_(leader->machine->version()) {}

Consuming* Subscriptions::Find(queue::SubscriptionId id) {
  // One that an entry deletes is not used from then on, though its asker is told only when his turn comes.
  if (leader_->dispatchers->Find(id) == nullptr) return nullptr;
  std::unique_ptr<Consuming>& made = all_[id];
  if (made == nullptr) {
    const size_t all = limits_->read_ahead_bytes;
    const size_t share = all / std::max<size_t>(1, leader_->machine->subscriptions().size());
    made = std::make_unique<Consuming>(leader_, id, std::max(std::min(all, kMinReadAhead), share));
  }
  return made.get();
}

Consuming* Subscriptions::Find(const std::string& name) {
  const auto id = leader_->machine->FindSubscription(name);
  return id ? Find(*id) : nullptr;
}

std::string Subscriptions::None(const std::string& name) const {
  return absl::StrCat("queue '", queue_name_, "' has no subscription '", name, "'");
}

absl::Status Subscriptions::NotFound(const std::string& name) const {
  return Error(absl::StatusCode::kNotFound, {.reason = "NO_SUBSCRIPTION", .name = name}, None(name));
}

absl::Status Subscriptions::Exists(const std::string& name) const {
  return Error(absl::StatusCode::kAlreadyExists, {.reason = "SUBSCRIPTION_EXISTS", .name = name},
               absl::StrCat("queue '", queue_name_, "' has a subscription '", name,
                            "' with other settings; change those, or choose another name"));
}

void Subscriptions::With(const std::string& name, std::function<void(Consuming&)> act,
                         absl::AnyInvocable<void(absl::Status)> none) {
  if (Consuming* known = Find(name)) return act(*known);
  leader_->group->ReadBarrier([this, alive = std::weak_ptr<bool>(alive_), name, act = std::move(act),
                               none = std::move(none)](absl::Status status) mutable {
    if (!status.ok() || alive.expired()) return none(NoLeader());
    if (Consuming* known = Find(name)) return act(*known);
    none(NotFound(name));
  });
}

// Safety rule 3: facts of a later version come only once every replica understands them. The VersionRaised goes before
// what is added next.
absl::Status Subscriptions::RaiseTo(uint32_t version) {
  if (raised_ >= version) return absl::OkStatus();
  std::vector<raft::NodeId> nodes;
  for (const raft::Member& member : leader_->group->membership().members) nodes.push_back(member.node);
  std::vector<LackingNode> lacking;
  if (limits_->lacking != nullptr) lacking = limits_->lacking(nodes, version);
  if (!lacking.empty()) {
    const std::string who = absl::StrJoin(lacking, ", ", [](std::string* out, const LackingNode& l) {
      absl::StrAppend(out, "node ", l.node.value(),
                      l.understands == 0 ? " (not heard of since the leader's process started)"
                                         : absl::StrCat(" (understands version ", l.understands, ")"));
    });
    return Error(
        absl::StatusCode::kFailedPrecondition, {.reason = "OLD_NODES", .name = queue_name_},
        absl::StrCat("this needs version ", version, " of the log's facts on all nodes that hold queue '", queue_name_,
                     "', which is not known of ", who, ": have each of them up with this version ",
                     "of trireme-broker, or a newer one, and try again; a node that is lost can be replaced"));
  }
  raised_ = version;
  leader_->add(queue::fact::VersionRaised{version}, {});
  return absl::OkStatus();
}

void Subscriptions::Create(const std::string& name, queue::SubscriptionSettings settings, SubscriptionStart start,
                           SubscribeDone done) {
  if (absl::Status good = Check(settings); !good.ok()) return done(good);
  const queue::Machine& machine = *leader_->machine;
  if (machine.FindSubscription(name)) {
    // As a leader that was deposed would believe, too.
    return leader_->group->ReadBarrier([this, alive = std::weak_ptr<bool>(alive_), name, settings = std::move(settings),
                                        start, done = std::move(done)](absl::Status status) mutable {
      if (!status.ok() || alive.expired()) return done(NoLeader());
      const auto id = leader_->machine->FindSubscription(name);
      if (!id) return Create(name, std::move(settings), start, std::move(done));
      if (leader_->machine->subscription(*id).settings != settings) return done(Exists(name));
      done(SubscriptionMade{*id});
    });
  }
  const size_t have = machine.subscriptions().size() + creating_;
  if (have >= limits_->max_subscriptions) {
    return done(Error(absl::StatusCode::kResourceExhausted,
                      {.reason = "TOO_MANY_SUBSCRIPTIONS",
                       .name = queue_name_,
                       .limit = absl::StrCat(limits_->max_subscriptions, " subscriptions")},
                      absl::StrCat("queue '", queue_name_, "' has ", have, " subscriptions; the limit is ",
                                   limits_->max_subscriptions)));
  }
  const bool searches = start.at == SubscriptionStart::At::kPosition || start.at == SubscriptionStart::At::kTime;
  if (searches && searches_.size() >= kMaxSearches) {
    return done(Error(absl::StatusCode::kResourceExhausted,
                      {.reason = "TOO_MANY_SEARCHES", .name = queue_name_, .limit = absl::StrCat(kMaxSearches)},
                      absl::StrCat("the log of queue '", queue_name_, "' is being searched for the starts of ",
                                   searches_.size(), " subscriptions; nothing was done: try again in a moment")));
  }
  if (absl::Status raised = RaiseTo(queue::VersionOf(settings)); !raised.ok()) return done(raised);
  ++creating_;
  auto add = [this, name, settings = std::move(settings)](PlaceFinder::Place place, SubscribeDone tell) {
    leader_->add(queue::fact::SubscriptionCreated{name, place.position, place.ordinal, settings,
                                                  raised_ >= queue::kFactsOfLimits, place.bytes},
                 SubscriptionWaiter{name, settings, std::move(tell)});
  };
  PlaceFinder::Wanted wanted;
  switch (start.at) {
    case SubscriptionStart::At::kEnd:
      return add({queue::Position(queue::kMaxLogIndex, 0), 0}, std::move(done));
    case SubscriptionStart::At::kFirst:
      return add({}, std::move(done));
    case SubscriptionStart::At::kPosition:
      wanted.position = start.position;
      break;
    case SubscriptionStart::At::kTime:
      wanted.time_ms = start.time_ms;
      break;
  }
  auto shared = std::make_shared<SubscribeDone>(std::move(done));
  searches_[shared.get()] = shared;
  PlaceFinder::Find(&machine, leader_->group, alive_, wanted,
                    [this, add = std::move(add), shared](absl::StatusOr<PlaceFinder::Place> place) {
                      searches_.erase(shared.get());
                      if (place.ok()) return add(*place, std::move(*shared));
                      --creating_;
                      (*shared)(place.status());
                    });
}

void Subscriptions::Change(const std::string& name, queue::SubscriptionSettings settings, SubscribeDone done) {
  if (absl::Status good = Check(settings); !good.ok()) return done(good);
  auto shared = std::make_shared<SubscribeDone>(std::move(done));
  With(
      name,
      [this, name, settings = std::move(settings), shared](Consuming& consuming) {
        if (absl::Status raised = RaiseTo(queue::VersionOf(settings)); !raised.ok()) return (*shared)(raised);
        leader_->add(queue::fact::SubscriptionChanged{consuming.id(), settings},
                     SubscriptionWaiter{name, settings, std::move(*shared)});
      },
      [shared](absl::Status status) { (*shared)(std::move(status)); });
}

void Subscriptions::Delete(const std::string& name, SubscribeDone done) {
  auto shared = std::make_shared<SubscribeDone>(std::move(done));
  With(
      name,
      [this, name, shared](Consuming& consuming) {
        if (absl::Status raised = RaiseTo(kFactsOfSubscriptions); !raised.ok()) return (*shared)(raised);
        leader_->add(queue::fact::SubscriptionDeleted{consuming.id()},
                     SubscriptionWaiter{name, {}, std::move(*shared)});
      },
      [shared](absl::Status status) { (*shared)(std::move(status)); });
}

void Subscriptions::Answer(SubscriptionWaiter& waiter, const queue::Fact& fact, const queue::Effect& effect) {
  if (const auto* made = std::get_if<queue::effect::SubscriptionCreated>(&effect)) {
    using Outcome = queue::effect::SubscriptionCreated::Outcome;
    --creating_;
    const queue::Subscription* s = leader_->machine->FindSubscription(made->id);
    switch (made->outcome) {
      case Outcome::kCreated:
        return waiter.done(SubscriptionMade{made->id, true});
      case Outcome::kExists:
        if (s == nullptr || s->settings != waiter.settings) return waiter.done(Exists(waiter.name));
        return waiter.done(SubscriptionMade{made->id});
      case Outcome::kWrong:
        return waiter.done(
            absl::InternalError(absl::StrCat("subscription '", waiter.name, "' was to begin where it cannot")));
    }
  }
  if (!std::get<queue::effect::SubscriptionChanged>(effect).accepted) return waiter.done(NotFound(waiter.name));
  if (const auto* changed = std::get_if<queue::fact::SubscriptionChanged>(&fact)) {
    const queue::SubscriptionId id = changed->subscription;
    if (auto consuming = all_.find(id); consuming != all_.end()) {
      consuming->second->SettingsChanged();
      consuming->second->TellStandbys();
    }
    return waiter.done(SubscriptionMade{id});
  }
  const queue::SubscriptionId id = std::get<queue::fact::SubscriptionDeleted>(fact).subscription;
  auto gone = all_.extract(id);
  const absl::Status status = NotFound(waiter.name);
  if (!gone.empty()) gone.mapped()->Lose(CutReason::kSubscriptionGone, std::string(status.message()), status, status);
  waiter.done(SubscriptionMade{id});
}

void Subscriptions::Attached(queue::SubscriptionId id, AttachWaiter& waiter, const queue::effect::Attached& effect) {
  if (Consuming* consuming = Find(id)) return consuming->Attached(waiter, effect);
  if (waiter.sink != nullptr) waiter.sink->Cut(CutReason::kSubscriptionGone, None(waiter.request.subscription));
}

absl::Status Subscriptions::MayDelay(int64_t delay_ms) {
  return delay_ms <= 0 ? absl::OkStatus() : RaiseTo(kFactsOfDelays);
}

absl::Status Subscriptions::MayRedrive() {
  return RaiseTo(kFactsOfDeadLetters);
}

absl::Status Subscriptions::MaySet(const queue::QueueSettings& settings) {
  absl::Status good = CheckNumber("max_messages", settings.max_messages, 0, kMostMessages);
  good.Update(CheckNumber("max_bytes", settings.max_bytes, 0, kMostBytes));
  good.Update(CheckNumber("max_message_bytes", settings.max_message_bytes, 0, limits_->max_message_bytes));
  good.Update(CheckNumber("ttl_ms", settings.ttl_ms, 0, kMaxTtlMs));
  if (good.ok() && settings.overflow != queue::Overflow::kReject && !settings.Limits()) {
    good = Error(absl::StatusCode::kInvalidArgument, {.reason = "NO_LIMIT", .name = "overflow"},
                 "overflow is for a queue with a limit; set max_messages or max_bytes, too");
  }
  const auto& all = leader_->machine->subscriptions();
  const bool targets =
      std::any_of(all.begin(), all.end(), [](const auto& s) { return s.second.settings.dead_letter.group != 0; });
  if (good.ok() && settings.overflow == queue::Overflow::kDeadLetter && !targets) {
    good = Error(absl::StatusCode::kFailedPrecondition, {.reason = "NO_DEAD_LETTER_QUEUE", .name = queue_name_},
                 absl::StrCat("no subscription of queue '", queue_name_,
                              "' has a dead-letter queue; give it one first, or have the oldest dropped"));
  }
  return good.ok() ? RaiseTo(queue::VersionOf(settings)) : good;
}

absl::Status Subscriptions::MayExpire() {
  return RaiseTo(queue::kFactsOfExpiry);
}

std::vector<int64_t> Subscriptions::DueTimes(const Settling::Fact& settled, int64_t time_ms) const {
  const queue::Subscription* s = leader_->machine->FindSubscription(settled.kind.subscription);
  const int64_t asked = settled.kind.delay_ms;
  if (settled.kind.disposition != queue::Disposition::kRequeue || s == nullptr || asked == 0) return {};
  if (asked == Settling::kAsSet && s->settings.retry_delay_ms == 0) return {};
  std::vector<int64_t> due;
  for (const queue::Token& token : settled.tokens.tokens()) {
    int64_t delay = asked;
    if (asked == Settling::kAsSet) {
      // A token whose runs were delivered differently often goes by the first of them.
      uint32_t deliveries = 0;
      queue::VisitWithin(s->in_flight, {token.slots.first, token.slots.WithinEntry() ? token.slots.count : 0},
                         [&](queue::Position, const queue::InFlight& run) {
                           if (deliveries == 0) deliveries = run.deliveries;
                         });
      delay = queue::RetryDelayMs(s->settings, deliveries);
    }
    due.push_back(time_ms + delay);
  }
  return due;
}

uint64_t Subscriptions::TargetOf(const Settling::Kind& kind) const {
  if (kind.disposition == queue::Disposition::kRedrive) return kind.target;
  const queue::Subscription* s = leader_->machine->FindSubscription(kind.subscription);
  return kind.disposition != queue::Disposition::kReject || s == nullptr ? 0 : s->settings.dead_letter.group;
}

void Subscriptions::ReadAhead() {
  // A read may come back at once, and end the term.
  const std::weak_ptr<bool> alive = alive_;
  if (leader_->machine->expires() || leader_->machine->settings().overflow != queue::Overflow::kReject) {
    // Safety rule 8: also where nobody has asked for anything.
    for (const auto& [id, s] : leader_->machine->subscriptions()) {
      queue::Dispatcher* dispatcher = leader_->dispatchers->Find(id);
      if (dispatcher != nullptr && dispatcher->Looks()) Find(id);
    }
  }
  for (auto it = all_.begin(); it != all_.end(); ++it) {
    it->second->ReadAhead();
    if (alive.expired()) return;
  }
}

void Subscriptions::EmptyHanded(queue::Dispatcher::ReceiverId receiver) {
  for (auto& [id, consuming] : all_) {
    if (consuming->EmptyHanded(receiver)) return;
  }
}

void Subscriptions::Lose(CutReason reason, const std::string& text, const absl::Status& not_done,
                         const absl::Status& unknown) {
  alive_.reset();
  for (auto& [done, search] : std::exchange(searches_, {})) (*search)(not_done);
  for (auto& [id, consuming] : all_) consuming->Lose(reason, text, not_done, unknown);
}

}  // namespace trireme::broker
