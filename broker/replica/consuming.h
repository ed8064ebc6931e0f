// The consuming half of a queue's leader, for one subscription: streams and single receives, and the messages on their
// way to them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/filter/filter.h"
#include "broker/queue/dispatchers.h"
#include "broker/replica/entry_reader.h"
#include "broker/replica/leader_port.h"
#include "broker/replica/outbox.h"
#include "broker/replica/receiving.h"
#include "broker/replica/sinks.h"
#include "broker/replica/waiters.h"

namespace trireme::broker {

// What a single receive was given.
struct Received {
  queue::SubscriptionId subscription = 0;
  std::vector<DeliveredRun> runs;
};
using ReceiveDone = absl::AnyInvocable<void(absl::StatusOr<Received>)>;

// For one term. Shard-owned. Sinks and callbacks may have it destroyed before they return.
class Consuming {
 public:
  Consuming(const LeaderPort* leader, queue::SubscriptionId id, size_t read_ahead_bytes);

  queue::SubscriptionId id() const { return id_; }

  // ---- streams
  void Attach(AttachRequest request, std::shared_ptr<ConsumerSink> sink);
  void Flow(const queue::SessionId& session, const ConsumerSink* sink, uint32_t max_messages, uint64_t max_bytes);
  void Settle(const queue::SessionId& session, const ConsumerSink* sink, queue::Disposition disposition,
              int64_t delay_ms, GroupTokens settled, uint64_t receipt);
  // Ends a stream; its session has its timeout.
  void Cut(const queue::SessionId& session, const ConsumerSink* sink, CutReason reason, const std::string& text);
  // One that still waits for its Attached is the owner's.
  void Detach(const queue::SessionId& session, const ConsumerSink* sink, bool graceful);

  // ---- single receives
  void Receive(queue::Dispatcher::ReceiverId id, uint32_t max_messages, std::chrono::milliseconds wait,
               std::chrono::milliseconds lease, ReceiveDone done);
  // False: it is not one of these.
  bool EmptyHanded(queue::Dispatcher::ReceiverId id);

  // ---- turns
  void ReadAhead();
  // Whether somebody is there to whom messages could go.
  bool idle() const { return consumers_.empty() && receivers_.empty(); }

  // ---- what was applied
  void Attached(AttachWaiter& waiter, const queue::effect::Attached& effect);
  void Detached(const queue::SessionId& session) { consumers_.erase(session); }
  void Deliver(queue::Dispatcher::Delivery& delivery);
  // The subscription's settings are others now.
  void SettingsChanged() { filter_ = {}; }
  // Tells those that are, or are not any more, the single active consumer; after sessions or settings have changed.
  void TellStandbys();

  // The end: of the term, or of the subscription. What was not decided for a receiver is told `not_done`, the rest
  // `unknown`.
  void Lose(CutReason reason, const std::string& text, const absl::Status& not_done, const absl::Status& unknown);

 private:
  struct Consumer {
    std::shared_ptr<ConsumerSink> sink;
    std::unique_ptr<Outbox> outbox;
    uint32_t max_messages = 0;
    uint64_t number = 0;   // its session's
    bool standby = false;  // as it was told
  };
  struct Receiver {
    std::unique_ptr<Receiving> receiving;
    ReceiveDone done;
  };
  using Alive = std::weak_ptr<bool>;

  const queue::Subscription& state() const { return leader_->machine->subscription(id_); }
  queue::Dispatcher& dispatcher() const { return *leader_->dispatchers->Find(id_); }
  queue::MonotonicMs NowMs() const;
  absl::Status SingleActive() const;
  Consumer* Find(const queue::SessionId& session, const ConsumerSink* sink);
  bool IsOfAnother(const GroupTokens& tokens) const;
  bool IsOut(const queue::Token& token) const;
  bool StandsBy(uint64_t session_number) const;
  Outbox::Events OutboxEvents(std::function<void(std::vector<DeliveredRun>)> deliver);
  void DeliverAgain(uint64_t number, const std::vector<queue::Token>& held, Outbox& outbox);
  void ReadForReceiver(queue::Dispatcher::ReceiverId id);
  bool KnowsFilter();

  const LeaderPort* const leader_;
  const queue::SubscriptionId id_;
  EntryReader reader_;
  // Parsed, for messages to be looked at; nothing: not yet, or it cannot be. Null: there is none.
  std::optional<std::shared_ptr<const filter::Filter>> filter_;
  std::map<queue::SessionId, uint64_t> epochs_;     // of Attached facts under way
  std::map<queue::SessionId, Consumer> consumers_;  // connected
  absl::flat_hash_map<queue::Dispatcher::ReceiverId, Receiver> receivers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace trireme::broker
