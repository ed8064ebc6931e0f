// A gRPC server on a free port that says what a test tells it to.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "client/sync.h"
#include "trireme/v1/admin.grpc.pb.h"
#include "trireme/v1/broker.grpc.pb.h"
#include "trireme/v1/cluster.grpc.pb.h"

namespace trireme::client {

// Each stream that comes takes the next script and runs it on a thread of the server's; without one it is answered with
// UNAVAILABLE. A script returns the stream's status; what it expects in vain fails the test and ends it.
class ScriptedBroker {
 public:
  class Publishing {
   public:
    explicit Publishing(grpc::ServerReaderWriter<v1::PublishResponse, v1::PublishRequest>* stream) : stream_(stream) {}
    v1::OpenPublish ExpectOpen();
    v1::Bind ExpectBind();
    // Its batch, parsed.
    v1::Append ExpectAppend();
    // False: the client has ended the stream.
    bool Read(v1::PublishRequest& request) { return stream_->Read(&request); }
    void Opened(uint64_t window_bytes = 1 << 20, uint32_t max_message_bytes = 1 << 20);
    void Bound(uint32_t alias, uint64_t epoch, uint64_t last_sequence, const std::string& leader = "");
    void Send(const v1::PublishResponse& response) { stream_->Write(response); }
    void Confirm(uint32_t alias, uint64_t first, uint32_t count, v1::Outcome outcome = v1::OUTCOME_OK,
                 uint64_t position = 65'536, const std::string& reason = "");
    void Unbound(uint32_t alias, const std::string& leader);
    // Open, Bind and their answers; gives the alias.
    uint32_t Begin(uint64_t epoch = 1, uint64_t last_sequence = 0);
    // Waits for the client to end the stream.
    grpc::Status UntilClosed();

   private:
    grpc::ServerReaderWriter<v1::PublishResponse, v1::PublishRequest>* const stream_;
  };

  class Consuming {
   public:
    explicit Consuming(grpc::ServerReaderWriter<v1::ConsumeResponse, v1::ConsumeRequest>* stream) : stream_(stream) {}
    v1::OpenConsume ExpectOpen();
    // Steps over keep-alives.
    v1::SettleRuns ExpectSettle();
    v1::Flow ExpectFlow();
    bool Read(v1::ConsumeRequest& request) { return stream_->Read(&request); }
    void Opened(bool resumed, const std::string& leader = "", uint64_t group = 1);
    // One run of messages with these bodies.
    void Deliver(uint64_t first_position, uint64_t checkout, const std::vector<std::string>& bodies,
                 uint32_t deliveries = 1);
    void Receipt(uint64_t receipt, const std::vector<v1::HeldRun>& lost = {});
    void Redirect(const std::string& leader);
    void Send(const v1::ConsumeResponse& response) { stream_->Write(response); }
    // Answers the settles that ask for it, until the client ends the stream.
    grpc::Status UntilClosed();

   private:
    grpc::ServerReaderWriter<v1::ConsumeResponse, v1::ConsumeRequest>* const stream_;
  };

  using PublishScript = std::function<grpc::Status(Publishing&)>;
  using ConsumeScript = std::function<grpc::Status(Consuming&)>;
  template <typename Request, typename Response>
  using Answer = std::function<grpc::Status(const Request&, Response*)>;

  ScriptedBroker();
  // Ends whatever is still open.
  ~ScriptedBroker();

  const std::string& address() const { return address_; }
  void OnPublish(PublishScript script);
  void OnConsume(ConsumeScript script);
  // All scripts have been taken.
  bool Exhausted();

  // What Resolve says: this leader's address; or a status. As long as neither is set: this broker.
  void ResolveTo(const std::string& address);
  void FailResolve(const grpc::Status& status);
  // Resolve waits for this from now on; it must happen before the broker ends.
  void HoldResolve(Notification* until);
  int resolves();

  Answer<v1::DescribeQueueRequest, v1::DescribeQueueResponse> on_describe;
  Answer<v1::DeleteQueueRequest, v1::DeleteQueueResponse> on_delete;
  Answer<v1::SendRequest, v1::SendResponse> on_send;

 private:
  class BrokerService;
  class AdminService;
  class ClusterService;

  Mutex mutex_;
  std::deque<PublishScript> publish_;
  std::deque<ConsumeScript> consume_;
  std::string leader_;
  grpc::Status resolve_status_;
  Notification* hold_resolve_ = nullptr;
  int resolves_ = 0;
  std::string address_;
  std::unique_ptr<BrokerService> broker_;
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<ClusterService> cluster_;
  std::unique_ptr<grpc::Server> server_;
};

// Waits for a condition that another thread brings about, at most ten seconds.
bool Eventually(const std::function<bool()>& condition);

}  // namespace trireme::client
