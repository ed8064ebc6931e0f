// Settles that were invoked and have not completed, message by message.
#pragma once

#include <cstdint>
#include <deque>

#include "absl/container/flat_hash_map.h"
#include "tests/failover/checkers/cast.h"

namespace trireme::failover {

// Note is what a checker wants to remember of each message from the invocation to the completion.
template <class Note>
class PendingSettles {
 public:
  struct One {
    uint64_t serial = 0;
    Disposition disposition = Disposition::kAcknowledge;
    uint64_t position = 0;
    uint64_t token = 0;
    Note note;
  };

  // note(position): for each message.
  template <class MakeNote>
  void Add(const Settle& settle, MakeNote note) {
    std::deque<One>& row = rows_[settle.consumer];
    for (uint32_t i = 0; i < settle.count; ++i) {
      const uint64_t position = settle.position + i;
      row.push_back({settle.serial, settle.disposition, position, settle.token, note(position)});
    }
  }
  // complete(one): for each message that this completes.
  template <class Complete>
  void Done(const Settled& settled, Complete complete) {
    std::deque<One>& row = rows_[settled.consumer];
    std::erase_if(row, [&](const One& one) {
      const bool concerned = settled.through ? one.serial <= settled.serial : one.serial == settled.serial;
      if (concerned) complete(one);
      return concerned;
    });
  }
  // lose(one): for each that was settled in vain.
  template <class Lose>
  void Lost(const LeaseLost& lost, Lose lose) {
    std::deque<One>& row = rows_[lost.consumer];
    std::erase_if(row, [&](const One& one) {
      const bool concerned =
          one.token == lost.token && one.position >= lost.position && one.position < lost.position + lost.count;
      if (concerned) lose(one);
      return concerned;
    });
  }

 private:
  // By consumer, in the order of the serials.
  absl::flat_hash_map<uint32_t, std::deque<One>> rows_;
};

}  // namespace trireme::failover
