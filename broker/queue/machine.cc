#include "broker/queue/machine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/queue/entry.h"
#include "raft/core/check.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"

namespace trireme::queue {

Machine::Machine() {
  subscriptions_[0].name = kDefaultSubscription;
  names_.emplace(kDefaultSubscription, 0);
}

const Subscription* Machine::FindSubscription(SubscriptionId id) const {
  auto it = subscriptions_.find(id);
  return it == subscriptions_.end() ? nullptr : &it->second;
}

std::optional<SubscriptionId> Machine::FindSubscription(std::string_view name) const {
  auto it = names_.find(name);
  if (it == names_.end()) return std::nullopt;
  return it->second;
}

Position Machine::Retained(uint64_t index) const {
  Position lowest(index, 0);
  for (const auto& [id, s] : subscriptions_) {
    if (s.waiting > 0) lowest = std::min(lowest, std::max(s.next, Position(s.waiting_from, 0)));
  }
  return lowest;
}

const Subscription* Machine::Slowest() const {
  const Subscription* slowest = nullptr;
  for (const auto& [id, s] : subscriptions_) {
    if (slowest == nullptr || s.waiting > slowest->waiting) slowest = &s;
  }
  return slowest;
}

std::optional<Amount> Machine::Holds() const {
  if (!coverage_) return std::nullopt;
  const Subscription* slowest = Slowest();
  if (slowest == nullptr) return Amount();
  return Amount{coverage_->below().messages + slowest->waiting, coverage_->below().bytes + slowest->waiting_bytes};
}

void Machine::Recount() {
  coverage_.reset();
  if (!settings_.Limits()) return;
  coverage_ = std::make_unique<Coverage>();
  for (const auto& [id, s] : subscriptions_) {
    for (const auto& [first, run] : s.in_flight) coverage_->Add({first, run.count}, run.size);
    for (const auto& [first, run] : s.returned) coverage_->Add({first, run.count}, run.size);
  }
  coverage_->Advance(Retained(applied_ + 1));
}

Subscription* Machine::Find(SubscriptionId id) {
  auto it = subscriptions_.find(id);
  return it == subscriptions_.end() ? nullptr : &it->second;
}

// Applies one fact of the entry at `index`. Every fact that no longer fits changes nothing (Safety rule 2).
struct Machine::Applier {
  Machine& m;
  uint64_t index;
  Effects& effects;

  // Gives messages that were held until now with `deliveries` back to those who wait, from `due_ms` on. Neighbours that
  // are alike become one run, so that what was taken apart by settling does not stay apart. (Runs of two entries never
  // touch: there is no slot 65,535.)
  void GiveBack(SubscriptionId id, Subscription& s, Position first, const InFlight& was, uint32_t deliveries,
                int64_t due_ms = 0) {
    uint32_t count = was.count;
    s.returned_messages += count;
    effects.returned.push_back({id, {first, count}, deliveries});
    auto alike = [&](const Returned& run) { return run.deliveries == deliveries && run.due_ms == due_ms; };
    auto after = s.returned.lower_bound(first);
    if (after != s.returned.end() && first + count == after->first && alike(after->second)) {
      count += after->second.count;
      after = s.returned.erase(after);
    }
    if (after != s.returned.begin()) {
      auto before = std::prev(after);
      if (before->first + before->second.count == first && alike(before->second)) {
        before->second.count += count;
        return;
      }
    }
    s.returned.emplace_hint(after, first, Returned{count, deliveries, due_ms, was.size});
  }

  void Hold(Position first, uint32_t count, uint64_t size) {
    if (m.coverage_) m.coverage_->Add({first, count}, size);
  }
  // It is not in the subscription any more.
  void Drop(Position first, uint32_t count) {
    if (m.coverage_) m.coverage_->Remove({first, count});
  }

  // Messages have left the subscription; without a target they are gone.
  void Leave(Subscription& s, Position first, uint32_t count, uint32_t deliveries, DeadReason reason, uint64_t target) {
    Drop(first, count);
    Depart(s, first, count, deliveries, reason, target);
  }
  void Depart(Subscription& s, Position first, uint32_t count, uint32_t deliveries, DeadReason reason,
              uint64_t target) const {
    if (target != 0) s.departures.Add({first, count, deliveries, reason, m.time_ms_, target});
  }

