#include "tests/queue/model.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <sstream>
#include <utility>

#include "broker/queue/lookahead.h"
#include "tests/script/say.h"

namespace trireme::queue {
namespace {

using script::Say;
using Problem = std::optional<std::string>;

// (token, position) of every lost slot.
std::set<std::pair<uint32_t, Position>> LostOf(const effect::Settled& e) {
  std::set<std::pair<uint32_t, Position>> all;
  for (const auto& lost : e.lost) {
    for (uint32_t i = 0; i < lost.slots.count; ++i) all.emplace(lost.token, lost.slots.first + i);
  }
  return all;
}

}  // namespace

struct Model::Applier {
  Model& m;
  uint64_t index;
  const Effect& effect;
  int64_t now_ms;  // queue time
  uint64_t batch_bytes;
  int64_t expires_at_ms;
  // By the whole entry, with the deliveries so far.
  std::map<std::pair<SubscriptionId, Position>, uint32_t>& returned;

  Subscription* Sub(SubscriptionId id) {
    auto it = m.subscriptions_.find(id);
    return it == m.subscriptions_.end() ? nullptr : &it->second;
  }
  static Message* Find(Subscription& sub, Position p) {
    auto it = sub.messages.find(p);
    return it == sub.messages.end() ? nullptr : &it->second;
  }
  void GiveBack(SubscriptionId id, Position p, Message& message, int64_t due_ms = 0) {
    message.fate = Fate::kReturned;
    message.due_ms = due_ms;
    message.holder.clear();
    returned[{id, p}] = message.deliveries;
  }

  void Leave(Subscription& sub, Position p, Message& message, Fate fate, DeadReason reason, uint64_t target) {
    message.fate = fate;
    if (target != 0) sub.departures[++sub.left] = {p, message.deliveries, reason, now_ms, target};
  }

  Problem operator()(const fact::Published& f) {
    const auto& e = std::get<effect::Published>(effect);
    using Outcome = effect::Published::Outcome;
    if (!f.producer.empty()) {
      auto it = m.producers_.find(f.producer);
      const Outcome expected = it == m.producers_.end()      ? Outcome::kForgotten
                               : it->second.epoch != f.epoch ? Outcome::kFenced
                                                             : Outcome::kStored;
      if (e.outcome != Outcome::kStored) m.last_refused_ = index;
      if (expected != Outcome::kStored) {
        return e.outcome == expected ? Problem() : Say("published with an epoch not in force gave ", int(e.outcome));
      }
      auto& stored = it->second.stored;
      uint32_t known = 0;
      for (uint64_t s = f.first_sequence; s < f.first_sequence + f.count; ++s) known += stored.contains(s) ? 1 : 0;
      if (e.outcome == Outcome::kStored && known > 0) return Say("stored ", known, " sequences a second time");
      if (e.outcome != Outcome::kStored) {
        // Each piece must be true. New ones may be said to be unknown only below the window.
        uint64_t at = f.first_sequence;
        bool below = false;
        for (const auto& piece : e.pieces) {
          if (piece.first_sequence != at) return Say("pieces with a gap at ", at);
          for (uint32_t i = 0; i < piece.count; ++i, ++at) {
            auto was = stored.find(at);
            using PieceFate = ProducerWindow::Piece::Fate;
            if (piece.fate == PieceFate::kStored && (was == stored.end() || was->second != piece.first + i))
              return Say("sequence ", at, " is said to be at ", piece.first + i);
            if (piece.fate == PieceFate::kNew && was != stored.end()) return Say("sequence ", at, " is said to be new");
            if (piece.fate == PieceFate::kUnknown) below = true;
          }
        }
        if (at != f.first_sequence + f.count) return Say("pieces end at ", at);
        if (known == 0 && !below) return Say("refused, and every sequence from ", f.first_sequence, " on is new");
        return {};
      }
      for (uint32_t i = 0; i < f.count; ++i) stored[f.first_sequence + i] = Position(index, i);
    }
    if (e.outcome != Outcome::kStored) return Say("not stored: ", int(e.outcome));
    m.times_[index] = {now_ms, expires_at_ms};
    // Rounded up, each.
    m.sizes_[index] = m.sized_from_ == 0 ? 0 : batch_bytes / f.count + (batch_bytes % f.count == 0 ? 0 : 1);
    for (uint32_t i = 0; i < f.count; ++i) {
      m.stored_.insert(Position(index, i));
      for (auto& [id, sub] : m.subscriptions_) sub.messages[Position(index, i)] = {};
    }
    return {};
  }

