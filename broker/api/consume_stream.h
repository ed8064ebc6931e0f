// Broker.Consume: one consumer's stream, on the shard that took it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "broker/api/client_stream.h"
#include "broker/api/frames.h"
#include "broker/replica/sinks.h"

namespace trireme::broker {

// Attached to the queue's replica if this node leads it; else all frames go, as they are, to and from the leader's
// node. The sink posts back to it.
class ConsumeStream final : public ClientStream {
 public:
  ~ConsumeStream() override;

 private:
  friend class ClientStream;
  class Sink;
  class UpstreamHandler;
  enum class State : uint8_t { kNew, kFinding, kHere, kThere, kOver };

  ConsumeStream(ShardApi* api, raft::RawServerStream* call);

  void OnMessage(grpc::ByteBuffer message) override;
  void OnOpen(const trireme::v1::OpenConsume& open);
  void OnFlow(const trireme::v1::Flow& flow);
  void OnSettle(const trireme::v1::SettleRuns& settle);
  void OnReadEnd() override;
  void OnWritten() override;
  void OnClosed(bool in_order) override;
  void Drain() override;

  void MakeTemporary();
  void FindLeader();
  void AttachHere(ShardApi::Route route);
  void AttachThere(ShardApi::Route route);
  // A frame that came while the leader was being found, or goes to it.
  void PassOn(grpc::ByteBuffer message);
  void FromUpstream(grpc::ByteBuffer message);
  void UpstreamClosed(const grpc::Status& status);

  void Attached(const ConsumerSink::Opened& by);
  void Stands(bool standby);
  void Deliver(std::vector<DeliveredRun> runs);
  void FlushDeliveries();
  void Receipt(uint64_t receipt, const std::vector<queue::Token>& lost);
  void Cut(CutReason reason, const std::string& text, const trireme::v1::Leader& leader);

  // Does `act` with the replica that this stream is attached to, on its shard.
  template <typename Act>
  void OnReplica(Act act);
  // As the replica knows it.
  QueueReplica::Stream Named() const;
  void Leave(bool graceful);
  void Watch();
  void Fail(const absl::Status& status);

  State state_ = State::kNew;
  std::string queue_name_;
  QueuePtr queue_;
  trireme::v1::Leader leader_;
  AttachRequest attach_;
  size_t client_frame_bytes_ = 0;  // what it can receive
  raft::MonotonicTime deadline_;
  raft::MonotonicTime heard_;  // when the client last sent something
  grpc::ByteBuffer open_frame_;
  std::shared_ptr<Sink> sink_;
  std::shared_ptr<raft::RawClientStream> upstream_;
  bool upstream_opened_ = false;
  bool half_closed_ = false;  // or cancelled, or broken: not known before OnClosed
  // Runs that wait for the client to read.
  std::deque<DeliveredRun> deliveries_;
  bool flush_due_ = false;
};

}  // namespace trireme::broker