  // Takes what is current of token `i` out of flight, as far as `want` agrees; the rest is lost. take(i, first, run)
  // says where it goes.
  template <typename Want, typename Take>
  static void Release(Subscription& s, uint32_t i, const Token& token, Want want, Take take, effect::Settled& out) {
    if (!token.slots.WithinEntry()) {
      out.lost.push_back({i, token.slots});
      return;
    }
    Position missing = token.slots.first;  // what is not accounted for yet begins here
    auto lose_until = [&](Position end) {
      if (missing < end) out.lost.push_back({i, {missing, static_cast<uint32_t>(end.packed() - missing.packed())}});
    };
    CutOut(s.in_flight, token.slots, [&](Position first, const InFlight& run) {
      if (run.checkout_index != token.checkout_index || !want(run)) return false;
      lose_until(first);
      missing = first + run.count;
      s.in_flight_messages -= run.count;
      if (run.holder != 0) s.held[run.holder] -= run.count;
      if (!out.freed.empty() && out.freed.back().holder == run.holder) {
        out.freed.back().count += run.count;
      } else {
        out.freed.push_back({run.holder, run.count});
      }
      take(i, first, run);
      return true;
    });
    lose_until(token.slots.first + token.slots.count);
  }
  template <typename Want, typename Take>
  static effect::Settled Release(Subscription& s, const std::vector<Token>& tokens, Want want, Take take) {
    effect::Settled out;
    for (uint32_t i = 0; i < tokens.size(); ++i) Release(s, i, tokens[i], want, take, out);
    return out;
  }

  static effect::Settled AllLost(const std::vector<Token>& tokens) {
    effect::Settled out;
    for (uint32_t i = 0; i < tokens.size(); ++i) out.lost.push_back({i, tokens[i].slots});
    return out;
  }

  Effect operator()(const fact::Published& f) {
    return m.ApplyPublished(index, f.producer, f.epoch, f.first_sequence, f.count, 0);
  }

  Effect operator()(const fact::ProducerOpened& f) {
    auto it = m.producers_.find(f.producer);
    const bool known = it != m.producers_.end();
    const uint64_t in_force = known ? it->second.epoch : 0;
    const uint64_t epoch = known ? f.epoch : std::max(f.epoch, m.forgotten_epoch_ + 1);
    if (f.producer.empty() || f.epoch <= in_force || epoch > kMaxEpoch) {
      return effect::ProducerOpened{false, in_force, known ? it->second.window.highest() : 0};
    }
    if (!known) it = m.producers_.try_emplace(f.producer).first;
    it->second.epoch = epoch;
    it->second.active_ms = m.time_ms_;
    return effect::ProducerOpened{true, epoch, it->second.window.highest()};
  }

  Effect operator()(const fact::ProducerForgotten& f) {
    auto it = m.producers_.find(f.producer);
    if (it == m.producers_.end() || it->second.epoch != f.epoch || it->second.window.highest() != f.last_sequence) {
      return effect::ProducerForgotten{false};
    }
    m.forgotten_epoch_ = std::max(m.forgotten_epoch_, f.epoch);
    m.producers_.erase(it);
    return effect::ProducerForgotten{true};
  }

  Effect operator()(const fact::Attached& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr) return effect::Attached{};
    auto [it, is_new] = s->sessions.try_emplace(f.session);
    Session& session = it->second;
    if (!is_new && f.epoch <= session.epoch) return effect::Attached{false, false, session.number, session.epoch};
    if (is_new) {
      session.number = ++s->last_session_number;
      s->held[session.number] = 0;
    }
    session.epoch = f.epoch;
    session.consumer = f.consumer;
    session.timeout_ms = f.timeout_ms;
    return effect::Attached{true, !is_new, session.number, session.epoch};
  }

