// What a queue's log records: facts, decided by the leader and applied by every replica. Each names what it was decided
// from, and is ignored by apply when that no longer holds (Safety rule 2).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "broker/queue/position.h"
#include "raft/core/bytes.h"

namespace trireme::queue {

// Consecutive slots of one entry: first, first + 1, ... first + count - 1.
struct Slots {
  Position first;
  uint32_t count = 0;

  // Not empty, and all in the entry of the first one, so that arithmetic on them stays there.
  bool WithinEntry() const { return count > 0 && first.slot() + uint64_t{count} <= kMaxBatchMessages; }

  friend bool operator==(const Slots&, const Slots&) = default;
};

// Slots with the log index of their checkout: what fences a delivery (Safety rule 4). Group and subscription are known
// from where it is used.
struct Token {
  Slots slots;
  uint64_t checkout_index = 0;

  friend bool operator==(const Token&, const Token&) = default;
};

// 0 is the subscription called `default`.
using SubscriptionId = uint32_t;

// A consumer's session, named by its client; 1 to 64 bytes.
using SessionId = std::string;

// The highest epoch that a producer may name. What the broker numbers itself may go on above it.
inline constexpr uint64_t kMaxNamedEpoch = uint64_t{1} << 62;
// No producer has an epoch above it, so that there is always one above any that was ever given.
inline constexpr uint64_t kMaxEpoch = uint64_t{1} << 63;

enum class Disposition : uint8_t {
  kAcknowledge = 1,
  kRequeue = 2,
  kReject = 3,
  kUndelivered = 4,  // the leader's own, not a client's: requeued without having been seen, so that it does not count
};

namespace fact {

// A batch of messages: always the only fact of its entry, followed by the batch's bytes, which start at slot 0.
struct Published {
  // Empty: no de-duplication.
  std::string producer;
  uint64_t epoch = 0;
  uint64_t first_sequence = 0;
  uint32_t count = 0;
  // One per message: CRC-32C of its record's value bytes (Safety rule 17).
  std::vector<uint32_t> checksums;

  friend bool operator==(const Published&, const Published&) = default;
};

// A producer is known from here on, or takes a higher epoch and so fences the streams of a lower one.
struct ProducerOpened {
  std::string producer;
  // Higher than the one in the state and at most kMaxEpoch, or ignored. A producer that is not known gets at least one
  // above that of any producer that was ever forgotten, so what is in force may be higher than this.
  uint64_t epoch = 0;

  friend bool operator==(const ProducerOpened&, const ProducerOpened&) = default;
};

// A producer that was idle for long is forgotten (conditional on its epoch and highest sequence); what it retries is
// then unknown (Safety rule 6).
struct ProducerForgotten {
  std::string producer;
  uint64_t epoch = 0;
  uint64_t last_sequence = 0;

  friend bool operator==(const ProducerForgotten&, const ProducerForgotten&) = default;
};

// A session begins, or resumes with a higher epoch, which fences its old stream.
struct Attached {
  SubscriptionId subscription = 0;
  SessionId session;
  uint64_t epoch = 0;  // higher than the one in the state, or ignored
  std::string consumer;
  uint32_t timeout_ms = 0;

  friend bool operator==(const Attached&, const Attached&) = default;
};

// A session ended (closed, or silent for its timeout): what it holds is returned. Conditional on its epoch.
struct Detached {
  SubscriptionId subscription = 0;
  SessionId session;
  uint64_t epoch = 0;

  friend bool operator==(const Detached&, const Detached&) = default;
};

// Messages are given to a holder: the session, or, with an empty session, a single receive until `deadline_ms` (queue
// time). Waiting ones advance the cursor from `from_next` (which must be the state's, or all is ignored) to `to_next`;
// returned ones are taken out of the returned set (each must be in it, or that run is ignored).
struct CheckedOut {
  SubscriptionId subscription = 0;
  SessionId session;
  uint64_t session_epoch = 0;
  int64_t deadline_ms = 0;
  Position from_next;
  Position to_next;            // == from_next when only returned ones are taken
  std::vector<Slots> waiting;  // in [from_next, to_next), ascending
  std::vector<Slots> returned;

  friend bool operator==(const CheckedOut&, const CheckedOut&) = default;
};

// Each token that is current is settled as `disposition` says; the others are lost leases.
struct Settled {
  SubscriptionId subscription = 0;
  Disposition disposition = Disposition::kAcknowledge;
  std::vector<Token> tokens;

  friend bool operator==(const Settled&, const Settled&) = default;
};

// Leases with a deadline get another one, each if its token is current.
struct LeaseExtended {
  SubscriptionId subscription = 0;
  int64_t deadline_ms = 0;
  std::vector<Token> tokens;

  friend bool operator==(const LeaseExtended&, const LeaseExtended&) = default;
};

// Leases whose deadline has passed: returned, each if its token is current and its deadline is not after `now_ms`.
struct Expired {
  SubscriptionId subscription = 0;
  int64_t now_ms = 0;
  std::vector<Token> tokens;

  friend bool operator==(const Expired&, const Expired&) = default;
};

// Drops what waits (returned ones included) in entries before this fact's own.
struct Purged {
  friend bool operator==(const Purged&, const Purged&) = default;
};

// From here on facts of this version may come; a replica that does not know it stops (Safety rule 3).
struct VersionRaised {
  uint32_t version = 0;

  friend bool operator==(const VersionRaised&, const VersionRaised&) = default;
};

}  // namespace fact

using Fact = std::variant<fact::Published, fact::ProducerOpened, fact::ProducerForgotten, fact::Attached,
                          fact::Detached, fact::CheckedOut, fact::Settled, fact::LeaseExtended, fact::Expired,
                          fact::Purged, fact::VersionRaised>;

// The meaning of the facts above.
inline constexpr uint32_t kFactVersion = 1;

}  // namespace trireme::queue
