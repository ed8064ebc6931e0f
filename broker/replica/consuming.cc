#include "broker/replica/consuming.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/ops/error.h"
#include "broker/ops/log.h"

namespace trireme::broker {

absl::Status Consuming::SingleActive() const {
  return Error(absl::StatusCode::kFailedPrecondition, {.reason = "SINGLE_ACTIVE_CONSUMER", .name = state().name},
               absl::StrCat("subscription '", state().name,
                            "' has a single active consumer, which is a stream; single receives would pass it by: "
                            "consume by a stream, or change the subscription's single_active"));
}

Consuming::Consuming(const LeaderPort* leader, queue::SubscriptionId id, size_t read_ahead_bytes)
    : leader_(leader), id_(id), reader_(leader->group, read_ahead_bytes) {}

queue::MonotonicMs Consuming::NowMs() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(leader_->shard->Now().time_since_epoch()).count();
}

Consuming::Consumer* Consuming::Find(const queue::SessionId& session, const ConsumerSink* sink) {
  auto it = consumers_.find(session);
  return it == consumers_.end() || it->second.sink.get() != sink ? nullptr : &it->second;
}

// ---------------------------------------------------------------- streams

void Consuming::Attach(AttachRequest request, std::shared_ptr<ConsumerSink> sink) {
  const auto& sessions = state().sessions;
  auto known = sessions.find(request.session);
  uint64_t& epoch = epochs_[request.session];
  epoch = std::max(epoch, known == sessions.end() ? 0 : known->second.epoch) + 1;
  // Nothing is checked out for the old epoch from here on.
  dispatcher().Disconnect(request.session, NowMs());
  queue::fact::Attached fact{.subscription = id_,
                             .session = request.session,
                             .epoch = epoch,
                             .consumer = request.consumer,
                             .timeout_ms = request.timeout_ms};
  auto connected = consumers_.extract(request.session);
  leader_->add(std::move(fact), AttachWaiter{std::move(request), std::move(sink)});
  if (!connected.empty() && connected.mapped().sink != nullptr)
    connected.mapped().sink->Cut(CutReason::kFenced, "a newer stream of this session was opened");
}

void Consuming::Flow(const queue::SessionId& session, const ConsumerSink* sink, uint32_t max_messages,
                     uint64_t max_bytes) {
  Consumer* consumer = Find(session, sink);
  if (consumer == nullptr) return;
  if (max_messages != 0) consumer->max_messages = max_messages;
  dispatcher().SetCredit(session, {max_messages, max_bytes});
  leader_->flush_soon();
}

void Consuming::Settle(const queue::SessionId& session, const ConsumerSink* sink, queue::Disposition disposition,
                       int64_t delay_ms, GroupTokens settled, uint64_t receipt) {
  Consumer* consumer = Find(session, sink);
  if (consumer == nullptr) return;
  if (IsOfAnother(settled)) consumer->sink->Receipt(0, std::exchange(settled.tokens, {}));
  if (absl::Status room = leader_->settling->Admits(sink, settled.tokens.size()); !room.ok()) {
    // Without a word to the sessions: its client settles again what has no receipt, as after any other break.
    return Cut(session, sink, CutReason::kOverloaded, std::string(room.message()));
  }
  leader_->settling->HurryAt(std::max<uint64_t>(1, consumer->max_messages / 4));
  leader_->settling->Add({id_, disposition, delay_ms}, settled.tokens, {.sink = consumer->sink, .receipt = receipt},
                         NowMs());
  leader_->flush_soon();
}

void Consuming::Cut(const queue::SessionId& session, const ConsumerSink* sink, CutReason reason,
                    const std::string& text) {
  Consumer* consumer = Find(session, sink);
  if (consumer == nullptr) return;
  auto cut = std::move(consumer->sink);
  consumers_.erase(session);
  dispatcher().Disconnect(session, NowMs());
  leader_->flush_soon();
  cut->Cut(reason, text);
}

void Consuming::Detach(const queue::SessionId& session, const ConsumerSink* sink, bool graceful) {
  if (Find(session, sink) == nullptr) return;
  consumers_.erase(session);
  if (graceful) {
    dispatcher().End(session);
  } else {
    dispatcher().Disconnect(session, NowMs());
  }
  leader_->flush_soon();
}

