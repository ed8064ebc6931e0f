// What a queue remembers of a producer, so that a retry is not stored twice (Safety rule 6).
#pragma once

#include <cstdint>
#include <vector>

#include "broker/queue/position.h"
#include "raft/core/coding.h"

namespace trireme::queue {

// The sequences lately stored, as ranges with their positions; holes are kept. It reaches back kSpan sequences or
// kRanges ranges, whichever is less: what is below is neither known to be stored nor known not to be.
//
// The rule asks for 1,024 sequences; the window is wider, because a producer that batches has more than that in flight.
class ProducerWindow {
 public:
  static constexpr uint64_t kSpan = 65'536;
  static constexpr size_t kRanges = 1'024;
  static constexpr uint64_t kMaxSequence = uint64_t{1} << 62;

  // A range of sequences with one fate.
  struct Piece {
    enum class Fate : uint8_t { kNew, kStored, kUnknown };
    Fate fate = Fate::kNew;
    uint64_t first_sequence = 0;
    uint32_t count = 0;
    Position first;  // where the first one is, with kStored
  };

  // Splits [first_sequence, first_sequence + count) by fate, ascending. Adjacent pieces of one fate are one, but for
  // stored ones that are not adjacent in position. Sequences end at kMaxSequence: a range that goes beyond is unknown.
  std::vector<Piece> Judge(uint64_t first_sequence, uint32_t count) const;
  // Whether all of it is new: what Judge would say, without its list.
  bool AllNew(uint64_t first_sequence, uint32_t count) const;
  // Records a range of which all is new.
  void Add(uint64_t first_sequence, uint32_t count, Position first);

  uint64_t highest() const { return highest_; }
  // Sequences below it are out of the window.
  uint64_t lowest() const { return lowest_; }

  void Encode(raft::Writer& out) const;
  // False if it does not parse, or is no window that Add could lead to.
  bool Decode(raft::Reader& in);

 private:
  struct Range {
    uint64_t first_sequence;
    uint32_t count;
    Position first;
    uint64_t end() const { return first_sequence + count; }
  };

  // Those kept begin here: the lowest go one by one, and the room of many is given back at once.
  std::vector<Range>::const_iterator Begin() const { return ranges_.begin() + static_cast<ptrdiff_t>(gone_); }
  void DropLowest();

  // Ascending, disjoint; the first `gone_` are not kept. (A vector, for there are producers by the ten thousand that
  // have sent nothing, or one batch.)
  std::vector<Range> ranges_;
  size_t gone_ = 0;
  uint64_t highest_ = 0;
  uint64_t lowest_ = 1;
};

}  // namespace trireme::queue
