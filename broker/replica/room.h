// How much more a queue takes, by its settings, as its leader judges it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
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
  // Something is appended and not applied: it may leave once it is.
  bool under_way() const { return !under_way_.empty(); }

  // A batch was appended, and later applied.
  void Appended(uint64_t index, uint32_t messages, uint64_t batch_bytes);
  void Applied(uint64_t index);

  struct Verdict {
    uint32_t fits = 0;  // messages from the first on, in an entry of their own
    Refusal refusal = {};
  };
  // `beside`: what is to be stored before it. `slack`: bytes by which a message may pass the limit for one.
  Verdict Judge(const raft::Bytes& batch, uint32_t messages, const queue::Amount& beside, size_t slack) const;
  // How much too little there is for a batch of so many, where messages leave for newer ones; as much as ever may be,
  // for one that is larger.
  queue::Amount Lacks(uint64_t messages, uint64_t bytes) const;
  // Whether a batch of so many is taken whole, whatever its messages are.
  bool Takes(uint64_t messages, uint64_t batch_bytes) const;
  // Whether one of its messages is above the limit for one.
  bool HasTooLarge(const raft::Bytes& batch, size_t slack) const;

 private:
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
