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

// 0 is the subscription called `default` that a queue is made with.
using SubscriptionId = uint32_t;
inline constexpr char kDefaultSubscription[] = "default";

// A consumer's session, named by its client; 1 to 64 bytes.
using SessionId = std::string;

// The highest epoch that a producer may name. What the broker numbers itself may go on above it.
inline constexpr uint64_t kMaxNamedEpoch = uint64_t{1} << 62;
// No producer has an epoch above it, so that there is always one above any that was ever given.
inline constexpr uint64_t kMaxEpoch = uint64_t{1} << 63;

// Where a subscription's dead letters go.
struct DeadLetterTarget {
  uint64_t group = 0;  // 0: nowhere, they are dropped
  std::string queue = {};
  // They get this routing key; empty: they keep theirs.
  std::string routing_key = {};

  friend bool operator==(const DeadLetterTarget&, const DeadLetterTarget&) = default;
};

// What a subscription is set to. Checked by whoever sets it: apply takes it as it is.
struct SubscriptionSettings {
  // A condition over headers and fields (broker/filter): messages that do not match are passed over. Empty: none are.
  std::string filter = {};
  // A requeued message comes back after so long, the first time; and each time after, retry_percent of the time before,
  // up to max_retry_delay_ms. 0: at once.
  uint32_t retry_delay_ms = 0;
  uint32_t retry_percent = 200;
  uint32_t max_retry_delay_ms = 600'000;
  // A message that comes back after so many deliveries is not delivered again. 0: it always is.
  uint32_t delivery_limit = 0;
  DeadLetterTarget dead_letter = {};
  // Of its sessions only the one that attached first is given messages (Subscription::active_session).
  bool single_active = false;
  // So many messages may be in flight; at that no more are given out. 0: no limit.
  uint64_t max_in_flight = 0;

  friend bool operator==(const SubscriptionSettings&, const SubscriptionSettings&) = default;
};

// What becomes of a message for which a queue has no room.
enum class Overflow : uint8_t {
  kReject = 0,
  kDropOldest = 1,  // it is stored, and the oldest leave for it
  kDeadLetter = 2,  // the same, into the dead-letter queues of the subscriptions
};

// What a queue is set to. Checked by whoever sets it, and kept by the leader that judges what is published. 0: no
// limit.
struct QueueSettings {
  uint64_t max_messages = 0;       // that any subscription needs: waiting, in flight or returned
  uint64_t max_bytes = 0;          // of those, as MessageBytes counts them
  uint64_t max_message_bytes = 0;  // of one message, encoded
  uint64_t ttl_ms = 0;             // for so long in queue time a message may be delivered
  Overflow overflow = Overflow::kReject;

  bool Limits() const { return max_messages != 0 || max_bytes != 0; }
  friend bool operator==(const QueueSettings&, const QueueSettings&) = default;
};

// What each of an entry's messages counts for: their average, rounded up. So the state needs one number for a run,
// however it is taken apart.
inline uint64_t MessageBytes(uint64_t batch_bytes, uint32_t messages) {
  return messages == 0 ? 0 : (batch_bytes + messages - 1) / messages;
}

enum class Disposition : uint8_t {
  kAcknowledge = 1,
  kRequeue = 2,
  kReject = 3,
  kUndelivered = 4,  // the leader's own, not a client's: requeued without having been seen, so that it does not count
  kRedrive = 5,      // likewise: goes to another queue
};

// Why a message left a subscription without being acknowledged.
enum class DeadReason : uint8_t {
  kDeliveryLimit = 1,
  kRejected = 2,
  kRedriven = 3,  // back to where it came from
  kExpired = 4,   // its time was over
  kOverflow = 5,  // the queue was full, and it was the oldest
};
inline bool IsReason(uint8_t reason) {
  return reason >= 1 && reason <= 5;
}

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
  // Messages in [from_next, to_next) that are not given, because the subscription's filter passes over them.
  uint64_t skipped = 0;
  // With `skipped`: the last entry that was applied when they were counted. Had a batch behind it been refused by
  // apply, it would have been counted wrongly, and all of this is ignored.
  uint64_t counted_at = 0;
  // From kFactsOfLimits on, where it is ignored without them: MessageBytes of each of `waiting`, and the bytes skipped.
  bool sized = false;
  std::vector<uint64_t> sizes = {};
  uint64_t skipped_bytes = 0;

  friend bool operator==(const CheckedOut&, const CheckedOut&) = default;
};

// Each token that is current is settled as `disposition` says; the others are lost leases.
struct Settled {
  SubscriptionId subscription = 0;
  Disposition disposition = Disposition::kAcknowledge;
  std::vector<Token> tokens;
  // With kRequeue: when each is to be delivered again, in queue time; empty: at once.
  std::vector<int64_t> due_ms = {};
  // With kReject and kRedrive: the group of the queue that they go to; 0: they are dropped.
  uint64_t target = 0;

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

// Nothing of what waits in [from_next, to_next) is for this subscription, nor are these of the returned ones.
// Conditional as CheckedOut is.
struct Skipped {
  SubscriptionId subscription = 0;
  Position from_next;
  Position to_next;
  uint64_t count = 0;       // messages that waited there
  uint64_t counted_at = 0;  // as in CheckedOut
  std::vector<Slots> returned;
  // As in CheckedOut: the bytes of `count`.
  bool sized = false;
  uint64_t bytes = 0;

