#include "broker/replica/queue_replica.h"

#include <algorithm>
#include <list>
#include <optional>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"
#include "broker/ops/log.h"
#include "broker/queue/dispatchers.h"
#include "broker/queue/entry.h"
#include "broker/queue/machine.h"
#include "broker/replica/consuming.h"
#include "broker/replica/leader_port.h"
#include "broker/replica/moving.h"
#include "broker/replica/producers.h"
#include "broker/replica/publishing.h"
#include "broker/replica/subscriptions.h"

namespace trireme::broker {
namespace {

using Opened = QueueReplica::OpenedProducer;
using OpenDone = absl::AnyInvocable<void(absl::StatusOr<Opened>)>;

constexpr char kMoved[] = "this node does not lead the queue any more";
// While leadership is being handed over, whether it still is.
constexpr std::chrono::milliseconds kHandingOverLook{5};

absl::Status Moved() {
  return absl::UnavailableError(absl::StrCat(kMoved, "; the outcome is unknown"));
}

}  // namespace

struct QueueReplica::Impl {
  // An entry of facts that this leader appended.
  struct OwnFacts {
    uint64_t index = 0;
    std::vector<queue::Fact> facts;
    std::vector<Waiter> waiters;  // one per fact
  };

  // What exists on the leader only, for one term.
  struct Leading {
    Leading(const queue::Machine* machine, raft::Group* group, const ReplicaLimits& limits, const std::string& name,
            queue::MonotonicMs now_ms, int64_t wall_ms)
        : dispatchers(machine, machine->applied(), now_ms, limits.dispatch),
          producers(machine, limits.max_producers, name),
          publishing(machine, &producers, group, {.max_message_bytes = limits.max_message_bytes},
                     limits.max_waiting_bytes),
          settling(limits.settle_delay, limits.settling),
          // Safety rule 7: forward only; the host lets no node lead whose wall clock is far from the others'.
          time_base_ms(std::max(machine->time_ms(), wall_ms) - now_ms) {}

    queue::Dispatchers dispatchers;
    Producers producers;
    Publishing publishing;
    Settling settling;
    LeaderPort port;
    std::optional<Subscriptions> subscriptions;
    std::optional<Moving> moving;
    int64_t time_base_ms;  // queue time less the monotonic clock's
    // (Lists are for queues that are empty most of the time, of which there are many.)
    std::list<OwnFacts> own;
    uint32_t raise = 0;              // the version to raise the facts to; 0: none
    std::vector<queue::Fact> facts;  // to be appended
    std::vector<Waiter> waiters;
    // Streams that wait for it to be known whether their subscription exists.
    absl::flat_hash_map<const ConsumerSink*, AttachWaiter> attaching;
  };

  Impl(QueueReplica* replica, raft::Shard* s, ReplicaLimits l) : self(replica), shard(s), limits(std::move(l)) {}

  // ---- time
  queue::MonotonicMs NowMs() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(shard->Now().time_since_epoch()).count();
  }
  int64_t QueueTimeMs() const { return std::max(machine.time_ms(), leading->time_base_ms + NowMs()); }

  bool refuses() const { return leading == nullptr; }
  std::string NotServing() const {
    if (self->group_ != nullptr && !self->group_->halted().ok()) return std::string(self->group_->halted().message());
    return kMoved;
  }
  // For what was not begun.
  absl::Status NotDone() const {
    return Error(absl::StatusCode::kUnavailable, {.reason = kNotLeader, .name = self->queue_name_},
                 absl::StrCat(NotServing(), "; nothing was done"));
  }
  CutReason NotServingReason() const {
    return self->group_ != nullptr && !self->group_->halted().ok() ? CutReason::kGroupHalted : CutReason::kNotLeader;
  }

  void AddFact(queue::Fact fact, Waiter waiter) {
    FlushSoon();
    // Safety rule 3: it goes before all that this turn brings, for that may need it.
    if (const auto* raised = std::get_if<queue::fact::VersionRaised>(&fact)) {
      leading->raise = std::max(leading->raise, raised->version);
      return;
    }
    if (std::holds_alternative<queue::fact::QueueChanged>(fact)) leading->publishing.room().Changing();
    leading->facts.push_back(std::move(fact));
    leading->waiters.push_back(std::move(waiter));
  }

