// How much more a queue takes, by its settings, as its leader judges it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>

#include "broker/queue/coverage.h"
#include "broker/queue/machine.h"
#include "broker/replica/sinks.h"
#include "raft/core/bytes.h"

namespace trireme::broker {

// For one term of leadership. Shard-owned. Safety rule 2: judges by what the queue holds as applied plus what this
// leader has appended, so that what it lets through is within the limits wherever it is applied: between the two, what
// is held only becomes less. Hence a limit is exact, whoever led before.
class Room {
 public:
  explicit Room(const queue::Machine* machine) : machine_(machine) {}

  // Other settings are appended and not applied: until they are, nothing is judged.
  void Changing() { ++changing_; }
  void Changed() { --changing_; }
  bool changing() const { return changing_ > 0; }

  // A batch was appended, and later applied.
  void Appended(uint64_t index, uint32_t messages, uint64_t batch_bytes);
  void Applied(uint64_t index);

  // Who sent a batch.
  enum class From : uint8_t {
    kNobody,      // without a name it is taken whole or not at all: nobody could be told of a part
    kProducer,    // of a named producer's batch the beginning that fits is taken
    kOtherQueue,  // likewise of what moves here. It was accepted once, and others wait behind it in its queue: none of
                  // its messages is too large for one, and one that is larger than all that may be held goes alone into
                  // a queue that holds nothing
  };
  struct Verdict {
    uint32_t fits = 0;  // messages from the first on, in an entry of their own
    Refusal refusal = {};
  };
  // `beside`: what is to be stored before it.
  Verdict Judge(const raft::Bytes& batch, uint32_t messages, const queue::Amount& beside, From from) const;
  // Whether a batch of so many is taken whole, whatever its messages are.
  bool Takes(uint64_t messages, uint64_t batch_bytes) const;
  // Whether one of its messages is above the limit for one.
  bool HasTooLarge(const raft::Bytes& batch, From from) const;

 private:
  // What of a batch fits into `left`.
  Verdict Beginning(const raft::Bytes& batch, uint32_t messages, const queue::Amount& left) const;
  // Why it is never taken: the whole of it, or its message `at`.
  std::optional<Refusal> Never(const raft::Bytes& batch, uint32_t messages, uint32_t at, From from) const;
  // What may be stored beside what is there, and `beside`.
  queue::Amount Left(const queue::Amount& beside) const;

  const queue::Machine* const machine_;
  struct Entry {
    uint64_t index = 0;
    queue::Amount amount;
  };
  std::list<Entry> under_way_;  // with a limit (empty most of the time: a deque would keep room)
  queue::Amount total_;         // of those
  int changing_ = 0;
};

// For people.
std::string ReasonOf(const Refusal& refusal);

}  // namespace trireme::broker
