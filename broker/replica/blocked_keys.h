// Which keys of a subscription are blocked, by which messages, and since when; at the queue's leader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "broker/replica/looking.h"
#include "broker/replica/queue_replica.h"

namespace trireme::broker {

// A key for which messages wait behind one that is in flight, or was put off.
struct BlockedKey {
  std::string key;
  queue::Position by;
  MessageStand stand;
  HolderName holder;
  int64_t since_ms = 0;  // in flight: queue time of the checkout; 0: the log holds it no more
  int64_t due_ms = 0;    // put off: until then
  uint64_t waiting = 0;  // behind it, as far as was looked ahead
};
struct BlockedKeysPage {
  std::vector<BlockedKey> keys;
  std::optional<queue::Position> next;
  uint64_t at_index = 0;
  int64_t queue_time_ms = 0;
  uint64_t blocked = 0;  // messages that wait for their keys, of all
  bool full = false;     // those are as many as may be
};

// A page, by the position of what is in the way. Linearizable in what is in the way. FAILED_PRECONDITION: it does not
// order by key. UNAVAILABLE: not known yet, for this leader is new; or, with kNotLeader, another node leads.
void ListBlockedKeys(QueueReplica& replica, queue::SubscriptionId subscription, queue::Position from, size_t most,
                     Looked<BlockedKeysPage> done);
// Frees the key from what is in its way; without a key, at `position`.
struct UnblockWanted {
  queue::SubscriptionId subscription = 0;
  std::string key = {};
  queue::Position position = {};
  QueueReplica::UnblockHow how = QueueReplica::UnblockHow::kRelease;
};
// How many messages that were.
void UnblockKey(QueueReplica& replica, const UnblockWanted& wanted, Looked<uint64_t> done);

}  // namespace trireme::broker
