#include "broker/routing/queue_feed.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trireme::broker {
namespace {

// Before a link that never came to be is tried again.
constexpr std::chrono::milliseconds kOpenAgain{100};

// Takes `part` out of `runs`; what of it was in there.
std::vector<SlotRun> TakeOut(std::vector<SlotRun>& runs, SlotRun part) {
  std::vector<SlotRun> taken, left;
  for (const SlotRun& run : runs) {
    const uint32_t end = run.offset + run.count, part_end = part.offset + part.count;
    const uint32_t from = std::max(run.offset, part.offset), to = std::min(end, part_end);
    if (from >= to) {
      left.push_back(run);
      continue;
    }
    if (run.offset < from) left.push_back({run.offset, from - run.offset});
    taken.push_back({from, to - from});
    if (to < end) left.push_back({to, end - to});
  }
  runs = std::move(left);
  return taken;
}

}  // namespace

void SpreadBatch::Settle(SlotRun messages, const std::string& queue, QueueOutcome outcome, const std::string& reason) {
  distribution.Settle(messages, queue, outcome, reason);
  if (distribution.done() && done != nullptr) std::exchange(done, nullptr)(distribution);
}

void QueueFeed::SettleAll(const Pending& pending, const std::string& queue, QueueOutcome outcome,
                          const std::string& reason) {
  for (const SlotRun& run : pending.open) pending.batch->Settle(run, queue, outcome, reason);
}

QueueOutcome QueueFeed::Careful(const Pending& pending, QueueOutcome outcome) {
  const bool not_stored = outcome == QueueOutcome::kRefused || outcome == QueueOutcome::kFenced;
  return not_stored && pending.sends > 1 ? QueueOutcome::kUnknown : outcome;
}

void QueueFeed::Put(Piece piece, std::shared_ptr<SpreadBatch> batch) {
  Pending pending{.piece = std::move(piece),
                  .batch = std::move(batch),
                  .deadline = shard_->Now() + options_.patience,
                  .number = 0,
                  .sends = 0,
                  .open = {}};
  pending.open = pending.piece.runs;
  if (gone_) return SettleAll(pending, queue_->name, QueueOutcome::kGone, "the queue was deleted");
  pending_.push_back(std::move(pending));
  if (bound_) {
    Send(pending_.back());
  } else if (link_ == nullptr && !opening_later_) {
    OpenLink();
  }
  SetTimer();
}

void QueueFeed::Send(Pending& pending) {
  pending.number =
      options_.sequences ? pending.batch->first_sequence + pending.piece.runs.front().offset : ++sent_on_link_;
  ++pending.sends;
  link_->Send(pending.number, pending.piece.batch);
}

void QueueFeed::OpenLink() {
  sent_on_link_ = 0;
  link_ = links_->Open(
      {.queue = queue_, .epoch = epoch_, .join = options_.join, .deadline = shard_->Now() + options_.patience},
      weak_from_this());
}

void QueueFeed::OpenLater() {
  if (std::exchange(opening_later_, true)) return;
  shard_->After(kOpenAgain, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->opening_later_ = false;
    if (self->link_ == nullptr && !self->gone_ && !self->pending_.empty()) self->OpenLink();
  });
}

void QueueFeed::CloseLink() {
  bound_ = false;
  if (link_ != nullptr) std::exchange(link_, nullptr)->Close();
}

void QueueFeed::OnBound(uint64_t epoch) {
  bound_ = true;
  epoch_ = epoch;
  for (Pending& pending : pending_) {
    if (!pending.open.empty()) Send(pending);
  }
}

std::vector<QueueFeed::Settled> QueueFeed::Take(Pending& pending, const QueueLink::Answer& answer) {
  if (pending.sends == 0) return {};
  const SlotRun whole = pending.piece.runs.front();
  const uint64_t span = options_.sequences ? whole.count : 1;
  const uint64_t from = std::max(answer.number, pending.number);
  const uint64_t to = std::min(answer.number + answer.count, pending.number + span);
  if (from >= to) return {};
  std::vector<SlotRun> runs;
  if (options_.sequences) {
    runs = TakeOut(pending.open,
                   {whole.offset + static_cast<uint32_t>(from - pending.number), static_cast<uint32_t>(to - from)});
  } else {
    runs.swap(pending.open);
  }
  std::vector<Settled> settled;
  for (const SlotRun& run : runs) settled.push_back({pending.batch, run, Careful(pending, answer.outcome)});
  return settled;
}

