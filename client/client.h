// The door to a cluster: administrative calls, and the making of producers and consumers.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/consumer.h"
#include "client/producer.h"
#include "client/requester.h"
#include "trireme/v1/admin.pb.h"
#include "trireme/v1/broker.pb.h"
#include "trireme/v1/cluster.pb.h"

namespace grpc {
class ChannelCredentials;
}

namespace trireme::client {

class Core;

struct ClientOptions {
  // Nodes to begin with, each host:port. One that answers is enough; the others are used when it does not.
  std::vector<std::string> servers = {};
  // For one administrative call, its retries included.
  std::chrono::milliseconds call_timeout{30'000};
  // Null: plain text.
  std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;
};

// Splits "host:port,host:port"; a host without a port gets 7650; blanks around an address are ignored.
// INVALID_ARGUMENT: no address at all, an empty host, a port that is not 1 to 65535; the message names the address.
absl::StatusOr<std::vector<std::string>> ParseServers(std::string_view list);

// One connection per node and one thread, shared by all producers and consumers made here, whose callbacks run on that
// thread and so must not block. Thread-safe. Producers and consumers keep what they need of it, and so may outlive it.
//
// Calls go to any node; one that answers UNAVAILABLE is followed by the next, with a short growing pause, until
// call_timeout. Errors are those of the call (see proto/trireme/v1), with the broker's message; DEADLINE_EXCEEDED when
// no node answered in time, with what the last one said.
class Client {
 public:
  template <typename Response>
  using Done = absl::AnyInvocable<void(absl::StatusOr<Response>)>;