  // Of streams of one session the newest counts.
  void FenceAttaching(const AttachRequest& newer) {
    for (auto it = leading->attaching.begin(); it != leading->attaching.end(); ++it) {
      const AttachRequest& older = it->second.request;
      if (older.session != newer.session || older.subscription != newer.subscription) continue;
      auto sink = std::move(it->second.sink);
      leading->attaching.erase(it);
      return sink->Cut(CutReason::kFenced, "a newer stream of this session was opened");
    }
  }

  // ---- turns

  // At the end of this turn, so that all that comes in it shares an append.
  void FlushSoon() {
    if (flush_due) return;
    flush_due = true;
    shard->AtTurnEnd([this, alive = std::weak_ptr<bool>(alive)] {
      if (alive.expired()) return;
      flush_due = false;
      Flush();
    });
  }

  void Flush() {
    if (leading == nullptr) return;
    // What comes meanwhile waits until another leads, who is to do it, or until this one goes on.
    if (self->group_->handing_over()) return FlushLater();
    const int64_t time_ms = QueueTimeMs();
    // Where it cannot be, they do not expire.
    if (leading->publishing.TakeExpiring()) leading->subscriptions->MayExpire().IgnoreError();
    const bool published = leading->publishing.Flush(time_ms, leading->dispatchers);
    if (leading == nullptr) return;
    leading->subscriptions->ReadAhead();
    if (leading != nullptr) leading->moving->Go();
    if (leading == nullptr) return;
    if (leading->settling.crowded()) {
      Append({}, time_ms);
      if (leading != nullptr) SetTimer();
      return;
    }
    queue::Dispatcher::Plan plan;
    if (leading->publishing.wanted() != queue::Amount()) {
      const auto made = leading->dispatchers.MakeRoom(leading->publishing.wanted(), plan);
      if (made == queue::Dispatchers::Made::kNone && !leading->publishing.room().under_way()) {
        leading->publishing.NoneLeaves();
        FlushSoon();
      }
    }
    leading->dispatchers.Decide(NowMs(), time_ms, plan);
    for (queue::Dispatcher::ReceiverId id : plan.empty_handed) {
      leading->subscriptions->EmptyHanded(id);
      if (leading == nullptr) return;
    }
    // Settlements ride on any append.
    const bool append = published || !plan.facts.empty() || !leading->facts.empty() || leading->raise != 0;
    if (append || leading->settling.due(NowMs())) Append(std::move(plan.facts), time_ms);
    // What came due just now may have to be looked up before it is given out.
    if (leading != nullptr) leading->subscriptions->ReadAhead();
    if (leading != nullptr) SetTimer();
    // From where they begin anew there is something to read.
    if (leading != nullptr && plan.rebuilt) FlushSoon();
  }

  void FlushLater() {
    if (std::exchange(flush_later, true)) return;
    shard->After(kHandingOverLook, [this, alive = std::weak_ptr<bool>(alive)] {
      if (alive.expired()) return;
      flush_later = false;
      FlushSoon();
    });
  }

