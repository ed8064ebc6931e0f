#include "tests/client/scripted_broker.h"

#include <chrono>
#include <thread>
#include <utility>

#include "gtest/gtest.h"

namespace trireme::client {

// ------------------------------------------------------------------------------------------------ publishing

v1::OpenPublish ScriptedBroker::Publishing::ExpectOpen() {
  v1::PublishRequest request;
  EXPECT_TRUE(Read(request) && request.has_open()) << "instead of Open: " << request.ShortDebugString();
  return request.open();
}

v1::Bind ScriptedBroker::Publishing::ExpectBind() {
  v1::PublishRequest request;
  EXPECT_TRUE(Read(request) && request.has_bind()) << "instead of Bind: " << request.ShortDebugString();
  return request.bind();
}

v1::Append ScriptedBroker::Publishing::ExpectAppend() {
  v1::PublishRequest request;
  EXPECT_TRUE(Read(request) && request.has_append()) << "instead of Append: " << request.ShortDebugString();
  return request.append();
}

void ScriptedBroker::Publishing::Opened(uint64_t window_bytes, uint32_t max_message_bytes) {
  v1::PublishResponse response;
  response.mutable_opened()->set_window_bytes(window_bytes);
  response.mutable_opened()->set_max_message_bytes(max_message_bytes);
  Send(response);
}

void ScriptedBroker::Publishing::Bound(uint32_t alias, uint64_t epoch, uint64_t last_sequence,
                                       const std::string& leader) {
  v1::PublishResponse response;
  response.mutable_bound()->set_alias(alias);
  response.mutable_bound()->set_outcome(v1::OUTCOME_OK);
  response.mutable_bound()->set_epoch(epoch);
  response.mutable_bound()->set_last_sequence(last_sequence);
  response.mutable_bound()->mutable_leader()->set_address(leader);
  Send(response);
}

void ScriptedBroker::Publishing::Confirm(uint32_t alias, uint64_t first, uint32_t count, v1::Outcome outcome,
                                         uint64_t position, const std::string& reason) {
  v1::PublishResponse response;
  v1::Confirm* confirm = response.mutable_confirms()->add_confirms();
  confirm->set_alias(alias);
  confirm->set_first_sequence(first);
  confirm->set_count(count);
  confirm->set_outcome(outcome);
  confirm->set_first_position(position);
  confirm->set_reason(reason);
  Send(response);
}

void ScriptedBroker::Publishing::Unbound(uint32_t alias, const std::string& leader) {
  v1::PublishResponse response;
  response.mutable_unbound()->set_alias(alias);
  response.mutable_unbound()->mutable_leader()->set_address(leader);
  Send(response);
}

uint32_t ScriptedBroker::Publishing::Begin(uint64_t epoch, uint64_t last_sequence) {
  ExpectOpen();
  Opened();
  const uint32_t alias = ExpectBind().alias();
  Bound(alias, epoch, last_sequence);
  return alias;
}

grpc::Status ScriptedBroker::Publishing::UntilClosed() {
  for (v1::PublishRequest request; Read(request);) {
  }
  return grpc::Status::OK;
}

// ------------------------------------------------------------------------------------------------ consuming

v1::OpenConsume ScriptedBroker::Consuming::ExpectOpen() {
  v1::ConsumeRequest request;
  EXPECT_TRUE(Read(request) && request.has_open()) << "instead of Open: " << request.ShortDebugString();
  return request.open();
}

v1::SettleRuns ScriptedBroker::Consuming::ExpectSettle() {
  v1::ConsumeRequest request;
  while (Read(request)) {
    if (request.has_settle()) return request.settle();
    EXPECT_TRUE(request.has_flow()) << "instead of Settle: " << request.ShortDebugString();
  }
  ADD_FAILURE() << "the stream ended before a Settle";
  return {};
}

v1::Flow ScriptedBroker::Consuming::ExpectFlow() {
  v1::ConsumeRequest request;
  EXPECT_TRUE(Read(request) && request.has_flow()) << "instead of Flow: " << request.ShortDebugString();
  return request.flow();
}

void ScriptedBroker::Consuming::Opened(bool resumed, const std::string& leader, uint64_t group) {
  v1::ConsumeResponse response;
  response.mutable_opened()->set_resumed(resumed);
  response.mutable_opened()->mutable_leader()->set_address(leader);
  response.mutable_opened()->set_group_id(group);
  Send(response);
}

void ScriptedBroker::Consuming::Deliver(uint64_t first_position, uint64_t checkout,
                                        const std::vector<std::string>& bodies, uint32_t deliveries) {
  v1::ConsumeResponse response;
  v1::Run* run = response.mutable_deliver()->add_runs();
  run->set_first_position(first_position);
  run->set_checkout_index(checkout);
  run->set_count(static_cast<uint32_t>(bodies.size()));
  run->set_deliveries(deliveries);
  for (const std::string& body : bodies) run->mutable_batch()->add_messages()->set_body(body);
  Send(response);
}

void ScriptedBroker::Consuming::Receipt(uint64_t receipt, const std::vector<v1::HeldRun>& lost) {
  v1::ConsumeResponse response;
  response.mutable_receipt()->set_receipt(receipt);
  for (const v1::HeldRun& run : lost) *response.mutable_receipt()->add_lease_lost() = run;
  Send(response);
}

void ScriptedBroker::Consuming::Redirect(const std::string& leader) {
  v1::ConsumeResponse response;
  response.mutable_redirect()->mutable_leader()->set_address(leader);
  Send(response);
}

grpc::Status ScriptedBroker::Consuming::UntilClosed() {
  for (v1::ConsumeRequest request; Read(request);) {
    if (request.settle().receipt() != 0) Receipt(request.settle().receipt());
  }
  return grpc::Status::OK;
}

// ------------------------------------------------------------------------------------------------ the server

class ScriptedBroker::BrokerService : public v1::Broker::Service {
 public:
  explicit BrokerService(ScriptedBroker* broker) : broker_(broker) {}

