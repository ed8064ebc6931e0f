// One batch on its way to several queues, and what became of each message of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "broker/routing/split.h"

namespace trireme::broker {

// What became of messages in one queue.
enum class QueueOutcome : uint8_t {
  kStored,
  kDuplicate,  // stored before
  kUnknown,
  kFenced,
  kRefused,  // not stored
  kGone,     // the queue was deleted: it is no target any more
};

// What the publisher of a message is told. Safety rule 22: where some queues have it and others do not, or may not, the
// outcome is unknown, and a retry with the same producer and sequence reaches those that lack it.
struct Verdict {
  enum class Kind : uint8_t { kStored, kDuplicate, kUnknown, kFenced, kRefused, kUnroutable };
  struct Part {
    std::string queue;
    QueueOutcome outcome = QueueOutcome::kUnknown;
    std::string reason;

    friend bool operator==(const Part&, const Part&) = default;
  };
  SlotRun messages;
  Kind kind = Kind::kUnknown;
  std::string reason;
  // The queues that have not stored it, or perhaps not; the first kMaxParts of them.
  std::vector<Part> parts;
};

// One for all: theirs where they have one kind, else unknown, and the reason says what became of how many.
Verdict OneVerdict(const std::vector<Verdict>& verdicts);

// Confirmed only when all queues have answered for all messages. On one thread.
class Distribution {
 public:
  static constexpr size_t kMaxParts = 16;

  // `targets`: per message how many queues it was sent to. One that was sent to none is unroutable, which is an outcome
  // of its own for who asked to be told, and as good as stored for others.
  Distribution(std::vector<uint32_t> targets, bool mandatory);

  // One queue has answered for these messages, for which it had not answered yet.
  void Settle(SlotRun messages, const std::string& queue, QueueOutcome outcome, const std::string& reason);
  bool done() const { return owed_ == 0; }
  // Once done: for every message, in order, neighbours with the same fate together.
  std::vector<Verdict> Verdicts() const;

 private:
  struct Failure {
    SlotRun messages;
    Verdict::Part part;
  };
  struct Message {
    uint32_t owed = 0;
    // How many of its queues answered so.
    uint32_t stored = 0, duplicate = 0, fenced = 0, refused = 0, gone = 0;
  };
  // The failures of each message, the first kMaxParts of them that count.
  using ByMessage = std::vector<absl::InlinedVector<uint32_t, 2>>;

  ByMessage FailuresByMessage() const;
  Verdict Judge(uint32_t message, absl::Span<const uint32_t> failures) const;

  const bool mandatory_;
  std::vector<Message> messages_;
  std::vector<uint32_t> targets_;
  std::vector<Failure> failures_;
  uint64_t owed_ = 0;
};

}  // namespace trireme::broker