  friend bool operator==(const Skipped&, const Skipped&) = default;
};

// A new subscription, if there is none of that name. Its id is given by apply and never again.
struct SubscriptionCreated {
  std::string name;
  // It gets what the queue still holds from here on: all that is at or above every cursor, and below that what another
  // subscription has in flight or returned. Behind the log's end: only what comes after this fact.
  Position from;
  // How many messages the queue had stored before `from`: since what waits is not recorded, the leader counts them.
  uint64_t ordinal = 0;
  SubscriptionSettings settings;
  // From kFactsOfLimits on: and how many bytes.
  bool sized = false;
  uint64_t bytes = 0;

  friend bool operator==(const SubscriptionCreated&, const SubscriptionCreated&) = default;
};

struct SubscriptionChanged {
  SubscriptionId subscription = 0;
  SubscriptionSettings settings;

  friend bool operator==(const SubscriptionChanged&, const SubscriptionChanged&) = default;
};

// With all that it has in flight. What no other subscription needs is gone then.
struct SubscriptionDeleted {
  SubscriptionId subscription = 0;

  friend bool operator==(const SubscriptionDeleted&, const SubscriptionDeleted&) = default;
};

// Returned messages leave the subscription, each run if it is returned and was delivered `deliveries` times at least.
struct DeadLettered {
  SubscriptionId subscription = 0;
  DeadReason reason = DeadReason::kDeliveryLimit;
  uint32_t deliveries = 0;
  std::vector<Slots> returned;
  uint64_t target = 0;  // the group of the queue that they go to; 0: they are dropped

  friend bool operator==(const DeadLettered&, const DeadLettered&) = default;
};

// Messages that wait leave the subscription, as DeadLettered ones that are returned do. Conditional as CheckedOut is.
struct DeadUnseen {
  SubscriptionId subscription = 0;
  DeadReason reason = DeadReason::kExpired;
  Position from_next;
  Position to_next;
  std::vector<Slots> waiting;   // in [from_next, to_next), ascending
  std::vector<uint64_t> sizes;  // as in CheckedOut, and so on
  uint64_t skipped = 0;
  uint64_t skipped_bytes = 0;
  uint64_t counted_at = 0;
  uint64_t target = 0;  // as in DeadLettered

  friend bool operator==(const DeadUnseen&, const DeadUnseen&) = default;
};

// Messages that had left, with the ordinals [first, first + count), are stored where they went.
struct Arrived {
  SubscriptionId subscription = 0;
  uint64_t first = 0;
  uint64_t count = 0;

  friend bool operator==(const Arrived&, const Arrived&) = default;
};

// The queue of the group `from` was deleted: what is on its way there goes to that of the group `to`.
struct Redirected {
  SubscriptionId subscription = 0;
  uint64_t from = 0;
  uint64_t to = 0;

  friend bool operator==(const Redirected&, const Redirected&) = default;
};

// The queue's settings become these.
struct QueueChanged {
  QueueSettings settings;

  friend bool operator==(const QueueChanged&, const QueueChanged&) = default;
};

// From here on facts of this version may come; a replica that does not know it stops (Safety rule 3).
struct VersionRaised {
  uint32_t version = 0;

  friend bool operator==(const VersionRaised&, const VersionRaised&) = default;
};

}  // namespace fact

using Fact =
    std::variant<fact::Published, fact::ProducerOpened, fact::ProducerForgotten, fact::Attached, fact::Detached,
                 fact::CheckedOut, fact::Settled, fact::LeaseExtended, fact::Expired, fact::Purged, fact::VersionRaised,
                 fact::Skipped, fact::SubscriptionCreated, fact::SubscriptionChanged, fact::SubscriptionDeleted,
                 fact::DeadLettered, fact::Arrived, fact::Redirected, fact::QueueChanged, fact::DeadUnseen>;

// The meaning of the facts above, as this program knows it.
inline constexpr uint32_t kFactVersion = 8;
// From this version on the state counts bytes: of messages that are stored once it is in force.
inline constexpr uint32_t kFactsOfLimits = 6;
// From this version on messages expire.
inline constexpr uint32_t kFactsOfExpiry = 7;
// From this version on messages leave for newer ones.
inline constexpr uint32_t kFactsOfOverflow = 8;
// What every log begins with. Facts of a higher version come only behind a VersionRaised, which a leader appends when
// one is wanted and all replicas understand it; so replicas of different programs agree until then, and in their
// digests, too.
inline constexpr uint32_t kFirstFactVersion = 1;
// The version that a fact belongs to.
uint32_t VersionOf(const Fact& fact);
// The version that a fact with these settings belongs to.
uint32_t VersionOf(const SubscriptionSettings& settings);
uint32_t VersionOf(const QueueSettings& settings);

}  // namespace trireme::queue
