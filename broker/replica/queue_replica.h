// A queue's replica on this node: the queue machine, on the leader its dispatcher, and what ties both to a Raft group.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "broker/queue/dispatcher.h"
#include "broker/queue/facts.h"
#include "broker/replica/publishing.h"
#include "broker/replica/settling.h"
#include "broker/replica/sinks.h"
#include "raft/host/host.h"
#include "raft/host/shard.h"
#include "raft/host/state_machine.h"

namespace trireme::broker {

// The limits that every replica of a node shares.
struct ReplicaLimits {
  size_t max_message_bytes = 3'670'016;
  // Bytes of published batches that wait for the group to take them; beyond it publishing is refused. Streams' windows
  // keep it from being reached.
  size_t max_waiting_bytes = size_t{64} << 20;
  // Entries read ahead of the dispatcher and kept for delivery, per group.
  size_t read_ahead_bytes = size_t{4} << 20;
  // Producers that a queue knows; more are refused. Idle ones above Dispatcher::Limits::max_producers are forgotten,
  // but not as fast as new ones can come.
  size_t max_producers = 100'000;
  // Of the leader's dispatcher.
  queue::Dispatcher::Limits dispatch;
  // How long a settlement may wait for company.
  std::chrono::milliseconds settle_delay{5};
  Settling::Limits settling;
  // Whether the node is low on disk: publishing is refused then, settling is not (Safety rule 19). Null = never.
  std::function<bool()> low_disk;
};

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
};

// Exact figures as of `at_index`.
struct QueueFigures {
  uint64_t at_index = 0;
  uint64_t published = 0;
  uint64_t waiting = 0;
  uint64_t in_flight = 0;
  uint64_t consumers = 0;
  uint64_t acknowledged = 0;
  uint64_t producers = 0;
  int64_t queue_time_ms = 0;
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

  struct OpenedProducer {
    uint64_t epoch = 0;
    uint64_t last_sequence = 0;
  };
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

  // ---- consuming by stream

  void Attach(AttachRequest request, std::shared_ptr<ConsumerSink> sink);
  // Changes a session's limits; 0 = as before. Also a sign of life.
  void Flow(const queue::SessionId& session, const ConsumerSink* sink, uint32_t max_messages, uint64_t max_bytes);
  // Tokens of another group are lost leases.
  void Settle(const queue::SessionId& session, const ConsumerSink* sink, queue::Disposition disposition,
              GroupTokens settled, uint64_t receipt);
  // The stream ended. `graceful`: by the client's own wish, so the session ends with it and what it holds is returned
  // now.
  void Detach(const queue::SessionId& session, const ConsumerSink* sink, bool graceful);

  // ---- consuming by calls

  // Waits until `deadline` for the first message; none is an empty answer. The result is cancelled by the deadline
  // only.
  void Receive(uint32_t max_messages, std::chrono::milliseconds wait, std::chrono::milliseconds lease,
               absl::AnyInvocable<void(absl::StatusOr<std::vector<DeliveredRun>>)> done);
  // What Receive gave and nobody was there to take: back to the queue, uncounted. If it fails, the leases end by
  // themselves.
  void TakeBack(std::vector<queue::Token> tokens);
  void SettleTokens(queue::Disposition disposition, std::vector<queue::Token> tokens, TokensDone done);
  void ExtendTokens(std::chrono::milliseconds lease, std::vector<queue::Token> tokens, TokensDone done);

  // ---- looking and cleaning

  void Purge(absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done);
  // OK once machine() is as new as when this was asked. UNAVAILABLE with kNotLeader: another node leads.
  void Look(absl::AnyInvocable<void(const absl::Status&)> done);
  const queue::Machine& machine() const;
  // Expires with this object, for whoever is called back later.
  std::weak_ptr<void> alive() const;
  static absl::Status MovedError();
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
