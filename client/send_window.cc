#include "client/send_window.h"

#include <algorithm>

namespace trireme::client {
namespace {

// Whether `next` goes on where `last` ends, with the same outcome: small frames of a turn are stored one behind the
// other.
bool Continues(const Resolved& last, const Resolved& next) {
  const Confirmation &a = last.confirmation, &b = next.confirmation;
  return last.callback == nullptr && a.outcome == b.outcome && a.refused_by == b.refused_by &&
         last.reason == next.reason && a.first_ticket + a.count == b.first_ticket &&
         (!a.stored() || a.first_position + a.count == b.first_position ||
          (a.first_position == 0 && b.first_position == 0));
}

}  // namespace

void SendWindow::Bound(uint64_t last_sequence, uint64_t window_bytes, uint64_t window_messages) {
  window_bytes_ = window_bytes;
  window_messages_ = window_messages == 0 ? kMaxSequences : std::min(window_messages, kMaxSequences);
  if (!sequences_) {
    next_sequence_ = 1;
    return;
  }
  if (frames_.empty() && !numbered_) next_sequence_ = std::max(next_sequence_, last_sequence + 1);
}

void SendWindow::Lost(const std::string& reason, std::vector<Resolved>& resolved) {
  for (Frame& frame : frames_) {
    if (!frame.under_way) continue;
    EndSending(frame);
    if (!sequences_) Resolve(frame, 0, frame.batch.count, v1::OUTCOME_UNKNOWN, 0, reason, resolved);
  }
  sent_ = 0;
  again_.clear();
  DropDone();
}

bool SendWindow::Admits(uint32_t count) const {
  if (frames_.size() >= kMaxFrames) return false;
  if (!sequences_ || frames_.empty()) return true;
  return next_sequence_ + count - frames_.front().first_sequence <= window_messages_;
}

void SendWindow::Add(Batch batch) {
  Frame frame;
  frame.batch = std::move(batch);
  if (sequences_) {
    frame.first_sequence = next_sequence_;
    next_sequence_ += frame.batch.count;
  }
  frames_.push_back(std::move(frame));
}

void SendWindow::Refuse(Batch batch, v1::Outcome outcome, const std::string& reason, std::vector<Resolved>& resolved) {
  Frame frame;
  frame.batch = std::move(batch);
  freed_bytes_ += frame.batch.bytes.size();
  Resolve(frame, 0, frame.batch.count, outcome, 0, reason, resolved);
  --done_;
}

bool SendWindow::Next(Out& out) {
  Frame* frame = nullptr;
  while (!again_.empty() && frame == nullptr) {
    const size_t at = Find(again_.front());
    // It may have been resolved meanwhile.
    if (at < frames_.size() && frames_[at].first_sequence == again_.front() && !frames_[at].done()) {
      frame = &frames_[at];
    } else {
      again_.pop_front();
    }
  }
  const bool again = frame != nullptr;
  while (frame == nullptr && sent_ < frames_.size()) {
    if (frames_[sent_].done()) {
      ++sent_;
    } else {
      frame = &frames_[sent_];
    }
  }
  if (frame == nullptr) return false;
  const uint64_t bytes = frame->batch.bytes.size();
  if (under_way_ > 0 && under_way_bytes_ + bytes > window_bytes_) return false;
  if (again) {
    again_.pop_front();
  } else {
    ++sent_;
    if (!sequences_) frame->first_sequence = next_sequence_++;
  }
  frame->under_way = true;
  ++frame->sends;
  ++under_way_;
  under_way_bytes_ += bytes;
  out = Out{frame->first_sequence, frame->batch.bytes};
  return true;
}

size_t SendWindow::Find(uint64_t sequence) const {
  // Without sequences only those that were sent have a number.
  auto end = sequences_ ? frames_.end() : frames_.begin() + static_cast<ptrdiff_t>(sent_);
  auto it = std::partition_point(frames_.begin(), end,
                                 [&](const Frame& frame) { return frame.first_sequence + Span(frame) <= sequence; });
  return it == end ? frames_.size() : static_cast<size_t>(it - frames_.begin());
}

void SendWindow::Confirm(const v1::Confirm& confirm, std::vector<Resolved>& resolved) {
  const uint64_t first = confirm.first_sequence();
  const uint64_t last = first + confirm.count();
  for (size_t at = Find(first); at < frames_.size() && frames_[at].first_sequence < last; ++at) {
    Frame& frame = frames_[at];
    if (!frame.under_way) {
      // Numbers end with what was sent; with sequences a later one may be under way.
      if (!sequences_) break;
      continue;
    }
    uint32_t from = 0, to = frame.batch.count;
    if (sequences_) {
      from = static_cast<uint32_t>(std::max(first, frame.first_sequence) - frame.first_sequence);
      to = static_cast<uint32_t>(std::min(last, frame.first_sequence + frame.batch.count) - frame.first_sequence);
    }
    v1::Outcome outcome = confirm.outcome();
    const bool stored = outcome == v1::OUTCOME_OK || outcome == v1::OUTCOME_DUPLICATE;
    if (outcome == v1::OUTCOME_UNKNOWN && sequences_ && frame.retries < kMaxRetries) {
      // Safe: the sequences are the same. The answer to the whole frame comes again.
      ++frame.retries;
      EndSending(frame);
      again_.push_back(frame.first_sequence);
      continue;
    }
    // An earlier try may have got further than this one; and what the broker does not name is not known.
    const bool refused =
        outcome == v1::OUTCOME_REFUSED || outcome == v1::OUTCOME_FENCED || outcome == v1::OUTCOME_UNROUTABLE;
    if (!stored && (!refused || frame.sends > 1)) outcome = v1::OUTCOME_UNKNOWN;
    uint64_t position = 0;
    if (stored && confirm.first_position() != 0)
      position = confirm.first_position() + (sequences_ ? frame.first_sequence + from - first : 0);
    const size_t before = resolved.size();
    Resolve(frame, from, to, outcome, position, confirm.reason(), resolved);
    for (size_t i = before; outcome == v1::OUTCOME_REFUSED && i < resolved.size(); ++i) {
      resolved[i].confirmation.refused_by = confirm.refused_by();
      resolved[i].confirmation.limit = confirm.limit();
    }
  }
  DropDone();
}

void SendWindow::Resolve(Frame& frame, uint32_t from, uint32_t to, v1::Outcome outcome, uint64_t position,
                         const std::string& reason, std::vector<Resolved>& resolved) {
  const bool stored = outcome == v1::OUTCOME_OK || outcome == v1::OUTCOME_DUPLICATE;
  auto emit = [&](uint32_t begin, uint32_t end, Producer::Callback callback) {
    if (begin == end) return;
    Resolved one;
    one.confirmation = {.first_ticket = frame.batch.first_ticket + begin,
                        .count = end - begin,
                        .outcome = outcome,
                        .first_position = stored && position != 0 ? position + (begin - from) : 0,
                        .reason = {}};
    if (!stored) one.reason = reason;
    if (callback == nullptr && !resolved.empty() && Continues(resolved.back(), one)) {
      resolved.back().confirmation.count += one.confirmation.count;
      return;
    }
    one.callback = std::move(callback);
    resolved.push_back(std::move(one));
  };
  frame.resolved.Add(from, to, [&](uint32_t begin, uint32_t end) {
    frame.resolved_count += end - begin;
    for (auto& [slot, callback] : frame.batch.callbacks) {
      if (slot < begin || slot >= end) continue;
      emit(begin, slot, nullptr);
      emit(slot, slot + 1, std::move(callback));
      begin = slot + 1;
    }
    emit(begin, end, nullptr);
    if (!frame.done()) return;
    ++done_;
    EndSending(frame);
  });
}

void SendWindow::EndSending(Frame& frame) {
  if (!frame.under_way) return;
  frame.under_way = false;
  --under_way_;
  under_way_bytes_ -= frame.batch.bytes.size();
}

void SendWindow::DropDone() {
  while (!frames_.empty() && frames_.front().done()) {
    freed_bytes_ += frames_.front().batch.bytes.size();
    --done_;
    frames_.pop_front();
    if (sent_ > 0) --sent_;
  }
}

void SendWindow::Expire(Time time, std::vector<Resolved>& resolved) {
  for (Frame& frame : frames_) {
    if (frame.batch.published > time) break;
    if (frame.done()) continue;
    EndSending(frame);
    const bool sent = frame.sends > 0;
    Resolve(frame, 0, frame.batch.count, sent ? v1::OUTCOME_UNKNOWN : v1::OUTCOME_REFUSED, 0,
            sent ? "not confirmed within delivery_timeout" : "could not be sent within delivery_timeout", resolved);
  }
  DropDone();
}

void SendWindow::Abort(v1::Outcome unsent, const std::string& reason, std::vector<Resolved>& resolved) {
  for (Frame& frame : frames_) {
    EndSending(frame);
    Resolve(frame, 0, frame.batch.count, frame.sends > 0 ? v1::OUTCOME_UNKNOWN : unsent, 0, reason, resolved);
  }
  again_.clear();
  DropDone();
  sent_ = 0;
}

}  // namespace trireme::client
