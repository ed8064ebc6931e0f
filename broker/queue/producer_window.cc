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
  auto range = std::partition_point(Begin(), ranges_.cend(), [&](const Range& r) { return r.end() <= at; });
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
  auto range = std::partition_point(Begin(), ranges_.cend(), [&](const Range& r) { return r.end() <= first_sequence; });
  return range == ranges_.end() || range->first_sequence >= first_sequence + count;
}

void ProducerWindow::Add(uint64_t first_sequence, uint32_t count, Position first) {
  auto after =
      std::partition_point(Begin(), ranges_.cend(), [&](const Range& r) { return r.first_sequence < first_sequence; });
  ranges_.insert(after, Range{first_sequence, count, first});
  highest_ = std::max(highest_, first_sequence + count - 1);
  if (highest_ >= kSpan) lowest_ = std::max(lowest_, highest_ - kSpan + 1);
  while (Begin() != ranges_.cend() && (ranges_.size() - gone_ > kRanges || Begin()->end() <= lowest_)) DropLowest();
}

void ProducerWindow::DropLowest() {
  lowest_ = std::max(lowest_, Begin()->end());
  ++gone_;
  if (gone_ < ranges_.size() && gone_ < kRanges / 4) return;
  ranges_.erase(ranges_.begin(), Begin());
  gone_ = 0;
}

void ProducerWindow::Encode(raft::Writer& out) const {
  out.Varint(highest_);
  out.Varint(lowest_);
  out.Varint(ranges_.size() - gone_);
  uint64_t sequence = 0, position = 0;
  for (auto r = Begin(); r != ranges_.cend(); ++r) {
    out.Varint(r->first_sequence - sequence);
    out.Varint(r->count);
    out.Signed(static_cast<int64_t>(r->first.packed() - position));
    sequence = r->first_sequence;
    position = r->first.packed();
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
  gone_ = 0;
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
