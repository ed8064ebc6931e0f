#include "broker/queue/departures.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "broker/queue/producer_window.h"

namespace trireme::queue {

void Departures::Add(const Departing& run) {
  if (!runs_.empty()) {
    // What was taken apart before it left goes as one.
    auto& [ordinal, last] = *runs_.rbegin();
    Departing next = last;
    next.first = last.first + last.count;
    next.count = run.count;
    if (next == run && ordinal + last.count == last_ + 1 && Slots{last.first, last.count + run.count}.WithinEntry()) {
      last.count += run.count;
      last_ += run.count;
      messages_ += run.count;
      return;
    }
  }
  runs_.emplace_hint(runs_.end(), last_ + 1, run);
  last_ += run.count;
  messages_ += run.count;
}

uint64_t Departures::Arrived(uint64_t first, uint64_t count) {
  const uint64_t end = first + std::min(count, std::numeric_limits<uint64_t>::max() - first);
  uint64_t arrived = 0;
  auto it = runs_.upper_bound(first);
  if (it != runs_.begin()) --it;
  while (it != runs_.end() && it->first < end) {
    const auto [ordinal, run] = *it;
    const uint64_t from = std::max(ordinal, first), to = std::min(ordinal + run.count, end);
    if (from >= to) {
      ++it;
      continue;
    }
    it = runs_.erase(it);
    auto keep = [&, ordinal = ordinal, run = run](uint64_t begin, uint64_t behind) {
      if (begin >= behind) return;
      Departing part = run;
      part.first = run.first + static_cast<uint32_t>(begin - ordinal);
      part.count = static_cast<uint32_t>(behind - begin);
      it = std::next(runs_.emplace_hint(it, begin, part));
    };
    keep(ordinal, from);
    keep(to, ordinal + run.count);
    arrived += to - from;
  }
  messages_ -= arrived;
  return arrived;
}

uint64_t Departures::Redirect(uint64_t from, uint64_t to) {
  uint64_t redirected = 0;
  for (auto& [ordinal, run] : runs_) {
    if (run.target != from || to == 0) continue;
    redirected += run.count;
    run.target = to;
  }
  return redirected;
}

void Departures::Encode(raft::Writer& out) const {
  out.Varint(last_);
  out.Varint(runs_.size());
  uint64_t end = 0;
  for (const auto& [ordinal, run] : runs_) {
    out.Varint(ordinal - end);
    out.Varint(run.first.packed());
    out.Varint(run.count);
    out.Varint(run.deliveries);
    out.Byte(static_cast<uint8_t>(run.reason));
    out.Signed(run.time_ms);
    out.Varint(run.target);
    end = ordinal + run.count;
  }
}

bool Departures::Decode(raft::Reader& in, Position next) {
  last_ = in.Varint();
  const size_t count = in.Count(7);
  uint64_t end = 0;
  bool good = last_ <= ProducerWindow::kMaxSequence;
  for (size_t i = 0; i < count && in.ok() && good; ++i) {
    const uint64_t distance = in.Varint();
    Departing run;
    run.first = Position(in.Varint());
    const uint64_t messages = in.Varint();
    run.deliveries = static_cast<uint32_t>(in.Varint());
    const uint8_t reason = in.Byte();
    run.reason = static_cast<DeadReason>(reason);
    run.time_ms = in.Signed();
    run.target = in.Varint();
    good &= messages <= kMaxBatchMessages && distance <= last_ - end && IsReason(reason) && run.target != 0;
    if (!good) break;
    run.count = static_cast<uint32_t>(messages);
    const uint64_t ordinal = end + distance;
    good &= ordinal > 0 && Slots{run.first, run.count}.WithinEntry() && run.first + run.count <= next &&
            messages <= last_ - ordinal + 1;
    if (!good) break;
    end = ordinal + messages;
    messages_ += messages;
    runs_.emplace_hint(runs_.end(), ordinal, run);
    // The ordinals of what comes next go on behind.
    good &= end <= last_ + 1;
    if (end == last_ + 1) good &= i + 1 == count;
  }
  return in.ok() && good;
}

}  // namespace trireme::queue
