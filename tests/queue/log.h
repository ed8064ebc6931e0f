// A queue's log without consensus, for tests: what is appended is applied when the test says so.
#pragma once

#include <cstdint>
#include <deque>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "broker/queue/batch.h"
#include "broker/queue/dispatchers.h"
#include "broker/queue/entry.h"
#include "broker/queue/machine.h"
#include "raft/core/check.h"
#include "tests/queue/batches.h"

namespace trireme::queue {

inline void PrintTo(const Slots& slots, std::ostream* out) {
  *out << slots.first << '+' << slots.count;
}

inline raft::Bytes PublishedEntry(uint32_t count, const std::string& producer = "", uint64_t epoch = 0,
                                  uint64_t first_sequence = 0, int64_t time_ms = 0, std::string_view body = "x",
                                  int64_t expires_at_ms = 0) {
  std::string batch = BatchOf(count, body, expires_at_ms);
  auto checksums = CheckBatch(batch, {});
  TRIREME_CHECK(checksums.ok()) << checksums.status();
  fact::Published fact{producer, epoch, first_sequence, count, *checksums};
  return EncodePublished(fact, time_ms, batch);
}

inline raft::Bytes FactsEntry(const std::vector<Fact>& facts, int64_t time_ms = 0) {
  return EncodeFacts(facts, time_ms);
}

inline EntryShape ShapeOf(const raft::Bytes& entry) {
  if (entry.empty()) return {};
  auto view = DecodePublished(entry);
  return view.ok() ? ShapeOf(*view, nullptr, true) : EntryShape{};
}

// Entries from index 1 on, and the machine that has applied some of them.
class Log {
 public:
  uint64_t Append(raft::Bytes entry) {
    entries_.push_back(std::move(entry));
    return entries_.size();
  }
  uint64_t last() const { return entries_.size(); }
  const raft::Bytes& at(uint64_t index) const { return entries_.at(index - 1); }
  // Cuts off what is above `last`, as a new leader may.
  void Truncate(uint64_t last) { entries_.resize(last); }

  // Applies the next entry.
  Effects ApplyNext() {
    const uint64_t index = machine.applied() + 1;
    const raft::Bytes& entry = at(index);
    if (entry.empty()) {
      machine.ApplyNoop(index);
      return {};
    }
    auto effects = machine.Apply(index, entry);
    TRIREME_CHECK(effects.ok()) << effects.status();
    return *std::move(effects);
  }
  Effects Apply(raft::Bytes entry) {
    Append(std::move(entry));
    return ApplyNext();
  }
  Effects Publish(uint32_t count) { return Apply(PublishedEntry(count)); }
  // One fact, as an entry of its own, applied; its effect.
  template <typename E>
  E Apply(Fact fact) {
    return std::get<E>(Apply(FactsEntry({std::move(fact)})).facts.at(0));
  }

  Machine machine;

 private:
  std::vector<raft::Bytes> entries_;
};

}  // namespace trireme::queue
