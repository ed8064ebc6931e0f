// The part of a dispatcher that keeps messages in order by their keys.
//
// Looking for messages whose keys are free it goes beyond those whose keys are not. All that it has looked at is put
// out of line by a Deferred fact, as what came back is, and given from there. So each checkout that follows names what
// the state holds as returned; and the state's cursor need not stand still for one key, nor the state grow with what
// waits behind it, beyond the window (Safety rule 1).
#include <algorithm>
#include <utility>

#include "broker/queue/dispatcher.h"

namespace trireme::queue {
namespace {

// `first` follows the last of the runs, or begins another.
void Join(std::vector<Slots>& runs, Position position) {
  if (!runs.empty() && runs.back().first + runs.back().count == position) {
    ++runs.back().count;
  } else {
    runs.push_back({position, 1});
  }
}

template <typename Visit>
void ForEach(const Slots& slots, Visit visit) {
  if (!slots.WithinEntry()) return;
  for (uint32_t i = 0; i < slots.count; ++i) visit(slots.first + i);
}

}  // namespace

// Nothing is known of what is out of line but where it is: each entry is looked at before anything is given.
void Dispatcher::RebuildKeys() {
  order_.emplace();
  order_->Advance(queue_time_ms_);
  for (const auto& [first, run] : subscription().in_flight) unknown_sizes_.insert(first.index());
  for (const auto& [first, run] : subscription().returned) unknown_sizes_.insert(first.index());
}

void Dispatcher::LearnKeys(uint64_t index, const EntryShape& shape) {
  const Slots all{Position(index, 0), kMaxBatchMessages};
  auto key_of = [&](Position position) { return (*shape.keys)[position.slot()]; };
  VisitWithin(subscription().in_flight, all, [&](Position first, const InFlight& run) {
    ForEach({first, run.count}, [&](Position p) {
      if (!order_->Knows(p)) order_->Put(p, key_of(p), KeyOrder::State::kHeld);
    });
  });
  VisitWithin(subscription().returned, all, [&](Position first, const Returned& run) {
    ForEach({first, run.count}, [&](Position p) {
      if (order_->Knows(p)) return;
      if (run.deliveries == 0 && !Picks(shape, static_cast<uint32_t>(p.slot()))) {
        Join(passed_returned_, p);
      } else {
        order_->Put(p, key_of(p), KeyOrder::State::kWaits);
        PutBackKey(p, run);
      }
    });
  });
}

// One that waits, by what the state says of it.
void Dispatcher::PutBackKey(Position position, const Returned& run) {
  const uint32_t limit = subscription().settings.delivery_limit;
  if (limit == 0 || run.deliveries < limit) return order_->Move(position, KeyOrder::State::kWaits, run.due_ms);
  // It keeps its key until it has left.
  const bool buried =
      order_->StateOf(position) == KeyOrder::State::kWaits && order_->DueOf(position) == KeyOrder::kNever;
  order_->Move(position, KeyOrder::State::kWaits, KeyOrder::kNever);
  if (!buried) Join(dead_, position);
}

// Something may have become of these: what it is now, the state says. (But for what was decided since.)
void Dispatcher::LookAgain(const Slots& slots) {
  ForEach(slots, [&](Position p) {
    if (!order_->Knows(p) || order_->StateOf(p) == KeyOrder::State::kGiven) return;
    LookAt(p);
  });
}

void Dispatcher::LookAt(Position position) {
  bool there = false;
  VisitWithin(subscription().in_flight, {position, 1}, [&](Position, const InFlight&) {
    there = true;
    order_->Move(position, KeyOrder::State::kHeld);
  });
  VisitWithin(subscription().returned, {position, 1}, [&](Position, const Returned& run) {
    there = true;
    PutBackKey(position, run);
  });
  if (!there) order_->Remove(position);
}

void Dispatcher::KeysCameBack(const Slots& slots) {
  LookAgain(slots);
  // In flight since before this leader, and not looked up yet.
  if (slots.WithinEntry() && !order_->Knows(slots.first)) unknown_sizes_.insert(slots.first.index());
}

// What a fact that was applied may have changed; what it gave back is told by CameBack.
void Dispatcher::KeysApplied(uint64_t index, const Fact& fact) {
  if (const auto* out = std::get_if<fact::CheckedOut>(&fact)) {
    for (const Slots& slots : out->returned) {
      ForEach(slots, [&](Position p) {
        if (order_->Knows(p)) LookAt(p);
      });
    }
  } else if (const auto* settled = std::get_if<fact::Settled>(&fact)) {
    for (const Token& token : settled->tokens) LookAgain(token.slots);
  } else if (const auto* dead = std::get_if<fact::DeadLettered>(&fact)) {
    for (const Slots& slots : dead->returned) LookAgain(slots);
  } else if (const auto* skipped = std::get_if<fact::Skipped>(&fact)) {
    for (const Slots& slots : skipped->returned) LookAgain(slots);
  } else if (std::holds_alternative<fact::Purged>(fact)) {
    order_->DropWaiting(Position(index, 0));
  }
}

bool Dispatcher::WindowIsFull() const {
  return order_->blocked() >= subscription().settings.key_window;
}

bool Dispatcher::MayTakeKeys() {
  if (rebuild_ || runs_left_ == 0 || !unknown_sizes_.empty()) return false;
  if (order_->Front()) return true;
  return !WindowIsFull() && subscription().exceptions() + decided_runs_ < limits_.max_exceptions &&
         ahead_.Next().has_value();
}

void Dispatcher::GiveKey(Position position, fact::CheckedOut& out) {
  order_->Move(position, KeyOrder::State::kGiven);
  const size_t runs = out.returned.size();
  Join(out.returned, position);
  if (out.returned.size() == runs) return;
  ++decided_runs_;
  --runs_left_;
}

Credit Dispatcher::TakeByKey(Share share, fact::CheckedOut& out) {
  Credit took;
  share.messages = std::min(share.messages, MayBeInFlight());
  auto fits = [&](uint64_t each) {
    const bool first = took.messages == 0;
    if (!first && took.bytes + each > share.turn_bytes) return false;
    if (took.bytes + each > share.bytes && !(first && share.one_fits)) return false;
    ++took.messages;
    took.bytes += each;
    return true;
  };
  auto full = [&] { return took.messages >= share.messages || took.bytes >= share.turn_bytes; };
  while (!full() && MayTakeKeys()) {
    if (auto front = order_->Front()) {
      if (!fits(bytes_each_.at(front->index()))) return took;
      GiveKey(*front, out);
      continue;
    }
    // Nothing is ready: one after the other is put out of line, until one is.
    const Lookahead::Run run = *ahead_.Next();
    const uint64_t index = run.slots.first.index();
    bytes_each_[index] = run.bytes_each;
    uint32_t looked_at = 0;
    while (looked_at < run.slots.count && !order_->Front() && !WindowIsFull()) {
      const Position p = run.slots.first + looked_at;
      order_->Put(p, run.keys[looked_at], KeyOrder::State::kWaits);
      Join(deferring_, p);
      if (deferring_.size() > deferring_sizes_.size()) deferring_sizes_.push_back(run.size);
      ++looked_at;
    }
    ahead_.Take(looked_at);
  }
  return took;
}

// Tells the state what was looked at, before what is given of it.
void Dispatcher::TellDeferred(Plan& plan) {
  if (ahead_.next() == decided_next_) return;
  fact::Deferred fact{.subscription = id_,
                      .from_next = decided_next_,
                      .to_next = ahead_.next(),
                      .waiting = std::exchange(deferring_, {}),
                      .sizes = std::exchange(deferring_sizes_, {}),
                      .skipped = ahead_.TakePassed(),
                      .skipped_bytes = ahead_.TakePassedBytes(),
                      .counted_at = ahead_.counted_at()};
  decided_next_ = fact.to_next;
  plan.facts.emplace_back(std::move(fact));
  ++skips_under_way_;
}

// The entry at `index` holds a Purged, which drops what waits below it.
void Dispatcher::PurgeKeys(uint64_t index) {
  order_->DropWaiting(Position(index, 0));
  deferring_.clear();
  deferring_sizes_.clear();
  passed_returned_.clear();
  dead_.clear();
}

}  // namespace trireme::queue