void Consuming::Attached(AttachWaiter& waiter, const queue::effect::Attached& effect) {
  const queue::SessionId& session = waiter.request.session;
  auto pending = epochs_.find(session);
  const bool superseded = pending != epochs_.end() && pending->second > effect.epoch;
  if (!superseded && pending != epochs_.end()) epochs_.erase(pending);
  if (!effect.accepted || superseded) {
    if (waiter.sink != nullptr) waiter.sink->Cut(CutReason::kFenced, "a newer stream of this session was opened");
    return;
  }
  if (waiter.sink == nullptr) {
    if (waiter.ended) {
      dispatcher().End(session);
    } else {
      // Its stream broke in the meantime: the session has its timeout to come back.
      dispatcher().Disconnect(session, NowMs());
    }
    return;
  }
  dispatcher().Connect(session, {waiter.request.max_messages, waiter.request.max_bytes});
  Consumer& consumer = consumers_[session];
  consumer.sink = waiter.sink;
  consumer.max_messages = waiter.request.max_messages;
  consumer.number = effect.number;
  consumer.standby = StandsBy(effect.number);
  consumer.outbox =
      std::make_unique<Outbox>(&reader_, OutboxEvents([sink = waiter.sink](std::vector<DeliveredRun> runs) {
        if (!runs.empty()) sink->Deliver(std::move(runs));
      }));
  GroupTokens& held = waiter.request.held;
  const bool lost = effect.resumed && IsOfAnother(held);
  const Alive alive = alive_;
  waiter.sink->Attached({.resumed = effect.resumed && !lost,
                         .epoch = effect.epoch,
                         .timeout_ms = waiter.request.timeout_ms,
                         .standby = consumer.standby});
  if (alive.expired()) return;
  if (lost) held.tokens.clear();
  if (effect.resumed) DeliverAgain(effect.number, held.tokens, *consumer.outbox);
}

bool Consuming::StandsBy(uint64_t session_number) const {
  return state().settings.single_active && state().active_session() != session_number;
}

void Consuming::TellStandbys() {
  std::vector<std::pair<std::shared_ptr<ConsumerSink>, bool>> changed;
  for (auto& [session, consumer] : consumers_) {
    if (consumer.sink == nullptr || consumer.standby == StandsBy(consumer.number)) continue;
    consumer.standby = !consumer.standby;
    changed.emplace_back(consumer.sink, consumer.standby);
  }
  for (const auto& [sink, standby] : changed) sink->Stands(standby);
}

// Safety rule 4: of a queue that was deleted, whatever their indexes are.
bool Consuming::IsOfAnother(const GroupTokens& tokens) const {
  const raft::GroupId ours = leader_->group->id();
  return tokens.group != ours && (tokens.group.value() != 0 || !tokens.tokens.empty());
}

// ---------------------------------------------------------------- deliveries

Outbox::Events Consuming::OutboxEvents(std::function<void(std::vector<DeliveredRun>)> deliver) {
  return {.deliver = std::move(deliver),
          .held = [this](const queue::Token& token) { return IsOut(token); },
          .damaged = leader_->damaged};
}

// Whether any message of the token is in flight under it.
bool Consuming::IsOut(const queue::Token& token) const {
  const queue::Subscription* s = leader_->machine->FindSubscription(id_);
  bool out = false;
  if (s == nullptr) return out;
  queue::VisitWithin(s->in_flight, token.slots, [&](queue::Position, const queue::InFlight& run) {
    out |= run.checkout_index == token.checkout_index;
  });
  return out;
}

// What the session has checked out and its client does not have (Safety rule 5): with the same count and token.
void Consuming::DeliverAgain(uint64_t number, const std::vector<queue::Token>& held, Outbox& outbox) {
  const Alive alive = alive_;
  const auto lacking = state().HeldBesides(number, held);
  for (const auto& [first, run] : lacking) {
    outbox.Put(run.checkout_index, {{{first, run.count}, run.deliveries}}, leader_->machine->applied());
    if (alive.expired()) return;
  }
}

void Consuming::Deliver(queue::Dispatcher::Delivery& delivery) {
  if (!delivery.session.empty()) {
    auto it = consumers_.find(delivery.session);
    // Checked out and committed is not yet delivered: if the stream is gone the session gets it when it resumes.
    if (it != consumers_.end() && it->second.outbox != nullptr)
      it->second.outbox->Put(delivery.checkout_index, delivery.runs, leader_->machine->applied());
    return;
  }
  auto it = receivers_.find(delivery.receiver);
  if (it == receivers_.end()) return;
  it->second.receiving = std::make_unique<Receiving>(&reader_, OutboxEvents({}), [this, id = it->first] {
    // Not from within its own read.
    leader_->shard->AtTurnEnd([this, alive = Alive(alive_), id] {
      if (!alive.expired()) ReadForReceiver(id);
    });
  });
  it->second.receiving->Start(delivery.checkout_index, std::move(delivery.runs), leader_->machine->applied());
  ReadForReceiver(it->first);
}