  // Settlements come first, so that what they free is free when the rest is judged.
  void Append(std::vector<queue::Fact> decided, int64_t time_ms) {
    OwnFacts own;
    const bool crowded = leading->settling.crowded();
    if (leading->raise != 0) {
      own.facts.emplace_back(queue::fact::VersionRaised{std::exchange(leading->raise, 0)});
      own.waiters.emplace_back();
    }
    for (Settling::Fact& settled : leading->settling.Take()) {
      own.facts.emplace_back(queue::fact::Settled{
          settled.kind.subscription, settled.kind.disposition, settled.tokens.tokens(),
          leading->subscriptions->DueTimes(settled, time_ms), leading->subscriptions->TargetOf(settled.kind)});
      own.waiters.emplace_back(std::move(settled.tokens));
    }
    for (queue::Fact& fact : decided) {
      if (const auto* forgotten = std::get_if<queue::fact::ProducerForgotten>(&fact)) {
        leading->producers.Forgetting(forgotten->producer, forgotten->epoch);
      }
      own.facts.push_back(std::move(fact));
      own.waiters.emplace_back();
    }
    if (!crowded) {
      std::move(leading->facts.begin(), leading->facts.end(), std::back_inserter(own.facts));
      std::move(leading->waiters.begin(), leading->waiters.end(), std::back_inserter(own.waiters));
      leading->facts.clear();
      leading->waiters.clear();
    }
    if (own.facts.empty()) return;
    // Safety rule 17: an entry is of a bounded size, whatever has come in this turn.
    std::vector<raft::Bytes> commands;
    std::vector<size_t> counts;
    for (std::span<const queue::Fact> rest = own.facts; !rest.empty(); rest = rest.subspan(counts.back())) {
      queue::FactsEntryBytes some = queue::EncodeSomeFacts(rest, time_ms);
      commands.push_back(std::move(some.entry));
      counts.push_back(some.count);
    }
    // Urgent: settling never waits behind publishing (Safety rule 19).
    raft::Proposed proposed = self->group_->Propose(std::move(commands), /*urgent=*/true);
    if (proposed.error) {
      // Even the reserve is used up, or leadership is gone. The dispatcher's decisions were not made after all; a new
      // term decides anew.
      const auto error = *proposed.error;
      leading->own.push_back(std::move(own));  // so that its waiters are told
      self->group_->StepDown();
      Log(LogLevel::kWarn, "stepping down", "queue", self->queue_name_, "group", self->group_->id(), "reason",
          error == raft::ProposeError::kNotLeader ? "not leading" : "too many uncommitted bytes for facts");
      Lose(CutReason::kNotLeader, kMoved);
      return;
    }
    Appended(std::move(own), counts, proposed.first.value());
  }

  // The facts are in the log, so many in each entry from `index` on.
  void Appended(OwnFacts all, const std::vector<size_t>& counts, uint64_t index) {
    auto fact = all.facts.begin();
    auto waiter = all.waiters.begin();
    for (size_t count : counts) {
      const auto n = static_cast<ptrdiff_t>(count);
      OwnFacts own{index,
                   {std::move_iterator(fact), std::move_iterator(fact + n)},
                   {std::move_iterator(waiter), std::move_iterator(waiter + n)}};
      fact += n;
      waiter += n;
      leading->dispatchers.Appended(index, {});
      const bool purges = std::any_of(own.facts.begin(), own.facts.end(), [](const queue::Fact& f) {
        return std::holds_alternative<queue::fact::Purged>(f);
      });
      if (purges) leading->dispatchers.Purged(index);
      leading->own.push_back(std::move(own));
      ++index;
    }
  }

  void SetTimer() {
    std::optional<queue::MonotonicMs> wake = leading->dispatchers.NextWake(NowMs(), QueueTimeMs());
    if (auto due = leading->settling.due_at()) wake = wake ? std::min(*wake, *due) : *due;
    if (!wake || (timer_at && *timer_at <= *wake && *timer_at > NowMs())) return;
    timer_at = wake;
    const auto delay = std::chrono::milliseconds{std::max<int64_t>(1, *wake - NowMs())};
    shard->After(delay, [this, alive = std::weak_ptr<bool>(alive), at = *wake] {
      if (alive.expired()) return;
      if (timer_at == at) timer_at.reset();
      FlushSoon();
    });
  }

  // A live entry cannot be read here; another replica has it.
  void Damaged(const absl::Status& status) {
    Log(LogLevel::kError, "a live entry cannot be read; stepping down so that another replica serves the queue",
        "queue", self->queue_name_, "group", self->group_->id(), "error", status);
    shard->AtTurnEnd([this, alive = std::weak_ptr<bool>(alive)] {
      if (!alive.expired() && self->group_ != nullptr && leading != nullptr) self->group_->StepDown();
    });
  }

  // ---- what was applied