  Problem operator()(const fact::ProducerOpened& f) {
    const auto& e = std::get<effect::ProducerOpened>(effect);
    const bool known = m.producers_.contains(f.producer);
    if (e.accepted != (!known || f.epoch > m.producers_[f.producer].epoch)) return Say("opened: ", e.accepted);
    if (!e.accepted) return {};
    Producer& producer = m.producers_[f.producer];
    producer.epoch = known ? f.epoch : std::max(f.epoch, m.forgotten_epoch_ + 1);
    if (e.epoch != producer.epoch) return Say("opened with epoch ", e.epoch, ", not ", producer.epoch);
    const uint64_t last = producer.stored.empty() ? 0 : producer.stored.rbegin()->first;
    return e.last_sequence == last ? Problem() : Say("last sequence ", e.last_sequence, ", not ", last);
  }

  Problem operator()(const fact::ProducerForgotten& f) {
    const auto& e = std::get<effect::ProducerForgotten>(effect);
    auto it = m.producers_.find(f.producer);
    const bool fits = it != m.producers_.end() && it->second.epoch == f.epoch &&
                      f.last_sequence == (it->second.stored.empty() ? 0 : it->second.stored.rbegin()->first);
    if (e.accepted != fits) return Say("forgotten: ", e.accepted);
    if (!fits) return {};
    m.forgotten_epoch_ = std::max(m.forgotten_epoch_, f.epoch);
    m.producers_.erase(it);
    return {};
  }

  Problem operator()(const fact::Attached& f) {
    const auto& e = std::get<effect::Attached>(effect);
    Subscription* sub = Sub(f.subscription);
    if (sub == nullptr) return e.accepted ? Say("attached to nothing") : Problem();
    auto it = sub->sessions.find(f.session);
    const bool known = it != sub->sessions.end();
    if (e.accepted != (!known || f.epoch > it->second.epoch)) return Say("attached: ", e.accepted);
    if (!e.accepted) return {};
    if (e.resumed != known) return Say("resumed: ", e.resumed);
    Session& session = sub->sessions[f.session];
    if (!known) session.place = ++sub->last_place;
    session.epoch = f.epoch;
    return {};
  }

  Problem operator()(const fact::Detached& f) {
    const auto& e = std::get<effect::Detached>(effect);
    Subscription* sub = Sub(f.subscription);
    if (sub == nullptr) return e.accepted ? Say("detached from nothing") : Problem();
    auto it = sub->sessions.find(f.session);
    if (e.accepted != (it != sub->sessions.end() && it->second.epoch == f.epoch)) return Say("detached: ", e.accepted);
    if (!e.accepted) return {};
    for (auto& [p, message] : sub->messages) {
      if (message.fate == Fate::kInFlight && message.holder == f.session) GiveBack(f.subscription, p, message);
    }
    sub->sessions.erase(it);
    return {};
  }

  // What was passed over in [from, to), which must be `count` messages that the filter does not take.
  Problem Pass(Subscription& sub, Position from, Position to, uint64_t count, const std::set<Position>& given) {
    uint64_t passed = 0;
    for (auto it = sub.messages.lower_bound(from); it != sub.messages.end() && it->first < to; ++it) {
      if (given.contains(it->first) || it->second.fate != Fate::kWaiting) continue;
      if (!sub.changed && FilterTakes(sub.settings.filter, it->first)) return Say(it->first, " was passed over");
      it->second.fate = Fate::kSkipped;
      ++passed;
    }
    return passed == count ? Problem() : Say(passed, " were passed over, not ", count);
  }

