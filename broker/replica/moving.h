// What has left a queue's subscriptions for other queues, on its way there, on the leader (Safety rule 20).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "broker/queue/departures.h"
#include "broker/queue/facts.h"
#include "broker/replica/carrier.h"
#include "broker/replica/entry_reader.h"
#include "broker/replica/leader_port.h"
#include "broker/replica/limits.h"

namespace trireme::broker {

// What the names of producers begin with that are subscriptions.
inline constexpr char kMover[] = "$dead/";
// The name under which a subscription publishes to other queues. They do not forget it as long as the queue lives.
std::string MoverName(raft::GroupId group, queue::SubscriptionId subscription);
// The group in such a name; 0: it is none.
uint64_t MoverGroup(std::string_view producer);

// For one term. Shard-owned. Of each subscription one load is under way at a time, in the order of the ordinals: its
// messages are read from the log, given to the carrier, and, once they are known to be stored there, an Arrived fact
// takes them off. Whoever leads next begins with the first that has none, and what is there already is stored no
// second time, for the sequences are the ordinals.
class Moving {
 public:
  Moving(const LeaderPort* leader, const ReplicaLimits* limits, std::string queue_name);

  // At the end of a turn: sets off whatever may go.
  void Go();
  // A fact was applied that may let more go.
  void Applied(const queue::Fact& fact);
  // Why nothing of a subscription arrives; empty: it does, or there is nothing.
  std::string TroubleOf(queue::SubscriptionId subscription) const;

 private:
  struct Load {
    queue::SubscriptionId subscription = 0;
    uint64_t first = 0;   // ordinal
    uint64_t target = 0;  // group
    // Of its messages the ones read so far.
    uint32_t count = 0;
    std::string batch;
  };
  // Of one subscription.
  struct Way {
    bool busy = false;
    queue::MonotonicMs not_before = 0;
    int64_t pause_ms = 0;
    std::string trouble = {};
  };

  queue::MonotonicMs NowMs() const;
  const queue::Subscription* StateOf(const Load& load) const;
  void Start(queue::SubscriptionId subscription, Way& way);
  // Reads the next messages of the load; it goes when no more are to come with it.
  void ReadOn(const std::shared_ptr<Load>& load);
  absl::Status Put(Load& load, const queue::Departing& run, uint32_t skip, const raft::Bytes& entry, bool& full) const;
  void Send(const std::shared_ptr<Load>& load);
  void Arrived(const Load& load, Carrier::Outcome outcome, const std::string& reason);
  void TryLater(Way& way, std::string trouble);

  const LeaderPort* const leader_;
  const ReplicaLimits* const limits_;
  const std::string queue_name_;
  std::unique_ptr<EntryReader> reader_;  // null: nothing was ever to move
  std::unique_ptr<Carrier> carrier_;
  std::map<queue::SubscriptionId, Way> ways_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