  void ApplyOwn(OwnFacts own, const queue::Effects& effects) {
    std::vector<queue::Dispatcher::Delivery> deliveries;
    leading->dispatchers.Applied(own.index, own.facts, effects, deliveries);
    for (const queue::Fact& fact : own.facts) leading->moving->Applied(fact);
    for (size_t i = 0; i < own.facts.size(); ++i) {
      if (auto* open = std::get_if<OpenWaiter>(&own.waiters[i])) {
        AnswerOpen(*open, std::get<queue::effect::ProducerOpened>(effects.facts[i]));
      } else if (auto* attach = std::get_if<AttachWaiter>(&own.waiters[i])) {
        const auto& fact = std::get<queue::fact::Attached>(own.facts[i]);
        leading->subscriptions->Attached(fact.subscription, *attach,
                                         std::get<queue::effect::Attached>(effects.facts[i]));
      } else if (auto* settled = std::get_if<AskedTokens>(&own.waiters[i])) {
        if (std::holds_alternative<queue::fact::Settled>(own.facts[i])) leading->settling.Applied();
        settled->Answer(std::get<queue::effect::Settled>(effects.facts[i]));
      } else if (auto* purge = std::get_if<PurgeWaiter>(&own.waiters[i])) {
        purge->done(std::get<queue::effect::Purged>(effects.facts[i]).messages);
      } else if (auto* change = std::get_if<QueueChangeWaiter>(&own.waiters[i])) {
        leading->publishing.room().Changed();
        change->done(absl::OkStatus());
      } else if (auto* subscription = std::get_if<SubscriptionWaiter>(&own.waiters[i])) {
        leading->subscriptions->Answer(*subscription, own.facts[i], effects.facts[i]);
      } else if (const auto* forgotten = std::get_if<queue::fact::ProducerForgotten>(&own.facts[i])) {
        leading->producers.Forgotten(forgotten->producer);
      } else if (const auto* detached = std::get_if<queue::fact::Detached>(&own.facts[i])) {
        Consuming* consuming = leading->subscriptions->Find(detached->subscription);
        if (consuming != nullptr && std::get<queue::effect::Detached>(effects.facts[i]).accepted) {
          consuming->Detached(detached->session);
          consuming->TellStandbys();
        }
      }
      if (leading == nullptr) return;
    }
    for (queue::Dispatcher::Delivery& delivery : deliveries) {
      if (Consuming* consuming = leading->subscriptions->Find(delivery.subscription)) consuming->Deliver(delivery);
      if (leading == nullptr) return;
    }
  }

  void AnswerOpen(OpenWaiter& waiter, const queue::effect::ProducerOpened& effect) {
    leading->producers.Opened(waiter.producer, effect.epoch);
    // The epoch in force may be its own, from before its stream broke.
    if (effect.accepted || effect.epoch == waiter.epoch) {
      waiter.done(Opened{effect.epoch, effect.last_sequence});
    } else {
      waiter.done(absl::AbortedError(absl::StrCat("producer '", waiter.producer, "' has epoch ", effect.epoch,
                                                  " in this queue, opened by a newer stream")));
    }
  }

  void Lead() {
    leading = std::make_unique<Leading>(&machine, self->group_, limits, self->queue_name_, NowMs(), shard->WallMs());
    leading->port = {.machine = &machine,
                     .group = self->group_,
                     .shard = shard,
                     .dispatchers = &leading->dispatchers,
                     .settling = &leading->settling,
                     .add = [this](queue::Fact fact, Waiter waiter) { AddFact(std::move(fact), std::move(waiter)); },
                     .flush_soon = [this] { FlushSoon(); },
                     .damaged = [this](const absl::Status& status) { Damaged(status); }};
    leading->subscriptions.emplace(&leading->port, &limits, self->queue_name_);
    leading->moving.emplace(&leading->port, &limits, self->queue_name_);
    FlushSoon();
  }

  // ---- the end of a term

  void Lose(CutReason reason, const std::string& text) {
    if (leading == nullptr) return;
    std::unique_ptr<Leading> old = std::move(leading);
    old->publishing.Cut(reason, text);
    auto tell = [&](Waiter& waiter, const absl::Status& status) {
      if (auto* open = std::get_if<OpenWaiter>(&waiter)) open->done(status);
      if (auto* attach = std::get_if<AttachWaiter>(&waiter); attach != nullptr && attach->sink != nullptr)
        attach->sink->Cut(reason, text);
      if (auto* settled = std::get_if<AskedTokens>(&waiter)) settled->Fail(status);
      if (auto* purge = std::get_if<PurgeWaiter>(&waiter)) purge->done(status);
      if (auto* change = std::get_if<QueueChangeWaiter>(&waiter)) change->done(status);
      if (auto* subscription = std::get_if<SubscriptionWaiter>(&waiter)) subscription->done(status);
    };
    for (OwnFacts& own : old->own) {
      for (Waiter& waiter : own.waiters) tell(waiter, Moved());
    }
    // What was not appended was not done. (A call whose tokens are partly in what was appended has been told by now.)
    const absl::Status not_done = NotDone();
    for (Waiter& waiter : old->waiters) tell(waiter, not_done);
    for (auto& [stream, waits] : old->attaching) waits.sink->Cut(reason, text);
    old->settling.Fail(not_done);
    old->subscriptions->Lose(reason, text, not_done, Moved());
  }

