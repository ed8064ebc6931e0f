// Calls to other nodes: few, unary, apart from the message path.
#pragma once

#include <chrono>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "raft/host/shard.h"
#include "trireme/peer/v1/peer.pb.h"
#include "trireme/v1/cluster.pb.h"

namespace trireme::broker {

template <typename Response>
using Answer = absl::AnyInvocable<void(absl::StatusOr<Response>)>;

// Used on one shard, on which the answers are called, never before the call returns. Each answer comes once, at the
// latest when `timeout` has passed (DEADLINE_EXCEEDED), or never if the shard is stopped. A node that cannot be reached
// is UNAVAILABLE.
class PeerCaller {
 public:
  using Timeout = std::chrono::milliseconds;

  virtual ~PeerCaller() = default;
  virtual void Pledge(const std::string& address, const trireme::peer::v1::PledgeRequest& request, Timeout timeout,
                      Answer<trireme::peer::v1::PledgeResponse> done) = 0;
  virtual void Join(const std::string& address, const trireme::peer::v1::JoinRequest& request, Timeout timeout,
                    Answer<trireme::peer::v1::JoinResponse> done) = 0;
  virtual void Init(const std::string& address, const trireme::v1::InitRequest& request, Timeout timeout,
                    Answer<trireme::v1::InitResponse> done) = 0;
  virtual void Barrier(const std::string& address, const trireme::peer::v1::BarrierRequest& request, Timeout timeout,
                       Answer<trireme::peer::v1::BarrierResponse> done) = 0;
  virtual void CreateQueue(const std::string& address, const trireme::peer::v1::CreateQueueRequest& request,
                           Timeout timeout, Answer<trireme::v1::CreateQueueResponse> done) = 0;
  virtual void DeleteQueue(const std::string& address, const trireme::peer::v1::DeleteQueueRequest& request,
                           Timeout timeout, Answer<trireme::v1::DeleteQueueResponse> done) = 0;
  virtual void ChangeMembers(const std::string& address, const trireme::peer::v1::MembersChange& change,
                             Timeout timeout, Answer<trireme::peer::v1::MembersChangeDone> done) = 0;
  virtual void ChangeRouting(const std::string& address, const trireme::peer::v1::RoutingChange& change,
                             Timeout timeout, Answer<trireme::peer::v1::RoutingChanged> done) = 0;
};

}  // namespace trireme::broker
