// What a queue's replica tells the streams that use it, and the outcomes that it gives.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "broker/queue/facts.h"
#include "raft/core/bytes.h"

namespace trireme::broker {

// By which of a queue's settings messages are refused.
struct Refusal {
  enum class By : uint8_t { kNothing, kQueueMessages, kQueueBytes, kMessageSize, kKeyMissing };
  By by = By::kNothing;
  uint64_t limit = 0;  // messages, or bytes
  bool never = false;  // nor would it be taken if the queue held nothing
};

// What became of (a part of) a published batch.
struct PublishOutcome {
  enum class Kind : uint8_t {
    kOk,
    kDuplicate,
    kUnknown,
    kFenced,
    kRefused,
    kMoved,  // nothing was done, and it is for another node to do: a Cut follows
  };
  Kind kind = Kind::kUnknown;
  uint64_t first_sequence = 0;
  uint32_t count = 0;
  queue::Position first;                                       // with kOk and kDuplicate
  std::string reason;                                          // with kRefused, kUnknown and kMoved
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;  // with kRefused: what kind of refusal
  Refusal refusal = {};
};

// Why a stream's tie to a replica is cut.
enum class CutReason : uint8_t {
  kNotLeader,         // the leader is elsewhere, or not known yet: find it and come again
  kQueueDeleted,      // for good
  kSubscriptionGone,  // likewise: it was deleted, or there was none
  kFenced,            // a newer stream of the same producer or session took over
  kGroupHalted,       // this node's replica cannot go on
  kOldNodes,          // it asked for what not every replica of the queue understands yet
  kOverloaded,        // more of it waits than may: come again later
};

// A publish stream, for one alias. Called on the group's shard.
class PublishSink {
 public:
  virtual ~PublishSink() = default;
  // `bytes` of batches are answered with it (for the stream's window); a batch that is answered in parts counts with
  // its last one.
  virtual void Confirmed(uint32_t alias, PublishOutcome outcome, size_t bytes) = 0;
  // Nothing that is unconfirmed will be answered any more.
  virtual void Cut(uint32_t alias, CutReason reason, const std::string& text) = 0;
};

// Messages of one entry as they go to a consumer.
struct DeliveredRun {
  queue::Slots slots;
  uint64_t checkout_index = 0;
  uint32_t deliveries = 0;
  // The encoded batch of exactly these slots; shares the entry's memory.
  raft::Bytes batch;
};

// A consume stream. Called on the group's shard.
class ConsumerSink {
 public:
  virtual ~ConsumerSink() = default;
  struct Opened {
    bool resumed = false;
    uint64_t epoch = 0;
    uint32_t timeout_ms = 0;
    bool standby = false;  // another one is the single active consumer
  };
  virtual void Attached(const Opened& opened) = 0;
  // From now on this one is given messages, or is not.
  virtual void Stands(bool standby) = 0;
  virtual void Deliver(std::vector<DeliveredRun> runs) = 0;
  // Answers a settle: its receipt (0 = none was asked for) and the tokens that were not current.
  virtual void Receipt(uint64_t receipt, std::vector<queue::Token> lost) = 0;
  virtual void Cut(CutReason reason, const std::string& text) = 0;
};

}  // namespace trireme::broker