  QueueReplica* const self;
  raft::Shard* const shard;
  const ReplicaLimits limits;
  queue::Machine machine;
  std::unique_ptr<Leading> leading;
  // Over all terms: what an older term still has to do at a turn's end must not find a receiver of this one.
  queue::Dispatcher::ReceiverId last_receiver = 0;
  bool flush_due = false;
  bool flush_later = false;
  std::optional<queue::MonotonicMs> timer_at;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

// ---------------------------------------------------------------- life

QueueReplica::QueueReplica(raft::Shard* shard, ReplicaLimits limits, std::string queue_name)
    : impl_(std::make_unique<Impl>(this, shard, std::move(limits))), queue_name_(std::move(queue_name)) {}

QueueReplica::~QueueReplica() = default;

void QueueReplica::Start(raft::Group* group) {
  group_ = group;
  // It may have been elected before its handle was known.
  if (group->leading()) RoleChanged({raft::Role::kLeader, group->term(), group->spec().self}, true);
}

void QueueReplica::Stop(CutReason reason) {
  impl_->Lose(reason, reason == CutReason::kQueueDeleted ? "the queue was deleted" : "this node stops");
  group_ = nullptr;
}

bool QueueReplica::serving() const {
  return impl_->leading != nullptr;
}

void QueueReplica::RoleChanged(const raft::RoleChange&, bool leading) {
  if (group_ == nullptr) return;
  impl_->Lose(impl_->NotServingReason(), impl_->NotServing());
  if (!leading) return;
  impl_->Lead();
}

// ---------------------------------------------------------------- publishing

void QueueReplica::OpenProducer(const std::string& producer, uint64_t epoch, OpenDone done) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  const absl::StatusOr<uint64_t> opens = i.leading->producers.Open(producer, epoch);
  if (!opens.ok()) return done(opens.status());
  i.AddFact(queue::fact::ProducerOpened{producer, *opens}, OpenWaiter{producer, *opens, std::move(done)});
}

void QueueReplica::JoinProducer(const std::string& producer, uint64_t epoch, uint64_t first_sequence, OpenDone done) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  const absl::StatusOr<std::optional<Opened>> joined = i.leading->producers.Join(producer, epoch, first_sequence);
  if (!joined.ok()) return done(joined.status());
  if (!joined->has_value()) return OpenProducer(producer, epoch, std::move(done));
  done(**joined);
}

void QueueReplica::Publish(Publication publication) {
  Impl& i = *impl_;
  if (i.refuses()) return publication.sink->Cut(publication.alias, i.NotServingReason(), i.NotServing());
  if (i.limits.low_disk != nullptr && i.limits.low_disk()) {
    return Publishing::Refuse(
        publication, absl::ResourceExhaustedError("the queue's node is low on disk; free some, or consume what waits"));
  }
  if (group_->disk_low()) {
    return Publishing::Refuse(publication,
                              absl::ResourceExhaustedError("too many of the queue's nodes are low on disk; free some "
                                                           "there, or consume what waits"));
  }
  if (i.limits.admits != nullptr) {
    if (absl::Status room = i.limits.admits(publication.batch); !room.ok())
      return Publishing::Refuse(publication, room);
  }
  i.leading->publishing.Accept(std::move(publication));
  i.FlushSoon();
}

void QueueReplica::Forget(const PublishSink* sink) {
  if (impl_->leading != nullptr) impl_->leading->publishing.Forget(sink);
}

void QueueReplica::ChangeQueue(const queue::QueueSettings& settings, absl::AnyInvocable<void(absl::Status)> done) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  if (absl::Status may = i.leading->subscriptions->MaySet(settings); !may.ok()) return done(may);
  i.AddFact(queue::fact::QueueChanged{settings}, QueueChangeWaiter{std::move(done)});
}

