// Broker.Publish: one client's stream, on the shard that took it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "broker/api/client_stream.h"
#include "broker/api/frames.h"
#include "broker/replica/sinks.h"
#include "broker/routing/exchange_publisher.h"

namespace trireme::broker {

// Frames for a queue that this node leads go to its replica; those for another's go on, as they are, to that node, over
// one stream per node. Frames for an exchange are routed here. Sinks post back to it.
class PublishStream final : public ClientStream {
 public:
  ~PublishStream() override;

 private:
  friend class ClientStream;
  class AliasSink;
  class Upstream;
  class UpstreamHandler;

  // What an alias is bound to.
  struct Alias {
    enum class State : uint8_t { kUnbound, kBinding, kHere, kThere, kExchange };
    State state = State::kUnbound;
    // Grows with each Bind, so that what comes late for an older one is told apart.
    uint64_t generation = 0;
    std::string name;
    QueuePtr queue;
    trireme::v1::Leader leader;
    trireme::v1::Bind bind;
    raft::Bytes bind_frame;
    raft::MonotonicTime deadline;
    std::shared_ptr<AliasSink> sink;               // kHere
    std::shared_ptr<Upstream> upstream;            // kThere, and kBinding there
    uint64_t epoch = 0;                            // kHere
    uint64_t frames = 0;                           // kHere and kExchange, without producer
    std::shared_ptr<ExchangePublisher> publisher;  // kExchange
    std::string refused;                           // kUnbound: why the last Bind was, if it was
    size_t unconfirmed = 0;                        // bytes
  };

  PublishStream(ShardApi* api, raft::RawServerStream* call);

  void OnMessage(grpc::ByteBuffer message) override;
  void OnOpen(trireme::v1::OpenPublish open, raft::Bytes frame);
  void OnBind(trireme::v1::Bind bind, raft::Bytes frame);
  void OnAppend(AppendFrame append, const raft::Bytes& frame);
  void OnReadEnd() override;
  void OnClosed(bool in_order) override;
  void Drain() override;

  void BindExchange(uint32_t alias);
  void ExchangeBound(uint32_t alias, Alias& binding);
  void AppendToExchange(Alias& binding, AppendFrame append);
  void Answered(const AppendFrame& append, uint64_t generation, std::vector<Verdict> verdicts);

  void FindLeaderOf(uint32_t alias);
  void BindHere(uint32_t alias, ShardApi::Route route);
  void BindThere(uint32_t alias, const ShardApi::Route& route);
  void Bound(uint32_t alias, const absl::StatusOr<QueueReplica::OpenedProducer>& opened);
  void Unbind(uint32_t alias, const std::string& reason, const trireme::v1::Leader& leader);
  void RefuseAppend(const AppendFrame& append, const std::string& reason);
  void Release(Alias& binding);
  void Confirmed(uint32_t alias, uint64_t generation, PublishOutcome outcome, size_t bytes);
  void Cut(uint32_t alias, uint64_t generation, const std::string& text, const trireme::v1::Leader& leader);
  void FromUpstream(Upstream* upstream, grpc::ByteBuffer message);
  void PassConfirms(const Upstream* upstream, const raft::Bytes& frame);
  void UpstreamClosed(Upstream* upstream, const grpc::Status& status);

  // Puts it into the frame of confirms that leaves at the end of the turn.
  void Confirm(uint32_t alias, PublishOutcome outcome);
  void FlushSoon();
  void FlushConfirms();
  void Answer(const trireme::v1::PublishResponse& response);
  void Account(Alias& alias, size_t add, size_t take);
  // Reads, or does not, as the windows, the node's budget and what waits for other nodes allow.
  void UpdateReading();
  Alias* Find(uint32_t alias, uint64_t generation);

  bool opened_ = false;
  trireme::v1::OpenPublish open_;
  raft::Bytes open_frame_;
  absl::flat_hash_map<uint32_t, Alias> aliases_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Upstream>> upstreams_;  // by node
  trireme::v1::PublishResponse confirms_;
  bool flush_due_ = false;
  bool ending_ = false;
  // Some alias was bound more than once.
  bool rebound_ = false;
  size_t unconfirmed_ = 0;   // of all aliases
  size_t aliases_over_ = 0;  // whose window is full
};

}  // namespace trireme::broker