  // INVALID_ARGUMENT: no server, or one that is not host:port. Connects to nothing yet.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);
  ~Client();

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Each call twice: blocking, and with a callback (called exactly once, on the client's thread, also when the client
  // is destroyed before the answer: then with CANCELLED). The blocking ones must not be used in callbacks.

  absl::StatusOr<v1::CreateQueueResponse> CreateQueue(const v1::CreateQueueRequest& request);
  void CreateQueue(const v1::CreateQueueRequest& request, Done<v1::CreateQueueResponse> done);
  absl::StatusOr<v1::DescribeQueueResponse> DescribeQueue(const std::string& name);
  void DescribeQueue(const v1::DescribeQueueRequest& request, Done<v1::DescribeQueueResponse> done);
  // Asks `server` alone for its own replica of the queue, for at most `timeout`.
  absl::StatusOr<v1::DescribeReplicaResponse> DescribeReplica(const std::string& queue, const std::string& server,
                                                              std::chrono::milliseconds timeout);
  void DescribeReplica(const std::string& queue, const std::string& server, std::chrono::milliseconds timeout,
                       Done<v1::DescribeReplicaResponse> done);
  // One page; `prefix`, `after`, `limit` as in the request.
  absl::StatusOr<v1::ListQueuesResponse> ListQueues(const v1::ListQueuesRequest& request);
  void ListQueues(const v1::ListQueuesRequest& request, Done<v1::ListQueuesResponse> done);
  // NOT_FOUND after a first try whose outcome was unknown counts as deleted.
  absl::StatusOr<v1::DeleteQueueResponse> DeleteQueue(const std::string& name);
  void DeleteQueue(const v1::DeleteQueueRequest& request, Done<v1::DeleteQueueResponse> done);
  // What was stored for later at this position will not be delivered. NOT_FOUND: it is due, cancelled or purged by now.
  // After a first try whose outcome was unknown that may be this call's own doing.
  absl::Status CancelMessage(const std::string& queue, uint64_t position);
  // The count is of the try that was answered.
  absl::StatusOr<v1::PurgeQueueResponse> PurgeQueue(const std::string& name);
  void PurgeQueue(const v1::PurgeQueueRequest& request, Done<v1::PurgeQueueResponse> done);

  // From here on blocking only.

  // One page each.
  absl::StatusOr<v1::BrowseQueueResponse> BrowseQueue(const v1::BrowseQueueRequest& request);
  absl::StatusOr<v1::ListLeasesResponse> ListLeases(const v1::ListLeasesRequest& request);
  absl::StatusOr<v1::ExplainMessageResponse> ExplainMessage(const v1::ExplainMessageRequest& request);
  // The count is of the try that was answered.
  absl::StatusOr<v1::ReleaseLeasesResponse> ReleaseLeases(const v1::ReleaseLeasesRequest& request);
  absl::StatusOr<v1::ChangeQueueResponse> ChangeQueue(const v1::ChangeQueueRequest& request);
  // One page.
  absl::StatusOr<v1::ListBlockedKeysResponse> ListBlockedKeys(const v1::ListBlockedKeysRequest& request);
  // Not tried again: UNAVAILABLE and DEADLINE_EXCEEDED mean that the outcome is unknown.
  absl::StatusOr<v1::UnblockKeyResponse> UnblockKey(const v1::UnblockKeyRequest& request);
  absl::StatusOr<v1::CreateSubscriptionResponse> CreateSubscription(const v1::CreateSubscriptionRequest& request);
  absl::StatusOr<v1::ChangeSubscriptionResponse> ChangeSubscription(const v1::ChangeSubscriptionRequest& request);
  // NOT_FOUND after a first try whose outcome was unknown counts as deleted.
  absl::StatusOr<v1::DeleteSubscriptionResponse> DeleteSubscription(const std::string& queue, const std::string& name);

  absl::StatusOr<v1::CreateExchangeResponse> CreateExchange(const v1::CreateExchangeRequest& request);
  absl::StatusOr<v1::DescribeExchangeResponse> DescribeExchange(const std::string& name);
  // One page.
  absl::StatusOr<v1::ListExchangesResponse> ListExchanges(const v1::ListExchangesRequest& request);
  // NOT_FOUND after a first try whose outcome was unknown counts as deleted; of a binding, too.
  absl::StatusOr<v1::DeleteExchangeResponse> DeleteExchange(const v1::DeleteExchangeRequest& request);
  absl::StatusOr<v1::CreateBindingResponse> CreateBinding(const v1::Binding& binding);
  absl::StatusOr<v1::ListBindingsResponse> ListBindings(const v1::ListBindingsRequest& request);
  absl::StatusOr<v1::DeleteBindingResponse> DeleteBinding(const v1::Binding& binding);

  // Asks `server` (one of the options', or any other node); empty = any.
  absl::StatusOr<v1::InitResponse> InitCluster(const std::string& cluster_id, const std::string& server = "");
  // For at most `timeout`; 0 = call_timeout.
  absl::StatusOr<v1::StatusResponse> ClusterStatus(const std::string& server = "",
                                                   std::chrono::milliseconds timeout = std::chrono::milliseconds(0));
  // Lets a node in that comes in the place of a lost one, at `address` (empty: at the same). May be repeated.
  absl::StatusOr<v1::ReplaceNodeResponse> ReplaceNode(uint64_t node_id, const std::string& address = "");
  // Gives the queue another replica on that node in the place of one that is damaged. Not tried again.
  absl::StatusOr<v1::ReplaceReplicaResponse> ReplaceReplica(const std::string& queue, uint64_t node_id);

  absl::StatusOr<v1::ResolveResponse> Resolve(const std::string& queue);
  // Not tried again unless it names a producer and a sequence: UNAVAILABLE and DEADLINE_EXCEEDED then mean that the
  // outcome is unknown.
  absl::StatusOr<v1::SendResponse> Send(const v1::SendRequest& request);
  // A try whose answer was lost leaves its messages leased until the lease ends.
  absl::StatusOr<v1::ReceiveResponse> Receive(const v1::ReceiveRequest& request);
  // Tried again when the outcome is unknown; what the lost try settled is then answered as LEASE_LOST.
  absl::StatusOr<v1::SettleResponse> Settle(const v1::SettleRequest& request);
  // Likewise.
  absl::StatusOr<v1::RedriveMessagesResponse> RedriveMessages(const v1::RedriveMessagesRequest& request);
  absl::StatusOr<v1::ExtendResponse> Extend(const v1::ExtendRequest& request);

  // Publishes and awaits the reply; a Requester does it for many, over an inbox of its own. timeout_ms 0 =
  // call_timeout, 60 s at most. DEADLINE_EXCEEDED and UNAVAILABLE: whether the request was, or will be, handled is not
  // known; never tried again.
  absl::StatusOr<v1::RequestResponse> Request(v1::RequestRequest request);
  void Request(v1::RequestRequest request, Done<v1::RequestResponse> done);

  // They return at once and connect on their own. INVALID_ARGUMENT: an option out of its range, named.
  absl::StatusOr<std::unique_ptr<Producer>> CreateProducer(ProducerOptions options);
  absl::StatusOr<std::unique_ptr<Consumer>> CreateConsumer(ConsumerOptions options);
  absl::StatusOr<std::unique_ptr<Requester>> CreateRequester(RequesterOptions options);

 private:
  explicit Client(std::shared_ptr<Core> core);

  const std::shared_ptr<Core> core_;
};

}  // namespace trireme::client
