#include "client/client.h"

#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/consumer_impl.h"
#include "client/core.h"
#include "client/producer_impl.h"
#include "client/requester_impl.h"
#include "client/sync.h"

namespace trireme::client {
namespace {

constexpr int kDefaultPort = 7650;

// A session that is opened anew is told apart by 16 random bytes, a producer without a name by as many.
std::string Hex(std::string_view bytes) {
  std::string hex;
  for (char byte : bytes) absl::StrAppend(&hex, absl::Hex(static_cast<uint8_t>(byte), absl::kZeroPad2));
  return hex;
}

template <typename Response>
void CallAsync(Core& core, CallOptions options, const google::protobuf::MessageLite& request,
               Client::Done<Response> done) {
  core.Call<Response>(std::move(options), request,
                      [done = std::move(done)](absl::StatusOr<Response> response, const CallAnswer&) mutable {
                        done(std::move(response));
                      });
}

// Blocks until `start` has called what it is given.
template <typename Response, typename Start>
absl::StatusOr<Response> Wait(Start start) {
  absl::StatusOr<Response> result;
  Notification ready;
  start([&](absl::StatusOr<Response> response) {
    result = std::move(response);
    ready.Notify();
  });
  ready.Wait();
  return result;
}

template <typename Response>
absl::StatusOr<Response> CallAndWait(Core& core, CallOptions options, const google::protobuf::MessageLite& request) {
  return Wait<Response>(
      [&](Client::Done<Response> done) { CallAsync<Response>(core, std::move(options), request, std::move(done)); });
}

// NOT_FOUND counts as deleted where the try whose answer was lost may have done it.
template <typename Response>
void DeleteAsync(Core& core, CallOptions options, const google::protobuf::MessageLite& request,
                 Client::Done<Response> done) {
  core.Call<Response>(std::move(options), request,
                      [done = std::move(done)](absl::StatusOr<Response> response, const CallAnswer& answer) mutable {
                        if (absl::IsNotFound(response.status()) && answer.tried_before) response = Response();
                        done(std::move(response));
                      });
}

template <typename Response>
absl::StatusOr<Response> DeleteAndWait(Core& core, CallOptions options, const google::protobuf::MessageLite& request) {
  return Wait<Response>(
      [&](Client::Done<Response> done) { DeleteAsync<Response>(core, std::move(options), request, std::move(done)); });
}

CallOptions To(Core& core, const char* method) {
  CallOptions options;
  options.method = absl::StrCat("/trireme.v1.", method);
  options.timeout = core.call_timeout();
  return options;
}

// Asks that server and no other.
CallOptions OnlyTo(Core& core, const std::string& server, std::chrono::milliseconds timeout, const char* method) {
  CallOptions options = To(core, method);
  options.server = server;
  options.only_there = true;
  options.timeout = timeout;
  return options;
}

absl::Status CheckRange(const char* what, int64_t value, int64_t from, int64_t to) {
  if (value >= from && value <= to) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", value, "; it must be ", from, " to ", to));
}

absl::Status CheckLength(const char* what, const std::string& text, size_t from, size_t to) {
  if (text.size() >= from && text.size() <= to) return absl::OkStatus();
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(what, " is empty"));
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", text.size(), " bytes long (\"", text.substr(0, 40),
                                                 text.size() > 40 ? "..." : "", "\"); the limit is ", to));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseServers(std::string_view list) {
  std::vector<std::string> servers;
  const std::vector<std::string> parts = absl::StrSplit(absl::string_view(list.data(), list.size()), ',');
  for (const std::string& part : parts) {
    const std::string address(absl::StripAsciiWhitespace(part));
    if (address.empty()) continue;
    // The colons inside of [..] belong to an IPv6 address.
    size_t colon = address.rfind(':');
    if (colon != std::string::npos && address.find(']', colon) != std::string::npos) colon = std::string::npos;
    int port = kDefaultPort;
    std::string host = address.substr(0, colon);
    if (colon != std::string::npos) {
      const std::string text = address.substr(colon + 1);
      const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
      if (!digits || !absl::SimpleAtoi(text, &port) || port < 1 || port > 65'535) {
        return absl::InvalidArgumentError(
            absl::StrCat("server address \"", address, "\": the port is \"", text, "\"; it must be 1 to 65535"));
      }
    }
    if (host.empty() || (host.front() != '[' && host.find(':') != std::string::npos)) {
      return absl::InvalidArgumentError(
          absl::StrCat("server address \"", address, "\" is not host:port (an IPv6 host is written [::1]:7650)"));
    }
    servers.push_back(absl::StrCat(host, ":", port));
  }
  if (servers.empty()) return absl::InvalidArgumentError("no server address given; give host:port[,host:port...]");
  return servers;
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  std::vector<std::string> servers;
  for (const std::string& server : options.servers) {
    absl::StatusOr<std::vector<std::string>> parsed = ParseServers(server);
    if (!parsed.ok()) return parsed.status();
    servers.insert(servers.end(), parsed->begin(), parsed->end());
  }
  if (servers.empty()) return absl::InvalidArgumentError("no server address given; give host:port[,host:port...]");
  if (absl::Status status = CheckRange("call_timeout in ms", options.call_timeout.count(), 1, 3'600'000);
      !status.ok()) {
    return status;
  }
  if (options.credentials == nullptr) options.credentials = grpc::InsecureChannelCredentials();
  return std::unique_ptr<Client>(
      new Client(std::make_shared<Core>(std::move(servers), std::move(options.credentials), options.call_timeout)));
}

Client::Client(std::shared_ptr<Core> core) : core_(std::move(core)) {}
Client::~Client() = default;

absl::StatusOr<v1::CreateQueueResponse> Client::CreateQueue(const v1::CreateQueueRequest& request) {
  return CallAndWait<v1::CreateQueueResponse>(*core_, To(*core_, "Admin/CreateQueue"), request);
}
void Client::CreateQueue(const v1::CreateQueueRequest& request, Done<v1::CreateQueueResponse> done) {
  CallAsync(*core_, To(*core_, "Admin/CreateQueue"), request, std::move(done));
}

absl::StatusOr<v1::DescribeQueueResponse> Client::DescribeQueue(const std::string& name) {
  v1::DescribeQueueRequest request;
  request.set_name(name);
  return CallAndWait<v1::DescribeQueueResponse>(*core_, To(*core_, "Admin/DescribeQueue"), request);
}
void Client::DescribeQueue(const v1::DescribeQueueRequest& request, Done<v1::DescribeQueueResponse> done) {
  CallAsync(*core_, To(*core_, "Admin/DescribeQueue"), request, std::move(done));
}

absl::StatusOr<v1::BrowseQueueResponse> Client::BrowseQueue(const v1::BrowseQueueRequest& request) {
  return CallAndWait<v1::BrowseQueueResponse>(*core_, To(*core_, "Admin/BrowseQueue"), request);
}
absl::StatusOr<v1::ListLeasesResponse> Client::ListLeases(const v1::ListLeasesRequest& request) {
  return CallAndWait<v1::ListLeasesResponse>(*core_, To(*core_, "Admin/ListLeases"), request);
}
absl::StatusOr<v1::ExplainMessageResponse> Client::ExplainMessage(const v1::ExplainMessageRequest& request) {
  return CallAndWait<v1::ExplainMessageResponse>(*core_, To(*core_, "Admin/ExplainMessage"), request);
}
absl::Status Client::CancelMessage(const std::string& queue, uint64_t position) {
  v1::CancelMessageRequest request;
  request.set_name(queue);
  request.set_position(position);
  return CallAndWait<v1::CancelMessageResponse>(*core_, To(*core_, "Admin/CancelMessage"), request).status();
}
absl::StatusOr<v1::ReleaseLeasesResponse> Client::ReleaseLeases(const v1::ReleaseLeasesRequest& request) {
  return CallAndWait<v1::ReleaseLeasesResponse>(*core_, To(*core_, "Admin/ReleaseLeases"), request);
}

absl::StatusOr<v1::ListBlockedKeysResponse> Client::ListBlockedKeys(const v1::ListBlockedKeysRequest& request) {
  return CallAndWait<v1::ListBlockedKeysResponse>(*core_, To(*core_, "Admin/ListBlockedKeys"), request);
}
absl::StatusOr<v1::UnblockKeyResponse> Client::UnblockKey(const v1::UnblockKeyRequest& request) {
  CallOptions options = To(*core_, "Admin/UnblockKey");
  options.repeatable = false;
  return CallAndWait<v1::UnblockKeyResponse>(*core_, std::move(options), request);
}

absl::StatusOr<v1::DescribeReplicaResponse> Client::DescribeReplica(const std::string& queue, const std::string& server,
                                                                    std::chrono::milliseconds timeout) {
  v1::DescribeReplicaRequest request;
  request.set_name(queue);
  return CallAndWait<v1::DescribeReplicaResponse>(*core_, OnlyTo(*core_, server, timeout, "Admin/DescribeReplica"),
                                                  request);
}
void Client::DescribeReplica(const std::string& queue, const std::string& server, std::chrono::milliseconds timeout,
                             Done<v1::DescribeReplicaResponse> done) {
  v1::DescribeReplicaRequest request;
  request.set_name(queue);
  CallAsync(*core_, OnlyTo(*core_, server, timeout, "Admin/DescribeReplica"), request, std::move(done));
}

absl::StatusOr<v1::ListQueuesResponse> Client::ListQueues(const v1::ListQueuesRequest& request) {
  return CallAndWait<v1::ListQueuesResponse>(*core_, To(*core_, "Admin/ListQueues"), request);
}
void Client::ListQueues(const v1::ListQueuesRequest& request, Done<v1::ListQueuesResponse> done) {
  CallAsync(*core_, To(*core_, "Admin/ListQueues"), request, std::move(done));
}

absl::StatusOr<v1::DeleteQueueResponse> Client::DeleteQueue(const std::string& name) {
  v1::DeleteQueueRequest request;
  request.set_name(name);
  return DeleteAndWait<v1::DeleteQueueResponse>(*core_, To(*core_, "Admin/DeleteQueue"), request);
}
void Client::DeleteQueue(const v1::DeleteQueueRequest& request, Done<v1::DeleteQueueResponse> done) {
  DeleteAsync(*core_, To(*core_, "Admin/DeleteQueue"), request, std::move(done));
}

absl::StatusOr<v1::PurgeQueueResponse> Client::PurgeQueue(const std::string& name) {
  v1::PurgeQueueRequest request;
  request.set_name(name);
  return CallAndWait<v1::PurgeQueueResponse>(*core_, To(*core_, "Admin/PurgeQueue"), request);
}
void Client::PurgeQueue(const v1::PurgeQueueRequest& request, Done<v1::PurgeQueueResponse> done) {
  CallAsync(*core_, To(*core_, "Admin/PurgeQueue"), request, std::move(done));
}

absl::StatusOr<v1::ChangeQueueResponse> Client::ChangeQueue(const v1::ChangeQueueRequest& request) {
  return CallAndWait<v1::ChangeQueueResponse>(*core_, To(*core_, "Admin/ChangeQueue"), request);
}

absl::StatusOr<v1::CreateSubscriptionResponse> Client::CreateSubscription(
    const v1::CreateSubscriptionRequest& request) {
  return CallAndWait<v1::CreateSubscriptionResponse>(*core_, To(*core_, "Admin/CreateSubscription"), request);
}

absl::StatusOr<v1::ChangeSubscriptionResponse> Client::ChangeSubscription(
    const v1::ChangeSubscriptionRequest& request) {
  return CallAndWait<v1::ChangeSubscriptionResponse>(*core_, To(*core_, "Admin/ChangeSubscription"), request);
}

absl::StatusOr<v1::DeleteSubscriptionResponse> Client::DeleteSubscription(const std::string& queue,
                                                                          const std::string& name) {
  v1::DeleteSubscriptionRequest request;
  request.set_queue(queue);
  request.set_name(name);
  return DeleteAndWait<v1::DeleteSubscriptionResponse>(*core_, To(*core_, "Admin/DeleteSubscription"), request);
}

absl::StatusOr<v1::CreateExchangeResponse> Client::CreateExchange(const v1::CreateExchangeRequest& request) {
  return CallAndWait<v1::CreateExchangeResponse>(*core_, To(*core_, "Admin/CreateExchange"), request);
}

absl::StatusOr<v1::DescribeExchangeResponse> Client::DescribeExchange(const std::string& name) {
  v1::DescribeExchangeRequest request;
  request.set_name(name);
  return CallAndWait<v1::DescribeExchangeResponse>(*core_, To(*core_, "Admin/DescribeExchange"), request);
}

absl::StatusOr<v1::ListExchangesResponse> Client::ListExchanges(const v1::ListExchangesRequest& request) {
  return CallAndWait<v1::ListExchangesResponse>(*core_, To(*core_, "Admin/ListExchanges"), request);
}

absl::StatusOr<v1::DeleteExchangeResponse> Client::DeleteExchange(const v1::DeleteExchangeRequest& request) {
  return DeleteAndWait<v1::DeleteExchangeResponse>(*core_, To(*core_, "Admin/DeleteExchange"), request);
}

absl::StatusOr<v1::CreateBindingResponse> Client::CreateBinding(const v1::Binding& binding) {
  v1::CreateBindingRequest request;
  *request.mutable_binding() = binding;
  return CallAndWait<v1::CreateBindingResponse>(*core_, To(*core_, "Admin/CreateBinding"), request);
}

absl::StatusOr<v1::ListBindingsResponse> Client::ListBindings(const v1::ListBindingsRequest& request) {
  return CallAndWait<v1::ListBindingsResponse>(*core_, To(*core_, "Admin/ListBindings"), request);
}

absl::StatusOr<v1::DeleteBindingResponse> Client::DeleteBinding(const v1::Binding& binding) {
  v1::DeleteBindingRequest request;
  *request.mutable_binding() = binding;
  return DeleteAndWait<v1::DeleteBindingResponse>(*core_, To(*core_, "Admin/DeleteBinding"), request);
}

absl::StatusOr<v1::InitResponse> Client::InitCluster(const std::string& cluster_id, const std::string& server) {
  v1::InitRequest request;
  request.set_cluster_id(cluster_id);
  CallOptions options = To(*core_, "Cluster/Init");
  options.server = server;
  options.only_there = !server.empty();
  return CallAndWait<v1::InitResponse>(*core_, std::move(options), request);
}

absl::StatusOr<v1::StatusResponse> Client::ClusterStatus(const std::string& server, std::chrono::milliseconds timeout) {
  CallOptions options = To(*core_, "Cluster/Status");
  if (timeout.count() > 0) options.timeout = timeout;
  options.server = server;
  options.only_there = !server.empty();
  options.try_timeout = std::chrono::seconds(2);
  return CallAndWait<v1::StatusResponse>(*core_, std::move(options), v1::StatusRequest());
}

absl::StatusOr<v1::ReplaceNodeResponse> Client::ReplaceNode(uint64_t node_id, const std::string& address) {
  v1::ReplaceNodeRequest request;
  request.set_node_id(node_id);
  request.set_address(address);
  return CallAndWait<v1::ReplaceNodeResponse>(*core_, To(*core_, "Cluster/ReplaceNode"), request);
}

absl::StatusOr<v1::ReplaceReplicaResponse> Client::ReplaceReplica(const std::string& queue, uint64_t node_id) {
  v1::ReplaceReplicaRequest request;
  request.set_queue(queue);
  request.set_node_id(node_id);
  return CallAndWait<v1::ReplaceReplicaResponse>(*core_, To(*core_, "Cluster/ReplaceReplica"), request);
}

absl::StatusOr<v1::ResolveResponse> Client::Resolve(const std::string& queue) {
  v1::ResolveRequest request;
  request.set_queue(queue);
  return CallAndWait<v1::ResolveResponse>(*core_, To(*core_, "Broker/Resolve"), request);
}

absl::StatusOr<v1::SendResponse> Client::Send(const v1::SendRequest& request) {
  CallOptions options = To(*core_, "Broker/Send");
  options.repeatable = !request.producer().empty() && request.first_sequence() != 0;
  return CallAndWait<v1::SendResponse>(*core_, std::move(options), request);
}

absl::StatusOr<v1::ReceiveResponse> Client::Receive(const v1::ReceiveRequest& request) {
  CallOptions options = To(*core_, "Broker/Receive");
  // Waiting for a message is not part of the call's own time.
  options.timeout += std::chrono::milliseconds(request.wait_ms());
  options.try_timeout += std::chrono::milliseconds(request.wait_ms());
  return CallAndWait<v1::ReceiveResponse>(*core_, std::move(options), request);
}

absl::StatusOr<v1::SettleResponse> Client::Settle(const v1::SettleRequest& request) {
  return CallAndWait<v1::SettleResponse>(*core_, To(*core_, "Broker/Settle"), request);
}

absl::StatusOr<v1::RedriveMessagesResponse> Client::RedriveMessages(const v1::RedriveMessagesRequest& request) {
  return CallAndWait<v1::RedriveMessagesResponse>(*core_, To(*core_, "Admin/RedriveMessages"), request);
}

absl::StatusOr<v1::ExtendResponse> Client::Extend(const v1::ExtendRequest& request) {
  return CallAndWait<v1::ExtendResponse>(*core_, To(*core_, "Broker/Extend"), request);
}

void Client::Request(v1::RequestRequest request, Done<v1::RequestResponse> done) {
  // Beside the broker's waiting: so that its answer arrives.
  constexpr std::chrono::milliseconds kAnswerTime{2'000};
  constexpr int64_t kMaxTimeoutMs = 60'000;
  CallOptions options = To(*core_, "Broker/Request");
  if (request.timeout_ms() == 0) {
    request.set_timeout_ms(static_cast<uint32_t>(std::clamp<int64_t>(options.timeout.count(), 1, kMaxTimeoutMs)));
  }
  options.timeout = options.try_timeout = std::chrono::milliseconds(request.timeout_ms()) + kAnswerTime;
  options.repeatable = false;
  CallAsync<v1::RequestResponse>(*core_, std::move(options), request, std::move(done));
}

absl::StatusOr<v1::RequestResponse> Client::Request(v1::RequestRequest request) {
  return Wait<v1::RequestResponse>(
      [&](Done<v1::RequestResponse> done) { Request(std::move(request), std::move(done)); });
}

absl::StatusOr<std::unique_ptr<Producer>> Client::CreateProducer(ProducerOptions options) {
  absl::Status status;
  if (!options.exchange) {
    status.Update(CheckLength("the queue's name", options.queue, 1, 255));
  } else if (!options.queue.empty()) {
    status.Update(absl::InvalidArgumentError(absl::StrCat("the queue ", options.queue, " and the exchange ",
                                                          *options.exchange, " are both given; choose one")));
  } else {
    status.Update(CheckLength("the exchange's name", *options.exchange, 0, 255));
  }
  if (options.mandatory && !options.exchange) {
    status.Update(absl::InvalidArgumentError("mandatory is for an exchange, and none is given"));
  }
  status.Update(CheckLength("the producer's name", options.name, 0, 255));
  status.Update(CheckRange("max_batch_messages", options.max_batch_messages, 1, 65'535));
  status.Update(CheckRange("max_batch_bytes", options.max_batch_bytes, 1, 256 * 1024));
  status.Update(CheckRange("max_in_flight_messages", options.max_in_flight_messages, 1, 65'536));
  if (options.max_in_flight_bytes == 0) status.Update(absl::InvalidArgumentError("max_in_flight_bytes is 0"));
  status.Update(CheckRange("delivery_timeout in ms", options.delivery_timeout.count(), 1, 86'400'000));
  if (!options.deduplicate && !options.name.empty()) {
    status.Update(absl::InvalidArgumentError(
        absl::StrCat("the producer has a name (\"", options.name, "\") and deduplicate is false; choose one")));
  }
  if (options.first_sequence != 0 && options.name.empty()) {
    status.Update(absl::InvalidArgumentError(
        absl::StrCat("first_sequence is ", options.first_sequence, " and the producer has no name; give it one")));
  }
  if (!status.ok()) return status;
  if (options.deduplicate && options.name.empty()) options.name = absl::StrCat("p-", Hex(core_->RandomBytes(16)));
  auto impl = std::make_shared<ProducerImpl>(core_, std::move(options));
  auto producer = std::make_unique<Producer>(impl);
  impl->Start(*producer);
  return producer;
}

absl::StatusOr<std::unique_ptr<Consumer>> Client::CreateConsumer(ConsumerOptions options) {
  absl::Status status;
  if (!options.temporary) {
    status.Update(CheckLength("the queue's name", options.queue, 1, 255));
  } else if (!options.queue.empty()) {
    status.Update(absl::InvalidArgumentError(
        absl::StrCat("the queue ", options.queue, " is given, and temporary, too; the broker names such a queue")));
  }
  status.Update(CheckLength("the subscription's name", options.subscription, 0, 255));
  status.Update(CheckLength("the consumer's label", options.label, 0, 255));
  status.Update(CheckRange("max_outstanding_messages", options.max_outstanding_messages, 1, 100'000));
  if (options.max_outstanding_bytes == 0) status.Update(absl::InvalidArgumentError("max_outstanding_bytes is 0"));
  status.Update(CheckRange("session_timeout in ms", options.session_timeout.count(), 1'000, 3'600'000));
  status.Update(CheckRange("settle_delay in ms", options.settle_delay.count(), 0, 100));
  if (!status.ok()) return status;
  auto impl = std::make_shared<ConsumerImpl>(core_, std::move(options), core_->RandomBytes(16));
  auto consumer = std::make_unique<Consumer>(impl);
  impl->Start(*consumer);
  return consumer;
}

absl::StatusOr<std::unique_ptr<Requester>> Client::CreateRequester(RequesterOptions options) {
  absl::Status status = CheckRange("max_in_flight", options.max_in_flight, 1, 65'536);
  status.Update(CheckRange("timeout in ms", options.timeout.count(), 1, 86'400'000));
  if (!status.ok()) return status;
  ProducerOptions publishing;
  publishing.queue = options.queue;
  publishing.max_in_flight_messages = options.max_in_flight;
  absl::StatusOr<std::unique_ptr<Producer>> producer = CreateProducer(std::move(publishing));
  if (!producer.ok()) return producer.status();
  return std::make_unique<Requester>(core_,
                                     std::make_shared<RequesterImpl>(*core_, std::move(options), *std::move(producer)));
}

}  // namespace trireme::client
