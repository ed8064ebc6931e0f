// A message's address in its queue.
#pragma once

#include <compare>
#include <cstdint>
#include <ostream>
#include <utility>

namespace trireme::queue {

// The log index of the message's entry (48 bits) and its slot in that entry's batch (16 bits). Grows strictly with the
// log, is never reused, and needs no index to look up. 0 is before everything.
class Position {
 public:
  constexpr Position() = default;
  constexpr explicit Position(uint64_t packed) : packed_(packed) {}
  constexpr Position(uint64_t index, uint32_t slot) : packed_(index << 16 | slot) {}

  constexpr uint64_t packed() const { return packed_; }
  constexpr uint64_t index() const { return packed_ >> 16; }
  constexpr uint32_t slot() const { return static_cast<uint32_t>(packed_ & 0xffff); }
  // `n` slots further in the same entry.
  constexpr Position operator+(uint32_t n) const { return Position(packed_ + n); }
  constexpr auto operator<=>(const Position&) const = default;

  template <typename H>
  friend H AbslHashValue(H h, const Position& p) {
    return H::combine(std::move(h), p.packed_);
  }
  friend std::ostream& operator<<(std::ostream& os, const Position& p) { return os << p.index() << ':' << p.slot(); }

 private:
  uint64_t packed_ = 0;
};

// Batches have at most this many messages, so that a slot fits and a run's end, too.
inline constexpr uint32_t kMaxBatchMessages = 65'535;
inline constexpr uint64_t kMaxLogIndex = (uint64_t{1} << 48) - 1;

}  // namespace trireme::queue
