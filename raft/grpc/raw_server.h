// Calls that arrive: one generic service that takes every method of a server, on every shard's queue.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "raft/grpc/raw_stream.h"

namespace trireme::raft {

class RawService;

// A call that arrived, of whatever kind. A unary one is a stream with one message each way: Reply answers it.
class RawServerStream final : public RawStream {
 public:
  // "/package.Service/Method".
  const std::string& method() const { return context_.method(); }
  // What the client sent; the first value of that key.
  std::optional<std::string> Metadata(const std::string& key) const;
  std::chrono::system_clock::time_point deadline() const { return context_.deadline(); }
  std::string peer() const override { return context_.peer(); }
  grpc::ServerContext& context() { return context_; }

  // Tells the client that the call was accepted, before there is a message to send. Before the first Write only.
  void SendInitialMetadata(const CallMetadata& metadata);
  // Ends the call once what is queued has left. Only the first one counts.
  void Finish(const grpc::Status& status);
  // One last message and OK, together.
  void Reply(grpc::ByteBuffer message);
  void Cancel() override;

 private:
  friend class RawService;

  RawServerStream(CompletionQueueShard* shard, RawService* service) : RawStream(shard), service_(service) {}

  // Waits for a call.
  void Listen();
  void Accepted(bool ok);
  void MetadataSent(bool) {}
  void FinishDone(bool) {}
  void CallDone(bool ok);
  void FinishNow();

  void DoRead(grpc::ByteBuffer* into, void* tag) override { call_.Read(into, tag); }
  void DoWrite(const grpc::ByteBuffer& message, void* tag) override { call_.Write(message, tag); }
  void WriteFailed() override {}  // CallDone follows
  void WritesFlushed() override;
  void Idle() override;

  RawService* const service_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter call_{&context_};
  bool accepted_ = false;
  bool done_ = false;
  bool finish_started_ = false;
  std::optional<grpc::Status> finish_;
  std::optional<grpc::ByteBuffer> last_message_;
  Tag accept_tag_{this, &RawServerStream::Accepted};
  Tag metadata_tag_{this, &RawServerStream::MetadataSent};
  Tag finish_tag_{this, &RawServerStream::FinishDone};
  Tag done_tag_{this, &RawServerStream::CallDone};
};

// Handles are added first, then Register, then the server is built, then Listen for each of its shards. Outlives the
// server and the shards' Stop.
class RawService {
 public:
  // Makes the handler of a call that has just arrived, on the shard that took it; so it runs on several threads at
  // once. Null if it has finished the call by itself.
  using Factory = std::function<std::unique_ptr<StreamHandler>(RawServerStream*)>;
  // Gets a unary call's request; answers, then or later and on the call's shard, with Reply or Finish. Also on several
  // threads.
  using Unary = std::function<void(std::shared_ptr<RawServerStream> call, grpc::ByteBuffer request)>;

  void Handle(std::string method, Factory factory);
  void HandleUnary(std::string method, Unary unary);

  void Register(grpc::ServerBuilder* builder) { builder->RegisterAsyncGenericService(&service_); }
  // From any thread, after the server and the shard were started.
  void Listen(CompletionQueueShard* shard);

 private:
  friend class RawServerStream;
  static constexpr int kListening = 4;  // calls asked for at a time per shard

  void ListenForOne(CompletionQueueShard* shard);

  grpc::AsyncGenericService service_;
  absl::flat_hash_map<std::string, Factory> methods_;
};

}  // namespace trireme::raft