// ---------------------------------------------------------------- subscriptions

void QueueReplica::CreateSubscription(const std::string& name, queue::SubscriptionSettings settings,
                                      SubscriptionStart start, SubscribeDone done) {
  if (impl_->refuses()) return done(impl_->NotDone());
  impl_->leading->subscriptions->Create(name, std::move(settings), start, std::move(done));
}

void QueueReplica::ChangeSubscription(const std::string& name, queue::SubscriptionSettings settings,
                                      SubscribeDone done) {
  if (impl_->refuses()) return done(impl_->NotDone());
  impl_->leading->subscriptions->Change(name, std::move(settings), std::move(done));
}

void QueueReplica::DeleteSubscription(const std::string& name, SubscribeDone done) {
  if (impl_->refuses()) return done(impl_->NotDone());
  impl_->leading->subscriptions->Delete(name, std::move(done));
}

// ---------------------------------------------------------------- consuming by stream

void QueueReplica::Attach(AttachRequest request, std::shared_ptr<ConsumerSink> sink) {
  Impl& i = *impl_;
  if (i.refuses()) return sink->Cut(i.NotServingReason(), i.NotServing());
  const std::string name = request.subscription;
  const ConsumerSink* stream = sink.get();
  i.FenceAttaching(request);
  if (i.refuses()) return sink->Cut(i.NotServingReason(), i.NotServing());
  i.leading->attaching.insert_or_assign(stream, AttachWaiter{std::move(request), std::move(sink)});
  i.leading->subscriptions->With(
      name,
      [&i, stream](Consuming& consuming) {
        auto waits = i.leading->attaching.extract(stream);
        if (!waits.empty()) consuming.Attach(std::move(waits.mapped().request), std::move(waits.mapped().sink));
      },
      [&i, alive = std::weak_ptr<bool>(i.alive), stream](const absl::Status& status) {
        // The end of the term has told all that waited.
        if (alive.expired() || i.refuses()) return;
        auto waits = i.leading->attaching.extract(stream);
        if (waits.empty()) return;
        waits.mapped().sink->Cut(absl::IsNotFound(status) ? CutReason::kSubscriptionGone : CutReason::kNotLeader,
                                 std::string(status.message()));
      });
}

void QueueReplica::Flow(const Stream& stream, uint32_t max_messages, uint64_t max_bytes) {
  Impl& i = *impl_;
  if (i.refuses()) return;
  if (Consuming* consuming = i.leading->subscriptions->Find(stream.subscription))
    consuming->Flow(stream.session, stream.sink, max_messages, max_bytes);
}

void QueueReplica::Settle(const Stream& stream, queue::Disposition disposition, GroupTokens settled, uint64_t receipt,
                          int64_t delay_ms) {
  Impl& i = *impl_;
  if (i.refuses()) return;
  Consuming* consuming = i.leading->subscriptions->Find(stream.subscription);
  if (consuming == nullptr) return;
  if (absl::Status known = i.leading->subscriptions->MayDelay(delay_ms); !known.ok())
    return consuming->Cut(stream.session, stream.sink, CutReason::kOldNodes, std::string(known.message()));
  consuming->Settle(stream.session, stream.sink, disposition, delay_ms, std::move(settled), receipt);
}

void QueueReplica::Detach(const Stream& stream, bool graceful) {
  Impl& i = *impl_;
  if (i.refuses()) return;
  // It may still wait for its Attached.
  auto drop = [&](std::vector<Waiter>& waiters) {
    for (Waiter& waiter : waiters) {
      auto* attach = std::get_if<AttachWaiter>(&waiter);
      if (attach == nullptr || attach->sink.get() != stream.sink) continue;
      attach->sink.reset();
      attach->ended = graceful;
    }
  };
  drop(i.leading->waiters);
  for (Impl::OwnFacts& own : i.leading->own) drop(own.waiters);
  i.leading->attaching.erase(stream.sink);
  if (Consuming* consuming = i.leading->subscriptions->Find(stream.subscription))
    consuming->Detach(stream.session, stream.sink, graceful);
}

// ---------------------------------------------------------------- consuming by calls

