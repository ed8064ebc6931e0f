// Who waits for what a fact comes to, on the leader that appended it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/queue/facts.h"
#include "broker/replica/producers.h"
#include "broker/replica/settling.h"
#include "broker/replica/sinks.h"
#include "raft/core/types.h"

namespace trireme::broker {

// Safety rule 4: log indexes begin anew in a queue that is made again under the name of a deleted one, group ids do
// not.
struct GroupTokens {
  raft::GroupId group;  // in which they were given; 0 with no tokens
  std::vector<queue::Token> tokens = {};
};

struct AttachRequest {
  queue::SessionId session;
  std::string consumer;
  uint32_t timeout_ms = 30'000;
  // Of another group: they are gone, and so the session is not resumed.
  GroupTokens held = {};
  uint32_t max_messages = 256;
  uint64_t max_bytes = uint64_t{16} << 20;
  std::string subscription = queue::kDefaultSubscription;
};

// A subscription that was created, found, changed or deleted.
struct SubscriptionMade {
  queue::SubscriptionId id = 0;
  bool created = false;
};
using SubscribeDone = absl::AnyInvocable<void(absl::StatusOr<SubscriptionMade>)>;

struct OpenWaiter {
  std::string producer;
  uint64_t epoch = 0;
  absl::AnyInvocable<void(absl::StatusOr<OpenedProducer>)> done;
};
struct AttachWaiter {
  AttachRequest request;
  std::shared_ptr<ConsumerSink> sink;  // null: its stream is gone
  bool ended = false;                  // by the client's own wish
};
// For how many messages that were: purged, or unblocked.
struct CountWaiter {
  absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done;
};
struct CancelWaiter {
  struct Asked {
    queue::Position position;
    absl::AnyInvocable<void(absl::Status)> done;
  };
  std::vector<Asked> asked;  // one for each message of the fact
};
struct SubscriptionWaiter {
  std::string name;
  queue::SubscriptionSettings settings;
  SubscribeDone done;
};
struct QueueChangeWaiter {
  absl::AnyInvocable<void(absl::Status)> done;
};
using Waiter = std::variant<std::monostate, OpenWaiter, AttachWaiter, AskedTokens, CountWaiter, SubscriptionWaiter,
                            QueueChangeWaiter, CancelWaiter>;

}  // namespace trireme::broker
