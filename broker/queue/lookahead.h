// What a leader knows of the log from a subscription's cursor on: which entries hold messages for it, and how many.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/filter/filter.h"
#include "broker/queue/coverage.h"
#include "broker/queue/entry.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"

namespace trireme::queue {

// How many messages an entry publishes, and their bytes; 0 if it publishes nothing.
struct EntryShape {
  // Slots first, first + 1, ...
  struct Picked {
    uint32_t first = 0;
    uint32_t count = 0;
  };

  uint32_t messages = 0;
  uint64_t bytes = 0;
  int64_t time_ms = 0;  // queue time at which they were published
  // Those that say themselves when they expire, ascending and apart; null: none does.
  struct Expiring {
    uint32_t first = 0;
    uint32_t count = 0;
    int64_t at_ms = 0;
  };
  std::shared_ptr<const std::vector<Expiring>> expiring = nullptr;
  // Which of them the subscription's filter takes, ascending and apart; null: all.
  std::shared_ptr<const std::vector<Picked>> picked = nullptr;
};

// A null filter takes all. `expires`: whether the messages are to be looked at for when they do.
EntryShape ShapeOf(const PublishedView& published, const filter::Filter* filter, bool expires);
// Of a batch; null: none says when it expires.
std::shared_ptr<const std::vector<EntryShape::Expiring>> ExpiringOf(std::string_view batch);

inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
// When the message in a slot expires, in queue time, and up to which slot those behind it do as well.
struct Deadline {
  int64_t at_ms = kNever;
  uint32_t end = 0;
};
Deadline DeadlineOf(const EntryShape& shape, uint32_t slot, const QueueSettings& settings);

// What each message of an entry counts for: their average.
inline uint64_t BytesEach(const EntryShape& shape) {
  return shape.messages == 0 ? 1 : shape.bytes / shape.messages + 1;
}

// The entries known from a place in the log on, which is where the next message is looked for. Pure; for one term.
class Lookahead {
 public:
  struct Limits {
    size_t entries = 4'096;
    // And their bytes, about: well below what the owner keeps of what it has read, so that it is not read again.
    uint64_t bytes = uint64_t{2} << 20;
  };

  // `last_index`: the last entry of the log.
  Lookahead(const Machine* machine, SubscriptionId subscription, uint64_t last_index, Limits limits)
      : machine_(machine), subscription_(subscription), limits_(limits), last_index_(last_index) {}

  // Begins anew at the state's cursor.
  void Restart();
  // What waits before the entry at `index` is gone, as decided here before it is applied.
  void Purge(uint64_t index);
  // Leaves behind what the state has nothing waiting in: it may be gone from the log, so it is not asked for.
  void SkipSettled();

  // The leader appended an entry. With `shape` null it is asked for like any other: its messages are to be looked at.
  void Appended(uint64_t index, const EntryShape* shape);
  // Entries whose shapes are wanted to go on: [first, last].
  struct Range {
    uint64_t first = 0;
    uint64_t last = 0;
  };
  std::optional<Range> Wanted() const;
  // The shapes of consecutive entries from `first` on, as far as they continue what is known.
  void Shapes(uint64_t first, const std::vector<EntryShape>& shapes);

  // The next messages of one entry, and what each counts for. Nothing: none are known.
  struct Run {
    Slots slots;
    uint64_t bytes_each = 0;
    uint64_t size = 0;  // what each counts for in the state
    int64_t expires_at_ms = kNever;
    const EntryShape* shape = nullptr;  // of their entry; until they are taken
  };
  std::optional<Run> Next();
  // Where those end that come next and make up `wanted`, of which it takes what they do; or what is known ends.
  Position EndOf(Amount& wanted) const;
  // Leaves `count` of them behind, as given.
  void Take(uint32_t count);

  // From where on Next looks. Moves over entries that publish nothing, too.
  Position next() const { return next_; }
  // Messages that the filter has passed over since this was asked last.
  uint64_t passed() const { return passed_; }
  uint64_t TakePassed() { return std::exchange(passed_, 0); }
  // And what those count for in the state.
  uint64_t TakePassedBytes() { return std::exchange(passed_bytes_, 0); }
  // The last entry applied when they were begun to be counted.
  uint64_t counted_at() const { return counted_at_; }
  // Known ahead: messages that the subscription takes, and bytes of entries.
  uint64_t messages() const { return messages_; }
  bool full() const { return bytes_ >= limits_.bytes; }

 private:
  const Subscription* state() const { return machine_->FindSubscription(subscription_); }
  // How many of an entry's messages from slot `from` on the subscription takes.
  static uint64_t PickedFrom(const EntryShape& shape, uint32_t from);
  void Push(EntryShape shape);
  // Of the first known entry.
  void Pass(uint32_t count);
  uint64_t SizeOfFront() const;
  uint64_t SizeOf(uint64_t index, const EntryShape& shape) const;
  // Leaves the first known entry behind, and what was not taken of it.
  void Pop();
  // From next_ to the slot `end` of the first known entry.
  Run RunTo(uint32_t end) const;
  // The slot of the first known entry at which the next message is looked for.
  uint32_t FrontSlot() const;

  const Machine* const machine_;
  const SubscriptionId subscription_;
  const Limits limits_;
  uint64_t last_index_;

  Position next_;
  // The entries known, from shapes_first_ on; none below next_'s.
  uint64_t shapes_first_ = 1;
  std::deque<EntryShape> shapes_;
  uint64_t messages_ = 0;
  uint64_t bytes_ = 0;
  uint64_t passed_ = 0;
  uint64_t passed_bytes_ = 0;
  uint64_t counted_at_ = 0;
};

}  // namespace trireme::queue