  Effect operator()(const fact::Detached& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr) return effect::Detached{};
    auto it = s->sessions.find(f.session);
    if (it == s->sessions.end() || it->second.epoch != f.epoch) return effect::Detached{};
    const uint64_t number = it->second.number;
    uint64_t left = s->HeldBy(number);
    for (auto run = s->in_flight.begin(); left > 0 && run != s->in_flight.end();) {
      if (run->second.holder != number) {
        ++run;
        continue;
      }
      left -= run->second.count;
      s->in_flight_messages -= run->second.count;
      GiveBack(f.subscription, *s, run->first, run->second, run->second.deliveries);
      run = s->in_flight.erase(run);
    }
    s->held.erase(number);
    s->sessions.erase(it);
    return effect::Detached{true, number};
  }

  // What a fact takes of what waits.
  struct Taken {
    uint64_t messages = 0;
    uint64_t bytes = 0;
  };
  // Safety rule 2: all that it was decided from must hold still; else nothing.
  template <typename F>
  std::optional<Taken> Takes(const Subscription* s, const F& f) const {
    if (s == nullptr || s->next != f.from_next || f.to_next < f.from_next || f.to_next > Position(index, 0)) return {};
    // By a leader that did not count bytes yet.
    const bool sized = m.sized_from_ != 0;
    if (sized && f.sizes.size() != f.waiting.size()) return {};
    Taken taken;
    Position last = f.from_next;
    for (size_t i = 0; i < f.waiting.size(); ++i) {
      const Slots& w = f.waiting[i];
      const uint64_t entry = w.first.index();
      if (!w.WithinEntry() || w.first < last || w.first + w.count > f.to_next || entry < s->waiting_from ||
          m.IsRefused(entry)) {
        return {};
      }
      last = w.first + w.count;
      taken.messages += w.count;
      if (sized) taken.bytes += w.count * f.sizes[i];
    }
    if (f.skipped > 0 && m.last_refused_ > f.counted_at) return {};
    if (f.skipped > s->waiting || taken.messages > s->waiting - f.skipped) return {};
    return taken;
  }
  template <typename F>
  void Advance(Subscription& s, const F& f, const Taken& taken) {
    s.Advance(f.to_next, taken.messages + f.skipped, taken.bytes + (m.sized_from_ == 0 ? 0 : f.skipped_bytes));
    s.skipped += f.skipped;
  }

  static void CountDead(Subscription& s, DeadReason reason, uint64_t messages) {
    (reason == DeadReason::kExpired ? s.expired : reason == DeadReason::kOverflow ? s.overflowed : s.dead) += messages;
  }

  Effect operator()(const fact::DeadUnseen& f) {
    Subscription* s = m.Find(f.subscription);
    const std::optional<Taken> taken = Takes(s, f);
    if (!taken) return effect::DeadUnseen{};
    Advance(*s, f, *taken);
    CountDead(*s, f.reason, taken->messages);
    for (const Slots& w : f.waiting) Depart(*s, w.first, w.count, 0, f.reason, f.target);
    return effect::DeadUnseen{true};
  }

  Effect operator()(const fact::CheckedOut& f) {
    Subscription* s = m.Find(f.subscription);
    const std::optional<Taken> taken = Takes(s, f);
    if (!taken || (m.sized_from_ != 0 && !f.sized)) return effect::CheckedOut{};
    Session* session = nullptr;
    if (!f.session.empty()) {
      auto it = s->sessions.find(f.session);
      if (it == s->sessions.end() || it->second.epoch != f.session_epoch) return effect::CheckedOut{};
      session = &it->second;
    }
    if (!s->MayHold(session == nullptr ? 0 : session->number)) return effect::CheckedOut{};

    effect::CheckedOut out{true, {}};
    out.runs.reserve(f.waiting.size() + f.returned.size());
    const uint64_t holder = session == nullptr ? 0 : session->number;
    auto give = [&](Position first, uint32_t count, uint32_t deliveries, uint64_t size) {
      s->in_flight.emplace(first, InFlight{count, deliveries, index, holder, holder == 0 ? f.deadline_ms : 0, size});
      s->in_flight_messages += count;
      if (holder != 0) s->held[holder] += count;
      out.runs.push_back({{first, count}, deliveries});
    };
    Advance(*s, f, *taken);
    for (const Slots& r : f.returned) {
      if (!r.WithinEntry()) continue;
      std::vector<std::pair<Position, Returned>> parts;
      CutOut(s->returned, r, [&](Position first, const Returned& run) {
        parts.emplace_back(first, run);
        return true;
      });
      for (const auto& [first, run] : parts) {
        s->returned_messages -= run.count;
        give(first, run.count, run.deliveries + 1, run.size);
      }
    }
    for (size_t i = 0; i < f.waiting.size(); ++i) {
      const Slots& w = f.waiting[i];
      const uint64_t size = m.sized_from_ != 0 ? f.sizes[i] : 0;
      Hold(w.first, w.count, size);
      give(w.first, w.count, 1, size);
    }
    return out;
  }

  Effect operator()(const fact::Settled& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr) return AllLost(f.tokens);
    return Release(
        *s, f.tokens, [](const InFlight&) { return true; },
        [&](uint32_t token, Position first, const InFlight& run) {
          switch (f.disposition) {
            case Disposition::kAcknowledge:
              s->acknowledged += run.count;
              Drop(first, run.count);
              break;
            case Disposition::kReject:
              s->rejected += run.count;
              Leave(*s, first, run.count, run.deliveries, DeadReason::kRejected, f.target);
              break;
            case Disposition::kRedrive:
              s->redriven += run.count;
              Leave(*s, first, run.count, run.deliveries, DeadReason::kRedriven, f.target);
              break;
            case Disposition::kRequeue:
              GiveBack(f.subscription, *s, first, run, run.deliveries, token < f.due_ms.size() ? f.due_ms[token] : 0);
              break;
            case Disposition::kUndelivered:
              GiveBack(f.subscription, *s, first, run, run.deliveries - 1);
              break;
          }
        });
  }

  Effect operator()(const fact::Expired& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr) return AllLost(f.tokens);
    return Release(
        *s, f.tokens, [&](const InFlight& run) { return run.holder == 0 && run.deadline_ms <= f.now_ms; },
        [&](uint32_t, Position first, const InFlight& run) {
          GiveBack(f.subscription, *s, first, run, run.deliveries);
        });
  }

  Effect operator()(const fact::LeaseExtended& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr) return AllLost(f.tokens);
    effect::Settled out;
    std::vector<std::pair<Position, InFlight>> kept;
    for (uint32_t i = 0; i < f.tokens.size(); ++i) {
      Release(
          *s, i, f.tokens[i], [](const InFlight& run) { return run.holder == 0; },
          [&](uint32_t, Position first, const InFlight& run) { kept.emplace_back(first, run); }, out);
      // Back at once, for the next token may name it again.
      for (auto& [first, run] : kept) {
        run.deadline_ms = f.deadline_ms;
        s->in_flight_messages += run.count;
        s->in_flight.emplace(first, run);
      }
      kept.clear();
    }
    out.freed.clear();  // they are still held
    return out;
  }

  Effect operator()(const fact::Purged&) {
    uint64_t messages = 0;
    for (auto& [id, s] : m.subscriptions_) {
      const uint64_t dropped = s.waiting + s.returned_messages;
      s.purged += dropped;
      messages += dropped;
      s.waiting = s.waiting_bytes = 0;
      s.next = std::max(s.next, Position(index, 0));
      s.returned.clear();
      s.returned_messages = 0;
    }
    m.Recount();
    return effect::Purged{messages};
  }

  Effect operator()(const fact::VersionRaised& f) {
    m.version_ = std::max(m.version_, f.version);
    if (m.version_ >= kFactsOfLimits && m.sized_from_ == 0) m.sized_from_ = index;
    return effect::None{};
  }

  Effect operator()(const fact::QueueChanged& f) {
    m.settings_ = f.settings;
    m.Recount();
    return effect::None{};
  }

  Effect operator()(const fact::Skipped& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr || s->next != f.from_next || f.to_next < f.from_next || f.to_next > Position(index, 0) ||
        f.count > s->waiting || (m.sized_from_ != 0 && !f.sized) || (f.count > 0 && m.last_refused_ > f.counted_at)) {
      return effect::Skipped{false};
    }
    s->Advance(f.to_next, f.count, f.bytes);
    s->skipped += f.count;
    for (const Slots& r : f.returned) {
      if (!r.WithinEntry()) continue;
      CutOut(s->returned, r, [&](Position first, const Returned& run) {
        Drop(first, run.count);
        s->returned_messages -= run.count;
        s->skipped += run.count;
        return true;
      });
    }
    return effect::Skipped{true};
  }

  Effect operator()(const fact::SubscriptionCreated& f) {
    if (auto existing = m.FindSubscription(f.name)) {
      return effect::SubscriptionCreated{effect::SubscriptionCreated::Outcome::kExists, *existing};
    }
    const Position end(index, 0);
    // Counted by the leader, which may have been wrong.
    if (f.name.empty() || (f.from < end && (f.ordinal > m.published_ || f.bytes > m.published_bytes_)))
      return effect::SubscriptionCreated{};
    Subscription made;
    made.name = f.name;
    made.settings = f.settings;
    made.next = end;
    const Position retained = m.Retained(index);
    const Subscription* slowest = m.Slowest();
    const uint64_t waiting = slowest == nullptr ? 0 : slowest->waiting;  // from there on
    if (f.from < retained) {
      made.next = retained;
      made.waiting = waiting;
      made.waiting_bytes = slowest == nullptr ? 0 : slowest->waiting_bytes;
      TakeOver(f.from, made);
    } else if (f.from < end) {
      made.next = f.from;
      made.waiting = m.published_ - f.ordinal;
      made.waiting_bytes = made.waiting == 0 ? 0 : m.published_bytes_ - f.bytes;
      if (made.waiting > waiting || (m.sized_from_ != 0 && !f.sized)) return effect::SubscriptionCreated{};
    }
    if (made.waiting > 0) made.waiting_from = made.next.index();
    const SubscriptionId id = ++m.last_subscription_;
    m.names_.emplace(f.name, id);
    m.subscriptions_.emplace(id, std::move(made));
    m.Recount();
    return effect::SubscriptionCreated{effect::SubscriptionCreated::Outcome::kCreated, id};
  }

  // What others hold of the messages from `from` on and below the cursor of `made` is for it, too, as never delivered.
  void TakeOver(Position from, Subscription& made) {
    struct Held {
      Position end;
      uint64_t size = 0;
    };
    absl::btree_map<Position, Held> held;  // disjoint runs
    auto hold = [&](Position first, Position end, uint64_t size) {
      first = std::max(first, from);
      end = std::min(end, made.next);
      if (first >= end) return;
      auto it = held.upper_bound(first);
      if (it != held.begin() && std::prev(it)->second.end >= first) first = std::prev(it)->first;
      for (it = held.lower_bound(first); it != held.end() && it->first <= end; it = held.erase(it))
        end = std::max(end, it->second.end);
      held.emplace(first, Held{end, size});
    };
    for (const auto& [id, s] : m.subscriptions_) {
      for (const auto& [first, run] : s.in_flight) hold(first, first + run.count, run.size);
      for (const auto& [first, run] : s.returned) hold(first, first + run.count, run.size);
    }
    for (const auto& [first, run] : held) {
      const auto count = static_cast<uint32_t>(run.end.packed() - first.packed());
      made.returned.emplace(first, Returned{count, 0, 0, run.size});
      made.returned_messages += count;
    }
  }

  Effect operator()(const fact::DeadLettered& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr) return effect::DeadLettered{};
    uint64_t messages = 0;
    for (const Slots& r : f.returned) {
      if (!r.WithinEntry()) continue;
      CutOut(s->returned, r, [&](Position first, const Returned& run) {
        if (run.deliveries < f.deliveries) return false;
        messages += run.count;
        Leave(*s, first, run.count, run.deliveries, f.reason, f.target);
        return true;
      });
    }
    s->returned_messages -= messages;
    CountDead(*s, f.reason, messages);
    return effect::DeadLettered{messages};
  }

  Effect operator()(const fact::Arrived& f) {
    Subscription* s = m.Find(f.subscription);
    if (s == nullptr) return effect::Departures{};
    const uint64_t messages = s->departures.Arrived(f.first, f.count);
    s->arrived += messages;
    return effect::Departures{messages};
  }

  Effect operator()(const fact::Redirected& f) {
    Subscription* s = m.Find(f.subscription);
    return effect::Departures{s == nullptr ? 0 : s->departures.Redirect(f.from, f.to)};
  }

  Effect operator()(const fact::SubscriptionChanged& f) {
    Subscription* s = m.Find(f.subscription);
    if (s != nullptr) s->settings = f.settings;
    return effect::SubscriptionChanged{s != nullptr};
  }

  Effect operator()(const fact::SubscriptionDeleted& f) {
    auto it = m.subscriptions_.find(f.subscription);
    if (it == m.subscriptions_.end()) return effect::SubscriptionChanged{false};
    m.names_.erase(it->second.name);
    m.subscriptions_.erase(it);
    m.Recount();
    return effect::SubscriptionChanged{true};
  }
};

