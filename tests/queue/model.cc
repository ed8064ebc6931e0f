#include "tests/queue/model.h"

#include <algorithm>
#include <sstream>

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
  std::map<Position, uint32_t>& returned;  // by the whole entry, with the deliveries so far

  Message* Find(Position p) {
    auto it = m.messages_.find(p);
    return it == m.messages_.end() ? nullptr : &it->second;
  }
  void GiveBack(Position p, Message& message) {
    message.fate = Fate::kReturned;
    message.holder.clear();
    returned[p] = message.deliveries;
  }

  Problem operator()(const fact::Published& f) {
    const auto& e = std::get<effect::Published>(effect);
    using Outcome = effect::Published::Outcome;
    if (!f.producer.empty()) {
      auto it = m.producers_.find(f.producer);
      const Outcome expected = it == m.producers_.end()      ? Outcome::kForgotten
                               : it->second.epoch != f.epoch ? Outcome::kFenced
                                                             : Outcome::kStored;
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
    for (uint32_t i = 0; i < f.count; ++i) m.messages_[Position(index, i)] = {};
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
    auto it = m.sessions_.find(f.session);
    const bool known = it != m.sessions_.end();
    if (e.accepted != (!known || f.epoch > it->second.epoch)) return Say("attached: ", e.accepted);
    if (!e.accepted) return {};
    if (e.resumed != known) return Say("resumed: ", e.resumed);
    m.sessions_[f.session].epoch = f.epoch;
    return {};
  }

  Problem operator()(const fact::Detached& f) {
    const auto& e = std::get<effect::Detached>(effect);
    auto it = m.sessions_.find(f.session);
    if (e.accepted != (it != m.sessions_.end() && it->second.epoch == f.epoch)) return Say("detached: ", e.accepted);
    if (!e.accepted) return {};
    for (auto& [p, message] : m.messages_) {
      if (message.fate == Fate::kInFlight && message.holder == f.session) GiveBack(p, message);
    }
    m.sessions_.erase(it);
    return {};
  }

  Problem operator()(const fact::CheckedOut& f) {
    const auto& e = std::get<effect::CheckedOut>(effect);
    if (!e.accepted) {
      auto session = m.sessions_.find(f.session);
      bool fits = f.from_next == m.next_ && f.to_next <= Position(index, 0) &&
                  (f.session.empty() || (session != m.sessions_.end() && session->second.epoch == f.session_epoch));
      for (const Slots& s : f.waiting) {
        for (uint32_t i = 0; i < s.count; ++i) fits = fits && m.messages_.contains(s.first + i);
      }
      return fits ? Say("refused a checkout that fits") : Problem();
    }
    if (f.from_next != m.next_) return Say("accepted a checkout from ", f.from_next, ", the cursor is at ", m.next_);
    // Nothing that waits may be passed over.
    std::set<Position> given;
    for (const Slots& s : f.waiting) {
      for (uint32_t i = 0; i < s.count; ++i) given.insert(s.first + i);
    }
    for (auto it = m.messages_.lower_bound(f.from_next); it != m.messages_.end() && it->first < f.to_next; ++it) {
      if (!given.contains(it->first)) return Say(it->first, " was passed over");
    }
    m.next_ = f.to_next;
    std::map<Position, uint32_t> expected;
    auto give = [&](Position p) -> Problem {
      Message* message = Find(p);
      if (message == nullptr) return Say(p, " was checked out and does not exist");
      if (message->fate != Fate::kWaiting && message->fate != Fate::kReturned)
        return Say(p, " was checked out while ", int(message->fate));
      *message = {Fate::kInFlight, message->deliveries + 1, index, f.session, f.deadline_ms};
      expected[p] = message->deliveries;
      return {};
    };
    for (Position p : given) {
      if (Problem bad = give(p)) return bad;
    }
    for (const Slots& s : f.returned) {
      for (uint32_t i = 0; i < s.count; ++i) {
        Message* message = Find(s.first + i);
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

  template <typename Want, typename Take>
  Problem Release(const std::vector<Token>& tokens, Want want, Take take) {
    const auto& e = std::get<effect::Settled>(effect);
    std::set<std::pair<uint32_t, Position>> lost;
    for (uint32_t t = 0; t < tokens.size(); ++t) {
      const Token& token = tokens[t];
      for (uint32_t i = 0; i < token.slots.count; ++i) {
        const Position p = token.slots.first + i;
        Message* message = Find(p);
        if (message != nullptr && message->fate == Fate::kInFlight && message->checkout_index == token.checkout_index &&
            want(*message)) {
          take(p, *message);
        } else {
          lost.emplace(t, p);
        }
      }
    }
    return LostOf(e) == lost ? Problem() : Say(LostOf(e).size(), " leases are said to be lost, not ", lost.size());
  }

  Problem operator()(const fact::Settled& f) {
    return Release(
        f.tokens, [](const Message&) { return true; },
        [&](Position p, Message& message) {
          if (f.disposition == Disposition::kUndelivered) --message.deliveries;
          if (f.disposition == Disposition::kRequeue || f.disposition == Disposition::kUndelivered)
            return GiveBack(p, message);
          message.fate = f.disposition == Disposition::kAcknowledge ? Fate::kAcknowledged : Fate::kRejected;
        });
  }
  Problem operator()(const fact::LeaseExtended& f) {
    return Release(
        f.tokens, [](const Message& message) { return message.holder.empty(); },
        [&](Position, Message& message) { message.deadline_ms = f.deadline_ms; });
  }
  Problem operator()(const fact::Expired& f) {
    return Release(
        f.tokens, [&](const Message& message) { return message.holder.empty() && message.deadline_ms <= f.now_ms; },
        [&](Position p, Message& message) { GiveBack(p, message); });
  }
  Problem operator()(const fact::Purged&) {
    uint64_t purged = 0;
    for (auto& [p, message] : m.messages_) {
      if (message.fate != Fate::kWaiting && message.fate != Fate::kReturned) continue;
      message.fate = Fate::kPurged;
      ++purged;
    }
    m.next_ = std::max(m.next_, Position(index, 0));
    const auto& e = std::get<effect::Purged>(effect);
    return e.messages == purged ? Problem() : Say("purged ", e.messages, ", not ", purged);
  }
  Problem operator()(const fact::VersionRaised&) { return {}; }
};

Problem Model::Apply(uint64_t index, const std::vector<Fact>& facts, const Effects& effects) {
  if (facts.size() != effects.facts.size()) return Say(effects.facts.size(), " effects of ", facts.size(), " facts");
  std::map<Position, uint32_t> returned;
  for (size_t i = 0; i < facts.size(); ++i) {
    Applier applier{*this, index, effects.facts[i], returned};
    if (Problem bad = std::visit(applier, facts[i])) return Say("fact ", i, " of kind ", facts[i].index(), ": ", *bad);
  }
  std::map<Position, uint32_t> said;
  for (const auto& back : effects.returned) {
    for (uint32_t i = 0; i < back.slots.count; ++i) said[back.slots.first + i] = back.deliveries;
  }
  return said == returned ? Problem() : Say(said.size(), " messages are said to be back, not ", returned.size());
}

Problem Model::Compare(const Machine& machine) const {
  const Subscription& s = machine.subscription(0);
  std::map<Fate, uint64_t> counts;
  std::set<uint64_t> wanted;  // entries with a message that somebody will want
  for (const auto& [p, message] : messages_) {
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
    auto it = messages_.find(p);
    if (it == messages_.end() || it->second.fate != Fate::kInFlight) return Say(p, " is in flight");
    const Message& message = it->second;
    std::string holder;
    for (const auto& [id, session] : s.sessions) {
      if (session.number == run->holder) holder = id;
    }
    if (run->deliveries != message.deliveries || run->checkout_index != message.checkout_index ||
        holder != message.holder || (holder.empty() && run->deadline_ms != message.deadline_ms))
      return Say(p, " is in flight with ", run->deliveries, " deliveries, held by '", holder, "'");
  }
  std::map<Position, uint32_t> returned;
  for (const auto& [first, run] : s.returned) {
    for (uint32_t i = 0; i < run.count; ++i) returned[first + i] = run.deliveries;
  }
  if (returned.size() != counts[Fate::kReturned]) return Say(returned.size(), " are returned");
  for (const auto& [p, deliveries] : returned) {
    auto it = messages_.find(p);
    if (it == messages_.end() || it->second.fate != Fate::kReturned || it->second.deliveries != deliveries)
      return Say(p, " is returned after ", deliveries, " deliveries");
  }
  // The totals add up, and are exact.
  if (machine.published() != messages_.size() || s.waiting != counts[Fate::kWaiting] ||
      s.in_flight_messages != counts[Fate::kInFlight] || s.returned_messages != counts[Fate::kReturned] ||
      s.acknowledged != counts[Fate::kAcknowledged] || s.rejected != counts[Fate::kRejected] ||
      s.purged != counts[Fate::kPurged])
    return Say("the figures are off");
  if (s.sessions.size() != sessions_.size()) return Say(s.sessions.size(), " sessions");
  // Safety rule 1: what is kept does not grow with what waits.
  if (s.exceptions() > counts[Fate::kInFlight] + counts[Fate::kReturned]) return Say(s.exceptions(), " exceptions");
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

}  // namespace trireme::queue