  Problem operator()(const fact::CheckedOut& f) {
    const auto& e = std::get<effect::CheckedOut>(effect);
    Subscription* sub = Sub(f.subscription);
    if (sub == nullptr) return e.accepted ? Say("given of nothing") : Problem();
    std::set<Position> given;
    for (const Slots& s : f.waiting) {
      for (uint32_t i = 0; i < s.count; ++i) given.insert(s.first + i);
    }
    if (!e.accepted) {
      auto session = sub->sessions.find(f.session);
      bool fits = f.from_next == sub->next && f.to_next <= Position(index, 0) &&
                  (f.session.empty() || (session != sub->sessions.end() && session->second.epoch == f.session_epoch));
      for (Position p : given) fits = fits && sub->messages.contains(p);
      fits = fits && (f.skipped == 0 || f.counted_at >= m.last_refused_) && MayGive(*sub, f.session) &&
             (m.sized_from_ == 0 || f.sized);
      return fits ? Say("refused a checkout that fits") : Problem();
    }
    if (f.from_next != sub->next)
      return Say("accepted a checkout from ", f.from_next, ", the cursor is at ", sub->next);
    if (!MayGive(*sub, f.session)) return Say("given to '", f.session, "', which is not the single active consumer");
    for (size_t i = 0; m.sized_from_ != 0 && i < f.waiting.size(); ++i) {
      if (f.sizes.at(i) != m.sizes_[f.waiting[i].first.index()]) return Say("a run of ", f.sizes[i], " bytes each");
    }
    if (Problem bad = Pass(*sub, f.from_next, f.to_next, f.skipped, given)) return bad;
    sub->next = f.to_next;
    std::map<Position, uint32_t> expected;
    auto give = [&](Position p) -> Problem {
      Message* message = Find(*sub, p);
      if (message == nullptr) return Say(p, " was checked out and does not exist");
      if (message->fate != Fate::kWaiting && message->fate != Fate::kReturned)
        return Say(p, " was checked out while ", int(message->fate));
      if (message->fate == Fate::kReturned && message->due_ms > now_ms)
        return Say(p, " is due at ", message->due_ms, " and was given at ", now_ms);
      if (m.DeadlineOf(p) <= now_ms) return Say(p, " expired at ", m.DeadlineOf(p), " and was given at ", now_ms);
      if (message->deliveries == 0 && !sub->changed && !FilterTakes(sub->settings.filter, p))
        return Say(p, " is not for this subscription");
      *message = {Fate::kInFlight, message->deliveries + 1, index, f.session, f.deadline_ms};
      expected[p] = message->deliveries;
      return {};
    };
    for (Position p : given) {
      if (Problem bad = give(p)) return bad;
    }
    for (const Slots& s : f.returned) {
      for (uint32_t i = 0; i < s.count; ++i) {
        Message* message = Find(*sub, s.first + i);
        if (message == nullptr || message->fate != Fate::kReturned) continue;
        if (Problem bad = give(s.first + i)) return bad;
      }
    }
    std::map<Position, uint32_t> said;
    for (const auto& run : e.runs) {
      for (uint32_t i = 0; i < run.slots.count; ++i) {
        if (!said.emplace(run.slots.first + i, run.deliveries).second) return Say("given twice");
      }
    }
    return said == expected ? Problem() : Say("the effect tells of ", said.size(), " messages, not ", expected.size());
  }

  static Fate FateOf(DeadReason reason) {
    return reason == DeadReason::kExpired    ? Fate::kExpired
           : reason == DeadReason::kOverflow ? Fate::kOverflowed
                                             : Fate::kDead;
  }

  Problem operator()(const fact::DeadUnseen& f) {
    const auto& e = std::get<effect::DeadUnseen>(effect);
    Subscription* sub = Sub(f.subscription);
    std::set<Position> gone;
    for (const Slots& s : f.waiting) {
      for (uint32_t i = 0; i < s.count; ++i) gone.insert(s.first + i);
    }
    bool fits = sub != nullptr && f.from_next == sub->next && f.to_next <= Position(index, 0) &&
                (f.skipped == 0 || f.counted_at >= m.last_refused_);
    for (Position p : gone) fits = fits && sub->messages.contains(p);
    if (e.accepted != fits) return Say("left unseen: ", e.accepted);
    if (!fits) return {};
    if (Problem bad = Pass(*sub, f.from_next, f.to_next, f.skipped, gone)) return bad;
    sub->next = f.to_next;
    for (Position p : gone) {
      Message& message = sub->messages.at(p);
      if (message.fate != Fate::kWaiting) return Say(p, " left unseen while ", int(message.fate));
      if (f.reason == DeadReason::kExpired && m.DeadlineOf(p) > now_ms)
        return Say(p, " expires at ", m.DeadlineOf(p), " and left at ", now_ms);
      Leave(*sub, p, message, FateOf(f.reason), f.reason, f.target);
    }
    return {};
  }

