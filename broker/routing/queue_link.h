// A way to one queue's leader, for one producer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "broker/cluster/metadata_view.h"
#include "broker/routing/distribution.h"
#include "raft/core/bytes.h"
#include "raft/host/shard.h"

namespace trireme::broker {

// Good until it breaks; then its owner opens another. On one thread; the owner is called from the loop, never from
// within Open or Send.
class QueueLink {
 public:
  // What became of the messages numbered [number, number + count): by their sequences. For a producer without a name,
  // batches are numbered, from 1 on each link, and `count` is 1.
  struct Answer {
    uint64_t number = 0;
    uint64_t count = 0;
    QueueOutcome outcome = QueueOutcome::kUnknown;
    std::string reason;
  };
  enum class End : uint8_t {
    kBroken,   // the leader moved, or cannot be reached: another may be opened
    kGone,     // the queue was deleted
    kFenced,   // a newer stream of this producer is open
    kRefused,  // the queue does not take this producer
  };

  class Owner {
   public:
    virtual ~Owner() = default;
    // Batches may be sent. `epoch`: the producer's in this queue; 0 without a name.
    virtual void OnBound(uint64_t epoch) = 0;
    virtual void OnAnswer(const Answer& answer) = 0;
    // It is over, and nothing that is unanswered will be answered.
    virtual void OnEnd(End how, const std::string& reason) = 0;
  };

  virtual ~QueueLink() = default;
  // Once bound. In the order sent.
  virtual void Send(uint64_t number, raft::Bytes batch) = 0;
  // The owner is not called any more.
  virtual void Close() = 0;
};

// Opens links for one producer.
class QueueLinks {
 public:
  struct Wanted {
    QueuePtr queue;
    // That the producer was given in this queue before; 0 = the next one, or, with `join`, the one in force.
    uint64_t epoch = 0;
    // Fences nobody.
    bool join = false;
    raft::MonotonicTime deadline;
  };

  virtual ~QueueLinks() = default;
  virtual std::shared_ptr<QueueLink> Open(const Wanted& wanted, std::weak_ptr<QueueLink::Owner> owner) = 0;
};

}  // namespace trireme::broker
