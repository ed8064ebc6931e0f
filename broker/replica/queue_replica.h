// A queue's replica on this node: the queue machine, on the leader its dispatcher, and what ties both to a Raft group.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/queue/dispatchers.h"
#include "broker/queue/facts.h"
#include "broker/replica/consuming.h"
#include "broker/replica/limits.h"
#include "broker/replica/publishing.h"
#include "broker/replica/sinks.h"
#include "broker/replica/subscriptions.h"
#include "broker/replica/waiters.h"
#include "raft/host/host.h"
#include "raft/host/shard.h"
#include "raft/host/state_machine.h"

namespace trireme::broker {

// Exact figures as of `QueueFigures::at_index`.
struct SubscriptionFigures {
  queue::SubscriptionId id = 0;
  std::string name;
  queue::SubscriptionSettings settings;
  uint64_t waiting = 0;
  uint64_t in_flight = 0;
  uint64_t consumers = 0;
  uint64_t acknowledged = 0;
  uint64_t rejected = 0;
  uint64_t skipped = 0;
  uint64_t dead = 0;
  uint64_t redriven = 0;
  uint64_t expired = 0;
  uint64_t overflowed = 0;
  uint64_t leaving = 0;  // on their way to another queue
  uint64_t arrived = 0;
  std::string trouble = {};  // why none of those arrives
  bool capped = false;
  // The single active consumer's; empty: there is none.
  queue::SessionId active_session = {};
  std::string active_consumer = {};
};

struct QueueFigures {
  uint64_t at_index = 0;
  uint64_t published = 0;
  uint64_t producers = 0;
  int64_t queue_time_ms = 0;
  queue::QueueSettings settings;
  std::optional<queue::Amount> held;               // with a limit
  uint64_t refused = 0;                            // messages, by this leader since it leads
  std::vector<SubscriptionFigures> subscriptions;  // by id
};

// How far this replica is, and a digest of its state there (Safety rule 25).
struct ReplicaState {
  uint64_t applied_index = 0;
  uint32_t digest = 0;
};

// On the group's shard only. Requests are for the leader: elsewhere they answer at once that this is not it (a Cut, or
// UNAVAILABLE with the reason kNotLeader), and nothing was done. When leadership is lost, so is answered what was not
// appended; the rest is unknown. While leadership is handed over (raft::Group::HandOver) what comes waits for that.
class QueueReplica final : public raft::StateMachine {
 public:
  QueueReplica(raft::Shard* shard, ReplicaLimits limits, std::string queue_name);
  ~QueueReplica() override;

  // Before anything else is asked; `group` is valid until Stop.
  void Start(raft::Group* group);
  // Cuts all streams; the queue was deleted or the node stops.
  void Stop(CutReason reason);

  const std::string& queue_name() const { return queue_name_; }
  raft::Group* group() const { return group_; }
  // Leads, and its state is current (Safety rule 2).
  bool serving() const;

  // ---- publishing

  using OpenedProducer = broker::OpenedProducer;
  // Makes a producer known, or fences its older streams. `epoch` 0 = the next one; a stream that comes back names the
  // epoch that it had. ABORTED: a higher epoch exists.
  void OpenProducer(const std::string& producer, uint64_t epoch,
                    absl::AnyInvocable<void(absl::StatusOr<OpenedProducer>)> done);

  // As a single call does: fences nobody. `epoch` 0 = the one in force; a producer that is not known becomes so, with
  // its sequence 1. ABORTED: a higher epoch exists. FAILED_PRECONDITION: it is not known, and `first_sequence` is a
  // later one.
  void JoinProducer(const std::string& producer, uint64_t epoch, uint64_t first_sequence,
                    absl::AnyInvocable<void(absl::StatusOr<OpenedProducer>)> done);

  using Publication = broker::Publication;
  void Publish(Publication publication);
  // The stream is gone: its sink is not called any more.
  void Forget(const PublishSink* sink);

  // All of the queue's settings become these, for what is published from then on. INVALID_ARGUMENT: one is wrong.
  // FAILED_PRECONDITION: a node that holds the queue runs a program that does not know them.
  void ChangeQueue(const queue::QueueSettings& settings, absl::AnyInvocable<void(absl::Status)> done);

  // ---- subscriptions