void QueueReplica::Receive(const std::string& subscription, uint32_t max_messages, std::chrono::milliseconds wait,
                           std::chrono::milliseconds lease, ReceiveDone done) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  auto shared = std::make_shared<ReceiveDone>(std::move(done));
  i.leading->subscriptions->With(
      subscription,
      [&i, max_messages, wait, lease, shared](Consuming& consuming) {
        consuming.Receive(++i.last_receiver, max_messages, wait, lease, std::move(*shared));
      },
      [shared](absl::Status status) { (*shared)(std::move(status)); });
}

void QueueReplica::TakeBack(queue::SubscriptionId subscription, std::vector<queue::Token> tokens) {
  if (impl_->refuses() || tokens.empty()) return;
  impl_->AddFact(queue::fact::Settled{subscription, queue::Disposition::kUndelivered, std::move(tokens)}, {});
}

void QueueReplica::SettleTokens(queue::SubscriptionId subscription, queue::Disposition disposition,
                                std::vector<queue::Token> tokens, TokensDone done, int64_t delay_ms) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  if (tokens.empty()) return done(std::vector<bool>{});
  if (absl::Status known = i.leading->subscriptions->MayDelay(delay_ms); !known.ok()) return done(known);
  if (absl::Status room = i.leading->settling.Admits(nullptr, tokens.size()); !room.ok()) return done(room);
  i.leading->settling.Add({subscription, disposition, delay_ms}, tokens, {.done = std::move(done)}, i.NowMs());
  i.FlushSoon();
}

void QueueReplica::RedriveTokens(queue::SubscriptionId subscription, raft::GroupId target,
                                 std::vector<queue::Token> tokens, TokensDone done) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  if (tokens.empty()) return done(std::vector<bool>{});
  if (absl::Status known = i.leading->subscriptions->MayRedrive(); !known.ok()) return done(known);
  if (absl::Status room = i.leading->settling.Admits(nullptr, tokens.size()); !room.ok()) return done(room);
  i.leading->settling.Add({.subscription = subscription,
                           .disposition = queue::Disposition::kRedrive,
                           .delay_ms = Settling::kAsSet,
                           .target = target.value()},
                          tokens, {.done = std::move(done)}, i.NowMs());
  i.FlushSoon();
}

void QueueReplica::ExtendTokens(queue::SubscriptionId subscription, std::chrono::milliseconds lease,
                                std::vector<queue::Token> tokens, TokensDone done) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  if (tokens.empty()) return done(std::vector<bool>{});
  const int64_t deadline_ms = i.QueueTimeMs() + lease.count();
  for (AskedTokens& some : AskedTokens::Split(tokens, {.done = std::move(done)})) {
    queue::fact::LeaseExtended fact{subscription, deadline_ms, some.tokens()};
    i.AddFact(std::move(fact), std::move(some));
  }
}

// ---------------------------------------------------------------- looking and cleaning

void QueueReplica::Purge(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) {
  Impl& i = *impl_;
  if (i.refuses()) return done(i.NotDone());
  i.AddFact(queue::fact::Purged{}, PurgeWaiter{std::move(done)});
}

absl::Status QueueReplica::MovedError() {
  return Error(absl::StatusCode::kUnavailable, {.reason = kNotLeader}, kMoved);
}

void QueueReplica::Look(absl::AnyInvocable<void(const absl::Status&)> done) {
  if (impl_->refuses()) return done(impl_->NotDone());
  group_->ReadBarrier([alive = alive(), done = std::move(done)](const absl::Status& status) mutable {
    done(status.ok() && !alive.expired() ? absl::OkStatus() : MovedError());
  });
}

const queue::Machine& QueueReplica::machine() const {
  return impl_->machine;
}

std::weak_ptr<void> QueueReplica::alive() const {
  return impl_->alive;
}