  template <typename Want, typename Take>
  Problem Release(SubscriptionId id, const std::vector<Token>& tokens, Want want, Take take) {
    const auto& e = std::get<effect::Settled>(effect);
    Subscription* sub = Sub(id);
    std::set<std::pair<uint32_t, Position>> lost;
    for (uint32_t t = 0; t < tokens.size(); ++t) {
      const Token& token = tokens[t];
      for (uint32_t i = 0; i < token.slots.count; ++i) {
        const Position p = token.slots.first + i;
        Message* message = sub == nullptr ? nullptr : Find(*sub, p);
        if (message != nullptr && message->fate == Fate::kInFlight && message->checkout_index == token.checkout_index &&
            want(*message)) {
          take(t, p, *message);
        } else {
          lost.emplace(t, p);
        }
      }
    }
    return LostOf(e) == lost ? Problem() : Say(LostOf(e).size(), " leases are said to be lost, not ", lost.size());
  }

  Problem operator()(const fact::Settled& f) {
    return Release(
        f.subscription, f.tokens, [](const Message&) { return true; },
        [&](uint32_t token, Position p, Message& message) {
          const int64_t due = token < f.due_ms.size() ? f.due_ms[token] : 0;
          if (f.disposition == Disposition::kUndelivered) --message.deliveries;
          if (f.disposition == Disposition::kRequeue) return GiveBack(f.subscription, p, message, due);
          if (f.disposition == Disposition::kUndelivered) return GiveBack(f.subscription, p, message);
          if (f.disposition == Disposition::kReject)
            return Leave(*Sub(f.subscription), p, message, Fate::kRejected, DeadReason::kRejected, f.target);
          if (f.disposition == Disposition::kRedrive)
            return Leave(*Sub(f.subscription), p, message, Fate::kRedriven, DeadReason::kRedriven, f.target);
          message.fate = Fate::kAcknowledged;
        });
  }
  Problem operator()(const fact::LeaseExtended& f) {
    return Release(
        f.subscription, f.tokens, [](const Message& message) { return message.holder.empty(); },
        [&](uint32_t, Position, Message& message) { message.deadline_ms = f.deadline_ms; });
  }
  Problem operator()(const fact::Expired& f) {
    return Release(
        f.subscription, f.tokens,
        [&](const Message& message) { return message.holder.empty() && message.deadline_ms <= f.now_ms; },
        [&](uint32_t, Position p, Message& message) { GiveBack(f.subscription, p, message); });
  }
  Problem operator()(const fact::Purged&) {
    uint64_t purged = 0;
    for (auto& [id, sub] : m.subscriptions_) {
      for (auto& [p, message] : sub.messages) {
        if (message.fate != Fate::kWaiting && message.fate != Fate::kReturned) continue;
        message.fate = Fate::kPurged;
        ++purged;
      }
      sub.next = std::max(sub.next, Position(index, 0));
    }
    const auto& e = std::get<effect::Purged>(effect);
    return e.messages == purged ? Problem() : Say("purged ", e.messages, ", not ", purged);
  }
  Problem operator()(const fact::VersionRaised& f) {
    if (f.version >= kFactsOfLimits && m.sized_from_ == 0) m.sized_from_ = index;
    m.expires_ |= f.version >= kFactsOfExpiry;
    return {};
  }
  Problem operator()(const fact::QueueChanged& f) {
    m.settings_ = f.settings;
    return {};
  }

  Problem operator()(const fact::Skipped& f) {
    const auto& e = std::get<effect::Skipped>(effect);
    Subscription* sub = Sub(f.subscription);
    const bool fits = sub != nullptr && f.from_next == sub->next && f.to_next <= Position(index, 0) &&
                      (f.count == 0 || f.counted_at >= m.last_refused_) && (m.sized_from_ == 0 || f.sized);
    if (e.accepted != fits) return Say("skipped: ", e.accepted);
    if (!fits) return {};
    if (Problem bad = Pass(*sub, f.from_next, f.to_next, f.count, {})) return bad;
    sub->next = f.to_next;
    for (const Slots& s : f.returned) {
      for (uint32_t i = 0; i < s.count; ++i) {
        Message* message = Find(*sub, s.first + i);
        if (message == nullptr || message->fate != Fate::kReturned) continue;
        if (!sub->changed && FilterTakes(sub->settings.filter, s.first + i))
          return Say(s.first + i, " was passed over, returned");
        message->fate = Fate::kSkipped;
      }
    }
    return {};
  }