void QueueFeed::OnAnswer(const QueueLink::Answer& answer) {
  // Who published is told when this is in order again.
  std::vector<Settled> settled;
  auto take = [&](Pending& pending) {
    for (Settled& one : Take(pending, answer)) settled.push_back(std::move(one));
  };
  if (options_.sequences) {
    // Not in their order where a client has sent some again. There are few: ExchangePublisher::kMaxAhead messages.
    for (Pending& pending : pending_) take(pending);
  } else if (!pending_.empty() && answer.number >= pending_.front().number) {
    const uint64_t at = answer.number - pending_.front().number;
    for (uint64_t i = at; i < std::min<uint64_t>(at + answer.count, pending_.size()); ++i) take(pending_[i]);
  }
  while (!pending_.empty() && pending_.front().open.empty()) pending_.pop_front();
  for (const Settled& one : settled) one.batch->Settle(one.run, queue_->name, one.outcome, answer.reason);
}

void QueueFeed::OnEnd(QueueLink::End how, const std::string& reason) {
  const bool was_bound = std::exchange(bound_, false);
  link_.reset();
  why_not_ = reason;
  QueueOutcome outcome = QueueOutcome::kUnknown;
  switch (how) {
    case QueueLink::End::kBroken:
      break;
    case QueueLink::End::kGone:
      gone_ = true;
      outcome = QueueOutcome::kGone;
      break;
    case QueueLink::End::kFenced:
      outcome = QueueOutcome::kFenced;
      break;
    case QueueLink::End::kRefused:
      outcome = QueueOutcome::kRefused;
      // It may be that the queue has forgotten the producer, epoch and all.
      epoch_ = 0;
      break;
  }
  std::deque<Pending> all = std::exchange(pending_, {});
  std::vector<Pending> over;
  for (Pending& pending : all) {
    if (pending.open.empty()) continue;
    const bool again = how == QueueLink::End::kBroken && (options_.sequences || pending.sends == 0);
    if (again) {
      pending_.push_back(std::move(pending));
    } else {
      over.push_back(std::move(pending));
    }
  }
  if (!pending_.empty()) {
    if (was_bound) {
      OpenLink();
    } else {
      OpenLater();
    }
  }
  for (const Pending& pending : over) {
    const bool not_stored = outcome == QueueOutcome::kRefused || outcome == QueueOutcome::kFenced;
    SettleAll(pending, queue_->name, not_stored && pending.sends > 0 ? QueueOutcome::kUnknown : outcome, reason);
  }
}

void QueueFeed::SetTimer() {
  if (pending_.empty() || std::exchange(timer_set_, true)) return;
  const auto delay = std::chrono::duration_cast<std::chrono::milliseconds>(pending_.front().deadline - shard_->Now()) +
                     std::chrono::milliseconds{1};
  shard_->After(delay, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->timer_set_ = false;
    self->Expire();
    self->SetTimer();
  });
}

void QueueFeed::Expire() {
  std::vector<Pending> late;
  bool sent = false;
  while (!pending_.empty() && pending_.front().deadline <= shard_->Now()) {
    sent |= pending_.front().sends > 0;
    late.push_back(std::move(pending_.front()));
    pending_.pop_front();
  }
  const std::string why = why_not_;
  if (sent && link_ != nullptr) {
    // What is still said of them on it must not be taken for what is said of the same sequences, sent anew.
    CloseLink();
    OnEnd(QueueLink::End::kBroken, why);
  }
  for (const Pending& pending : late) {
    const bool never = pending.sends == 0;
    SettleAll(pending, queue_->name, never ? QueueOutcome::kRefused : QueueOutcome::kUnknown,
              absl::StrCat(never ? "could not be sent" : "no answer", " within ", options_.patience.count(), " ms",
                           never ? absl::StrCat(": ", why) : ""));
  }
}

}  // namespace trireme::broker
