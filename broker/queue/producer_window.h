// What a queue remembers of one producer, so that a message sent twice is stored once (Safety rule 6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "broker/queue/position.h"
#include "raft/core/coding.h"

namespace trireme::queue {

enum class Verdict : uint8_t {
  kStore,      // not seen: store it
  kDuplicate,  // stored before; the position is that of the first one
  kUnknown,    // below the window, or the producer or this epoch of it is not known: never an acknowledgement
  kFenced,     // a higher epoch of the producer is open
};

// What becomes of the sequences first_sequence, ... first_sequence + count - 1.
struct JudgedRange {
  Verdict verdict = Verdict::kUnknown;
  uint64_t first_sequence = 0;
  uint32_t count = 0;
  // kDuplicate: of first_sequence; the others follow it slot by slot.
  Position position;

  friend bool operator==(const JudgedRange&, const JudgedRange&) = default;
};

// Nearly always one.
using Judgement = absl::InlinedVector<JudgedRange, 2>;

// The latest sequences of one producer: which were stored, and where. Holes are kept: a sequence in a hole is still
// stored when it comes. The window is what the latest kMaxRanges stored ranges span, and at most kMaxSequences below
// the highest; rule 6 asks for 1,024 sequences, and this is never less for messages sent singly, and more for batches.
class ProducerWindow {
 public:
  static constexpr size_t kMaxRanges = 1024;
  static constexpr uint64_t kMaxSequences = 65'536;

  struct Range {
    uint64_t first_sequence = 0;
    uint32_t count = 0;
    Position position;

    friend bool operator==(const Range&, const Range&) = default;
  };

  // Appends to `out` the verdicts over [first_sequence, first_sequence + count), ascending and adjacent, neighbours of
  // the same kind merged (duplicates as far as their positions are adjacent, too). first_sequence is at least 1, and
  // the end does not overflow.
  void Judge(uint64_t first_sequence, uint32_t count, Judgement* out) const;
  // Whether all of it is to be stored: the common case, without a list.
  bool Fresh(uint64_t first_sequence, uint32_t count) const;

  // Takes in a range that is Fresh.
  void Add(uint64_t first_sequence, uint32_t count, Position position);

  // 0 before the first.
  uint64_t highest() const { return highest_; }
  // At or below it the outcome of a sequence is unknown.
  uint64_t floor() const { return floor_; }
  // Ascending, disjoint.
  std::span<const Range> ranges() const { return std::span(ranges_).subspan(head_); }

  void Encode(raft::Writer* out) const;
  // False if the bytes are not what Encode wrote.
  bool Decode(raft::Reader* in);

  friend bool operator==(const ProducerWindow& a, const ProducerWindow& b);

 private:
  void DropFront();

  // ranges_[head_] is the oldest; what lies before is dead and is dropped now and then.
  std::vector<Range> ranges_;
  size_t head_ = 0;
  uint64_t highest_ = 0;
  uint64_t floor_ = 0;
};

}  // namespace trireme::queue
