// A queue as simply as it can be said: a map of every message. What the machine must agree with after every entry.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"

namespace trireme::queue {

class Model {
 public:
  enum class Fate : uint8_t {
    kWaiting,
    kReturned,
    kInFlight,
    kAcknowledged,
    kRejected,
    kPurged,
    kSkipped,
    kDead,
    kRedriven,
    kExpired,
    kOverflowed
  };
  struct Message {
    Fate fate = Fate::kWaiting;
    uint32_t deliveries = 0;
    // In flight:
    uint64_t checkout_index = 0;
    std::string holder = {};  // a session, or none
    int64_t deadline_ms = 0;
    // Returned:
    int64_t due_ms = 0;
  };

  // `now_ms`: queue time. Applies the facts of the entry at `index` and compares what the machine said came of them.
  // What is wrong, or nothing.
  std::optional<std::string> Apply(uint64_t index, const std::vector<Fact>& facts, const Effects& effects,
                                   int64_t now_ms, uint64_t batch_bytes = 0, int64_t expires_at_ms = 0);
  // Compares the machine's state, message by message.
  std::optional<std::string> Compare(const Machine& machine);

 private:
  struct Session {
    uint64_t epoch = 0;
    uint64_t place = 0;  // in the line
  };
  struct Departed {
    Position position;
    uint32_t deliveries = 0;
    DeadReason reason = DeadReason::kDeliveryLimit;
    int64_t time_ms = 0;
    uint64_t target = 0;
    friend bool operator==(const Departed&, const Departed&) = default;
  };
  struct Subscription {
    std::string name = {};
    SubscriptionSettings settings = {};
    // All that were ever for it.
    std::map<Position, Message> messages = {};
    std::map<std::string, Session> sessions = {};
    uint64_t last_place = 0;
    // By ordinal.
    std::map<uint64_t, Departed> departures = {};
    uint64_t left = 0, arrived = 0;
    Position next = {};
    bool fresh = false;    // `next` is to be taken from the machine
    bool changed = false;  // its filter was another one before
  };
  struct Producer {
    uint64_t epoch = 0;
    std::map<uint64_t, Position> stored;  // every sequence, ever
  };
  struct Applier;

  // Whether a subscription with a single active consumer may give anything to this one.
  static bool MayGive(const Subscription& sub, const std::string& session);
  int64_t DeadlineOf(Position position) const;
  // What any subscription needs, message by message.
  std::optional<std::string> CompareHoldings(const Machine& machine) const;
  std::optional<std::string> Compare(const queue::Subscription& s, Subscription& mine,
                                     std::set<uint64_t>& wanted) const;

  std::set<Position> stored_;
  std::map<uint64_t, uint64_t> sizes_;  // by entry: what each of its messages counts for
  uint64_t sized_from_ = 0;
  bool expires_ = false;
  std::map<uint64_t, std::pair<int64_t, int64_t>> times_;  // by entry: when it was published, when it says it expires
  QueueSettings settings_;
  uint64_t last_refused_ = 0;  // entry whose batch was not stored
  std::map<SubscriptionId, Subscription> subscriptions_ = {{0, {.name = "default"}}};
  SubscriptionId last_subscription_ = 0;
  std::map<std::string, Producer> producers_;
  uint64_t forgotten_epoch_ = 0;
};

// What the filter of a history's subscription takes: its text is a number, and it takes every message whose place
// that number divides. Nothing: it takes all.
bool FilterTakes(const std::string& filter, Position position);

}  // namespace trireme::queue
