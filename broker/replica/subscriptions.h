// A queue's subscriptions, on its leader: found by name, created, changed and deleted.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/replica/consuming.h"
#include "broker/replica/leader_port.h"
#include "broker/replica/limits.h"
#include "broker/replica/waiters.h"

namespace trireme::broker {

// Where a new subscription begins.
struct SubscriptionStart {
  enum class At : uint8_t { kEnd, kFirst, kPosition, kTime };
  At at = At::kEnd;
  queue::Position position = {};
  int64_t time_ms = 0;
};

// For one term; has the consuming half of each subscription of which somebody asked. Shard-owned. What it calls may
// have it destroyed before it returns.
class Subscriptions {
 public:
  Subscriptions(const LeaderPort* leader, const ReplicaLimits* limits, std::string queue_name);

  // Null: the state has no such one.
  Consuming* Find(queue::SubscriptionId id);
  Consuming* Find(const std::string& name);
  // Does `act` with the subscription of that name, perhaps later. That there is none is known only by a read of the
  // state that is linearizable: then `none` gets NOT_FOUND, or UNAVAILABLE.
  void With(const std::string& name, std::function<void(Consuming&)> act, absl::AnyInvocable<void(absl::Status)> none);

  void Create(const std::string& name, queue::SubscriptionSettings settings, SubscriptionStart start,
              SubscribeDone done);
  void Change(const std::string& name, queue::SubscriptionSettings settings, SubscribeDone done);
  void Delete(const std::string& name, SubscribeDone done);
  // What was asked for by these was applied.
  void Answer(SubscriptionWaiter& waiter, const queue::Fact& fact, const queue::Effect& effect);
  void Attached(queue::SubscriptionId id, AttachWaiter& waiter, const queue::effect::Attached& effect);

  // Whether a requeue may ask for this delay. FAILED_PRECONDITION: not every replica knows delays.
  absl::Status MayDelay(int64_t delay_ms);
  absl::Status MayRedrive();
  // Whether the queue may have these settings. INVALID_ARGUMENT: one is wrong. FAILED_PRECONDITION: not every replica
  // knows them.
  absl::Status MaySet(const queue::QueueSettings& settings);
  // Whether messages may expire. FAILED_PRECONDITION: not every replica knows that; they do not.
  absl::Status MayExpire();
  // When each of the tokens that are given back with an entry of this time is due; empty: at once.
  std::vector<int64_t> DueTimes(const Settling::Fact& settled, int64_t time_ms) const;

  // Where they go if they do not stay; 0: nowhere.
  uint64_t TargetOf(const Settling::Kind& kind) const;

  // For each.
  void ReadAhead();
  void EmptyHanded(queue::Dispatcher::ReceiverId receiver);
  void Lose(CutReason reason, const std::string& text, const absl::Status& not_done, const absl::Status& unknown);

 private:
  absl::Status RaiseTo(uint32_t version);
  std::string None(const std::string& name) const;
  absl::Status NotFound(const std::string& name) const;
  absl::Status Exists(const std::string& name) const;

  const LeaderPort* const leader_;
  const ReplicaLimits* const limits_;
  const std::string queue_name_;
  // Those that were asked for: an idle queue has none.
  std::map<queue::SubscriptionId, std::unique_ptr<Consuming>> all_;
  size_t creating_ = 0;  // under way
  // Of those for which a place is being searched.
  std::map<const SubscribeDone*, std::shared_ptr<SubscribeDone>> searches_;
  uint32_t raised_;  // the version of the facts, with what is under way
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