  // ALREADY_EXISTS: with other settings. With the same ones it is answered as it is. RESOURCE_EXHAUSTED: too many.
  // FAILED_PRECONDITION: a node that holds the queue runs a program that does not know subscriptions.
  // INVALID_ARGUMENT: a setting that is wrong.
  void CreateSubscription(const std::string& name, queue::SubscriptionSettings settings, SubscriptionStart start,
                          SubscribeDone done);
  // NOT_FOUND: no such subscription.
  void ChangeSubscription(const std::string& name, queue::SubscriptionSettings settings, SubscribeDone done);
  // With all leases, and whatever only it needed. Its streams end.
  void DeleteSubscription(const std::string& name, SubscribeDone done);

  // ---- consuming by stream; each names its subscription

  // NOT_FOUND is said by a Cut with the reason kSubscriptionGone.
  void Attach(AttachRequest request, std::shared_ptr<ConsumerSink> sink);
  // A stream, as it attached. Calls of one that is not attached any more do nothing.
  struct Stream {
    queue::SessionId session;
    const ConsumerSink* sink = nullptr;
    std::string subscription = queue::kDefaultSubscription;
  };
  // Changes a session's limits; 0 = as before. Also a sign of life.
  void Flow(const Stream& stream, uint32_t max_messages, uint64_t max_bytes);
  // Tokens of another group are lost leases.
  // `delay_ms`: with kRequeue, as in Settling::Kind. A stream that asks for one is cut where not all replicas know
  // them.
  void Settle(const Stream& stream, queue::Disposition disposition, GroupTokens settled, uint64_t receipt,
              int64_t delay_ms = Settling::kAsSet);
  // The stream ended. `graceful`: by the client's own wish, so the session ends with it and what it holds is returned
  // now.
  void Detach(const Stream& stream, bool graceful);

  // ---- consuming by calls

  // Waits until `deadline` for the first message; none is an empty answer. The result is cancelled by the deadline
  // only. NOT_FOUND: no such subscription.
  void Receive(const std::string& subscription, uint32_t max_messages, std::chrono::milliseconds wait,
               std::chrono::milliseconds lease, ReceiveDone done);
  // What Receive gave and nobody was there to take: back to the queue, uncounted. If it fails, the leases end by
  // themselves.
  void TakeBack(queue::SubscriptionId subscription, std::vector<queue::Token> tokens);
  // Tokens of one subscription.
  void SettleTokens(queue::SubscriptionId subscription, queue::Disposition disposition,
                    std::vector<queue::Token> tokens, TokensDone done, int64_t delay_ms = Settling::kAsSet);
  // To the queue of the group `target`: each token that is current leaves the subscription, and arrives there once.
  // FAILED_PRECONDITION: not every replica knows how.
  void RedriveTokens(queue::SubscriptionId subscription, raft::GroupId target, std::vector<queue::Token> tokens,
                     TokensDone done);
  void ExtendTokens(queue::SubscriptionId subscription, std::chrono::milliseconds lease,
                    std::vector<queue::Token> tokens, TokensDone done);

  // ---- looking and cleaning

  void Purge(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done);
  // OK once machine() is as new as when this was asked. UNAVAILABLE with kNotLeader: another node leads.
  void Look(absl::AnyInvocable<void(const absl::Status&)> done);
  const queue::Machine& machine() const;
  // Expires with this object, for whoever is called back later.
  std::weak_ptr<void> alive() const;
  static absl::Status MovedError();
  // Of this replica, as it has applied so far.
  QueueFigures Figures() const;
  // Linearizable.
  void Describe(absl::AnyInvocable<void(absl::StatusOr<QueueFigures>)> done);
  // Of this replica alone, on any node. Encodes the whole state, which is bounded (Safety rule 1).
  ReplicaState State() const;

  // ---- raft::StateMachine
  absl::Status Check(const raft::Entry& entry) const override;
  absl::Status Apply(const raft::Entry& entry) override;
  void AppliedBatch() override;
  void RoleChanged(const raft::RoleChange& change, bool leading) override;
  raft::Bytes Snapshot() const override;
  absl::Status CheckSnapshot(const raft::Bytes& snapshot, raft::Index index) const override;
  absl::Status Restore(const raft::Bytes& snapshot, raft::Index index) override;
  uint64_t Digest() const override;
  Liveness Live() const override;

 private:
  struct Impl;

  // DATA_LOSS or UNIMPLEMENTED as Restore.
  absl::Status RestoreInto(queue::Machine& machine, const raft::Bytes& snapshot, raft::Index index) const;

  std::unique_ptr<Impl> impl_;
  std::string queue_name_;
  raft::Group* group_ = nullptr;
};

}  // namespace trireme::broker
