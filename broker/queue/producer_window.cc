#include "broker/queue/producer_window.h"

#include <algorithm>

namespace trireme::queue {

std::vector<ProducerWindow::Piece> ProducerWindow::Judge(uint64_t first_sequence, uint32_t count) const {
  std::vector<Piece> pieces;
  if (first_sequence > kMaxSequence - count) return {{Piece::Fate::kUnknown, first_sequence, count, {}}};
  uint64_t at = first_sequence;
  const uint64_t end = first_sequence + count;
  auto put = [&](Piece::Fate fate, uint64_t until, Position position) {
    if (until <= at) return;
    pieces.push_back({fate, at, static_cast<uint32_t>(until - at), position});
    at = until;
  };
  put(Piece::Fate::kUnknown, std::min(end, lowest_), {});
  auto range = std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.end() <= at; });
  for (; at < end && range != ranges_.end() && range->first_sequence < end; ++range) {
    put(Piece::Fate::kNew, std::min(end, range->first_sequence), {});
    put(Piece::Fate::kStored, std::min(end, range->end()),
        range->first + static_cast<uint32_t>(at - range->first_sequence));
  }
  put(Piece::Fate::kNew, end, {});
  return pieces;
}

bool ProducerWindow::AllNew(uint64_t first_sequence, uint32_t count) const {
  if (first_sequence < lowest_ || first_sequence > kMaxSequence - count) return false;
  if (first_sequence > highest_) return true;
  auto range =
      std::partition_point(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.end() <= first_sequence; });
  return range == ranges_.end() || range->first_sequence >= first_sequence + count;
}

void ProducerWindow::Add(uint64_t first_sequence, uint32_t count, Position first) {
  auto after = std::partition_point(ranges_.begin(), ranges_.end(),
                                    [&](const Range& r) { return r.first_sequence < first_sequence; });
  ranges_.insert(after, Range{first_sequence, count, first});
  highest_ = std::max(highest_, first_sequence + count - 1);
  if (highest_ >= kSpan) lowest_ = std::max(lowest_, highest_ - kSpan + 1);
  while (!ranges_.empty() && (ranges_.size() > kRanges || ranges_.front().end() <= lowest_)) {
    lowest_ = std::max(lowest_, ranges_.front().end());
    ranges_.pop_front();
  }
}

void ProducerWindow::Encode(raft::Writer& out) const {
  out.Varint(highest_);
  out.Varint(lowest_);
  out.Varint(ranges_.size());
  uint64_t sequence = 0, position = 0;
  for (const Range& r : ranges_) {
    out.Varint(r.first_sequence - sequence);
    out.Varint(r.count);
    out.Signed(static_cast<int64_t>(r.first.packed() - position));
    sequence = r.first_sequence;
    position = r.first.packed();
  }
}

bool ProducerWindow::Decode(raft::Reader& in) {
  highest_ = in.Varint();
  lowest_ = in.Varint();
  const size_t count = in.Count(3);
  bool good = highest_ < kMaxSequence && lowest_ > 0 && lowest_ <= highest_ + 1 && count <= kRanges;
  uint64_t sequence = 0, position = 0;
  uint64_t end = lowest_;
  ranges_.clear();
  for (size_t i = 0; i < count && in.ok() && good; ++i) {
    sequence += in.Varint();
    const uint64_t n = in.Varint();
    position += static_cast<uint64_t>(in.Signed());
    // The lowest one may reach over the window's end.
    good &= n > 0 && n <= kMaxBatchMessages && sequence < kMaxSequence && (i == 0 || sequence >= end);
    end = sequence + n;
    good &= end > lowest_ && end <= highest_ + 1;
    ranges_.push_back({sequence, static_cast<uint32_t>(n), Position(position)});
  }
  return in.ok() && good && (count == 0 ? highest_ == 0 : end == highest_ + 1);
}

}  // namespace trireme::queue