  Problem operator()(const fact::SubscriptionCreated& f) {
    const auto& e = std::get<effect::SubscriptionCreated>(effect);
    using Outcome = effect::SubscriptionCreated::Outcome;
    for (const auto& [id, sub] : m.subscriptions_) {
      if (sub.name != f.name) continue;
      return e.outcome != Outcome::kExists || e.id != id ? Say("created ", f.name, " again") : Problem();
    }
    if (e.outcome != Outcome::kCreated || e.id != ++m.last_subscription_)
      return Say("created: ", int(e.outcome), " as ", e.id);
    Subscription made{.name = f.name, .settings = f.settings, .fresh = true};
    // From where on some subscription has everything still before it.
    Position retained(index, 0);
    for (const auto& [id, sub] : m.subscriptions_) {
      for (const auto& [p, message] : sub.messages) {
        if (message.fate == Fate::kWaiting) retained = std::min(retained, p);
      }
    }
    for (Position p : m.stored_) {
      if (p < f.from) continue;
      if (p >= retained) {
        made.messages[p] = {};
        continue;
      }
      for (const auto& [id, sub] : m.subscriptions_) {
        auto it = sub.messages.find(p);
        if (it == sub.messages.end()) continue;
        if (it->second.fate == Fate::kInFlight || it->second.fate == Fate::kReturned)
          made.messages[p] = {.fate = Fate::kReturned};
      }
    }
    m.subscriptions_[e.id] = std::move(made);
    return {};
  }

  Problem operator()(const fact::SubscriptionChanged& f) {
    Subscription* sub = Sub(f.subscription);
    if (std::get<effect::SubscriptionChanged>(effect).accepted != (sub != nullptr)) return Say("changed wrongly");
    if (sub == nullptr) return {};
    sub->changed |= sub->settings.filter != f.settings.filter;
    sub->settings = f.settings;
    return {};
  }

  Problem operator()(const fact::DeadLettered& f) {
    uint64_t dead = 0;
    Subscription* sub = Sub(f.subscription);
    for (const Slots& s : f.returned) {
      for (uint32_t i = 0; sub != nullptr && i < s.count; ++i) {
        Message* message = Find(*sub, s.first + i);
        if (message == nullptr || message->fate != Fate::kReturned || message->deliveries < f.deliveries) continue;
        const bool expired = f.reason == DeadReason::kExpired;
        if (expired && m.DeadlineOf(s.first + i) > now_ms) return Say(s.first + i, " has not expired");
        Leave(*sub, s.first + i, *message, FateOf(f.reason), f.reason, f.target);
        ++dead;
      }
    }
    const auto& e = std::get<effect::DeadLettered>(effect);
    return e.messages == dead ? Problem() : Say(e.messages, " are said to be dead, not ", dead);
  }

  Problem operator()(const fact::Arrived& f) {
    Subscription* sub = Sub(f.subscription);
    uint64_t there = 0;
    for (uint64_t i = 0; sub != nullptr && i < f.count; ++i) there += sub->departures.erase(f.first + i);
    if (sub != nullptr) sub->arrived += there;
    const auto& e = std::get<effect::Departures>(effect);
    return e.messages == there ? Problem() : Say(e.messages, " are said to be there, not ", there);
  }

  Problem operator()(const fact::Redirected& f) {
    Subscription* sub = Sub(f.subscription);
    uint64_t redirected = 0;
    if (sub != nullptr && f.to != 0) {
      for (auto& [ordinal, departed] : sub->departures) {
        if (departed.target != f.from) continue;
        departed.target = f.to;
        ++redirected;
      }
    }
    const auto& e = std::get<effect::Departures>(effect);
    return e.messages == redirected ? Problem() : Say(e.messages, " are said to be redirected, not ", redirected);
  }