QueueFigures QueueReplica::Figures() const {
  const Impl& i = *impl_;
  QueueFigures figures;
  figures.at_index = i.machine.applied();
  figures.published = i.machine.published();
  figures.producers = i.machine.producers().size();
  figures.queue_time_ms = i.machine.time_ms();
  figures.settings = i.machine.settings();
  figures.held = i.machine.Holds();
  if (i.leading != nullptr) figures.refused = i.leading->publishing.refused();
  for (const auto& [id, s] : i.machine.subscriptions()) {
    figures.subscriptions.push_back({.id = id,
                                     .name = s.name,
                                     .settings = s.settings,
                                     .waiting = s.waiting + s.returned_messages,
                                     .in_flight = s.in_flight_messages,
                                     .consumers = s.sessions.size(),
                                     .acknowledged = s.acknowledged,
                                     .rejected = s.rejected,
                                     .skipped = s.skipped,
                                     .dead = s.dead,
                                     .redriven = s.redriven,
                                     .expired = s.expired,
                                     .overflowed = s.overflowed,
                                     .leaving = s.departures.messages(),
                                     .arrived = s.arrived,
                                     .trouble = i.leading == nullptr ? "" : i.leading->moving->TroubleOf(id),
                                     .capped = s.exceptions() >= i.limits.dispatch.max_exceptions});
    if (!s.settings.single_active) continue;
    for (const auto& [session, known] : s.sessions) {
      if (known.number != s.active_session()) continue;
      figures.subscriptions.back().active_session = session;
      figures.subscriptions.back().active_consumer = known.consumer;
    }
  }
  return figures;
}

void QueueReplica::Describe(absl::AnyInvocable<void(absl::StatusOr<QueueFigures>)> done) {
  Look([this, done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) return done(status);
    done(Figures());
  });
}

ReplicaState QueueReplica::State() const {
  return {impl_->machine.applied(), impl_->machine.Digest()};
}

// ---------------------------------------------------------------- raft::StateMachine

absl::Status QueueReplica::Check(const raft::Entry& entry) const {
  return entry.type == raft::EntryType::kCommand ? queue::CheckEntry(entry.data) : absl::OkStatus();
}

absl::Status QueueReplica::Apply(const raft::Entry& entry) {
  Impl& i = *impl_;
  const uint64_t index = entry.index.value();
  if (entry.type != raft::EntryType::kCommand) {
    i.machine.ApplyNoop(index);
    return absl::OkStatus();
  }
  absl::StatusOr<queue::Effects> effects = i.machine.Apply(index, entry.data);
  if (!effects.ok()) return effects.status();
  if (i.leading == nullptr) return absl::OkStatus();
  if (!i.leading->own.empty() && i.leading->own.front().index == index) {
    Impl::OwnFacts own = std::move(i.leading->own.front());
    i.leading->own.pop_front();
    i.ApplyOwn(std::move(own), *effects);
  } else if (const auto* published = std::get_if<queue::effect::Published>(&effects->facts.front())) {
    i.leading->publishing.Applied(index, *published);
  }
  return absl::OkStatus();
}

void QueueReplica::AppliedBatch() {
  if (impl_->leading != nullptr) impl_->Flush();
}

raft::Bytes QueueReplica::Snapshot() const {
  return impl_->machine.Snapshot();
}

absl::Status QueueReplica::RestoreInto(queue::Machine& machine, const raft::Bytes& snapshot, raft::Index index) const {
  if (absl::Status restored = machine.Restore(snapshot); !restored.ok()) return restored;
  if (machine.applied() != index.value()) {
    return absl::DataLossError(absl::StrCat("the snapshot of queue '", queue_name_, "' is of index ", machine.applied(),
                                            ", not ", index.value()));
  }
  return absl::OkStatus();
}

absl::Status QueueReplica::CheckSnapshot(const raft::Bytes& snapshot, raft::Index index) const {
  queue::Machine scratch;
  return RestoreInto(scratch, snapshot, index);
}

absl::Status QueueReplica::Restore(const raft::Bytes& snapshot, raft::Index index) {
  return RestoreInto(impl_->machine, snapshot, index);
}

uint64_t QueueReplica::Digest() const {
  // Its encoding says which facts the program knew that made it.
  return uint64_t{queue::Machine::SnapshotVersion(impl_->machine.version())} << 48 |
         uint64_t{impl_->machine.version()} << 32 | impl_->machine.Digest();
}

raft::StateMachine::Liveness QueueReplica::Live() const {
  queue::Machine::Liveness from = impl_->machine.Live();
  Liveness live{raft::Index(from.floor), {}};
  for (const queue::EntryRange& range : from.live)
    live.live.push_back({raft::Index(range.first), raft::Index(range.last)});
  return live;
}

}  // namespace trireme::broker
