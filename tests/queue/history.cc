#include "tests/queue/history.h"

#include <algorithm>
#include <sstream>

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
  dispatcher_.reset();
  log_.Append(raft::Bytes());
  ApplyAll();
  if (Chance(30)) compacted_ = log_.machine.Live().floor;
  dispatcher_ = std::make_unique<Dispatcher>(&log_.machine, log_.last(), now_, limits_);
  for (auto& [id, client] : clients_) client.connected = false;
  for (auto& [name, producer] : producers_) producer.sequences.clear();
}

void History::Step() {
  const uint64_t dice = Below(100);
  if (dice < 22) {
    Publish();
  } else if (dice < 26) {
    OpenProducer();
  } else if (dice < 34) {
    Attach(std::string(1, static_cast<char>('a' + Below(4))));
  } else if (dice < 37) {
    auto it = clients_.begin();
    std::advance(it, Below(clients_.size()));
    if (it != clients_.end() && it->second.connected) {
      it->second.connected = false;
      dispatcher_->Disconnect(it->first, now_);
    }
  } else if (dice < 39) {
    auto it = clients_.begin();
    std::advance(it, Below(clients_.size()));
    if (it != clients_.end() && it->second.connected) {
      it->second.connected = false;
      dispatcher_->End(it->first);
      for (const Token& token : it->second.held) stale_.push_back(token);
      it->second.held.clear();
    }
  } else if (dice < 44) {
    dispatcher_->Receive(++receivers_, static_cast<uint32_t>(1 + Below(6)), now_ + static_cast<int64_t>(Below(50)),
                         static_cast<int64_t>(20 + Below(200)));
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
  raft::Bytes entry = PublishedEntry(count, name, epoch, first, now_, body);
  const EntryShape shape = ShapeOf(entry);
  dispatcher_->Appended(log_.Append(std::move(entry)), shape);
}

void History::OpenProducer() {
  std::string name(1, static_cast<char>('p' + Below(4)));
  auto known = log_.machine.producers().find(name);
  uint64_t epoch = known == log_.machine.producers().end() ? 1 : known->second.epoch + Below(3);
  Append({fact::ProducerOpened{name, epoch}});
}

void History::Attach(const SessionId& session) {
  const auto& sessions = log_.machine.subscription(0).sessions;
  auto known = sessions.find(session);
  dispatcher_->Disconnect(session, now_);
  clients_[session].connected = false;
  Append({fact::Attached{0, session, known == sessions.end() ? 1 : known->second.epoch + 1, "consumer",
                         static_cast<uint32_t>(50 + Below(200))}});
  if (Chance(80)) ApplyAll();
}

// Some of what is held, whole, cut, or made wrong.
std::vector<Token> History::SomeTokens(std::vector<Token>& held) {
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
    stale_.push_back(token);
  }
  return tokens;
}

void History::SettleSome() {
  std::vector<Token> tokens;
  auto it = clients_.begin();
  std::advance(it, Below(clients_.size()));
  const bool of_session = it != clients_.end() && Chance(70);
  tokens = SomeTokens(of_session ? it->second.held : received_);
  if (Chance(20) && !stale_.empty()) tokens.push_back(stale_[Below(stale_.size())]);
  if (Chance(5) && !tokens.empty()) tokens[0].checkout_index += 1 + Below(3);
  if (Chance(5)) {
    tokens.push_back(
        {{Position(1 + Below(log_.last()), static_cast<uint32_t>(Below(5))), static_cast<uint32_t>(1 + Below(10))},
         1 + Below(log_.last())});
  }
  if (tokens.empty()) return;
  if (!of_session && Chance(20)) {
    // Extended: so still held.
    for (const Token& token : tokens) received_.push_back(token);
    return Append({fact::LeaseExtended{0, now_ + static_cast<int64_t>(Below(300)), tokens}});
  }
  const auto how = static_cast<Disposition>(draining_ ? 1 : 1 + Below(4));
  Append({fact::Settled{0, how, std::move(tokens)}});
}

void History::Append(std::vector<Fact> facts) {
  const bool purges = std::any_of(facts.begin(), facts.end(),
                                  [](const Fact& fact) { return std::holds_alternative<fact::Purged>(fact); });
  const uint64_t index = log_.Append(FactsEntry(facts, now_));
  dispatcher_->Appended(index, {});
  if (purges) dispatcher_->Purged(index);
}

