// Looks at a queue's messages and leases, at its leader; they change nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/filter/filter.h"
#include "broker/queue/machine.h"
#include "broker/replica/queue_replica.h"

namespace trireme::broker {

// Where a message stands on one subscription.
struct MessageStand {
  enum class State : uint8_t {
    kWaiting,
    kInFlight,
    kReturned,
    kSettled,
    kScheduled,    // stored for later
    kUnscheduled,  // it was, and is due, cancelled or purged
  };
  State state = State::kWaiting;
  // So far, one under way included; 0 also where that is not kept (kSettled).
  uint32_t deliveries = 0;
  // kInFlight.
  uint64_t checkout_index = 0;
  uint64_t holder = 0;      // a session's number; 0: a single receive
  int64_t deadline_ms = 0;  // of a single receive, in queue time
  int64_t due_ms = 0;       // kScheduled: in queue time
};
MessageStand StandOf(const queue::Subscription& subscription, queue::Position position);

// Of a session that holds something, as a status shows it.
struct HolderName {
  queue::SessionId session;
  std::string consumer;
};
// The session of that number; empty where it is 0.
HolderName NameOfHolder(const queue::Subscription& subscription, uint64_t number);

// What is not settled, by position: a page.
struct BrowseWanted {
  queue::SubscriptionId subscription = 0;
  queue::Position from;
  uint32_t max_messages = 100;
  // Of the messages; the first one always fits.
  size_t max_bytes = size_t{1} << 20;
  std::shared_ptr<const filter::Filter> filter = nullptr;  // null: all
};
struct BrowsedMessage {
  queue::Position position;
  int64_t published_ms = 0;  // queue time
  MessageStand stand;
  HolderName holder;
  raft::Bytes message;  // encoded
};
struct BrowsedPage {
  std::vector<BrowsedMessage> messages;
  // Where to go on; none: that was all.
  std::optional<queue::Position> next;
  uint64_t at_index = 0;
};

// What is stored for later, by due time: a page.
struct ScheduleWanted {
  queue::ScheduleKey from = {};
  uint32_t max_messages = 100;
  size_t max_bytes = size_t{1} << 20;
  std::shared_ptr<const filter::Filter> filter = nullptr;
};
struct SchedulePage {
  std::vector<BrowsedMessage> messages;
  std::optional<queue::ScheduleKey> next;
  uint64_t at_index = 0;
};

// What log and state still hold of one message.
struct Explanation {
  uint64_t at_index = 0;
  uint64_t term = 0;
  int64_t published_ms = 0;
  std::string producer;
  uint64_t epoch = 0;
  uint64_t sequence = 0;  // 0 without a producer
  uint32_t batch_messages = 0;
  MessageStand stand;
  HolderName holder;
  // Null: settled, and the log holds it no more.
  std::optional<raft::Bytes> message;
};

// Who holds what: runs by position, a page.
struct Lease {
  queue::Slots slots;
  queue::InFlight run;
  HolderName holder;
  // Queue time of the checkout; 0: the log holds it no more.
  int64_t since_ms = 0;
};
struct LeasesPage {
  std::vector<Lease> leases;
  std::optional<queue::Position> next;
  uint64_t at_index = 0;
  int64_t queue_time_ms = 0;
};

template <typename T>
using Looked = absl::AnyInvocable<void(absl::StatusOr<T>)>;

// Linearizable; on the replica's shard, where `done` is called, too. UNAVAILABLE with the reason kNotLeader: another
// node leads.
void Browse(QueueReplica& replica, BrowseWanted wanted, Looked<BrowsedPage> done);
void BrowseSchedule(QueueReplica& replica, const ScheduleWanted& wanted, Looked<SchedulePage> done);
// OUT_OF_RANGE: nothing was ever published there; the message says what lies around it.
void Explain(QueueReplica& replica, queue::SubscriptionId subscription, queue::Position position,
             Looked<Explanation> done);
void ListLeases(QueueReplica& replica, queue::SubscriptionId subscription, queue::Position from, uint32_t max_runs,
                Looked<LeasesPage> done);
// Takes messages from their holders, to be delivered anew with their counts as they are: all that a session holds, or,
// with none, the run of slots. How many messages that were.
struct ReleaseWanted {
  queue::SubscriptionId subscription = 0;
  queue::SessionId session = {};
  queue::Slots slots = {};
};
void Release(QueueReplica& replica, const ReleaseWanted& wanted, Looked<uint64_t> done);

}  // namespace trireme::broker