Effect Machine::ApplyPublished(uint64_t index, std::string_view producer, uint64_t epoch, uint64_t first_sequence,
                               uint32_t count, uint64_t batch_bytes) {
  using Outcome = effect::Published::Outcome;
  if (!producer.empty()) {
    auto refuse = [&](Outcome outcome, std::vector<ProducerWindow::Piece> pieces = {}) {
      refused_.insert(index);
      if (version_ >= 2) last_refused_ = index;
      return effect::Published{outcome, count, std::move(pieces)};
    };
    auto it = producers_.find(producer);
    if (it == producers_.end()) return refuse(Outcome::kForgotten);
    Producer& known = it->second;
    if (known.epoch != epoch) return refuse(Outcome::kFenced);
    if (!known.window.AllNew(first_sequence, count)) {
      return refuse(Outcome::kNotNew, known.window.Judge(first_sequence, count));
    }
    known.window.Add(first_sequence, count, Position(index, 0));
    known.active_ms = time_ms_;
  }
  if (version_ >= 2 && milestones_.Due(index)) {
    milestones_.Add({index, published_, time_ms_, published_bytes_}, Retained(index).index());
  }
  const uint64_t bytes = sized_from_ == 0 ? 0 : count * MessageBytes(batch_bytes, count);
  published_ += count;
  published_bytes_ += bytes;
  for (auto& [id, s] : subscriptions_) s.Publish(index, count, bytes);
  return effect::Published{effect::Published::Outcome::kStored, count, {}};
}

