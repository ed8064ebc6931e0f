#include "tests/queue/history.h"

#include <algorithm>
#include <sstream>

#include "broker/message/message.h"
#include "tests/script/say.h"

namespace trireme::queue {

using script::Say;
History::History(uint64_t seed) : random_(seed) {
  // Small windows and caps, so that their edges are met.
  limits_.read_ahead = 2 + Below(30);
  limits_.max_exceptions = Chance(30) ? 2 + Below(10) : 100'000;
  limits_.turn_messages = static_cast<uint32_t>(1 + Below(40));
  limits_.decision_runs = 1 + Below(50);
  limits_.producer_idle_ms = 200'000;
  limits_.max_producers = 2;
  NewLeader();
}

std::optional<std::string> History::Run(int steps) {
  for (int i = 0; i < steps && !problem_; ++i) Step();
  if (!problem_) Drain();
  return problem_;
}

void History::NewLeader() {
  // What was not committed may be lost, or not.
  if (Chance(50)) log_.Truncate(log_.machine.applied() + Below(log_.last() - log_.machine.applied() + 1));
  dispatchers_.reset();
  log_.Append(raft::Bytes());
  ApplyAll();
  if (Chance(30)) compacted_ = log_.machine.Live().floor;
  dispatchers_ = std::make_unique<Dispatchers>(&log_.machine, log_.last(), now_, limits_);
  for (auto& [subscription, clients] : clients_) {
    for (auto& [id, client] : clients.sessions) client.connected = false;
  }
  for (auto& [name, producer] : producers_) producer.sequences.clear();
}

void History::Step() {
  const uint64_t dice = Below(100);
  if (dice < 22) {
    Publish();
  } else if (dice < 26) {
    OpenProducer();
  } else if (dice < 34) {
    Attach(SomeSubscription(), std::string(1, static_cast<char>('a' + Below(4))));
  } else if (dice < 39) {
    const SubscriptionId subscription = SomeSubscription();
    Dispatcher* dispatcher = dispatchers_->Find(subscription);
    Clients& clients = clients_[subscription];
    auto it = clients.sessions.begin();
    std::advance(it, Below(clients.sessions.size()));
    if (dispatcher != nullptr && it != clients.sessions.end() && it->second.connected) {
      it->second.connected = false;
      if (Chance(60)) {
        dispatcher->Disconnect(it->first, now_);
      } else {
        dispatcher->End(it->first);
        for (const Token& token : it->second.held) clients.stale.push_back(token);
        it->second.held.clear();
      }
    }
  } else if (dice < 43) {
    if (Dispatcher* dispatcher = dispatchers_->Find(SomeSubscription())) {
      dispatcher->Receive(++receivers_, static_cast<uint32_t>(1 + Below(6)), now_ + static_cast<int64_t>(Below(50)),
                          static_cast<int64_t>(20 + Below(200)));
    }
  } else if (dice < 45) {
    ChangeSubscriptions();
  } else if (dice < 47) {
    Depart();
  } else if (dice < 64) {
    SettleSome();
  } else if (dice < 66) {
    Append({fact::Purged{}});
  } else if (dice < 78) {
    Decide();
  } else if (dice < 90) {
    if (Chance(50)) {
      ApplyAll();
    } else if (log_.machine.applied() < log_.last()) {
      ApplyOne();
    }
  } else if (dice < 97) {
    now_ += static_cast<int64_t>(Below(Chance(5) ? 100'000 : 60));
  } else if (dice < 98) {
    compacted_ = std::max(compacted_, log_.machine.Live().floor);
  } else {
    NewLeader();
  }
}

void History::Publish() {
  uint32_t count = static_cast<uint32_t>(Chance(50) ? 1 : 1 + Below(9));
  std::string body(Chance(5) ? 5'000 : Below(40), 'x');
  std::string name;
  uint64_t epoch = 0, first = 0;
  if (!producers_.empty() && Chance(50)) {
    auto it = producers_.begin();
    std::advance(it, Below(producers_.size()));
    name = it->first;
    epoch = it->second.epoch;
    // Mostly the next ones; else a retry, a hole, or a jump. A leader appends only what is new: what is under way or
    // known is left out, except now and then, by a leader that does not judge well.
    first = Chance(70) ? it->second.next_sequence : 1 + Below(it->second.next_sequence + 20);
    if (Chance(2)) first += 70'000;
    auto known = log_.machine.producers().find(name);
    bool good = known != log_.machine.producers().end() && known->second.epoch == epoch &&
                known->second.window.AllNew(first, count);
    for (uint64_t s : it->second.sequences) good = good && (s >= first + count && s < first + 60'000);
    if (!good && Chance(90)) return;
    for (uint64_t s = first; s < first + count; ++s) it->second.sequences.insert(s);
    it->second.next_sequence = std::max(it->second.next_sequence, first + count);
  }
  raft::Bytes entry = PublishedEntry(count, name, epoch, first, now_, body,
                                     Chance(20) ? now_ + 1 + static_cast<int64_t>(Below(400)) : 0);
  const EntryShape shape = ShapeOf(entry);
  dispatchers_->Appended(log_.Append(std::move(entry)), shape);
}

SubscriptionId History::SomeSubscription() {
  const auto& all = log_.machine.subscriptions();
  auto it = all.begin();
  std::advance(it, Below(all.size()));
  // Or one that is not there, now and then.
  return it == all.end() || Chance(2) ? static_cast<SubscriptionId>(Below(10)) : it->first;
}

// Up to a handful of them, with and without filters, from anywhere in the log.
void History::ChangeSubscriptions() {
  auto settings = [&] {
    SubscriptionSettings s{.filter = Chance(50) ? std::string() : std::to_string(2 + Below(3))};
    if (Chance(30)) s.delivery_limit = static_cast<uint32_t>(1 + Below(4));
    if (Chance(30)) s.retry_delay_ms = static_cast<uint32_t>(1 + Below(300));
    if (Chance(40)) s.dead_letter.group = 70 + Below(3);
    s.single_active = Chance(30);
    if (Chance(30)) s.max_in_flight = 1 + Below(20);
    return s;
  };
  std::vector<Fact> facts;
  if (log_.machine.version() < kFactVersion) facts.emplace_back(fact::VersionRaised{kFactVersion});
  const uint64_t dice = Below(100);
  if (dice < 60 && log_.machine.subscriptions().size() < 5) {
    fact::SubscriptionCreated made{std::string(1, static_cast<char>('A' + Below(8))), {}, 0, settings()};
    made.from =
        Chance(40) ? Position(kMaxLogIndex, 0) : Position(Below(log_.last() + 2), static_cast<uint32_t>(Below(3)));
    for (uint64_t index = 1; index <= log_.machine.applied() && index <= made.from.index(); ++index) {
      if (log_.machine.IsRefused(index) || refused_.contains(index)) continue;
      const uint32_t messages = ShapeOf(log_.at(index)).messages;
      const uint32_t before = index < made.from.index() ? messages : std::min(messages, made.from.slot());
      made.ordinal += before;
      const uint64_t sized_from = log_.machine.sized_from();
      if (sized_from != 0 && index >= sized_from)
        made.bytes += before * MessageBytes(ShapeOf(log_.at(index)).bytes, messages);
    }
    made.sized = true;  // the facts are raised before
    // Where nothing is applied yet a leader does not look.
    if (made.from.index() > log_.machine.applied()) made.from = Position(kMaxLogIndex, 0);
    facts.emplace_back(std::move(made));
  } else if (dice < 80) {
    facts.emplace_back(fact::SubscriptionChanged{SomeSubscription(), settings()});
  } else if (dice < 90) {
    facts.emplace_back(fact::QueueChanged{{.max_messages = Below(3), .max_bytes = Below(2)}});
    if (Chance(50)) std::get<fact::QueueChanged>(facts.back()).settings.ttl_ms = 1 + Below(500);
    if (Chance(50)) {
      QueueSettings& limits = std::get<fact::QueueChanged>(facts.back()).settings;
      limits.max_messages = 5 + Below(30);
      limits.overflow = static_cast<Overflow>(1 + Below(2));
    }
  } else if (Chance(50)) {
    facts.emplace_back(fact::SubscriptionDeleted{SomeSubscription()});
  }
  if (facts.empty()) return;
  const bool of_queue = std::holds_alternative<fact::QueueChanged>(facts.back());
  Append(std::move(facts));
  // So that the model knows by which time to live a decision was made.
  if (of_queue) ApplyAll();
}

// As the broker would look at it for this subscription.
EntryShape History::ShapeFor(SubscriptionId subscription, uint64_t index) const {
  EntryShape shape = ShapeOf(log_.at(index));
  const std::string& filter = log_.machine.subscription(subscription).settings.filter;
  if (filter.empty() || shape.messages == 0) return shape;
  std::vector<EntryShape::Picked> picked;
  for (uint32_t slot = 0; slot < shape.messages; ++slot) {
    if (!FilterTakes(filter, Position(index, slot))) continue;
    if (!picked.empty() && picked.back().first + picked.back().count == slot) {
      ++picked.back().count;
    } else {
      picked.push_back({slot, 1});
    }
  }
  shape.picked = std::make_shared<const std::vector<EntryShape::Picked>>(std::move(picked));
  return shape;
}

void History::OpenProducer() {
  std::string name(1, static_cast<char>('p' + Below(4)));
  auto known = log_.machine.producers().find(name);
  uint64_t epoch = known == log_.machine.producers().end() ? 1 : known->second.epoch + Below(3);
  Append({fact::ProducerOpened{name, epoch}});
}

void History::Attach(SubscriptionId subscription, const SessionId& session) {
  const Subscription* state = log_.machine.FindSubscription(subscription);
  uint64_t epoch = 1;
  if (state != nullptr) {
    auto known = state->sessions.find(session);
    if (known != state->sessions.end()) epoch = known->second.epoch + 1;
  }
  if (Dispatcher* dispatcher = dispatchers_->Find(subscription)) dispatcher->Disconnect(session, now_);
  clients_[subscription].sessions[session].connected = false;
  Append({fact::Attached{subscription, session, epoch, "consumer", static_cast<uint32_t>(50 + Below(200))}});
  if (Chance(80)) ApplyAll();
}

// Some of what is held, whole, cut, or made wrong.
std::vector<Token> History::SomeTokens(std::vector<Token>& held, std::vector<Token>& stale) {
  std::vector<Token> tokens;
  for (size_t n = 1 + Below(5); n > 0 && !held.empty(); --n) {
    const size_t i = Below(held.size());
    Token token = held[i];
    if (Chance(30) && token.slots.count > 1) {
      const auto cut = static_cast<uint32_t>(1 + Below(token.slots.count - 1));
      if (Chance(50)) {
        token.slots.count = cut;
        held[i].slots = {held[i].slots.first + cut, held[i].slots.count - cut};
      } else {
        token.slots = {token.slots.first + cut, token.slots.count - cut};
        held[i].slots.count = cut;
      }
    } else {
      held.erase(held.begin() + static_cast<ptrdiff_t>(i));
    }
    tokens.push_back(token);
    stale.push_back(token);
  }
  return tokens;
}

void History::SettleSome() {
  const SubscriptionId subscription = SomeSubscription();
  Clients& clients = clients_[subscription];
  std::vector<Token> tokens;
  auto it = clients.sessions.begin();
  std::advance(it, Below(clients.sessions.size()));
  const bool of_session = it != clients.sessions.end() && Chance(70);
  tokens = SomeTokens(of_session ? it->second.held : clients.received, clients.stale);
  if (Chance(20) && !clients.stale.empty()) tokens.push_back(clients.stale[Below(clients.stale.size())]);
  if (Chance(5) && !tokens.empty()) tokens[0].checkout_index += 1 + Below(3);
  if (Chance(5)) {
    tokens.push_back(
        {{Position(1 + Below(log_.last()), static_cast<uint32_t>(Below(5))), static_cast<uint32_t>(1 + Below(10))},
         1 + Below(log_.last())});
  }
  if (tokens.empty()) return;
  if (!of_session && Chance(20)) {
    // Extended: so still held.
    for (const Token& token : tokens) clients.received.push_back(token);
    return Append({fact::LeaseExtended{subscription, now_ + static_cast<int64_t>(Below(300)), tokens}});
  }
  const bool leave = log_.machine.version() >= 4;
  const auto how = static_cast<Disposition>(draining_ ? 1 : 1 + Below(leave ? 5 : 4));
  fact::Settled settled{subscription, how, std::move(tokens)};
  if (how == Disposition::kRequeue && log_.machine.version() >= 3 && Chance(50)) {
    for (size_t i = 0; i < settled.tokens.size(); ++i)
      settled.due_ms.push_back(now_ + static_cast<int64_t>(Below(300)));
  }
  const Subscription* state = log_.machine.FindSubscription(subscription);
  if (how == Disposition::kReject && leave && state != nullptr) settled.target = state->settings.dead_letter.group;
  if (how == Disposition::kRedrive) settled.target = 70 + Below(3);
  Append({std::move(settled)});
}

// As they are stored in other queues, or those are deleted; what is said twice changes nothing.
void History::Depart() {
  for (const auto& [id, s] : log_.machine.subscriptions()) {
    if (s.departures.runs().empty()) continue;
    auto it = s.departures.runs().begin();
    if (!draining_) std::advance(it, Below(s.departures.runs().size()));
    if (!draining_ && Chance(10))
      return Append({fact::Redirected{id, it->second.target, Chance(50) ? 0 : 70 + Below(3)}});
    const uint64_t from = draining_ ? 0 : Below(it->second.count);
    const uint64_t count = draining_ ? s.departures.last_ordinal() + 1 : 1 + Below(20);
    Append({fact::Arrived{id, draining_ ? 0 : it->first + from, count}});
  }
}

void History::Append(std::vector<Fact> facts) {
  const bool purges = std::any_of(facts.begin(), facts.end(),
                                  [](const Fact& fact) { return std::holds_alternative<fact::Purged>(fact); });
  const uint64_t index = log_.Append(FactsEntry(facts, now_));
  dispatchers_->Appended(index, {});
  if (purges) dispatchers_->Purged(index);
}

void History::Decide() {
  dispatchers_->ForEach([&](Dispatcher& dispatcher) {
    for (int i = 0; i < 100; ++i) {
      auto wanted = dispatcher.Wanted();
      if (!wanted) break;
      std::vector<EntryShape> shapes;
      const Subscription& s = log_.machine.subscription(dispatcher.id());
      const uint64_t last = wanted->first + Below(wanted->last - wanted->first + 1);
      for (uint64_t entry = wanted->first; entry <= last; ++entry) {
        const bool gone = entry <= compacted_ && !s.HasOutOfLine(entry);
        if (gone && entry > wanted->first) break;  // behind the first one the answer may end
        if (gone)
          Fail(Say("entry ", entry, " is asked for and may be gone; applied ", log_.machine.applied(), " last ",
                   log_.last(), " compacted ", compacted_, " next ", s.next, " waiting ", s.waiting, " wanted ",
                   wanted->first, "..", wanted->last));
        shapes.push_back(ShapeFor(dispatcher.id(), entry));
      }
      dispatcher.Shapes(wanted->first, shapes);
    }
  });
  Dispatcher::Plan plan;
  MakeRoom(plan);
  dispatchers_->Decide(now_, now_, plan);
  size_t runs = 0;
  for (const Fact& fact : plan.facts) {
    if (const auto* out = std::get_if<fact::CheckedOut>(&fact)) runs += out->waiting.size() + out->returned.size();
  }
  if (runs > limits_.decision_runs) Fail(Say(runs, " runs in one decision"));
  if (!plan.facts.empty()) Append(std::move(plan.facts));
}

// As for messages that are to be stored. Never more leave than those, over all subscriptions.
void History::MakeRoom(Dispatcher::Plan& plan) {
  const QueueSettings& limits = log_.machine.settings();
  if (limits.overflow == Overflow::kReject || !log_.machine.Holds() || log_.machine.applied() < log_.last()) return;
  const uint64_t wanted = 1 + Below(6);
  if (dispatchers_->MakeRoom({.messages = wanted, .bytes = 0}, plan) != Dispatchers::Made::kSome || plan.facts.empty())
    return;
  std::set<Position> left;
  auto note = [&left](const std::vector<Slots>& runs) {
    for (const Slots& run : runs) {
      for (uint32_t i = 0; i < run.count; ++i) left.insert(run.first + i);
    }
  };
  for (const Fact& fact : plan.facts) {
    if (const auto* dead = std::get_if<fact::DeadLettered>(&fact)) note(dead->returned);
    if (const auto* dead = std::get_if<fact::DeadUnseen>(&fact)) note(dead->waiting);
  }
  if (left.size() > wanted) Fail(Say(left.size(), " messages leave for ", wanted));
  Append(std::exchange(plan.facts, {}));
}

void History::ApplyOne() {
  const uint64_t index = log_.machine.applied() + 1;
  Effects effects = log_.ApplyNext();
  const raft::Bytes& entry = log_.at(index);
  std::vector<Fact> facts;
  uint64_t batch_bytes = 0;
  int64_t expires_at_ms = 0;  // of all of them
  if (!entry.empty()) {
    auto decoded = DecodeEntry(entry);
    batch_bytes = decoded->batch.size();
    BatchWalker walker(decoded->batch.view());
    if (walker.Next()) expires_at_ms = message::ExpiresAtMs(walker.message());
    facts = std::move(decoded->facts);
  }
  if (auto bad = model_.Apply(index, facts, effects, log_.machine.time_ms(), batch_bytes, expires_at_ms))
    return Fail(Say("entry ", index, ": ", *bad));
  if (auto bad = model_.Compare(log_.machine)) return Fail(Say("after entry ", index, ": ", *bad));
  snapshots_.push_back(log_.machine.Snapshot());
  if (!facts.empty() && std::holds_alternative<fact::Published>(facts[0]) &&
      std::get<effect::Published>(effects.facts[0]).outcome != effect::Published::Outcome::kStored)
    refused_.insert(index);
  std::vector<Dispatcher::Delivery> deliveries;
  if (dispatchers_ != nullptr && !facts.empty() && !std::holds_alternative<fact::Published>(facts[0]))
    dispatchers_->Applied(index, facts, effects, deliveries);
  for (size_t i = 0; i < facts.size(); ++i) {
    if (const auto* opened = std::get_if<fact::ProducerOpened>(&facts[i])) {
      const auto& e = std::get<effect::ProducerOpened>(effects.facts[i]);
      if (e.accepted) producers_[opened->producer] = {e.epoch, e.last_sequence + 1, {}};
    }
    if (const auto* published = std::get_if<fact::Published>(&facts[i])) {
      auto it = producers_.find(published->producer);
      for (uint32_t n = 0; it != producers_.end() && n < published->count; ++n)
        it->second.sequences.erase(published->first_sequence + n);
    }
    if (const auto* deleted = std::get_if<fact::SubscriptionDeleted>(&facts[i])) {
      for (auto& [id, client] : clients_[deleted->subscription].sessions) client.connected = false;
    }
    const auto* attached = std::get_if<fact::Attached>(&facts[i]);
    if (attached != nullptr && dispatchers_ != nullptr) {
      const auto& e = std::get<effect::Attached>(effects.facts[i]);
      Dispatcher* dispatcher = dispatchers_->Find(attached->subscription);
      if (!e.accepted || dispatcher == nullptr) continue;
      Client& client = clients_[attached->subscription].sessions[attached->session];
      client.connected = true;
      Credit credit{static_cast<uint32_t>(draining_ ? 100 : 1 + Below(30)), 1 + Below(20'000)};
      dispatcher->Connect(attached->session, credit);
      // Safety rule 5: the client gets what it lacks.
      client.held.clear();
      for (const auto& [first, run] : log_.machine.subscription(attached->subscription).in_flight) {
        if (run.holder == e.number) client.held.push_back({{first, run.count}, run.checkout_index});
      }
    }
  }
  for (const auto& delivery : deliveries) Deliver(delivery);
}

void History::ApplyAll() {
  while (log_.machine.applied() < log_.last() && !problem_) ApplyOne();
}

void History::Deliver(const Dispatcher::Delivery& delivery) {
  Clients& clients = clients_[delivery.subscription];
  for (const auto& run : delivery.runs) {
    const Token token{run.slots, delivery.checkout_index};
    if (delivery.session.empty()) {
      if (Chance(90)) clients.received.push_back(token);
    } else if (clients.sessions[delivery.session].connected) {
      clients.sessions[delivery.session].held.push_back(token);
    }
  }
}

// With every consumer back and all leases over, nothing may remain.
void History::Drain() {
  draining_ = true;
  NewLeader();
  for (const auto& [id, s] : log_.machine.subscriptions()) Attach(id, "a");
  ApplyAll();
  size_t rounds = 0;
  auto remains = [&] {
    uint64_t messages = 0;
    for (const auto& [id, s] : log_.machine.subscriptions())
      messages += s.waiting + s.returned_messages + s.in_flight_messages;
    return messages;
  };
  while (remains() > 0 && !problem_) {
    if (++rounds > 3'000) {
      std::string all;
      for (const auto& [id, s] : log_.machine.subscriptions()) {
        all += Say("subscription ", id, ": ", s.waiting, " waiting, ", s.returned_messages, " returned, ",
                   s.in_flight_messages, " in flight, ", s.exceptions(), " exceptions; ");
      }
      return Fail(Say(all, "never come to an end; the cap is ", limits_.max_exceptions));
    }
    now_ += 100;
    Depart();
    Decide();
    ApplyAll();
    for (auto& [id, clients] : clients_) {
      Client& client = clients.sessions["a"];
      if (!client.held.empty()) Append({fact::Settled{id, Disposition::kAcknowledge, std::move(client.held)}});
      client.held.clear();
    }
    ApplyAll();
  }
}

}  // namespace trireme::queue
