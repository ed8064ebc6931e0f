// The identities and counters of consensus, as types that do not mix.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <ostream>

namespace trireme::raft {

// An integer that is only comparable with its own kind. `Tag` names the kind.
template <typename Tag>
class Ordinal {
 public:
  constexpr Ordinal() = default;
  constexpr explicit Ordinal(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr auto operator<=>(const Ordinal&) const = default;
  constexpr Ordinal operator+(uint64_t n) const { return Ordinal(value_ + n); }
  constexpr Ordinal operator-(uint64_t n) const { return Ordinal(value_ - n); }
  constexpr uint64_t operator-(Ordinal other) const { return value_ - other.value_; }
  constexpr Ordinal& operator++() {
    ++value_;
    return *this;
  }

  template <typename H>
  friend H AbslHashValue(H h, const Ordinal& o) {
    return H::combine(std::move(h), o.value_);
  }
  friend std::ostream& operator<<(std::ostream& os, const Ordinal& o) { return os << o.value_; }

 private:
  uint64_t value_ = 0;
};

// A reign. Grows by elections; 0 is before the first.
using Term = Ordinal<struct TermTag>;
// A place in a group's log. The first entry is at 1; 0 is "none".
using Index = Ordinal<struct IndexTag>;
// Terms and indexes above these cannot be: a message that has one is forged or damaged. (Positions give an index 48
// bits.)
inline constexpr Term kTermMax{uint64_t{1} << 62};
inline constexpr Index kIndexMax{(uint64_t{1} << 48) - 1};
// One broker process with its data directory, for as long as that directory lives.
using NodeId = Ordinal<struct NodeIdTag>;
// One Raft group. Never reused within a cluster.
using GroupId = Ordinal<struct GroupIdTag>;
// One group's member on one node. Never reused within a cluster (Safety rule 11); 0 is "none".
using ReplicaId = Ordinal<struct ReplicaIdTag>;

// What a node's own monotonic clock says, since an origin of its own. Never compared with another node's.
using Monotonic = std::chrono::nanoseconds;

}  // namespace trireme::raft