void History::Decide() {
  for (int i = 0; i < 100; ++i) {
    auto wanted = dispatcher_->Wanted();
    if (!wanted) break;
    std::vector<EntryShape> shapes;
    const uint64_t last = wanted->first + Below(wanted->last - wanted->first + 1);
    for (uint64_t entry = wanted->first; entry <= last; ++entry) {
      const bool gone = entry <= compacted_ && !log_.machine.subscription(0).HasOutOfLine(entry);
      if (gone && entry > wanted->first) break;  // behind the first one the answer may end
      if (gone)
        Fail(Say("entry ", entry, " is asked for and may be gone; applied ", log_.machine.applied(), " last ",
                 log_.last(), " compacted ", compacted_, " next ", log_.machine.subscription(0).next, " waiting ",
                 log_.machine.subscription(0).waiting, " wanted ", wanted->first, "..", wanted->last));
      shapes.push_back(ShapeOf(log_.at(entry)));
    }
    dispatcher_->Shapes(wanted->first, shapes);
  }
  auto plan = dispatcher_->Decide(now_, now_);
  size_t runs = 0;
  for (const Fact& fact : plan.facts) {
    if (const auto* out = std::get_if<fact::CheckedOut>(&fact)) runs += out->waiting.size() + out->returned.size();
  }
  if (runs > limits_.decision_runs) Fail(Say(runs, " runs in one decision"));
  if (!plan.facts.empty()) Append(std::move(plan.facts));
}

void History::ApplyOne() {
  const uint64_t index = log_.machine.applied() + 1;
  Effects effects = log_.ApplyNext();
  const raft::Bytes& entry = log_.at(index);
  std::vector<Fact> facts;
  if (!entry.empty()) facts = DecodeEntry(entry)->facts;
  if (auto bad = model_.Apply(index, facts, effects)) return Fail(Say("entry ", index, ": ", *bad));
  if (auto bad = model_.Compare(log_.machine)) return Fail(Say("after entry ", index, ": ", *bad));
  snapshots_.push_back(log_.machine.Snapshot());
  std::vector<Dispatcher::Delivery> deliveries;
  if (dispatcher_ != nullptr && !facts.empty() && !std::holds_alternative<fact::Published>(facts[0]))
    dispatcher_->Applied(index, facts, effects, deliveries);
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
    if (const auto* attached = std::get_if<fact::Attached>(&facts[i]); attached != nullptr && dispatcher_ != nullptr) {
      const auto& e = std::get<effect::Attached>(effects.facts[i]);
      if (!e.accepted) continue;
      Client& client = clients_[attached->session];
      client.connected = true;
      if (!e.resumed) client.held.clear();
      Credit credit{static_cast<uint32_t>(draining_ ? 100 : 1 + Below(30)), 1 + Below(20'000)};
      dispatcher_->Connect(attached->session, credit);
      // Safety rule 5: the client gets what it lacks.
      client.held.clear();
      for (const auto& [first, run] : log_.machine.subscription(0).in_flight) {
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
  for (const auto& run : delivery.runs) {
    const Token token{run.slots, delivery.checkout_index};
    if (delivery.session.empty()) {
      if (Chance(90)) received_.push_back(token);
    } else if (clients_[delivery.session].connected) {
      clients_[delivery.session].held.push_back(token);
    }
  }
}

// With every consumer back and all leases over, nothing may remain.
void History::Drain() {
  draining_ = true;
  NewLeader();
  Attach("a");
  ApplyAll();
  size_t rounds = 0;
  auto remains = [&] {
    const Subscription& s = log_.machine.subscription(0);
    return s.waiting + s.returned_messages + s.in_flight_messages;
  };
  while (remains() > 0 && !problem_) {
    if (++rounds > 3'000) {
      const Subscription& s = log_.machine.subscription(0);
      return Fail(Say(s.waiting, " waiting, ", s.returned_messages, " returned and ", s.in_flight_messages,
                      " messages in flight never come to an end; the cap is ", limits_.max_exceptions, ", exceptions ",
                      s.exceptions()));
    }
    now_ += 100;
    Decide();
    ApplyAll();
    Client& client = clients_["a"];
    if (!client.held.empty()) Append({fact::Settled{0, Disposition::kAcknowledge, std::move(client.held)}});
    client.held.clear();
    ApplyAll();
  }
}

}  // namespace trireme::queue