// ---------------------------------------------------------------- single receives

void Consuming::Receive(queue::Dispatcher::ReceiverId id, uint32_t max_messages, std::chrono::milliseconds wait,
                        std::chrono::milliseconds lease, ReceiveDone done) {
  if (state().settings.single_active) return done(SingleActive());
  receivers_[id].done = std::move(done);
  dispatcher().Receive(id, max_messages, NowMs() + wait.count(), lease.count());
  leader_->flush_soon();
}

bool Consuming::EmptyHanded(queue::Dispatcher::ReceiverId id) {
  auto receiver = receivers_.extract(id);
  if (receiver.empty()) return false;
  receiver.mapped().done(Received{id_, {}});
  return true;
}

void Consuming::ReadForReceiver(queue::Dispatcher::ReceiverId id) {
  auto it = receivers_.find(id);
  if (it == receivers_.end() || !it->second.receiving->ReadOn()) return;
  Receiver receiver = std::move(it->second);
  receivers_.erase(it);
  Receiving::Result result = receiver.receiving->Take();
  // As undelivered: nobody has seen it.
  if (!result.left.empty())
    leader_->add(queue::fact::Settled{id_, queue::Disposition::kUndelivered, std::move(result.left)}, {});
  receiver.done(Received{id_, std::move(result.runs)});
}

// ---------------------------------------------------------------- turns

// A filter that this program cannot parse was set by one that can: here nothing can be given, and nothing passed over.
bool Consuming::KnowsFilter() {
  if (filter_.has_value()) return true;
  const std::string& text = state().settings.filter;
  if (text.empty()) {
    filter_ = nullptr;
    return true;
  }
  absl::StatusOr<filter::Filter> parsed = filter::Filter::Parse(text);
  if (!parsed.ok()) {
    Log(LogLevel::kError, "a subscription's filter does not parse here; it gets no messages from this node",
        "subscription", state().name, "group", leader_->group->id(), "error", parsed.status());
    return false;
  }
  filter_ = std::make_shared<const filter::Filter>(*std::move(parsed));
  return true;
}

void Consuming::ReadAhead() {
  if (reader_.reading_shapes() || (idle() && !dispatcher().Looks())) return;
  std::optional<queue::Dispatcher::Range> wanted = dispatcher().Wanted();
  if (!wanted || !KnowsFilter()) return;
  reader_.Shapes(
      wanted->first, wanted->last, *filter_, leader_->machine->expires(),
      [this, first = wanted->first, judged_by = *filter_,
       expires = leader_->machine->expires()](absl::StatusOr<std::vector<queue::EntryShape>> shapes) {
        const queue::Machine& machine = *leader_->machine;
        const queue::Subscription* s = machine.FindSubscription(id_);
        queue::Dispatcher* dispatcher = leader_->dispatchers->Find(id_);
        if (s == nullptr || dispatcher == nullptr) return;
        if (!shapes.ok()) {
          // Purged and compacted while they were read, they are nobody's loss.
          const bool missed = first > s->Floor(machine.applied()) || s->HasOutOfLine(first);
          return missed ? leader_->damaged(shapes.status()) : leader_->flush_soon();
        }
        // By the filter of settings that were changed meanwhile they say nothing.
        if (filter_ == judged_by && machine.expires() == expires) dispatcher->Shapes(first, *shapes);
        leader_->flush_soon();
      });
}

// ---------------------------------------------------------------- the end

void Consuming::Lose(CutReason reason, const std::string& text, const absl::Status& not_done,
                     const absl::Status& unknown) {
  alive_.reset();
  const queue::Dispatcher* dispatcher = leader_->dispatchers->Find(id_);
  auto consumers = std::move(consumers_);
  auto receivers = std::move(receivers_);
  for (auto& [session, consumer] : consumers) {
    if (consumer.sink != nullptr) consumer.sink->Cut(reason, text);
  }
  for (auto& [id, receiver] : receivers)
    receiver.done(dispatcher == nullptr || dispatcher->Waits(id) ? not_done : unknown);
}

}  // namespace trireme::broker