// A refused batch matters only to cursors that have it still before them.
void Machine::PruneRefused() {
  while (!refused_.empty()) {
    const uint64_t lowest = *refused_.begin();
    for (const auto& [id, s] : subscriptions_) {
      if (s.Floor(applied_) < lowest) return;
    }
    refused_.erase(refused_.begin());
  }
}

absl::StatusOr<Effects> Machine::Apply(uint64_t index, const raft::Bytes& entry) {
  TRIREME_CHECK(index > applied_) << "entry " << index << " comes after " << applied_;
  Effects effects;
  absl::StatusOr<PublishedView> view = DecodePublished(entry);
  if (view.ok()) {
    // Queue time only moves forward (Safety rule 7).
    time_ms_ = std::max(time_ms_, view->time_ms);
    applied_ = index;
    effects.facts.push_back(
        ApplyPublished(index, view->producer, view->epoch, view->first_sequence, view->count, view->batch.size()));
    if (coverage_) coverage_->Advance(Retained(index + 1));
    PruneRefused();
    return effects;
  }
  if (view.status().code() != absl::StatusCode::kNotFound) return view.status();
  absl::StatusOr<DecodedEntry> decoded = DecodeEntry(entry);
  if (!decoded.ok()) return decoded.status();
  uint32_t version = version_;
  for (const Fact& f : decoded->facts) {
    const auto* raised = std::get_if<fact::VersionRaised>(&f);
    if (raised != nullptr && raised->version > kFactVersion) {
      return absl::UnimplementedError(absl::StrCat("the log raises its facts to version ", raised->version,
                                                   "; this program knows version ", kFactVersion,
                                                   "; run a newer version of trireme-broker on this node"));
    }
    if (raised != nullptr) version = std::max(version, raised->version);
    if (VersionOf(f) > version) {
      return absl::DataLossError(absl::StrCat("entry ", index, " holds a fact of version ", VersionOf(f),
                                              " while the log's facts are of version ", version));
    }
  }
  time_ms_ = std::max(time_ms_, decoded->time_ms);
  applied_ = index;
  effects.facts.reserve(decoded->facts.size());
  Applier applier{*this, index, effects};
  for (const Fact& f : decoded->facts) effects.facts.push_back(std::visit(applier, f));
  if (coverage_) coverage_->Advance(Retained(index + 1));
  PruneRefused();
  return effects;
}