  Problem operator()(const fact::SubscriptionDeleted& f) {
    const bool was = m.subscriptions_.erase(f.subscription) > 0;
    return std::get<effect::SubscriptionChanged>(effect).accepted == was ? Problem() : Say("deleted wrongly");
  }
};

Problem Model::Apply(uint64_t index, const std::vector<Fact>& facts, const Effects& effects, int64_t now_ms,
                     uint64_t batch_bytes, int64_t expires_at_ms) {
  if (facts.size() != effects.facts.size()) return Say(effects.facts.size(), " effects of ", facts.size(), " facts");
  std::map<std::pair<SubscriptionId, Position>, uint32_t> returned;
  for (size_t i = 0; i < facts.size(); ++i) {
    Applier applier{*this, index, effects.facts[i], now_ms, batch_bytes, expires_at_ms, returned};
    if (Problem bad = std::visit(applier, facts[i])) return Say("fact ", i, " of kind ", facts[i].index(), ": ", *bad);
  }
  std::map<std::pair<SubscriptionId, Position>, uint32_t> said;
  for (const auto& back : effects.returned) {
    for (uint32_t i = 0; i < back.slots.count; ++i) said[{back.subscription, back.slots.first + i}] = back.deliveries;
  }
  return said == returned ? Problem() : Say(said.size(), " messages are said to be back, not ", returned.size());
}

Problem Model::Compare(const Machine& machine) {
  if (machine.published() != stored_.size()) return Say(machine.published(), " are published");
  if (machine.subscriptions().size() != subscriptions_.size())
    return Say(machine.subscriptions().size(), " subscriptions, not ", subscriptions_.size());
  std::set<uint64_t> wanted;  // entries with a message that somebody will want
  for (auto& [id, mine] : subscriptions_) {
    const queue::Subscription* s = machine.FindSubscription(id);
    if (s == nullptr || machine.FindSubscription(mine.name) != id || s->settings != mine.settings)
      return Say("there is no subscription ", id, " called ", mine.name);
    if (Problem bad = Compare(*s, mine, wanted)) return Say("subscription ", id, ": ", *bad);
  }
  if (Problem bad = CompareHoldings(machine)) return bad;
  for (const Milestones::Stone& stone : machine.milestones().all()) {
    const auto before =
        static_cast<uint64_t>(std::distance(stored_.begin(), stored_.lower_bound(Position(stone.index, 0))));
    if (before != stone.ordinal) return Say(before, " messages lie before ", stone.index, ", not ", stone.ordinal);
    uint64_t bytes = 0;
    for (auto it = stored_.begin(); it != stored_.end() && it->index() < stone.index; ++it)
      bytes += sizes_.at(it->index());
    if (bytes != stone.bytes) return Say(bytes, " bytes lie before ", stone.index, ", not ", stone.bytes);
  }
  // Compaction keeps every entry that is wanted, and below the floor no other.
  auto live = machine.Live();
  std::set<uint64_t> kept;
  for (const EntryRange& range : live.live) {
    for (uint64_t i = range.first; i <= range.last; ++i) kept.insert(i);
    if (range.last > live.floor) return Say("live entries above the floor");
  }
  std::set<uint64_t> below(wanted.begin(), wanted.upper_bound(live.floor));
  if (kept != below) return Say(kept.size(), " entries at or below ", live.floor, " are kept, not ", below.size());
  return {};
}

int64_t Model::DeadlineOf(Position position) const {
  if (!expires_) return kNever;
  const auto [published, own] = times_.at(position.index());
  int64_t deadline = own == 0 ? kNever : own;
  if (settings_.ttl_ms != 0) deadline = std::min(deadline, published + static_cast<int64_t>(settings_.ttl_ms));
  return deadline;
}

Problem Model::CompareHoldings(const Machine& machine) const {
  if (machine.settings() != settings_) return Say("the settings are others");
  const std::optional<Amount> held = machine.Holds();
  if (held.has_value() != settings_.Limits()) return Say("what is held is counted: ", held.has_value());
  std::set<Position> needed;
  for (const auto& [id, sub] : subscriptions_) {
    uint64_t waiting = 0;
    for (const auto& [p, message] : sub.messages) {
      if (message.fate < Fate::kAcknowledged) needed.insert(p);
      if (message.fate == Fate::kWaiting) waiting += sizes_.at(p.index());
    }
    if (machine.subscription(id).waiting_bytes != waiting)
      return Say(machine.subscription(id).waiting_bytes, " bytes wait in subscription ", id, ", not ", waiting);
  }
  if (!held) return {};
  Amount mine{.messages = needed.size(), .bytes = 0};
  for (Position p : needed) mine.bytes += sizes_.at(p.index());
  if (*held == mine) return {};
  return Say(held->messages, " messages of ", held->bytes, " bytes are held, not ", mine.messages, " of ", mine.bytes);
}

Problem Model::Compare(const queue::Subscription& s, Subscription& mine, std::set<uint64_t>& wanted) const {
  if (std::exchange(mine.fresh, false)) mine.next = s.next;
  std::map<Fate, uint64_t> counts;
  for (const auto& [p, message] : mine.messages) {
    ++counts[message.fate];
    if (message.fate < Fate::kAcknowledged) wanted.insert(p.index());
    if (message.fate == Fate::kWaiting && p < s.next) return Say(p, " waits below the cursor ", s.next);
    if (message.fate != Fate::kWaiting && p >= s.next) return Say(p, " is above the cursor ", s.next);
  }
  std::map<Position, const InFlight*> in_flight;
  for (const auto& [first, run] : s.in_flight) {
    for (uint32_t i = 0; i < run.count; ++i) in_flight[first + i] = &run;
  }
  if (in_flight.size() != counts[Fate::kInFlight]) return Say(in_flight.size(), " are in flight");
  for (const auto& [p, run] : in_flight) {
    auto it = mine.messages.find(p);
    if (it == mine.messages.end() || it->second.fate != Fate::kInFlight) return Say(p, " is in flight");
    const Message& message = it->second;
    std::string holder;
    for (const auto& [id, session] : s.sessions) {
      if (session.number == run->holder) holder = id;
    }
    if (run->deliveries != message.deliveries || run->checkout_index != message.checkout_index ||
        holder != message.holder || (holder.empty() && run->deadline_ms != message.deadline_ms))
      return Say(p, " is in flight with ", run->deliveries, " deliveries, held by '", holder, "'");
  }
  std::map<Position, std::pair<uint32_t, int64_t>> returned;
  for (const auto& [first, run] : s.returned) {
    for (uint32_t i = 0; i < run.count; ++i) returned[first + i] = {run.deliveries, run.due_ms};
  }
  if (returned.size() != counts[Fate::kReturned]) return Say(returned.size(), " are returned");
  for (const auto& [p, run] : returned) {
    const auto [deliveries, due_ms] = run;
    auto it = mine.messages.find(p);
    if (it == mine.messages.end() || it->second.fate != Fate::kReturned || it->second.deliveries != deliveries ||
        it->second.due_ms != due_ms)
      return Say(p, " is returned after ", deliveries, " deliveries");
  }
  std::map<uint64_t, Departed> departures;
  for (const auto& [ordinal, run] : s.departures.runs()) {
    for (uint32_t i = 0; i < run.count; ++i)
      departures[ordinal + i] = {run.first + i, run.deliveries, run.reason, run.time_ms, run.target};
  }
  if (departures != mine.departures || s.departures.last_ordinal() != mine.left)
    return Say(departures.size(), " are on their way, not ", mine.departures.size());
  for (const auto& [ordinal, departed] : departures) wanted.insert(departed.position.index());
  // The totals add up, and are exact.
  if (s.waiting != counts[Fate::kWaiting] || s.in_flight_messages != counts[Fate::kInFlight] ||
      s.returned_messages != counts[Fate::kReturned] || s.acknowledged != counts[Fate::kAcknowledged] ||
      s.rejected != counts[Fate::kRejected] || s.purged != counts[Fate::kPurged] ||
      s.skipped != counts[Fate::kSkipped] || s.dead != counts[Fate::kDead] || s.redriven != counts[Fate::kRedriven] ||
      s.expired != counts[Fate::kExpired] || s.overflowed != counts[Fate::kOverflowed] || s.arrived != mine.arrived)
    return Say("the figures are off");
  if (s.sessions.size() != mine.sessions.size()) return Say(s.sessions.size(), " sessions");
  // Safety rule 1: what is kept does not grow with what waits.
  if (s.exceptions() > counts[Fate::kInFlight] + counts[Fate::kReturned] + mine.departures.size())
    return Say(s.exceptions(), " exceptions");
  return {};
}

bool Model::MayGive(const Subscription& sub, const std::string& session) {
  if (!sub.settings.single_active) return true;
  auto mine = sub.sessions.find(session);
  if (mine == sub.sessions.end()) return false;
  const bool first = std::none_of(sub.sessions.begin(), sub.sessions.end(),
                                  [&](const auto& other) { return other.second.place < mine->second.place; });
  return first && std::none_of(sub.messages.begin(), sub.messages.end(), [&](const auto& message) {
           return message.second.fate == Fate::kInFlight && message.second.holder != session;
         });
}

bool FilterTakes(const std::string& filter, Position position) {
  if (filter.empty()) return true;
  return (position.index() + position.slot()) % std::strtoull(filter.c_str(), nullptr, 10) == 0;
}

}  // namespace trireme::queue