  grpc::Status Publish(grpc::ServerContext*,
                       grpc::ServerReaderWriter<v1::PublishResponse, v1::PublishRequest>* stream) override {
    PublishScript script;
    {
      MutexLock lock(&broker_->mutex_);
      if (broker_->publish_.empty()) return {grpc::StatusCode::UNAVAILABLE, "no script is left"};
      script = std::move(broker_->publish_.front());
      broker_->publish_.pop_front();
    }
    Publishing publishing(stream);
    return script(publishing);
  }

  grpc::Status Consume(grpc::ServerContext*,
                       grpc::ServerReaderWriter<v1::ConsumeResponse, v1::ConsumeRequest>* stream) override {
    ConsumeScript script;
    {
      MutexLock lock(&broker_->mutex_);
      if (broker_->consume_.empty()) return {grpc::StatusCode::UNAVAILABLE, "no script is left"};
      script = std::move(broker_->consume_.front());
      broker_->consume_.pop_front();
    }
    Consuming consuming(stream);
    return script(consuming);
  }

  grpc::Status Send(grpc::ServerContext*, const v1::SendRequest* request, v1::SendResponse* response) override {
    return broker_->on_send(*request, response);
  }

  grpc::Status Resolve(grpc::ServerContext*, const v1::ResolveRequest*, v1::ResolveResponse* response) override {
    Notification* until = nullptr;
    {
      MutexLock lock(&broker_->mutex_);
      ++broker_->resolves_;
      until = broker_->hold_resolve_;
    }
    if (until != nullptr) until->Wait();
    MutexLock lock(&broker_->mutex_);
    response->mutable_leader()->set_address(broker_->leader_);
    return broker_->resolve_status_;
  }

 private:
  ScriptedBroker* const broker_;
};

class ScriptedBroker::AdminService : public v1::Admin::Service {
 public:
  explicit AdminService(ScriptedBroker* broker) : broker_(broker) {}
  grpc::Status DescribeQueue(grpc::ServerContext*, const v1::DescribeQueueRequest* request,
                             v1::DescribeQueueResponse* response) override {
    return broker_->on_describe(*request, response);
  }
  grpc::Status DeleteQueue(grpc::ServerContext*, const v1::DeleteQueueRequest* request,
                           v1::DeleteQueueResponse* response) override {
    return broker_->on_delete(*request, response);
  }

 private:
  ScriptedBroker* const broker_;
};

class ScriptedBroker::ClusterService : public v1::Cluster::Service {
 public:
  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest*, v1::StatusResponse*) override {
    return grpc::Status::OK;
  }
};

ScriptedBroker::ScriptedBroker()
    : broker_(new BrokerService(this)), admin_(new AdminService(this)), cluster_(new ClusterService) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(broker_.get());
  builder.RegisterService(admin_.get());
  builder.RegisterService(cluster_.get());
  server_ = builder.BuildAndStart();
  address_ = "127.0.0.1:" + std::to_string(port);
  leader_ = address_;
}

ScriptedBroker::~ScriptedBroker() {
  server_->Shutdown(std::chrono::system_clock::now());
}

void ScriptedBroker::OnPublish(PublishScript script) {
  MutexLock lock(&mutex_);
  publish_.push_back(std::move(script));
}

void ScriptedBroker::OnConsume(ConsumeScript script) {
  MutexLock lock(&mutex_);
  consume_.push_back(std::move(script));
}

bool ScriptedBroker::Exhausted() {
  MutexLock lock(&mutex_);
  return publish_.empty() && consume_.empty();
}

void ScriptedBroker::ResolveTo(const std::string& address) {
  MutexLock lock(&mutex_);
  leader_ = address;
}

void ScriptedBroker::FailResolve(const grpc::Status& status) {
  MutexLock lock(&mutex_);
  resolve_status_ = status;
}

void ScriptedBroker::HoldResolve(Notification* until) {
  MutexLock lock(&mutex_);
  hold_resolve_ = until;
}

int ScriptedBroker::resolves() {
  MutexLock lock(&mutex_);
  return resolves_;
}

bool Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    // Nothing tells us; the bound above is what counts.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace trireme::client