void Machine::ApplyNoop(uint64_t index) {
  TRIREME_CHECK(index > applied_) << "entry " << index << " comes after " << applied_;
  applied_ = index;
}

std::string Machine::Encode() const {
  raft::Writer out;
  out.Byte(SnapshotVersion(version_));
  out.Varint(version_);
  out.Varint(applied_);
  out.Signed(time_ms_);
  out.Varint(published_);
  out.Varint(forgotten_epoch_);
  out.Varint(refused_.size());
  for (uint64_t index : refused_) out.Varint(index);
  out.Varint(producers_.size());
  for (const auto& [name, p] : producers_) {
    out.Counted(name);
    out.Varint(p.epoch);
    out.Signed(p.active_ms);
    p.window.Encode(out);
  }
  if (version_ >= 2) {
    out.Varint(last_subscription_);
    out.Varint(last_refused_);
    milestones_.Encode(out, version_);
  }
  if (version_ >= kFactsOfLimits) {
    EncodeSettings(out, settings_);
    out.Varint(sized_from_);
    out.Varint(published_bytes_);
  }
  out.Varint(subscriptions_.size());
  for (const auto& [id, s] : subscriptions_) {
    out.Varint(id);
    s.Encode(out, version_);
  }
  return out.Take();
}

// All behind the two versions. False if it is no state that a log could lead to, as far as that shows.
bool Machine::Decode(raft::Reader& in) {
  applied_ = in.Varint();
  time_ms_ = in.Signed();
  published_ = in.Varint();
  forgotten_epoch_ = in.Varint();
  bool good = applied_ <= kMaxLogIndex && forgotten_epoch_ <= kMaxEpoch;
  const size_t refused = in.Count();
  for (size_t i = 0; i < refused && in.ok(); ++i) {
    const uint64_t index = in.Varint();
    good &= index <= applied_ && (refused_.empty() || index > *refused_.rbegin());
    refused_.insert(refused_.end(), index);
  }
  const size_t producers = in.Count(5);
  for (size_t i = 0; i < producers && in.ok(); ++i) {
    std::string name(in.Counted());
    good &= !name.empty() && (producers_.empty() || name > producers_.rbegin()->first);
    Producer& p = producers_[std::move(name)];
    p.epoch = in.Varint();
    p.active_ms = in.Signed();
    good &= p.epoch <= kMaxEpoch && p.window.Decode(in);
  }
  subscriptions_.clear();
  names_.clear();
  uint64_t last = 0;
  if (version_ >= 2) {
    last = in.Varint();
    last_refused_ = in.Varint();
    good &= milestones_.Decode(in, version_, applied_, published_);
  }
  if (version_ >= kFactsOfLimits) {
    settings_ = DecodeQueueSettings(in);
    sized_from_ = in.Varint();
    published_bytes_ = in.Varint();
    good &= sized_from_ > 0 && sized_from_ <= applied_;
  }
  good &= last <= std::numeric_limits<SubscriptionId>::max();
  last_subscription_ = static_cast<SubscriptionId>(last);
  const size_t subscriptions = in.Count(2);
  good &= version_ >= 2 || subscriptions == 1;
  for (size_t i = 0; i < subscriptions && in.ok(); ++i) {
    const uint64_t id = in.Varint();
    good &= id <= last && (subscriptions_.empty() || id > subscriptions_.rbegin()->first);
    if (!good) return false;
    Subscription& s = subscriptions_[static_cast<SubscriptionId>(id)];
    if (version_ < 2) s.name = kDefaultSubscription;
    good &= s.Decode(in, version_, applied_);
    good &=
        !s.name.empty() && s.waiting <= published_ && names_.emplace(s.name, static_cast<SubscriptionId>(id)).second;
  }
  if (!good || !in.done()) return false;
  Recount();
  return true;
}

raft::Bytes Machine::Snapshot() const {
  raft::Writer checksum;
  std::string body = Encode();
  checksum.Fixed32(raft::Crc32c(body));
  return raft::Bytes::Take(std::move(body) + checksum.bytes());
}

absl::Status Machine::Restore(const raft::Bytes& snapshot) {
  *this = Machine();
  if (snapshot.size() < 4)
    return absl::DataLossError(absl::StrCat("a queue's snapshot of ", snapshot.size(), " bytes is cut short"));
  std::string_view body = snapshot.view().substr(0, snapshot.size() - 4);
  raft::Reader tail(snapshot.view().substr(body.size()));
  if (tail.Fixed32() != raft::Crc32c(body)) return absl::DataLossError("a queue's snapshot has a wrong checksum");
  raft::Reader in(body);
  // Safety rule 3: what is laid out or meant otherwise is not read.
  constexpr uint8_t kOldest = SnapshotVersion(kFirstFactVersion), kNewest = SnapshotVersion(kFactVersion);
  const uint8_t version = in.Byte();
  if (version < kOldest || version > kNewest) {
    return absl::UnimplementedError(
        absl::StrCat("a queue's snapshot has version ", version, "; this program knows versions ", kOldest, " to ",
                     kNewest, version > kNewest ? "; run a newer version of trireme-broker on this node" : ""));
  }
  const uint64_t facts = in.Varint();
  if (facts > kFactVersion) {
    return absl::UnimplementedError(absl::StrCat("a queue's snapshot holds facts of version ", facts,
                                                 "; this program knows version ", kFactVersion,
                                                 "; run a newer version of trireme-broker on this node"));
  }
  if (facts < kFirstFactVersion || version != SnapshotVersion(static_cast<uint32_t>(facts)))
    return absl::DataLossError(absl::StrCat("a queue's snapshot has version ", version, ", its facts ", facts));
  Machine read;
  read.version_ = static_cast<uint32_t>(facts);
  if (!read.Decode(in)) return absl::DataLossError("a queue's snapshot does not parse though its checksum is right");
  *this = std::move(read);
  return absl::OkStatus();
}

uint32_t Machine::Digest() const {
  // Not of the snapshot: with its own checksum behind it any bytes have the same one.
  return raft::Crc32c(Encode());
}

Machine::Liveness Machine::Live() const {
  Liveness out{applied_, {}};
  std::vector<uint64_t> entries;
  for (const auto& [id, s] : subscriptions_) {
    out.floor = std::min(out.floor, s.Floor(applied_));
    for (const auto& [first, run] : s.in_flight) entries.push_back(first.index());
    for (const auto& [first, run] : s.returned) entries.push_back(first.index());
    for (const auto& [ordinal, run] : s.departures.runs()) entries.push_back(run.first.index());
  }
  std::sort(entries.begin(), entries.end());
  for (uint64_t entry : entries) {
    if (entry > out.floor) break;
    if (!out.live.empty() && out.live.back().last + 1 >= entry) {
      out.live.back().last = entry;
    } else {
      out.live.push_back({entry, entry});
    }
  }
  return out;
}

}  // namespace trireme::queue
